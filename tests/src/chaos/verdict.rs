//! What must be true after a storm.

use std::collections::{BTreeMap, HashMap};

use davit_proto::journal::What;
use serde_json::Value;

use super::client::{Belief, Client};
use super::mischief::Mischief;
use super::witness::{Witness, lives, twice};
use super::{Counts, PULLED};
use crate::engine::Engine;
use crate::events::Event;

/// Compares what is there with what clients believe and containers say. Clients believe afterwards what is there.
///
/// # Panics
/// With everything that is wrong.
pub fn judge(
    engine: &Engine,
    clients: &mut [Client],
    witness: &Witness,
    mischief: &Mischief,
    counts: &mut Counts,
) {
    let there = containers(engine);
    let mut faults = Vec::new();
    for client in clients.iter_mut() {
        for at in 0..client.beliefs.len() {
            let belief = client.beliefs[at].clone();
            let found = there.get(&belief.name);
            faults.extend(believed(&belief, found, mischief));
            if let Some(found) = found {
                faults.extend(lived(engine, &belief, found, witness, mischief));
                let log = Log::read(engine, &belief.name);
                counts.lines += log.lines;
                faults.extend(log.faults().into_iter().map(|fault| format!("{}: {fault}", belief.name)));
                faults.extend(log.ended(found).map(|fault| format!("{}: {fault}", belief.name)));
            }
            let belief = &mut client.beliefs[at];
            belief.there = Some(found.is_some());
            belief.running = Some(found.is_some_and(|found| found["State"]["Running"] == true));
        }
    }
    faults.extend(told(&engine.past()));
    assert!(faults.is_empty(), "{faults:#?}\n{}", engine.end_of_log());
}

/// The image that is pulled amid it all is right when it is there, and can be had now.
///
/// # Panics
/// When its content is another one.
pub fn pulled(engine: &Engine, sum: &str) {
    engine.ok(["pull", "-q", PULLED]);
    let said = engine.ok(["run", "--rm", PULLED]).stdout;
    assert_eq!(said, format!("{sum}  /known\n"), "the content of what was pulled");
}

/// All containers by name, as `inspect` tells of them.
fn containers(engine: &Engine) -> BTreeMap<String, Value> {
    let ids = engine.ok(["ps", "-a", "-q", "--no-trunc"]).stdout;
    if ids.trim().is_empty() {
        return BTreeMap::new();
    }
    let told = engine.ok(["inspect"].into_iter().chain(ids.split_whitespace())).stdout;
    let told: Value = serde_json::from_str(&told).expect("inspect prints JSON");
    let named = |container: &Value| {
        (container["Name"].as_str().unwrap_or_default().trim_start_matches('/').to_owned(), container.clone())
    };
    told.as_array().into_iter().flatten().map(named).collect()
}

/// Nothing that was granted is otherwise.
fn believed(belief: &Belief, found: Option<&Value>, mischief: &Mischief) -> Vec<String> {
    let Belief { name, .. } = belief;
    let mut faults = Vec::new();
    match (belief.there, found) {
        (Some(true), None) => faults.push(format!("{name} is lost")),
        (Some(false), Some(_)) => faults.push(format!("{name} is there although it was removed")),
        _ => {}
    }
    let (Some(found), Some(wanted)) = (found, belief.running) else { return faults };
    let running = found["State"]["Running"] == true;
    // A shim that was killed took its container along.
    let excused = wanted && mischief.killed_shims();
    if running != wanted && belief.there == Some(true) && !excused {
        faults.push(format!("{name} runs: {running}, wanted: {wanted}: {}", found["State"]));
    }
    faults
}

/// It never lived twice at once, nor more often than its journal says.
fn lived(
    engine: &Engine,
    belief: &Belief,
    found: &Value,
    witness: &Witness,
    mischief: &Mischief,
) -> Vec<String> {
    let label = found["Config"]["Labels"]["generation"].as_str().unwrap_or_default();
    let generation = label.parse().unwrap_or(belief.generation);
    let folder = witness.of(&belief.name, generation);
    let mut faults: Vec<String> =
        twice(&folder).map(|said| format!("{} lived twice: {said}", belief.name)).into_iter().collect();
    let journal = engine.journal(found["Id"].as_str().unwrap_or_default());
    let starts = journal.iter().filter(|entry| matches!(entry.what, What::Start { .. })).count();
    let lived = lives(&folder);
    // The program may be killed before it can say that it lives, and a full disk forgets an entry.
    if lived > starts && !mischief.filled() {
        faults.push(format!("{} lived {lived} times, its journal tells of {starts}", belief.name));
    }
    if generation != belief.generation && belief.there == Some(true) {
        faults.push(format!("{} is of generation {generation}, not {}", belief.name, belief.generation));
    }
    faults
}

/// How a log tells that the disk had no room for a part of it.
const MISSING: &str = "[davit: ";

