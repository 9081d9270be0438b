//! Standard input without a thread: polled where it can be (terminals, pipes, sockets), read straight where
//! it is always ready (files).

use std::io::{self, Stdin as Handle};
use std::os::fd::AsFd as _;

use bytes::Bytes;
use rustix::event::PollFlags;
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::ready;

/// Most bytes of one frame of input.
const CHUNK: usize = 32 << 10;

/// What came.
#[derive(Debug)]
pub enum Read {
    /// Bytes.
    Bytes(Bytes),
    /// The end.
    End,
}

/// Standard input.
#[derive(Debug)]
pub struct Stdin {
    polled: Option<AsyncFd<Handle>>,
}

impl Stdin {
    /// Standard input, whatever it is.
    pub fn open() -> Self {
        Self { polled: ready::register(io::stdin(), Interest::READABLE) }
    }

    async fn read(&self) -> Read {
        loop {
            if let Some(polled) = &self.polled {
                let Ok(mut guard) = polled.readable().await else {
                    return Read::End;
                };
                if !ready::is_ready(&io::stdin(), PollFlags::IN) {
                    guard.clear_ready();
                    continue;
                }
            }
            let mut chunk = vec![0; CHUNK];
            match rustix::io::read(io::stdin().as_fd(), &mut chunk) {
                Ok(0) => return Read::End,
                Ok(length) => {
                    chunk.truncate(length);
                    return Read::Bytes(chunk.into());
                }
                Err(Errno::INTR | Errno::AGAIN) => tokio::task::yield_now().await,
                // A terminal that was hung up answers EIO: nothing will ever come.
                Err(_) => return Read::End,
            }
        }
    }
}

/// The next of an input that may be closed already; then it never comes.
pub async fn next(stdin: &mut Option<Stdin>) -> Read {
    match stdin {
        Some(stdin) => stdin.read().await,
        None => std::future::pending().await,
    }
}
