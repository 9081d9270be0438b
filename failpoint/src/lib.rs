//! Named points where a test can make a program fail, stop or wait: `DAVIT_FAILPOINT=create.intent=abort`, or
//! `release.trash=error@2,shim.opened=delay:500`. Costs one load of a pointer where none is set.
//!
//! Every program of the engine has points of its own and is given the same variable; each takes its own and leaves the
//! others'. An `@n` says that only the n-th passing counts.

use std::collections::HashMap;
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The variable that sets them.
const VARIABLE: &str = "DAVIT_FAILPOINT";

/// What a point does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    /// Ends the process at once, as a crash does.
    Abort,
    /// Lets the operation fail here.
    Error,
    /// Waits.
    Delay(Duration),
}

/// A point that was set.
#[derive(Debug)]
struct Point {
    action: Action,
    /// Which passing counts; each, when it is not said.
    only: Option<u64>,
    passed: AtomicU64,
}

type Set = HashMap<&'static str, Point>;

static SET: OnceLock<Set> = OnceLock::new();

/// A setting that names no point or no action.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid {VARIABLE} {0:?}: must be name=abort|error|delay:<ms>, then @<n> where only the n-th passing counts, with \
     a name that --list-failpoints knows"
)]
pub struct Invalid(String);

/// A point was told to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("failpoint {0} was told to fail")]
pub struct Failed(pub &'static str);

impl From<Failed> for io::Error {
    fn from(failed: Failed) -> Self {
        Self::other(failed)
    }
}

/// Reads the variable, once, at the start of a program that has the points `known`; those that `is_foreign` are another
/// program's. Answers with the variable's text when it set any of them.
///
/// # Errors
/// When it names what does not exist: a test that cannot fail is worse than none.
pub fn load(
    known: impl IntoIterator<Item = &'static str>,
    is_foreign: impl Fn(&str) -> bool,
) -> Result<Option<String>, Invalid> {
    let text = std::env::var(VARIABLE).unwrap_or_default();
    let set = parse(&text, &known.into_iter().collect::<Vec<_>>(), is_foreign)?;
    if set.is_empty() {
        return Ok(None);
    }
    // A second call finds the same.
    let _ = SET.set(set);
    Ok(Some(text))
}

fn parse(text: &str, known: &[&'static str], is_foreign: impl Fn(&str) -> bool) -> Result<Set, Invalid> {
    let mut set = Set::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let invalid = || Invalid(part.to_owned());
        let (name, action) = part.split_once('=').ok_or_else(invalid)?;
        let point = point(action).ok_or_else(invalid)?;
        match known.iter().find(|known| **known == name) {
            Some(name) => drop(set.insert(name, point)),
            None if is_foreign(name) => {}
            None => return Err(invalid()),
        }
    }
    Ok(set)
}

fn point(text: &str) -> Option<Point> {
    let (action, only) = match text.split_once('@') {
        Some((action, only)) => (action, Some(only.parse().ok().filter(|only| *only > 0)?)),
        None => (text, None),
    };
    let action = match action {
        "abort" => Action::Abort,
        "error" => Action::Error,
        other => Action::Delay(Duration::from_millis(other.strip_prefix("delay:")?.parse().ok()?)),
    };
    Some(Point { action, only, passed: AtomicU64::new(0) })
}

impl Point {
    /// What this passing comes to.
    fn passes(&self) -> Option<Action> {
        let count = self.passed.fetch_add(1, Ordering::Relaxed) + 1;
        self.only.is_none_or(|only| only == count).then_some(self.action)
    }
}

/// Reaches a point: answers with how long to wait there.
///
/// # Errors
/// When the point was told to fail.
pub fn reach(name: &'static str) -> Result<Option<Duration>, Failed> {
    match SET.get().and_then(|set| set.get(name)).and_then(Point::passes) {
        None => Ok(None),
        Some(Action::Abort) => std::process::abort(),
        Some(Action::Error) => Err(Failed(name)),
        Some(Action::Delay(time)) => Ok(Some(time)),
    }
}

/// Passes a point, on a thread that may wait.
///
/// # Errors
/// When the point was told to fail.
pub fn pass(name: &'static str) -> Result<(), Failed> {
    if let Some(time) = reach(name)? {
        std::thread::sleep(time);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 2] = ["create.intent", "start.opened"];

    fn parse_here(text: &str) -> Result<Set, Invalid> {
        parse(text, &KNOWN, |name| name.starts_with("shim."))
    }

    #[test]
    fn settings_are_read_whole_or_refused() {
        let set = parse_here("create.intent=abort, start.opened=delay:20,shim.opened=error@3").unwrap();
        assert_eq!(set.len(), 2, "the other one is the shim's");
        assert_eq!(set["create.intent"].action, Action::Abort);
        assert_eq!(set["start.opened"].action, Action::Delay(Duration::from_millis(20)));
        assert!(parse_here("").unwrap().is_empty());
        for bad in [
            "create.intent",
            "nowhere=abort",
            "create.intent=explode",
            "create.intent=delay:x",
            "create.intent=error@0",
            "create.intent=error@",
            "shim.opened=explode",
        ] {
            assert_eq!(parse_here(bad).unwrap_err(), Invalid(bad.to_owned()));
        }
    }

    #[test]
    fn the_passing_that_was_named_counts_and_no_other() {
        let set = parse_here("create.intent=error@2,start.opened=error").unwrap();
        let passes = |name| -> Vec<_> { (0..3).map(|_| set[name].passes()).collect() };
        assert_eq!(passes("create.intent"), [None, Some(Action::Error), None]);
        assert_eq!(passes("start.opened"), [Some(Action::Error); 3]);
    }

    #[test]
    fn where_nothing_is_set_everything_passes() {
        assert_eq!(pass("create.intent"), Ok(()));
    }
}
