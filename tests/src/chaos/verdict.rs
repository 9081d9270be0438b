//! What must be true after a storm.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use davit_proto::journal::What;
use serde_json::Value;

use super::client::{Belief, Client};
use super::mischief::Mischief;
use super::witness::{Witness, lives, twice};
use super::{Counts, PULLED};
use crate::engine::Engine;
use crate::events::Event;
use crate::store::Store;
use crate::wait::until_true;

/// What was told until now.
#[derive(Debug, Default)]
pub struct Verdict {
    told: Vec<Event>,
}

impl Verdict {
    /// Compares what is there with what clients believe and containers say. Clients believe afterwards what is there.
    ///
    /// # Panics
    /// With everything that is wrong.
    pub fn judge(
        &mut self,
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
                belief.believe(found.is_some_and(|found| found["State"]["Running"] == true));
            }
        }
        let past = engine.past();
        faults.extend(told(&past));
        faults.extend(retold(&self.told, &past));
        counts.events += past.len();
        self.told = past;
        assert!(faults.is_empty(), "{faults:#?}\n{}", engine.end_of_log());
    }
}

/// Nothing of what was told is forgotten, and nothing came to stand before it since: as far back as is remembered.
fn retold(before: &[Event], now: &[Event]) -> Vec<String> {
    let Some((first, last)) = now.first().zip(before.last()) else { return Vec::new() };
    let was: BTreeSet<&Event> = before.iter().filter(|event| event.revision >= first.revision).collect();
    let is: BTreeSet<&Event> = now.iter().filter(|event| event.revision <= last.revision).collect();
    let lacks = was.difference(&is).map(|event| format!("is told no more: {event:?}"));
    let more = is.difference(&was).map(|event| format!("was not told: {event:?}"));
    lacks.chain(more).collect()
}

/// Waits until the folders, processes and cgroups of an engine are those of the containers that it has, or of the shims
/// that it keeps ready.
///
/// # Panics
/// When one of them is nobody's after this time.
pub fn kept(engine: &Engine, deadline: Duration) {
    let begun = Instant::now();
    loop {
        let faults = unowned(engine);
        if faults.is_empty() {
            return;
        }
        assert!(begun.elapsed() < deadline, "{faults:#?}\n{}", engine.end_of_log());
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn unowned(engine: &Engine) -> Vec<String> {
    let names = |folder: &Path| -> BTreeSet<String> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    let root = engine.seen_root();
    let bundles = names(&root.join("containers"));
    let ids = engine.ok(["ps", "-a", "-q", "--no-trunc"]).stdout;
    let ids: BTreeSet<&str> = ids.lines().collect();
    let is_known = |id: &str| ids.contains(id) || engine.is_ahead(id);
    let mut faults = Vec::new();
    faults.extend(ids.iter().filter(|id| !bundles.contains(**id)).map(|id| format!("{id} has no folder")));
    let of_nobody = |what: &str, found: BTreeSet<String>| -> Vec<String> {
        let id = |name: &str| name.trim_end_matches(".json").to_owned();
        // One that is written just now has another name until it is whole.
        let found = found.into_iter().filter(|name| !is_known(&id(name)));
        found.map(|name| format!("{what} of nobody: {name}")).collect()
    };
    for folder in ["containers", "volume/.use", "image/use", "network/.lease", "trash"] {
        faults.extend(of_nobody(folder, names(&root.join(folder))));
    }
    faults.extend(of_nobody("a shim's folder", names(&engine.run_dir().join("shim"))));
    for hierarchy in names(Path::new("/sys/fs/cgroup")) {
        let parent = Path::new("/sys/fs/cgroup").join(hierarchy).join(engine.host().name());
        let groups = names(&parent).into_iter().filter(|name| parent.join(name).is_dir() && name != "shims");
        faults.extend(of_nobody("a cgroup", groups.collect()));
    }
    let shims = engine.host().command("pgrep").args(["-a", "-f", "davit-shim serve"]).output();
    let shims = shims.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let of = |line: &str| line.split(' ').skip_while(|word| *word != "--id").nth(1).map(str::to_owned);
    faults.extend(of_nobody("a shim", shims.lines().filter_map(of).collect()));
    let mounts = fs::read_to_string(engine.host().seen_at("/proc/1/mounts")).unwrap_or_default();
    faults.extend(
        mounts.lines().filter(|line| line.starts_with("overlay ")).map(|line| format!("a mount: {line}")),
    );
    faults
}

/// What is kept of images is whole; once they are removed too, nothing of them is left.
///
/// # Panics
/// When it is otherwise.
pub fn no_images(engine: &Engine) {
    let store = Store::at(engine.seen_root().join("image"));
    store.verify().expect("images are whole");
    engine.ok(["image", "prune", "-a", "-f"]);
    until_true("nothing is left of images", || {
        [store.blobs(), store.layers(), store.under_way()]
            .into_iter()
            .all(|left| left.is_ok_and(|left| left.is_empty()))
    });
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
    fn what_was_told_stays_told_as_far_back_as_is_remembered() {
        let events = |revisions: &[u64]| -> Vec<Event> {
            let event =
                |revision: &u64| Event { revision: *revision, id: "c".into(), at: 0, action: "die".into() };
            revisions.iter().map(event).collect()
        };
        let retold = |before: &[u64], now: &[u64]| retold(&events(before), &events(now)).len();
        assert_eq!(retold(&[], &[1, 2]), 0);
        assert_eq!(retold(&[1, 2], &[1, 2, 5]), 0);
        assert_eq!(retold(&[1, 2, 3], &[2, 3, 5]), 0, "the oldest are forgotten");
        assert_eq!(retold(&[1, 2], &[7, 8]), 0, "all of it is");
        assert_eq!(retold(&[1, 2, 4], &[1, 4, 5]), 1);
        assert_eq!(retold(&[1, 2, 4], &[1, 2, 3, 4]), 1);
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
