//! How news of a container get into its record: from the journal that its shim keeps.
//!
//! Each entry becomes one transaction of record and events, in order and with the time at which it happened, and the
//! transaction says which entry it was. So whatever dies in between, everything is told once: what a killed engine had
//! read and not yet written is read again. Who reads, and when, does not matter: at each word of the shim, after each
//! call to it, when it is gone, and when the engine begins.

use std::time::Duration;

use davit_proto::id::ContainerId;
use davit_proto::journal::{Entry, What, entries_after};
use davit_proto::store::ContainerRecord;
use davit_proto::time::system_time;
use davit_proto::types::{Exit, exit::How};

use super::bundle::Bundle;
use super::live::{self, Began};
use super::signal;
use crate::engine::Engine;
use crate::events;
use crate::store::{Change, Draft, Note};

/// Nobody can say more of the last life than the journal does: what it calls begun has begun.
pub const ALL: u64 = u64::MAX;

/// Enters what is new in a container's journal. `begun` is the last life that is known to have begun by other means:
/// an entry that says that a start is being tried, and that nothing follows, waits for it.
pub fn catch_up(engine: &Engine, id: &ContainerId, begun: u64) {
    let _reading = engine.reading(id);
    let Some(news) = News::read(engine, id) else { return };
    for place in 0..news.entries.len() {
        if !news.enter(engine, place, begun) {
            return;
        }
    }
}

/// Enters what is new in the journals of many containers, in the order in which it happened: when an engine begins,
/// what it missed is told as it would have told it.
pub fn catch_up_together<'a>(engine: &Engine, ids: impl Iterator<Item = &'a ContainerId>) {
    let all: Vec<News> = ids.filter_map(|id| News::read(engine, id)).collect();
    let times = |news: &News| news.entries.iter().map(|entry| entry.at.clone()).collect();
    // Nobody else reads yet, and what is known already is never entered twice.
    let mut waits = vec![false; all.len()];
    for (journal, place) in in_order(&all.iter().map(times).collect::<Vec<_>>()) {
        if let (Some(news), Some(waits)) = (all.get(journal), waits.get_mut(journal)) {
            *waits = *waits || !news.enter(engine, place, 0);
        }
    }
}

/// The entries of several journals by time, as journal and place. Each journal keeps its own order, also where its clock
/// was set back.
fn in_order(journals: &[Vec<String>]) -> Vec<(usize, usize)> {
    let mut all = Vec::new();
    for (journal, times) in journals.iter().enumerate() {
        let mut latest = "";
        for (place, at) in times.iter().enumerate() {
            latest = latest.max(at);
            all.push((latest, journal, place));
        }
    }
    all.sort_unstable();
    all.into_iter().map(|(_, journal, place)| (journal, place)).collect()
}

/// What is new in a container's journal.
struct News {
    id: ContainerId,
    entries: Vec<Entry>,
    /// How the last life ended.
    exit: Option<Exit>,
}

impl News {
    fn read(engine: &Engine, id: &ContainerId) -> Option<Self> {
        let record = engine.store.get(id)?;
        let bundle = Bundle::new(engine.config.bundle(id));
        let (journal, exit) = match (bundle.read_life(), bundle.read_exit()) {
            (Ok(journal), Ok(exit)) => (journal?, exit),
            (Ok(journal), Err(error)) => {
                tracing::error!(container_id = %id, %error, "failed to read how a container ended");
                (journal?, None)
            }
            (Err(error), _) => {
                tracing::error!(container_id = %id, %error, "failed to read a container's journal");
                return None;
            }
        };
        let entries = entries_after(&journal, record.journal);
        Some(Self { id: id.clone(), entries, exit })
    }

    /// Enters one of the entries; false when it has to wait, and all that follow with it.
    fn enter(&self, engine: &Engine, place: usize, begun: u64) -> bool {
        let Some(entry) = self.entries.get(place) else { return false };
        let later = self.entries.get(place + 1..).unwrap_or_default();
        let Some(born) = is_born(entry, later, begun) else { return false };
        let facts = Facts { exit: self.exit.as_ref().filter(|exit| exit.life == entry.life), born };
        engine.store.update(&self.id, |record| enter(record, entry, &facts));
        true
    }
}

