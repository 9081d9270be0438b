//! Descriptors that the runtime watches.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Lets the runtime watch a descriptor that `inner` owns, until the answer is gone.
#[expect(
    deprecated,
    reason = "its successor is unsafe because a type's AsRawFd may lie; AsFd, asked for here, may not, and unsafe code \
              is kept out of this crate"
)]
pub fn watch<T: AsFd + AsRawFd>(inner: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(inner, interest)
}
