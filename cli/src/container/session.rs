//! A seat at a container from the first frame to the exit code, across a restart of the engine.

use std::time::Duration;

use davit_proto::container::{
    AttachOpen, AttachRequest, Attached, LogsRequest, StopRequest, Streams, WaitRequest, attach_request,
    containers_client::ContainersClient,
};
use davit_proto::reason;
use davit_proto::status::RemoteError;
use davit_proto::system::WatchRequest;
use davit_proto::types::{Exit, Filter, Output, Stdio};
use futures_util::StreamExt as _;
use tonic::transport::Channel;

use super::order::{self, Place};
use crate::client::Engine;
use crate::error::Error;
use crate::patience::{self, Patience};
use crate::stream::{self, Down, Downlink, Ended, Manner, Orders, Seat, Uplink, frame};
use crate::{exit, output, terminal};

/// How long the journal may take to tell of an end that it has.
const JOURNAL: Duration = Duration::from_secs(5);
/// SIGHUP.
const HANG_UP: u32 = 1;

/// A container that a client sits at.
#[derive(Debug)]
pub struct Session<'a> {
    /// The engine.
    pub engine: &'a Engine,
    /// The container's id.
    pub container_id: String,
    /// What the client joined.
    pub streams: Streams,
    /// This command started the container, so the container ends with its terminal.
    pub owner: bool,
    /// A change of the container before it was started, to look from for its end.
    pub revision: u64,
    /// Under which the client types, on every connection.
    pub session: String,
}

/// The two ways of a connection to a container's streams.
pub struct Line {
    /// To the container.
    pub up: Uplink,
    /// From it.
    pub down: Downlink,
    /// Bytes of input that it took before.
    pub taken: u64,
}

/// A name to type under.
pub fn name() -> Result<String, Error> {
    davit_proto::id::random_hex().map_err(|error| Error::io("make a session", std::io::Error::other(error)))
}

/// What a broken connection becomes.
enum Again {
    Connected(Line),
    Over(Exit),
}

