//! Waiting for one of our three descriptors. They are shared with whoever started us, so they are never made
//! non-blocking: readiness is asked for before each call instead.

use std::os::fd::{AsFd, AsRawFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers a descriptor; `None` for what cannot be waited for because it is always ready: files.
#[expect(deprecated, reason = "the safe call; our standard streams stay open and keep their numbers")]
pub fn register<T: AsRawFd>(stream: T, interest: Interest) -> Option<AsyncFd<T>> {
    AsyncFd::with_interest(stream, interest).ok()
}

/// Whether a call would return at once.
pub fn is_ready(stream: &impl AsFd, flags: PollFlags) -> bool {
    let mut fds = [PollFd::new(stream, flags)];
    rustix::event::poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
}
