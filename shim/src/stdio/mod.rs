//! What a container says and hears.
//!
//! ```text
//!              ┌────────────── pump (one task) ───────────────┐
//!  stdout ───▶ │ read ─▶ log file ─▶ ring ─▶ clients' queues  │ ──▶ attach streams
//!  stderr ───▶ │                                              │
//!  (or PTY)    └──────────────────────────────────────────────┘
//!  stdin  ◀─── input (one task, from the first client that types) ◀── attach streams
//! ```
//!
//! The log comes first, so that what a client has seen is in the log. A client has a queue of bounded length; one that
//! is late gets fewer bytes and is told how many, and neither the program nor the log nor another client waits for it.
//! The one exception has a bound: a client that has been keeping up is given [`client::PATIENCE`] to take the next
//! piece before it counts as late, so that a pipeline loses nothing: docs/decisions/0006.
//!
//! Offsets count the bytes of each stream since the container was configured; a life that follows by the restart policy
//! goes on counting, with the same log and the same clients. Rings, queues and the input task take no memory before
//! a client needs them.

pub mod client;
pub mod clock;
pub mod input;
pub mod log;
pub mod pump;
pub mod ring;
pub mod source;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a program writes to. With a terminal everything is `Stdout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// Both, in the order of their [`Stream::index`].
    pub const BOTH: [Self; 2] = [Self::Stdout, Self::Stderr];

    /// Place in an array of two.
    pub fn index(self) -> usize {
        match self {
            Self::Stdout => 0,
            Self::Stderr => 1,
        }
    }

    /// How the log names it, blanks included.
    fn tag(self) -> &'static [u8] {
        match self {
            Self::Stdout => b" stdout ",
            Self::Stderr => b" stderr ",
        }
    }
}

/// How many bytes each stream has said, readable by anybody at any time.
#[derive(Debug, Clone, Default)]
pub struct Offsets(Arc<[AtomicU64; 2]>);

impl Offsets {
    /// Bytes said so far.
    pub fn get(&self, stream: Stream) -> u64 {
        self.0[stream.index()].load(Ordering::Relaxed)
    }

    /// Counts more bytes and answers with the offset of the first of them.
    fn advance(&self, stream: Stream, by: usize) -> u64 {
        self.0[stream.index()].fetch_add(by as u64, Ordering::Relaxed)
    }
}
