//! One helper process: born with its order in its socket, killed when nobody wants its answer any more.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use davit_proto::container::CopyInResponse;
use davit_proto::copy::{Action, Answer, CHANNEL, FailureKind, Order, PACKET, Place};
use davit_proto::id::ContainerId;
use davit_sys::fd;
use davit_sys::process::{self, Child, NewNamespaces, Spawn};
use tokio::net::unix::pipe;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::running::{Copies, Entered};
use crate::engine::Engine;
use crate::error::Error;
use crate::shim::Program;

/// Room in the pipes, where the host allows it.
const PIPE: usize = 1 << 20;

/// A helper on its way.
#[derive(Debug)]
pub struct Helper {
    container: String,
    answers: mpsc::Receiver<Answer>,
    input: Option<OwnedFd>,
    output: Option<OwnedFd>,
    pidfd: Arc<OwnedFd>,
    _entered: Entered,
    _seat: Option<OwnedSemaphorePermit>,
}

impl Drop for Helper {
    fn drop(&mut self) {
        // It may have ended by itself; the thread that hears it reaps it.
        let _ = process::kill(&*self.pidfd);
    }
}

impl Helper {
    /// Starts a helper with an order and the descriptors that belong to it.
    pub async fn launch(
        engine: &Arc<Engine>,
        id: &ContainerId,
        order: &Order,
        along: Vec<OwnedFd>,
    ) -> Result<Self, Error> {
        let seat = engine.copies.seat().await;
        let begun = Begun::new(order, &along).map_err(Error::io("prepare a copying helper"))?;
        let Begun { socket, theirs, stdin, stdout, input, output } = begun;
        let namespaces = match order.place {
            Place::Live | Place::Image(_) | Place::Layer(_) => NewNamespaces::NONE,
            Place::Stopped(_) => NewNamespaces::MOUNT,
        };
        let program = engine.program.clone();
        let spawned =
            tokio::task::spawn_blocking(move || spawn(&program, [stdin, stdout], theirs, namespaces));
        let child = spawned
            .await
            .map_err(|error| Error::Task { doing: "start a copying helper", why: error.to_string() })?
            .map_err(Error::io("start a copying helper"))?;
        let pidfd = Arc::new(child.pidfd);
        let entered = Copies::enter(engine, id, order.place == Place::Live, pidfd.clone());
        let answers = listen(socket, pidfd.clone());
        let container = order.container.clone();
        Ok(Self { container, answers, input, output, pidfd, _entered: entered, _seat: seat })
    }

    /// The first answer; none when it ended without one.
    pub async fn first(&mut self) -> Result<Option<Answer>, Error> {
        Ok(self.answers.recv().await)
    }

    /// The next answer that is no failure.
    pub async fn answer(&mut self) -> Result<Answer, Error> {
        match self.answers.recv().await {
            Some(Answer::Failed { kind, message }) => Err(Error::Copy { kind, message }),
            Some(answer) => Ok(answer),
            None => Err(Error::Copy { kind: FailureKind::Busy, message: self.cut() }),
        }
    }

    /// The last answer.
    pub async fn done(&mut self) -> Result<CopyInResponse, Error> {
        match self.answer().await? {
            Answer::Done { entries, bytes } => Ok(CopyInResponse { entries, bytes }),
            _ => Err(out_of_turn()),
        }
    }

    /// Where the archive goes in.
    pub fn input(&mut self) -> Result<pipe::Sender, Error> {
        let end = self.input.take().ok_or_else(out_of_turn)?;
        pipe::Sender::from_owned_fd(end).map_err(Error::io("open the pipe to a copying helper"))
    }

    /// Where the archive comes out.
    pub fn output(&mut self) -> Result<pipe::Receiver, Error> {
        let end = self.output.take().ok_or_else(out_of_turn)?;
        pipe::Receiver::from_owned_fd(end).map_err(Error::io("open the pipe to a copying helper"))
    }

    fn cut(&self) -> String {
        format!(
            "the container {} ended, was started or removed while its files were copied: copy again",
            self.container
        )
    }
}

/// A helper that says what it was not asked.
pub fn out_of_turn() -> Error {
    let message = "the copying helper answered out of turn".to_owned();
    Error::Copy { kind: FailureKind::Internal, message }
}

/// The descriptors of both sides.
struct Begun {
    socket: OwnedFd,
    theirs: OwnedFd,
    stdin: OwnedFd,
    stdout: OwnedFd,
    input: Option<OwnedFd>,
    output: Option<OwnedFd>,
}

impl Begun {
    fn new(order: &Order, along: &[OwnedFd]) -> io::Result<Self> {
        let (socket, theirs) = fd::packet_pair()?;
        // In its socket before it exists.
        let along: Vec<BorrowedFd<'_>> = along.iter().map(|fd| fd.as_fd()).collect();
        fd::send_packet(&socket, &serde_json::to_vec(order)?, &along)?;
        let null = OwnedFd::from(File::options().read(true).write(true).open("/dev/null")?);
        let (mut stdin, mut stdout, mut input, mut output) = (null.try_clone()?, null, None, None);
        match order.action {
            Action::Stat { .. } | Action::Populate { .. } | Action::Attach { .. } | Action::Detach { .. } => {
            }
            Action::Out { .. } | Action::Export | Action::Diff | Action::Layer { .. } => {
                let (reader, writer) = fd::pipe(PIPE)?;
                (stdout, output) = (writer, Some(reader));
            }
            Action::In { .. } => {
                let (reader, writer) = fd::pipe(PIPE)?;
                (stdin, input) = (reader, Some(writer));
            }
        }
        Ok(Self { socket, theirs, stdin, stdout, input, output })
    }
}

fn spawn(
    program: &Program,
    [stdin, stdout]: [OwnedFd; 2],
    socket: OwnedFd,
    namespaces: NewNamespaces,
) -> io::Result<Child> {
    let null = File::options().write(true).open("/dev/null")?;
    process::spawn(&Spawn {
        program: &program.path(),
        args: &[c"davit-shim", c"copy"].map(CString::from),
        env: &[],
        fds: &[(stdin.as_fd(), 0), (stdout.as_fd(), 1), (null.as_fd(), 2), (socket.as_fd(), CHANNEL)],
        namespaces,
        cgroup: None,
        session: true,
    })
}

/// Hears a helper until it ends, and reaps it.
fn listen(socket: OwnedFd, pidfd: Arc<OwnedFd>) -> mpsc::Receiver<Answer> {
    let (answers, heard) = mpsc::channel(4);
    tokio::task::spawn_blocking(move || {
        let mut packet = vec![0; PACKET];
        while let Ok(Some(length)) = fd::receive_packet(&socket, &mut packet, &mut Vec::new()) {
            let Ok(answer) = serde_json::from_slice(packet.get(..length).unwrap_or_default()) else { break };
            if answers.blocking_send(answer).is_err() {
                break;
            }
        }
        drop(answers);
        drop(socket);
        if let Err(error) = process::wait(&*pidfd) {
            tracing::warn!(%error, "failed to reap a copying helper");
        }
    });
    heard
}