/// Whether the life of a start came to be; `None` while nobody knows.
pub(super) fn is_born(entry: &Entry, later: &[Entry], begun: u64) -> Option<bool> {
    if !matches!(entry.what, What::Start { .. }) {
        return Some(true);
    }
    let end = later.iter().find_map(|next| match next.what {
        What::Exit { unborn, .. } if next.life == entry.life => Some(unborn),
        _ => None,
    });
    match end {
        Some(unborn) => Some(!unborn),
        None if !later.is_empty() || entry.life <= begun => Some(true),
        None => None,
    }
}

/// What is known beside an entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    /// The record of the end of its life, when it is still there.
    pub(super) exit: Option<&'a Exit>,
    /// For a start: the program was executed.
    pub(super) born: bool,
}

/// One entry into the record; `None` when it is in there.
pub(super) fn enter(record: &mut ContainerRecord, entry: &Entry, facts: &Facts<'_>) -> Option<Change> {
    if entry.n <= record.journal {
        return None;
    }
    let lost = entry.n - record.journal - 1;
    record.journal = entry.n;
    let at = entry.at.parse::<jiff::Timestamp>().ok();
    let at = at.map(|at| prost_types::Timestamp { seconds: at.as_second(), nanos: at.subsec_nanosecond() });
    let mut change = apply(record, entry, facts, at).unwrap_or_default();
    change.at = at;
    if lost > 0 {
        let was = change.why.take().map(|note| format!("; {}", note.change)).unwrap_or_default();
        let cause = entry.cause.clone();
        change.why = Some(Note { change: format!("{lost} entries of the journal were lost{was}"), cause });
    }
    for event in &mut change.events {
        if !entry.cause.is_empty() {
            event.attributes.insert("cause".to_owned(), entry.cause.clone());
        }
    }
    Some(change)
}

fn apply(
    record: &mut ContainerRecord,
    entry: &Entry,
    facts: &Facts<'_>,
    at: Option<prost_types::Timestamp>,
) -> Option<Change> {
    let cause = entry.cause.as_str();
    match &entry.what {
        What::Start { .. } if !facts.born => None,
        What::Start { pid } => {
            let pid = i32::try_from(*pid).unwrap_or_default();
            live::began(record, &Began { life: entry.life, pid, shim_pid: 0, at }, cause)
        }
        What::Exit { .. } => live::ended(record, &exit_of(record, entry, facts.exit, at), cause),
        What::Restarting { delay_ms, count } => {
            live::restarting(record, *count);
            let delay = Duration::from_millis(*delay_ms);
            Change::silent().map(|c| c.explained(format!("waits {delay:?} for its restart {count}"), cause))
        }
        What::GaveUp => {
            record.gave_up = entry.life;
            Change::silent().map(|c| c.explained("is not started again by its restart policy", cause))
        }
        What::Signal { signal } => told(record, "kill", [("signal", signal.to_string())])
            .map(|c| c.explained(format!("was sent {}", signal::say(*signal)), cause)),
        What::Stop { signal, timeout_ms } => {
            stop(record, entry.life, *signal, *timeout_ms).map(|(change, text)| change.explained(text, cause))
        }
        What::StopTimeout => told(record, "kill", [("signal", "9".to_owned())])
            .map(|c| c.explained("did not stop in time: all of it was killed", cause)),
        What::Pause => live::paused(record).map(|c| c.explained("was paused", cause)),
        What::Resume => live::resumed(record).map(|c| c.explained("was resumed", cause)),
        What::Oom { kills } => {
            record.oom_told = entry.life;
            let text = format!("ran out of memory: {kills} of its processes were killed in this life");
            told(record, "oom", []).map(|c| c.explained(text, cause))
        }
        // The change of the record itself is told by who made it.
        What::Update => Change::silent().map(|c| c.explained("was given other limits", cause)),
        What::Health { status, failing_streak } => health(record, status, *failing_streak, cause),
        What::ExecStart { exec, command } => began_exec(record, exec, command),
        What::ExecExit { exec, exit_code } => {
            told(record, "exec_die", [("execID", exec.clone()), ("exitCode", exit_code.to_string())])
        }
        What::Unknown => None,
    }
}

