//! `davit attach`.

use davit_proto::container::{AttachOpen, InspectRequest, Phase, ResizeRequest, Streams};
use davit_proto::status::RemoteError;

use super::session::{self, Session, attach, check_terminal};
use crate::args::container::AttachArgs;
use crate::client::Engine;
use crate::detach::DetachKeys;
use crate::error::Error;
use crate::stream::{Manner, Seat};
use crate::{terminal, usage};

/// Sits down at a running container.
pub async fn run(engine: Engine, args: AttachArgs) -> Result<u8, Error> {
    usage::check_target(&args.container)?;
    let detach = DetachKeys::chosen(args.detach_keys.as_deref())?;
    let mut containers = engine.containers().await?;
    let request = InspectRequest { container: args.container.clone(), size: false };
    let answer = containers.inspect(request).await.map_err(RemoteError::from)?.into_inner();
    let container = answer.container.unwrap_or_default();
    let phase =
        container.status.as_ref().map_or(Phase::Unspecified, davit_proto::container::ContainerStatus::phase);
    match phase {
        Phase::Paused => {
            return Err(Error::Usage("a paused container cannot be attached: unpause it first".into()));
        }
        Phase::Created | Phase::Exited | Phase::Removing => {
            return Err(Error::Usage("a stopped container cannot be attached: start it first".into()));
        }
        _ => {}
    }
    let spec = container.spec.unwrap_or_default();
    let manner = Manner {
        stdin: !args.no_stdin && spec.open_stdin,
        terminal: spec.terminal,
        detach,
        sig_proxy: args.sig_proxy,
    };
    check_terminal(&manner)?;
    let streams = Streams { stdin: manner.stdin, stdout: true, stderr: true };
    let size = spec.terminal.then(terminal::size).flatten();
    let name = session::name()?;
    let open = AttachOpen {
        container: args.container,
        streams: Some(streams),
        from: None,
        // One line too many at first: the change to the right size right after makes programs draw anew.
        size: size.map(|size| davit_proto::types::TerminalSize { rows: size.rows + 1, ..size }),
        start: false,
        session: name.clone(),
    };
    let (line, attached) = attach(&mut containers, open).await?;
    if let Some(size) = size {
        let container = attached.container_id.clone();
        let request = ResizeRequest { container, exec_id: String::new(), size: Some(size) };
        // Before anything is typed: a shell that draws its line anew may forget what was on it. A container that has
        // ended says so on its stream.
        let _ = containers.resize(request).await;
    }
    let (mut seat, orders) = Seat::take(manner)?;
    seat.begin(attached.stdout_offset, attached.stderr_offset);
    let session = Session {
        engine: &engine,
        container_id: attached.container_id,
        streams,
        owner: false,
        revision: container.revision,
        session: name,
    };
    session.carry((seat, orders), line).await
}
