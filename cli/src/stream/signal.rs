//! The signals that a client at a container hears.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGHUP.
const HANG_UP: u32 = 1;
/// SIGINT.
pub const INTERRUPT: u32 = 2;
/// SIGWINCH.
const RESIZE: u32 = 28;
/// SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGTERM, SIGWINCH. The rest either cannot be caught,
/// is ours alone (SIGCHLD, SIGPIPE), or stops us as it should (SIGTSTP).
const KNOWN: [u32; 8] = [HANG_UP, INTERRUPT, 3, 10, 12, 14, 15, RESIZE];

/// A signal that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caught {
    /// The terminal has another size.
    Resize,
    /// The terminal was closed.
    HangUp,
    /// Another one, by its number.
    Signal(u32),
}

/// The signals that are listened to.
#[derive(Debug)]
pub struct Signals {
    heard: Vec<(u32, Signal)>,
}

impl Signals {
    /// Begins to listen. Signals that whoever started us chose to ignore (`nohup`, a background job of a
    /// script) stay ignored.
    pub fn catch() -> io::Result<Self> {
        let ignored = ignored();
        let mut heard = Vec::with_capacity(KNOWN.len());
        for number in KNOWN {
            let bit = 1_u64.checked_shl(number - 1).unwrap_or(0);
            if number == RESIZE || ignored & bit == 0 {
                heard.push((number, signal(SignalKind::from_raw(number.cast_signed()))?));
            }
        }
        Ok(Self { heard })
    }

    /// The next one.
    pub async fn next(&mut self) -> Caught {
        poll_fn(|context| {
            for (number, signal) in &mut self.heard {
                if let Poll::Ready(Some(())) = signal.poll_recv(context) {
                    return Poll::Ready(match *number {
                        RESIZE => Caught::Resize,
                        HANG_UP => Caught::HangUp,
                        number => Caught::Signal(number),
                    });
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// Signals that are ignored now, as a mask; none where the kernel does not say.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
