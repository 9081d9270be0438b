//! `davit exec`: one more process, from its first frame to its exit code, across a restart of the engine.

use davit_proto::container::containers_client::ContainersClient;
use davit_proto::container::{AttachOffsets, ExecOpen, ExecRequest, ExecStarted, Streams, exec_request};
use davit_proto::status::RemoteError;
use futures_util::StreamExt as _;
use tonic::transport::Channel;

use super::order::{self, Place};
use super::session::{self, Line, check_terminal};
use crate::args::container::ExecArgs;
use crate::client::Engine;
use crate::detach::DetachKeys;
use crate::error::Error;
use crate::patience::{self, Patience};
use crate::stream::{self, Down, Downlink, Ended, Manner, Order, Orders, Seat, frame};
use crate::{exit, output, spec, terminal, usage};

/// SIGHUP.
const HANG_UP: u32 = 1;

/// Runs one more process in a container.
pub async fn run(engine: Engine, args: ExecArgs) -> Result<u8, Error> {
    let manner = Manner {
        stdin: args.interactive && !args.detach,
        terminal: args.tty,
        detach: DetachKeys::chosen(args.detach_keys.as_deref())?,
        sig_proxy: None,
    };
    check_terminal(&manner)?;
    let open = open(&args, &manner)?;
    let exec = Exec { engine: &engine, open };
    let (line, _) = match exec.connect(&mut engine.containers().await?, None).await {
        // The engine went while it was asked; what it began then is known by its id.
        Err(error) if patience::is_away(&error) => exec.again(None, error).await?,
        answer => answer?,
    };
    if args.detach {
        return Ok(exit::SUCCESS);
    }
    let (mut seat, orders) = Seat::take(manner)?;
    seat.tell_seen();
    exec.carry(seat, orders, line).await
}

/// A process that a client sits at, or is about to.
struct Exec<'a> {
    engine: &'a Engine,
    /// How it is begun; its id and session are chosen.
    open: ExecOpen,
}

impl Exec<'_> {
    async fn carry(&self, seat: Seat, orders: Orders, line: Line) -> Result<u8, Error> {
        let place = self.place();
        tokio::select! {
            code = self.sit(seat, line) => code,
            () = async {
                order::carry_out(self.engine, &place, orders).await;
                std::future::pending().await
            } => Ok(exit::SUCCESS),
        }
    }

    async fn sit(&self, mut seat: Seat, mut line: Line) -> Result<u8, Error> {
        loop {
            let Line { up, down, taken } = line;
            let ended = seat.pump(up, down, taken).await?;
            match ended {
                Ended::Broken(error) if frame::is_connection(&error) => {
                    (line, _) = self.again(Some(seat.offsets()), error.into()).await?;
                    continue;
                }
                _ => seat.leave(),
            }
            return match ended {
                Ended::Exit(exit) => Ok(exit::of_container(&exit)),
                Ended::Detached => {
                    patience::ask(async || {
                        order::call(self.engine, &mut None, &self.place(), Order::Keep).await
                    })
                    .await?;
                    output::complain("\nread escape sequence");
                    Ok(exit::SUCCESS)
                }
                Ended::Signal(number) => Ok(exit::of_signal(number)),
                Ended::HungUp => Ok(exit::of_signal(HANG_UP)),
                Ended::Broken(error) => Err(error.into()),
            };
        }
    }

    fn place(&self) -> Place {
        Place {
            container: self.open.container.clone(),
            exec_id: self.open.exec_id.clone(),
            session: self.open.session.clone(),
        }
    }

    /// Waits for the engine to come back, and goes on at the byte where the connection broke.
    async fn again(&self, from: Option<AttachOffsets>, broken: Error) -> Result<(Line, ExecStarted), Error> {
        let mut patience = Patience::new();
        while patience.is_left().await {
            let Ok(channel) = self.engine.dial().await else { continue };
            match self.connect(&mut ContainersClient::new(channel), from).await {
                Err(error) if is_passing(&error) => {}
                answer => return answer,
            }
        }
        Err(broken)
    }

    /// Begins the process, or joins it again at offsets.
    async fn connect(
        &self,
        containers: &mut ContainersClient<Channel>,
        from: Option<AttachOffsets>,
    ) -> Result<(Line, ExecStarted), Error> {
        let size = self.open.size.and(terminal::size());
        let open = ExecOpen { from, size, ..self.open.clone() };
        let (up, frames) = stream::uplink(ExecRequest { frame: Some(exec_request::Frame::Open(open)) });
        let answer = containers.exec(frames).await.map_err(RemoteError::from)?.into_inner();
        let mut down: Downlink =
            Box::pin(answer.map(|frame| frame.map(Down::from).map_err(RemoteError::from)));
        match down.next().await {
            Some(Ok(Down::ExecStarted(started))) => {
                Ok((Line { up, down, taken: started.stdin_offset }, started))
            }
            Some(Err(error)) => Err(error.into()),
            Some(Ok(_)) | None => Err(frame::cut_off().into()),
        }
    }
}

/// Whether the same may work a moment later.
fn is_passing(error: &Error) -> bool {
    patience::is_away(error) || error.is(davit_proto::reason::SHIM_UNREACHABLE)
}

fn open(args: &ExecArgs, manner: &Manner) -> Result<ExecOpen, Error> {
    let (container, command) = args
        .container_and_command
        .split_first()
        .ok_or_else(|| Error::Usage("a container and a command are wanted".into()))?;
    usage::check_target(container)?;
    let streams = Streams { stdin: manner.stdin, stdout: !args.detach, stderr: !args.detach };
    Ok(ExecOpen {
        container: container.clone(),
        command: command.to_vec(),
        env: spec::env::environment(&args.env_file, &args.env)?,
        working_dir: args.workdir.clone().unwrap_or_default(),
        user: args.user.clone().unwrap_or_default(),
        terminal: args.tty,
        privileged: args.privileged,
        streams: Some(streams),
        size: args.tty.then(terminal::size).flatten(),
        detach: args.detach,
        exec_id: session::name()?,
        from: None,
        session: session::name()?,
        says_seen: true,
    })
}
