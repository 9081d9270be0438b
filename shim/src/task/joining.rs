//! The rest of the way of a process into a container: its orders are sent, and it is heard how it went.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use tokio::io::Interest;
use tokio::time::timeout;

use crate::init::exec::Joining;
use crate::init::{Channel, Failure, FailureKind, InitError, Reply};
use crate::watched::watch;

/// How long a process may take to execute.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until the program runs, and answers with its terminal's master, if it has one; or with the reason why it
/// does not run. Then the process has ended or is about to.
pub async fn join(joining: Joining) -> Result<Option<OwnedFd>, InitError> {
    let late = |_elapsed| InitError::Timeout { seconds: PATIENCE.as_secs() };
    timeout(PATIENCE, finish(joining)).await.map_err(late)?
}

async fn finish(joining: Joining) -> Result<Option<OwnedFd>, InitError> {
    let Joining { channel, packets, fds } = joining;
    let channel = watch(channel, Interest::READABLE | Interest::WRITABLE).map_err(InitError::Channel)?;
    let mut handed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    for packet in packets {
        let send = |channel: &Channel| channel.send_packet(&packet, &handed);
        match channel.async_io(Interest::WRITABLE, send).await {
            Ok(()) => handed.clear(),
            // What it said before it closed its end is worth more.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            Err(error) => return Err(InitError::Channel(error)),
        }
    }
    drop(handed);
    drop(fds);
    let mut joined = None;
    loop {
        match channel.async_io(Interest::READABLE, Channel::receive::<Reply>).await {
            Ok(Some((Reply::Joined, fds))) => joined = Some(fds.into_iter().next()),
            Ok(Some((Reply::Failed(failure), _))) => return Err(failure.into()),
            // Close-on-exec: the end of the socket is the beginning of the program.
            Ok(None) => return joined.ok_or_else(vanished),
            Ok(Some(_)) => return Err(InitError::Channel(io::ErrorKind::InvalidData.into())),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                return joined.ok_or_else(vanished);
            }
            Err(error) => return Err(InitError::Channel(error)),
        }
    }
}

fn vanished() -> InitError {
    Failure::new(FailureKind::Kernel, "the process was killed before it could execute").into()
}
