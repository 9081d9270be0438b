//! `strace` beside processes that run: it counts their calls, or has one of them fail.
//!
//! Its counters are each task's own: `when=3` is the third call of that kind of *each* thread since `strace` came. What
//! a task of a runtime does is on whichever thread is free, so one pass may have several threads at their third call;
//! then there is a second fault while the first one is being cleaned up after.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::fault::Fault;

/// How long `strace` may take to come.
const COMES: Duration = Duration::from_secs(30);

/// File of what it says beside its log.
const SAID: &str = "strace.said";

/// How long it may take to go.
const GOES: Duration = Duration::from_secs(3);

/// Whether `strace` can come to other processes here: a machine may forbid it.
///
/// # Panics
/// When a program to try it on cannot be started.
#[must_use]
pub fn is_allowed() -> bool {
    let mut sleeper = Command::new("sleep").arg("60").spawn().expect("start sleep");
    let folder = tempfile::tempdir().expect("make a folder");
    let came = Tracer::come(folder.path(), &[sleeper.id()], None, false);
    let said = fs::read_to_string(folder.path().join(SAID)).unwrap_or_default();
    let _ended = (came.map(drop), sleeper.kill().and_then(|()| sleeper.wait()));
    said.contains(" attached")
}

/// The n-th call of a kind, in each thread, and what happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Injection {
    /// What happens.
    pub fault: Fault,
    /// To which call.
    pub call: &'static str,
    /// Which one of them, from 1.
    pub when: usize,
}

impl std::fmt::Display for Injection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.fault.name(), self.call, self.when)
    }
}

/// A call that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Id of the thread.
    pub task: u32,
    /// Name of the call.
    pub name: String,
    /// What it was about: its arguments, with `*` for what is different each time.
    pub place: String,
    /// Whether it was made to fail.
    pub injected: bool,
}

impl Call {
    /// Whether it is one by which a thread wakes another up, and was made to fail.
    #[must_use]
    pub fn is_wake_up(&self) -> bool {
        self.injected && self.name == "write" && self.place.contains("anon_inode:[eventfd]")
    }
}

/// An `strace` at work.
#[derive(Debug)]
pub struct Tracer {
    child: Child,
    log: PathBuf,
    injection: Option<Injection>,
}

