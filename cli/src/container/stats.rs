//! `davit stats`.

use std::collections::BTreeMap;

use davit_proto::container::{StatsRequest, StatsResponse};
use davit_proto::status::RemoteError;

use crate::args::container::StatsArgs;
use crate::client::Engine;
use crate::document::{Document, map};
use crate::error::Error;
use crate::format::{Column, Format, Listing};
use crate::{exit, human, output, time};

const COLUMNS: &[Column] = &[
    Column { field: "Container", head: "CONTAINER" },
    Column { field: "ID", head: "CONTAINER ID" },
    Column { field: "Name", head: "NAME" },
    Column { field: "CPUPerc", head: "CPU %" },
    Column { field: "MemUsage", head: "MEM USAGE / LIMIT" },
    Column { field: "MemPerc", head: "MEM %" },
    Column { field: "NetIO", head: "NET I/O" },
    Column { field: "BlockIO", head: "BLOCK I/O" },
    Column { field: "PIDs", head: "PIDS" },
];

/// Shows what containers use.
pub async fn run(engine: Engine, args: StatsArgs) -> Result<u8, Error> {
    let format = Format::of(args.format.as_deref());
    let request = StatsRequest { containers: args.containers, once: args.no_stream, all: false };
    let mut answer = engine.containers().await?.stats(request).await.map_err(RemoteError::from)?.into_inner();
    let mut latest: BTreeMap<String, Pair> = BTreeMap::new();
    while let Some(frame) = answer.message().await.map_err(RemoteError::from)? {
        // A container that answers again begins the next round.
        let round = latest.get(&frame.container_id).is_some_and(|pair| pair.fresh);
        if round && !args.no_stream {
            show(&mut latest, &format, args.no_trunc, true)?;
        }
        let before = latest.remove(&frame.container_id).map(|pair| pair.now);
        latest.insert(frame.container_id.clone(), Pair { before, now: frame, fresh: true });
    }
    show(&mut latest, &format, args.no_trunc, !args.no_stream)?;
    Ok(exit::SUCCESS)
}

/// Two readings of one container.
#[derive(Debug)]
struct Pair {
    before: Option<StatsResponse>,
    now: StatsResponse,
    fresh: bool,
}

fn show(
    latest: &mut BTreeMap<String, Pair>,
    format: &Format,
    no_trunc: bool,
    again: bool,
) -> Result<(), Error> {
    latest.retain(|_, pair| std::mem::take(&mut pair.fresh));
    let rows = latest.values().map(|pair| row(pair, no_trunc)).collect();
    let shown = vec!["ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"];
    let text = Listing { columns: COLUMNS, shown, rows }.render(format)?;
    let clear = if again && output::to_terminal() { "\u{1b}[H\u{1b}[2J" } else { "" };
    output::print(&format!("{clear}{text}"))
}

#[expect(clippy::cast_precision_loss, reason = "percentages are shown with two digits")]
fn row(pair: &Pair, no_trunc: bool) -> Document {
    let now = &pair.now;
    let cpu = pair.before.as_ref().and_then(|before| {
        let start = davit_proto::time::system_time(before.at.as_ref()?);
        let length = time::since(before.at.as_ref()?, davit_proto::time::system_time(now.at.as_ref()?));
        let used = now.cpu_nanoseconds.saturating_sub(before.cpu_nanoseconds) as f64;
        (!length.is_zero() && start != std::time::UNIX_EPOCH).then(|| 100.0 * used / length.as_nanos() as f64)
    });
    let memory = match now.memory_limit_bytes {
        0 => 0.0,
        limit => 100.0 * now.memory_bytes as f64 / limit as f64,
    };
    let pair_of = |a, b| format!("{} / {}", human::size(a), human::size(b));
    let id = if no_trunc { now.container_id.as_str() } else { output::short_id(&now.container_id) };
    let usage =
        format!("{} / {}", human::binary_size(now.memory_bytes), human::binary_size(now.memory_limit_bytes));
    map([
        ("BlockIO", pair_of(now.block_read_bytes, now.block_write_bytes).into()),
        ("CPUPerc", format!("{:.2}%", cpu.unwrap_or(0.0)).into()),
        ("Container", id.into()),
        ("ID", id.into()),
        ("MemPerc", format!("{memory:.2}%").into()),
        ("MemUsage", usage.into()),
        ("Name", now.name.as_str().into()),
        ("NetIO", pair_of(now.network_received_bytes, now.network_sent_bytes).into()),
        ("PIDs", now.pids.to_string().into()),
    ])
}
