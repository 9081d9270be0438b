//! The journal of a container: the file `life` of its bundle, one JSON object a line, oldest first.
//!
//! Only the container's shim appends to it, and it does so before it publishes or answers what it wrote. So the journal
//! is the one source of what happened while nobody watched: the controller reads what came after the last entry that
//! it knows and turns each into a change with its event, once and in order, with the time at which it happened.
//!
//! The file is bounded: its older half is dropped when it has grown too large. A line may be torn by a power cut or be
//! of a kind that a newer shim writes; neither hides the lines after it.

use serde::{Deserialize, Serialize};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Counts the entries of one container, from 1; only grows.
    pub n: u64,
    /// When, as RFC 3339 with nanoseconds.
    pub at: String,
    /// The life in which it happened; 0 before the first.
    pub life: u64,
    /// What.
    #[serde(flatten)]
    pub what: What,
    /// Why, and by whom: a fragment of a sentence for a person; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cause: String,
}

/// What may happen in a container's life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum What {
    /// `execve` of a life is about to be, or was, tried.
    Start {
        /// Init, as the host counts.
        pid: u32,
    },
    /// A life ended. Written after the exit record, so that whoever reads of it finds that.
    Exit {
        /// By the shell's convention: the code, or 128 + signal; 125, 126 or 127 when it never ran.
        exit_code: u32,
        /// The signal that ended it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signal: Option<u32>,
        /// A process of it was killed for want of memory.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        oom: bool,
        /// The program never ran.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        unborn: bool,
    },
    /// The next life waits for its time.
    Restarting {
        /// How long, in milliseconds.
        delay_ms: u64,
        /// Restarts by policy since a person started it, this one included.
        count: u32,
    },
    /// The policy starts it no more.
    GaveUp,
    /// Somebody sent a signal to init.
    Signal {
        /// Its number.
        signal: u32,
    },
    /// Somebody asked it to end.
    Stop {
        /// Number of the signal that asks.
        signal: u32,
        /// Milliseconds until SIGKILL; none for never.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timeout_ms: Option<u64>,
    },
    /// It did not end in the time of a stop, and everything of it was killed.
    StopTimeout,
    /// Frozen.
    Pause,
    /// Thawed.
    Resume,
    /// The kernel killed processes of it for want of memory, and its init lives.
    Oom {
        /// How many so far in this life.
        kills: u64,
    },
    /// Its limits were changed.
    Update,
    /// Its health is judged otherwise than before.
    Health {
        /// `starting`, `healthy`, `unhealthy`.
        status: String,
        /// Failures in a row.
        #[serde(default)]
        failing_streak: u32,
    },
    /// One more process runs.
    ExecStart {
        /// Its id.
        exec: String,
        /// Program and arguments in one line, cut to a bounded length.
        command: String,
    },
    /// One more process ended.
    ExecExit {
        /// Its id.
        exec: String,
        /// As for `exit`.
        exit_code: u32,
    },
    /// Of a kind that this build does not know.
    #[serde(other)]
    Unknown,
}

/// The entries of a journal, oldest first; what cannot be read is passed over.
pub fn entries(journal: &[u8]) -> impl Iterator<Item = Entry> + '_ {
    journal.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok())
}

/// The entries after number `n`, oldest first. Read from the end, so that it costs nothing how many came before: numbers
/// only grow.
#[must_use]
pub fn entries_after(journal: &[u8], n: u64) -> Vec<Entry> {
    let lines = journal.rsplit(|byte| *byte == b'\n');
    let entries = lines.filter_map(|line| serde_json::from_slice::<Entry>(line).ok());
    let mut entries: Vec<_> = entries.take_while(|entry| entry.n > n).collect();
    entries.reverse();
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_back_and_strange_ones_hide_nothing() {
        let entry = |n, what| Entry {
            n,
            at: "2026-11-21T01:02:03.000000004Z".to_owned(),
            life: 1,
            what,
            cause: String::new(),
        };
        let all = [
            entry(1, What::Start { pid: 7 }),
            entry(2, What::Stop { signal: 15, timeout_ms: Some(10_000) }),
            entry(3, What::Exit { exit_code: 143, signal: Some(15), oom: false, unborn: false }),
            entry(5, What::Unknown),
        ];
        let mut journal = Vec::new();
        for entry in &all[..3] {
            serde_json::to_writer(&mut journal, entry).unwrap();
            journal.push(b'\n');
        }
        journal.extend_from_slice(b"{\"n\":4,\"at\":\n");
        journal.extend_from_slice(
            br#"{"n":5,"at":"2026-11-21T01:02:03.000000004Z","life":1,"event":"flew","height":3}"#,
        );
        journal.extend_from_slice(b"\n{\"n\":6,\"at");
        assert_eq!(entries(&journal).collect::<Vec<_>>(), all);
        for n in 0..7 {
            let after: Vec<_> = all.iter().filter(|entry| entry.n > n).cloned().collect();
            assert_eq!(entries_after(&journal, n), after, "after {n}");
        }
        let line = serde_json::to_string(&all[1]).unwrap();
        assert_eq!(
            line,
            r#"{"n":2,"at":"2026-11-21T01:02:03.000000004Z","life":1,"event":"stop","signal":15,"timeout_ms":10000}"#
        );
    }
}
