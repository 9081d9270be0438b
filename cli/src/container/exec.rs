//! `davit exec`.

use davit_proto::container::{ExecOpen, ExecRequest, Streams, exec_request};
use davit_proto::status::RemoteError;
use futures_util::StreamExt as _;

use super::session::check_terminal;
use crate::args::container::ExecArgs;
use crate::client::Engine;
use crate::detach::DetachKeys;
use crate::error::Error;
use crate::stream::{self, Down, Downlink, Ended, Manner, Seat, frame};
use crate::{exit, output, spec, terminal, usage};

/// Runs one more process in a container.
pub async fn run(engine: Engine, args: ExecArgs) -> Result<u8, Error> {
    let manner = Manner {
        stdin: args.interactive && !args.detach,
        terminal: args.tty,
        detach: DetachKeys::parse(args.detach_keys.as_deref())?,
        sig_proxy: None,
    };
    check_terminal(&manner)?;
    let open = open(&args, &manner)?;
    let (up, frames) = stream::uplink(ExecRequest { frame: Some(exec_request::Frame::Open(open)) });
    let answer = engine.containers().await?.exec(frames).await.map_err(RemoteError::from)?.into_inner();
    let mut down: Downlink = Box::pin(answer.map(|frame| frame.map(Down::from).map_err(RemoteError::from)));
    match down.next().await {
        Some(Ok(Down::ExecStarted)) => {}
        Some(Err(error)) => return Err(error.into()),
        Some(Ok(_)) | None => return Err(frame::cut_off().into()),
    }
    if args.detach {
        return Ok(exit::SUCCESS);
    }
    let (mut seat, _orders) = Seat::take(manner)?;
    let ended = seat.pump(up, down, 0).await?;
    seat.leave();
    match ended {
        Ended::Exit(exit) => Ok(exit::of_container(&exit)),
        Ended::Detached => {
            output::complain("\nread escape sequence");
            Ok(exit::SUCCESS)
        }
        Ended::Signal(number) => Ok(exit::of_signal(number)),
        Ended::HungUp => Ok(exit::of_signal(1)),
        Ended::Broken(error) => Err(error.into()),
    }
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
    })
}