fn stop(
    record: &mut ContainerRecord,
    life: u64,
    number: u32,
    limit: Option<u64>,
) -> Option<(Change, String)> {
    let status = record.container.as_ref().map(live::status_of).unwrap_or_default();
    if status.exit.is_some_and(|exit| exit.life >= life) {
        // There is nobody to be sent a signal between two lives.
        return Some((
            told(record, "stop", [])?,
            "was asked to stop while it waited for its restart".to_owned(),
        ));
    }
    record.stopping = life;
    let limit = match limit {
        Some(limit) => format!("to be killed after {:?}", Duration::from_millis(limit)),
        None => "without a limit".to_owned(),
    };
    let told = told(record, "kill", [("signal", number.to_string())])?;
    Some((told, format!("was asked to stop by {}, {limit}", signal::say(number))))
}

fn told<const N: usize>(
    record: &ContainerRecord,
    action: &str,
    facts: [(&str, String); N],
) -> Option<Change> {
    record
        .container
        .as_ref()
        .and_then(|container| Change::told(events::of_container(container, action, facts)))
}

fn health(record: &mut ContainerRecord, status: &str, streak: u32, cause: &str) -> Option<Change> {
    let container = record.container.as_mut()?;
    let present = container.status.get_or_insert_default();
    status.clone_into(&mut present.health);
    let text = match (status, streak) {
        ("starting", 0) => "waits for its first health check".to_owned(),
        (_, 0) => format!("is {status}"),
        (_, 1) => format!("is {status}: a check failed"),
        (_, streak) => format!("is {status}: {streak} checks in a row failed"),
    };
    // docker tells of judgements, not of the wait for the first one.
    let change = match status {
        "starting" => Change::silent(),
        _ => Change::told(events::of_container(container, format!("health_status: {status}"), [])),
    };
    change.map(|change| change.explained(text, cause))
}

/// docker makes and starts an exec in two steps, and tells of both.
fn began_exec(record: &ContainerRecord, exec: &str, command: &str) -> Option<Change> {
    let container = record.container.as_ref()?;
    let of = |action: &str| -> Draft {
        events::of_container(container, format!("{action}: {command}"), [("execID", exec.to_owned())])
    };
    Some(Change { events: vec![of("exec_create"), of("exec_start")], ..Change::default() })
}

/// How a life ended: by its record while that is there, else by what the journal says.
fn exit_of(
    record: &ContainerRecord,
    entry: &Entry,
    exit: Option<&Exit>,
    at: Option<prost_types::Timestamp>,
) -> Exit {
    if let Some(exit) = exit {
        return exit.clone();
    }
    let What::Exit { exit_code, signal, oom, unborn } = entry.what else { return Exit::default() };
    let status = record.container.as_ref().map(live::status_of).unwrap_or_default();
    let began = status.started_at.filter(|_| status.life == entry.life);
    Exit {
        life: entry.life,
        how: Some(signal.map_or(How::Code(exit_code), How::Signal)),
        // Something did begin, whenever that was.
        started_at: if unborn { None } else { began.or(at) },
        finished_at: at,
        oom_killed: oom,
        reason: if unborn { entry.cause.clone() } else { String::new() },
        exit_code,
    }
}

/// How long a life took, in whole seconds.
#[must_use]
pub fn seconds(exit: &Exit) -> Option<u64> {
    let (began, ended) = (exit.started_at.as_ref()?, exit.finished_at.as_ref()?);
    let length = system_time(ended).duration_since(system_time(began)).unwrap_or_default();
    Some(length.as_secs())
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