/// A container's log: lives of numbered lines.
#[derive(Debug, Default)]
struct Log {
    lines: usize,
    lives: Vec<Life>,
}

/// Lines that follow each other: from the beginning of a life, or from where the log says that some are missing.
#[derive(Debug, Default)]
struct Life {
    after_gap: bool,
    numbers: Vec<u64>,
    /// What it said last when it was asked to end.
    last: Option<u64>,
    strange: Vec<String>,
}

impl Log {
    fn read(engine: &Engine, name: &str) -> Self {
        Self::of(&engine.ok(["logs", name]).stdout)
    }

    fn of(text: &str) -> Self {
        let mut log = Self::default();
        for line in text.lines() {
            log.lines += 1;
            let mut words = line.split(' ');
            let first = words.next().unwrap_or_default();
            let mut number = || words.next().and_then(|word| word.parse().ok());
            let after_gap = line.starts_with(MISSING);
            if first == "life" || after_gap || log.lives.is_empty() {
                log.lives.push(Life { after_gap, ..Life::default() });
            }
            let Some(life) = log.lives.last_mut() else { continue };
            match (first, number()) {
                ("line", Some(number)) => life.numbers.push(number),
                ("last", Some(number)) => life.last = Some(number),
                ("life", Some(_)) => {}
                _ if after_gap => {}
                _ => life.strange.push(line.to_owned()),
            }
        }
        log
    }

    /// Lines that are missing without a word, or strange.
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (index, life) in self.lives.iter().enumerate() {
            let mut before = if life.after_gap { None } else { Some(0) };
            for &number in &life.numbers {
                if before.is_some_and(|before| number != before + 1) {
                    faults.push(format!("life {index}: line {number} follows {before:?}"));
                }
                before = Some(number);
            }
            if let (Some(last), Some(before)) = (life.last, before)
                && last != before
            {
                faults.push(format!("life {index} ended with line {last}, its log with {before}"));
            }
            if !life.strange.is_empty() {
                faults.push(format!("life {index} has {:?}", life.strange));
            }
        }
        faults
    }

    /// Whoever said its last word ended with the code that it chose, unless it was to be started again and could not.
    fn ended(&self, found: &Value) -> Option<String> {
        let last = self.lives.last()?;
        let running = found["State"]["Status"] != "exited" || found["State"]["Error"] != "";
        let code = &found["State"]["ExitCode"];
        (last.last.is_some() && !running && *code != 42 && *code != 137)
            .then(|| format!("it ended with 42, and {code} is told"))
    }
}

/// Events are told once and in order, and each container's lives one after the other.
fn told(past: &[Event]) -> Vec<String> {
    let mut faults = Vec::new();
    for pair in past.windows(2) {
        if pair[0].revision >= pair[1].revision {
            faults.push(format!("revision {} follows {}", pair[1].revision, pair[0].revision));
        }
    }
    let mut alive: HashMap<&str, bool> = HashMap::new();
    for event in past {
        let was = alive.get(event.id.as_str()).copied();
        let is = match event.action.as_str() {
            "start" => true,
            "die" => false,
            "destroy" => {
                if was == Some(true) {
                    faults.push(format!("{} was removed while it lived", event.id));
                }
                continue;
            }
            _ => continue,
        };
        if was == Some(is) {
            faults.push(format!("{} twice: {} at revision {}", event.action, event.id, event.revision));
        }
        alive.insert(&event.id, is);
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_read_life_by_life() {
        let log = Log::of("life 5\nline 1\nline 2\nlast 2\nlife 9\nline 1\n");
        assert_eq!((log.lines, log.lives.len()), (6, 2));
        assert_eq!(log.lives[0].numbers, [1, 2]);
        assert_eq!((log.lives[0].last, log.lives[1].last), (Some(2), None));
        assert_eq!(log.faults(), [""; 0]);
    }

    #[test]
    fn a_gap_is_a_fault_unless_the_log_tells_of_it() {
        assert_eq!(Log::of("life 5\nline 1\nline 3\n").faults().len(), 1);
        assert_eq!(Log::of("life 5\nline 1\nlast 2\n").faults().len(), 1);
        let told =
            "life 5\nline 1\n[davit: 9 bytes are missing here: no space left on device]\nline 3\nlast 3\n";
        assert_eq!(Log::of(told).faults(), [""; 0]);
    }

    #[test]
    fn events_tell_of_one_life_after_the_other() {
        let event = |revision, action: &str| Event { revision, id: "c".into(), at: 0, action: action.into() };
        assert_eq!(
            told(&[event(1, "create"), event(2, "start"), event(3, "die"), event(4, "start")]),
            [""; 0]
        );
        assert_eq!(told(&[event(2, "start"), event(3, "start")]).len(), 1);
        assert_eq!(told(&[event(3, "start"), event(3, "die")]).len(), 1);
    }
}