impl Tracer {
    /// Comes to processes and stays until [`Tracer::leave`]. Their threads and what they fork is followed, and what
    /// those execute only when `into` says so.
    ///
    /// # Errors
    /// When `strace` cannot be started or does not come.
    pub fn come(folder: &Path, to: &[u32], injection: Option<Injection>, into: bool) -> Result<Self> {
        let (log, said) = (folder.join("strace.log"), folder.join(SAID));
        let mut command = Command::new("strace");
        command.args(["-f", "-y", "-s", "0", "-o"]).arg(&log);
        if !into {
            command.args(["-b", "execve"]);
        }
        match injection {
            None => {
                command.args(["-e", &format!("trace={}", super::fault::all().join(","))]);
            }
            Some(Injection { fault, call, when }) => {
                command.args(["-e", &format!("trace={call}")]);
                command.args(["-e", &format!("inject={call}:{}:when={when}", fault.injection())]);
            }
        }
        for pid in to {
            command.args(["-p", &pid.to_string()]);
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&said)?).spawn();
        let mut tracer = Self { child: child.context("start strace")?, log, injection };
        let begun = Instant::now();
        loop {
            let text = fs::read_to_string(&said)?;
            let come = text.lines().filter(|line| line.contains(" attached") || line.contains("attach:"));
            // One that has ended meanwhile has made all its calls.
            if come.count() >= to.len() || tracer.child.try_wait()?.is_some() {
                return Ok(tracer);
            }
            ensure!(begun.elapsed() < COMES, "strace does not come to {to:?}: {text}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether a wake-up was made to fail, which no disk does and no runtime lives on after.
    #[must_use]
    pub fn has_numbed(&self) -> bool {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        calls(&text).iter().any(Call::is_wake_up)
    }

    /// Goes, and answers with what it saw.
    ///
    /// # Errors
    /// When it cannot be ended or its log cannot be read.
    pub fn leave(mut self) -> Result<Vec<Call>> {
        self.end()?;
        let text = fs::read(&self.log).with_context(|| format!("read {}", self.log.display()))?;
        let mut calls = calls(&String::from_utf8_lossy(&text));
        if let Some(Injection { fault: Fault::Kill, when, .. }) = self.injection {
            // What a signal came to is not marked.
            mark(&mut calls, when);
        }
        Ok(calls)
    }

    fn end(&mut self) -> Result<()> {
        if self.child.try_wait()?.is_none() {
            // It lets go of everybody first; one that is killed might leave a call half changed.
            Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
            let begun = Instant::now();
            while self.child.try_wait()?.is_none() {
                if begun.elapsed() > GOES {
                    // It waits for a thread that waits for a child which it holds, or for one that is dead.
                    self.child.kill()?;
                    self.child.wait()?;
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        Ok(())
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("end strace: {error}");
        }
    }
}

/// The highest number of calls of each kind that one thread made.
#[must_use]
pub fn counts(calls: &[Call]) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for name in super::fault::all() {
        let mut tasks: BTreeMap<u32, usize> = BTreeMap::new();
        calls
            .iter()
            .filter(|call| call.name == name)
            .for_each(|call| *tasks.entry(call.task).or_default() += 1);
        if let Some(&most) = tasks.values().max() {
            counts.insert(name, most);
        }
    }
    counts
}

/// Marks the n-th call of each thread.
fn mark(calls: &mut [Call], when: usize) {
    let mut seen: BTreeMap<u32, usize> = BTreeMap::new();
    for call in calls {
        let count = seen.entry(call.task).or_default();
        *count += 1;
        call.injected = *count == when;
    }
}

/// All of a log. The second half of a call that was interrupted is about what the first was about.
fn calls(log: &str) -> Vec<Call> {
    let mut last: BTreeMap<u32, String> = BTreeMap::new();
    let mut calls: Vec<Call> = log.lines().filter_map(call).collect();
    for call in &mut calls {
        match last.get(&call.task).filter(|_| call.place == HALF) {
            Some(place) => call.place.clone_from(place),
            None => drop(last.insert(call.task, call.place.clone())),
        }
    }
    calls
}

/// What the second half of a call is about, as long as the first is not known.
const HALF: &str = "…";

/// One line of the log. A call that another thread's interrupted has its name in the first half, and whether it was
/// made to fail in the second.
fn call(line: &str) -> Option<Call> {
    let (task, rest) = line.split_once(char::is_whitespace)?;
    let (task, rest) = (task.parse().ok()?, rest.trim_start());
    if let Some(rest) = rest.strip_prefix("<... ") {
        let (name, rest) = rest.split_once(' ')?;
        let injected = rest.ends_with("(INJECTED)");
        return injected.then(|| Call { task, name: name.to_owned(), place: HALF.to_owned(), injected });
    }
    let (name, rest) = rest.split_once('(')?;
    if !name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_') {
        return None;
    }
    let arguments = rest.split(") = ").next().unwrap_or(rest).trim_end_matches(" <unfinished ...>");
    Some(Call {
        task,
        name: name.to_owned(),
        place: same_each_time(arguments),
        injected: rest.ends_with("(INJECTED)"),
    })
}

/// `*` for numbers and ids.
fn same_each_time(text: &str) -> String {
    let mut same = String::new();
    for word in text.split_inclusive(|letter: char| !letter.is_ascii_alphanumeric()) {
        let (word, end) = word
            .strip_suffix(|letter: char| !letter.is_ascii_alphanumeric())
            .map_or((word, ""), |bare| (bare, &word[bare.len()..]));
        let number = word.starts_with(|letter: char| letter.is_ascii_digit());
        let id = word.len() >= 12 && word.chars().all(|letter| letter.is_ascii_hexdigit());
        same.push_str(if number || id { "*" } else { word });
        same.push_str(end);
    }
    same
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_call() {
        let line = "4711  openat(AT_FDCWD</>, \"/run/3f2a00112233aa/x\", O_RDONLY) = -1 EIO (Input/output error) (INJECTED)";
        let expected = Call {
            task: 4711,
            name: "openat".into(),
            place: "AT_FDCWD</>, \"/run/*/x\", O_RDONLY".into(),
            injected: true,
        };
        assert_eq!(call(line), Some(expected));
        assert!(!call("1 fsync(9</x>) = 0").unwrap().injected);
        assert_eq!(call("1 fsync(9</x> <unfinished ...>").unwrap().place, "*</x>");
        assert!(call("1 <... fsync resumed>) = -1 EIO (Input/output error) (INJECTED)").unwrap().injected);
        assert_eq!(call("1 <... fsync resumed>) = 0"), None);
        let halves = "1 write(7<anon_inode:[eventfd]>, \"\"..., 8 <unfinished ...>\n2 fsync(9</x>) = 0\n\
                      1 <... write resumed>) = -1 ENOSPC (No space left on device) (INJECTED)";
        assert!(calls(halves).last().is_some_and(Call::is_wake_up), "{:?}", calls(halves));
        assert_eq!(call("1 +++ killed by SIGKILL +++"), None);
        assert_eq!(call("1 --- SIGCHLD {si_signo=SIGCHLD} ---"), None);
    }

    #[test]
    fn the_busiest_thread_counts() {
        let one = |task, name: &str| Call { task, name: name.into(), place: String::new(), injected: false };
        let calls = [one(1, "fsync"), one(1, "fsync"), one(2, "fsync"), one(2, "write")];
        assert_eq!(counts(&calls), BTreeMap::from([("fsync", 2), ("write", 1)]));
    }
}
