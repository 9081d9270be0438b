//! `davit start`.

use davit_proto::container::{AttachOpen, InspectRequest, StartRequest, Streams};
use davit_proto::status::RemoteError;

use super::session::{self, Session, attach, check_terminal};
use crate::args::container::StartArgs;
use crate::client::Engine;
use crate::detach::DetachKeys;
use crate::error::Error;
use crate::stream::{Manner, Seat};
use crate::{many, terminal, usage};

/// Starts containers; with `--attach` or `--interactive` one, and sits down at it.
pub async fn run(engine: Engine, args: StartArgs) -> Result<u8, Error> {
    if args.attach || args.interactive {
        return match args.target.containers.as_slice() {
            [container] => attached(&engine, &args, container).await,
            _ => Err(Error::Usage("only one container can be started and attached at once".into())),
        };
    }
    let engine = &engine;
    many::in_turn(args.target.containers, async move |name| {
        usage::check_target(&name)?;
        let request = StartRequest { container: name.clone(), size: None };
        engine.containers().await?.start(request).await.map_err(RemoteError::from)?;
        Ok(name)
    })
    .await
}

async fn attached(engine: &Engine, args: &StartArgs, name: &str) -> Result<u8, Error> {
    usage::check_target(name)?;
    let detach = DetachKeys::chosen(args.detach_keys.as_deref())?;
    let mut containers = engine.containers().await?;
    let request = InspectRequest { container: name.to_owned(), size: false };
    let container = containers.inspect(request).await.map_err(RemoteError::from)?.into_inner().container;
    let container = container.unwrap_or_default();
    let spec = container.spec.unwrap_or_default();
    let manner = Manner {
        stdin: args.interactive && spec.open_stdin,
        terminal: spec.terminal,
        detach,
        sig_proxy: None,
    };
    check_terminal(&manner)?;
    let streams = Streams { stdin: manner.stdin, stdout: true, stderr: true };
    let session = session::name()?;
    let open = AttachOpen {
        container: name.to_owned(),
        streams: Some(streams),
        from: None,
        size: spec.terminal.then(terminal::size).flatten(),
        start: true,
        session: session.clone(),
    };
    let (line, attached) = attach(&mut containers, open).await?;
    let (mut seat, orders) = Seat::take(manner)?;
    seat.begin(attached.stdout_offset, attached.stderr_offset);
    let session = Session {
        engine,
        container_id: attached.container_id,
        streams,
        owner: true,
        revision: container.revision,
        session,
    };
    session.carry((seat, orders), line).await
}
