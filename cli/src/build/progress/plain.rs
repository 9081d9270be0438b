//! A build as one line after the other: `#3 [2/4] RUN make`, `#3 0.412 cc -c main.c`, `#3 DONE 1.2s`.

use std::time::{Duration, Instant};

use super::record::{Change, Moving, Record, State};
use crate::human;
use crate::output::visible;

/// The lines that say what changed.
pub fn lines(record: &Record, change: &Change, cause: &str) -> String {
    match change {
        Change::Begun(number) => match record.steps.get(number) {
            Some(step) => format!("#{number} {}\n", visible(&step.name)),
            None => String::new(),
        },
        Change::Line { number, at, text, .. } => format!("#{number} {:.3} {text}\n", at.as_secs_f64()),
        Change::Part(number, index) => {
            let part = record.steps.get(number).and_then(|step| step.parts.get(*index));
            part.filter(|moving| moving.part.done).map_or_else(String::new, |moving| {
                let took = seconds(moving.time(Instant::now()));
                // What has no size took no time worth a word.
                let took = if moving.part.total == 0 { String::new() } else { format!(" {took}") };
                format!("#{number} {}{took} done\n", part_text(moving))
            })
        }
        Change::Ended(number) => ended(record, *number, cause),
        Change::Warning(text) => format!("WARNING: {}\n", visible(text)),
        // All of them together, once it is over.
        Change::Finding(_) => String::new(),
    }
}

fn ended(record: &Record, number: u32, cause: &str) -> String {
    let Some(step) = record.steps.get(&number) else { return String::new() };
    let took = seconds(step.time(Instant::now()));
    match step.state {
        State::Running => String::new(),
        State::Done => format!("#{number} DONE {took}\n\n"),
        State::Cached => format!("#{number} CACHED\n\n"),
        State::Failed => format!("#{number} ERROR: {}\n\n", visible(cause)),
        State::Cancelled => format!("#{number} CANCELED\n\n"),
    }
}

/// `0.3s`
pub fn seconds(time: Duration) -> String {
    format!("{:.1}s", time.as_secs_f64())
}

/// `sha256:9834… 3.4MB / 10MB`, `transferring context: 2.1kB`, `writing image sha256:…`
pub fn part_text(moving: &Moving) -> String {
    let part = &moving.part;
    let name = visible(&part.name);
    let is_layer = part.name.starts_with("sha256:");
    match (is_layer, part.total, part.done) {
        (true, 0, _) => name.into_owned(),
        (true, total, true) => format!("{name} {0} / {0}", human::size(total)),
        (true, total, false) => format!("{name} {} / {}", human::size(part.current), human::size(total)),
        (false, 0, true) if !name.starts_with("transferring") => name.into_owned(),
        (false, _, _) => format!("{name}: {}", human::size(part.current)),
    }
}
