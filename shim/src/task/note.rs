//! Notes in the journal, and the causes that they give.

use std::time::{Duration, SystemTime};

use davit_proto::journal::What;
use davit_sys::process;
use tokio::time::Instant;

use super::driver::Driver;

/// How long after a signal an end by the program's own will counts as its answer.
const SHORTLY: Duration = Duration::from_secs(10);

/// The last signal that a call of this life sent.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// Its number.
    pub signal: i32,
    /// Who asked; may be empty.
    pub actor: String,
    /// When.
    pub at: Instant,
    /// By a stop, whose clock may run for long.
    pub stop: bool,
    /// A stop's time, once it is over and everything was killed.
    pub overdue: Option<Duration>,
}

/// Processes that the kernel killed for want of memory in one life, and the limit in bytes, where there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Oom {
    pub kills: u64,
    pub limit: Option<u64>,
}

impl Driver {
    /// Writes what happened in the present or last life into the journal. It is published with whatever is published
    /// next, at the latest before the next answer.
    pub(super) fn note(&mut self, what: What, cause: String) {
        self.note_at(self.task.life(), SystemTime::now(), what, cause);
    }

    /// The same for another life or moment. A journal that cannot be written, as on a full disk, stops nothing: the
    /// container lives on, and how it ends is in the exit record and in what is published.
    pub(super) fn note_at(&mut self, life: u64, at: SystemTime, what: What, cause: String) {
        let Some(journal) = &mut self.journal else { return };
        match journal.append(life, at, what, cause) {
            Ok(()) => self.unpublished = true,
            Err(error) => {
                let error = davit_proto::status::chain(&error);
                tracing::error!(%error, "the journal was not written");
            }
        }
    }
}

/// Why a life ended, as far as it was not the program's own doing: a fragment of a sentence, or nothing.
pub(super) fn cause_of_exit(status: process::Exit, asked: Option<&Asked>, oom: Option<Oom>) -> String {
    if let Some(asked) = asked.filter(|asked| asked.explains(status)) {
        return asked.to_string();
    }
    oom.map(|oom| oom.to_string()).unwrap_or_default()
}

impl Asked {
    fn explains(&self, status: process::Exit) -> bool {
        match status {
            process::Exit::Signaled(signal) => {
                self.signal == i32::from(signal)
                    || (self.overdue.is_some() && i32::from(signal) == process::SIGKILL)
            }
            // What a program does about a signal is its own affair; but not what comes long after, nor what comes
            // after a signal that ends nobody.
            process::Exit::Exited(_) => {
                self.stop || (ends_by_default(self.signal) && self.at.elapsed() <= SHORTLY)
            }
        }
    }
}

/// Whether a signal ends a program that does not mind it: by signal(7).
fn ends_by_default(signal: i32) -> bool {
    const CHILD_TO_TTOU: std::ops::RangeInclusive<i32> = 17..=22;
    const URGENT: i32 = 23;
    const WINDOW: i32 = 28;
    !CHILD_TO_TTOU.contains(&signal) && signal != URGENT && signal != WINDOW
}

impl std::fmt::Display for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let from = if self.actor.is_empty() { "" } else { " from " };
        match self.overdue {
            Some(time) => write!(f, "signal 9, {time:?} after a stop{from}{}", self.actor),
            None => write!(f, "signal {}{from}{}", self.signal, self.actor),
        }
    }
}

impl std::fmt::Display for Oom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let processes = if self.kills == 1 { "process" } else { "processes" };
        write!(f, "out of memory: {} {processes} killed by the kernel", self.kills)?;
        match self.limit {
            Some(limit) => write!(f, ", limit {}", Bytes(limit)),
            None => Ok(()),
        }
    }
}

/// Bytes in the largest unit that shows them exactly.
struct Bytes(u64);

impl std::fmt::Display for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match units.into_iter().find(|(size, _)| self.0 > 0 && self.0.is_multiple_of(*size)) {
            Some((size, unit)) => write!(f, "{} {unit}", self.0 / size),
            None => write!(f, "{} B", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use davit_sys::process::Exit;

    fn asked(signal: i32, stop: bool) -> Asked {
        let actor = "davit kill (uid 0, pid 12)".to_owned();
        Asked { signal, actor, at: Instant::now(), stop, overdue: None }
    }

    #[tokio::test(start_paused = true)]
    async fn a_signal_explains_what_it_can() {
        let cause = |status, asked: &Asked| cause_of_exit(status, Some(asked), None);
        let kill = asked(9, false);
        assert_eq!(cause(Exit::Signaled(9), &kill), "signal 9 from davit kill (uid 0, pid 12)");
        assert_eq!(cause(Exit::Signaled(11), &kill), "");
        let term = asked(15, false);
        assert_eq!(cause(Exit::Exited(0), &term), "signal 15 from davit kill (uid 0, pid 12)");
        assert_eq!(cause(Exit::Exited(0), &asked(28, false)), "", "a window's size ends nobody");
        let stop = asked(15, true);
        tokio::time::advance(SHORTLY * 2).await;
        assert_eq!(cause(Exit::Exited(0), &term), "", "long ago");
        assert_eq!(cause(Exit::Exited(3), &stop), "signal 15 from davit kill (uid 0, pid 12)");
        let overdue = Asked { overdue: Some(Duration::from_secs(10)), ..stop };
        let killed = "signal 9, 10s after a stop from davit kill (uid 0, pid 12)";
        assert_eq!(cause(Exit::Signaled(9), &overdue), killed);
        assert_eq!(Asked { actor: String::new(), ..kill }.to_string(), "signal 9");
    }

    #[tokio::test]
    async fn want_of_memory_is_a_cause_where_nobody_asked() {
        let oom = |kills, limit| Some(Oom { kills, limit });
        let killed = |oom| cause_of_exit(Exit::Signaled(9), None, oom);
        assert_eq!(
            killed(oom(2, Some(64 << 20))),
            "out of memory: 2 processes killed by the kernel, limit 64 MiB"
        );
        assert_eq!(killed(oom(1, Some(1000))), "out of memory: 1 process killed by the kernel, limit 1000 B");
        assert_eq!(killed(oom(1, None)), "out of memory: 1 process killed by the kernel");
        assert_eq!(killed(None), "");
        let both = cause_of_exit(Exit::Signaled(9), Some(&asked(9, false)), oom(1, None));
        assert_eq!(both, "signal 9 from davit kill (uid 0, pid 12)");
    }
}