impl Session<'_> {
    /// Carries everything until the container ends or the client leaves. Answers with the exit code.
    pub async fn carry(&self, seat: (Seat, Orders), line: Line) -> Result<u8, Error> {
        let (seat, orders) = seat;
        tokio::select! {
            code = self.sit(seat, line) => code,
            () = async {
                order::carry_out(self.engine, &Place::init(&self.container_id), orders).await;
                std::future::pending().await
            } => Ok(exit::SUCCESS),
        }
    }

    async fn sit(&self, mut seat: Seat, mut line: Line) -> Result<u8, Error> {
        loop {
            let Line { up, down, taken } = line;
            match seat.pump(up, down, taken).await? {
                Ended::Exit(exit) => {
                    seat.leave();
                    return Ok(told(&exit));
                }
                Ended::Detached => {
                    seat.leave();
                    output::complain("\nread escape sequence");
                    return Ok(exit::SUCCESS);
                }
                Ended::Signal(number) => {
                    seat.leave();
                    self.left_running();
                    return Ok(exit::of_signal(number));
                }
                Ended::HungUp => {
                    seat.leave();
                    self.hung_up().await?;
                    return Ok(exit::of_signal(HANG_UP));
                }
                Ended::Broken(error) if frame::is_connection(&error) => {
                    match self.again(&seat, error).await? {
                        Again::Connected(next) => line = next,
                        Again::Over(exit) => {
                            let replayed = self.replay(&mut seat, &exit).await;
                            seat.leave();
                            match replayed {
                                Err(error) if error.is(reason::CONTAINER_NOT_FOUND) => {
                                    output::complain("davit: what it printed at last was removed with it");
                                }
                                replayed => replayed?,
                            }
                            return Ok(told(&exit));
                        }
                    }
                }
                Ended::Broken(error) => return Err(error.into()),
            }
        }
    }

    /// Says that the container is still there, to whoever might think otherwise.
    fn left_running(&self) {
        let id = output::short_id(&self.container_id);
        output::complain(&format!("\ndavit: left container {id} running; `davit stop {id}` ends it"));
    }

    /// The terminal was closed: what it started ends with it.
    async fn hung_up(&self) -> Result<(), Error> {
        if self.owner {
            let mut containers = self.engine.containers().await?;
            let request = StopRequest { container: self.container_id.clone(), ..StopRequest::default() };
            containers.stop(request).await.map_err(RemoteError::from)?;
        }
        Ok(())
    }

    /// Waits for the engine to come back, and goes on at the byte where the connection broke.
    async fn again(&self, seat: &Seat, broken: RemoteError) -> Result<Again, Error> {
        let mut patience = Patience::new();
        while patience.is_left().await {
            match self.reattach(seat).await {
                Ok(again) => return Ok(again),
                Err(error) if patience::is_away(&error) || error.is(reason::SHIM_UNREACHABLE) => {}
                Err(error) => return Err(error),
            }
        }
        Err(broken.into())
    }

    /// Takes from the log what was printed after the connection broke and before the end.
    async fn replay(&self, seat: &mut Seat, exit: &Exit) -> Result<(), Error> {
        let request = LogsRequest {
            container: self.container_id.clone(),
            // Offsets count from the beginning of this life; the log may hold earlier ones.
            since: exit.started_at.filter(|_| exit.life > 1),
            stdout: self.streams.stdout,
            stderr: self.streams.stderr,
            joined: true,
            ..LogsRequest::default()
        };
        let mut containers = self.engine.containers().await?;
        let mut lines = containers.logs(request).await.map_err(RemoteError::from)?.into_inner();
        let (mut stdout, mut stderr) = (0, 0);
        while let Some(frame) = lines.message().await.map_err(RemoteError::from)? {
            for line in frame.lines {
                let next = if line.stream() == Stdio::Stderr { &mut stderr } else { &mut stdout };
                let output = Output { stream: line.stream, offset: *next, data: line.data };
                *next += output.data.len() as u64;
                seat.write(output).await?;
            }
        }
        Ok(())
    }

    async fn reattach(&self, seat: &Seat) -> Result<Again, Error> {
        let mut containers = ContainersClient::new(self.engine.dial().await?);
        let open = AttachOpen {
            container: self.container_id.clone(),
            streams: Some(self.streams),
            from: Some(seat.offsets()),
            size: terminal::size(),
            start: false,
            session: self.session.clone(),
        };
        match attach(&mut containers, open).await {
            Ok((line, _)) => Ok(Again::Connected(line)),
            Err(error) if error.is(reason::CONTAINER_NOT_RUNNING) => {
                let request = WaitRequest { container: self.container_id.clone(), condition: 0 };
                let answer = containers.wait(request).await.map_err(RemoteError::from)?.into_inner();
                answer.exit.map(Again::Over).ok_or(error)
            }
            Err(error) if error.is(reason::CONTAINER_NOT_FOUND) => match self.recorded_end().await {
                Some(exit) => Ok(Again::Over(exit)),
                None => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    /// The end of a container that is removed already, as the engine's journal of changes has it.
    async fn recorded_end(&self) -> Option<Exit> {
        let filter = |key: &str, value: &str| Filter { key: key.into(), value: value.into() };
        let filters = vec![
            filter("type", "container"),
            filter("container", &self.container_id),
            filter("event", "die"),
        ];
        let request = WatchRequest { from_revision: self.revision, filters, ..WatchRequest::default() };
        let mut events = self.engine.system().await.ok()?.watch(request).await.ok()?.into_inner();
        let told = async {
            // Frames without an event only tell how far the engine has looked.
            while let Some(frame) = events.message().await.ok()? {
                if frame.event.is_some() {
                    return frame.event;
                }
            }
            None
        };
        let event = tokio::time::timeout(JOURNAL, told).await.ok()??;
        let exit_code = event.attributes.get("exitCode")?.parse().ok()?;
        Some(Exit { exit_code, ..Exit::default() })
    }
}

/// The exit code; a cause other than the process itself is told.
fn told(exit: &Exit) -> u8 {
    if !exit.reason.is_empty() {
        output::error(&format_args!("the container ended: {}", exit.reason));
    }
    exit::of_container(exit)
}

/// Opens an attach stream and takes its first frame.
pub async fn attach(
    containers: &mut ContainersClient<Channel>,
    open: AttachOpen,
) -> Result<(Line, Attached), Error> {
    let open = AttachRequest { frame: Some(attach_request::Frame::Open(open)) };
    let (up, frames) = stream::uplink(open);
    let answer = containers.attach(frames).await.map_err(RemoteError::from)?.into_inner();
    let mut down: Downlink = Box::pin(answer.map(|frame| frame.map(Down::from).map_err(RemoteError::from)));
    match down.next().await {
        Some(Ok(Down::Attached(attached))) => Ok((Line { up, down, taken: attached.stdin_offset }, attached)),
        Some(Err(error)) => Err(error.into()),
        Some(Ok(_)) | None => Err(frame::cut_off().into()),
    }
}

/// A container's terminal needs one on this side when a person shall type into it.
pub fn check_terminal(manner: &Manner) -> Result<(), Error> {
    if manner.stdin && manner.terminal && !terminal::at_stdin() {
        return Err(Error::Usage(
            "the input device is not a terminal; leave out --tty to pipe into it".into(),
        ));
    }
    Ok(())
}
