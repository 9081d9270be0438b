//! `davit stats`.

mod sparkline;

use davit_proto::container::{StatsRequest, StatsResponse};
use davit_proto::status::RemoteError;

use self::sparkline::Sparkline;
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
    Column { field: "CPUHistory", head: "CPU HISTORY" },
];
/// docker's columns.
const SHOWN: [&str; 8] = ["ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"];
/// What stands where nothing could be read.
const NOTHING: &str = "--";

/// Shows what containers use: again each second, or once after two readings, for processor time is a difference.
pub async fn run(engine: Engine, args: StatsArgs) -> Result<u8, Error> {
    let screen = Screen {
        format: Format::of(args.format.as_deref()),
        no_trunc: args.no_trunc,
        live: !args.no_stream && output::to_terminal(),
    };
    let request = StatsRequest { containers: args.containers, once: false, all: args.all };
    let mut answer = engine.containers().await?.stats(request).await.map_err(RemoteError::from)?.into_inner();
    let mut known: Vec<Readings> = Vec::new();
    let mut round: Vec<StatsResponse> = Vec::new();
    let mut rounds = 0;
    while let Some(frame) = answer.message().await.map_err(RemoteError::from)? {
        if !frame.round_end {
            round.push(frame);
            continue;
        }
        rounds += 1;
        known = std::mem::take(&mut round).into_iter().map(|frame| Readings::new(frame, &known)).collect();
        if !args.no_stream || rounds == 2 {
            screen.show(&known)?;
        }
        if args.no_stream && rounds == 2 {
            break;
        }
    }
    Ok(exit::SUCCESS)
}

/// What was read of one container.
#[derive(Debug)]
struct Readings {
    now: StatsResponse,
    /// Processor time in percent of one processor, from the reading before.
    cpu: Option<f64>,
    history: Sparkline,
}

impl Readings {
    /// A reading, after those of the round before. The order is the engine's, and a container that is not in a round
    /// is forgotten.
    fn new(now: StatsResponse, known: &[Self]) -> Self {
        let before = known.iter().find(|readings| readings.now.container_id == now.container_id);
        let cpu = before.and_then(|before| percent(&before.now, &now));
        let mut history = before.map(|before| before.history.clone()).unwrap_or_default();
        if let Some(cpu) = cpu {
            history.push(cpu);
        }
        Self { now, cpu, history }
    }
}

/// Processor time used between two readings, in percent of one processor.
#[expect(clippy::cast_precision_loss, reason = "percentages are shown with two digits")]
fn percent(before: &StatsResponse, now: &StatsResponse) -> Option<f64> {
    let length = time::since(before.at.as_ref()?, davit_proto::time::system_time(now.at.as_ref()?));
    // A new life counts from nothing.
    let used = now.cpu_nanoseconds.saturating_sub(before.cpu_nanoseconds);
    (!length.is_zero()).then(|| 100.0 * used as f64 / length.as_nanos() as f64)
}

/// How rounds are shown.
struct Screen {
    format: Format,
    no_trunc: bool,
    /// A person looks on, so each round takes the place of the one before.
    live: bool,
}

impl Screen {
    fn show(&self, known: &[Readings]) -> Result<(), Error> {
        let mut shown = SHOWN.to_vec();
        if self.live {
            shown.push("CPUHistory");
        }
        let rows = known.iter().map(|readings| row(readings, self.no_trunc)).collect();
        let text = Listing { columns: COLUMNS, shown, rows }.render(&self.format)?;
        let clear = if self.live { "\u{1b}[H\u{1b}[2J" } else { "" };
        output::print(&format!("{clear}{text}"))
    }
}

fn row(readings: &Readings, no_trunc: bool) -> Document {
    let now = &readings.now;
    let is_read = now.at.is_some();
    let or_nothing = |text: String| Document::from(if is_read { text } else { NOTHING.to_owned() });
    let pair_of = |a, b| or_nothing(format!("{} / {}", human::size(a), human::size(b)));
    let id = if no_trunc { now.container_id.as_str() } else { output::short_id(&now.container_id) };
    let usage =
        format!("{} / {}", human::binary_size(now.memory_bytes), human::binary_size(now.memory_limit_bytes));
    map([
        ("BlockIO", pair_of(now.block_read_bytes, now.block_write_bytes)),
        ("CPUHistory", readings.history.to_string().into()),
        ("CPUPerc", or_nothing(format!("{:.2}%", readings.cpu.unwrap_or(0.0)))),
        ("Container", id.into()),
        ("ID", id.into()),
        ("MemPerc", or_nothing(format!("{:.2}%", share(now.memory_bytes, now.memory_limit_bytes)))),
        ("MemUsage", or_nothing(usage)),
        ("Name", now.name.as_str().into()),
        ("NetIO", pair_of(now.network_received_bytes, now.network_sent_bytes)),
        ("PIDs", or_nothing(now.pids.to_string())),
    ])
}

#[expect(clippy::cast_precision_loss, reason = "percentages are shown with two digits")]
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(id: &str, seconds: i64, cpu: u64) -> StatsResponse {
        StatsResponse {
            container_id: id.into(),
            at: Some(prost_types::Timestamp { seconds, nanos: 0 }),
            cpu_nanoseconds: cpu,
            memory_bytes: 1 << 20,
            memory_limit_bytes: 4 << 20,
            ..StatsResponse::default()
        }
    }

    #[test]
    fn processor_time_is_a_difference() {
        let first = Readings::new(reading("a", 10, 0), &[]);
        assert_eq!((first.cpu, first.history.to_string().as_str()), (None, ""));
        let second = Readings::new(reading("a", 12, 1_000_000_000), &[first]);
        assert_eq!(second.cpu, Some(50.0));
        let third = Readings::new(reading("a", 13, 5), &[second]);
        assert_eq!(third.cpu, Some(0.0), "a new life counts from nothing");
        assert_eq!(Readings::new(reading("b", 14, 9), &[third]).cpu, None);
    }

    #[test]
    fn what_was_not_read_is_not_made_up() {
        let field = |row: &Document, name| match row.field(name) {
            Some(Document::Text(text)) => text.clone(),
            other => format!("{other:?}"),
        };
        let shown = row(&Readings::new(reading("a", 10, 0), &[]), false);
        assert_eq!(field(&shown, "MemPerc"), "25.00%");
        assert_eq!(field(&shown, "MemUsage"), "1MiB / 4MiB");
        let silent = StatsResponse { container_id: "a".into(), ..StatsResponse::default() };
        let shown = row(&Readings::new(silent, &[]), false);
        for name in ["CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"] {
            assert_eq!(field(&shown, name), "--", "{name}");
        }
    }
}
