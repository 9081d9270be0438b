//! A helper mounts something in a container that lives, or takes it off. One that does not live any more needs neither:
//! its next life has what is wanted.

use std::sync::Arc;

use davit_proto::copy::{self, Action, Answer, FailureKind, Order};
use davit_proto::id::ContainerId;
use oci_spec::runtime::Mount;
use tokio::time::Instant;

use super::helper::{Helper, out_of_turn};
use super::{PATIENCE, TICK, place};
use crate::engine::Engine;
use crate::error::Error;

/// Mounts something, unless it is there already.
///
/// # Errors
/// When the source is not there, or the target is refused.
pub async fn attach(engine: &Arc<Engine>, id: &ContainerId, mount: &Mount) -> Result<(), Error> {
    let text = |path: &std::path::Path| path.display().to_string();
    let mount = copy::Mount {
        kind: mount.typ().clone().unwrap_or_default(),
        source: mount.source().as_deref().map(text).unwrap_or_default(),
        target: text(mount.destination()),
        options: mount.options().clone().unwrap_or_default(),
    };
    run(engine, id, Action::Attach { mount }).await
}

/// Takes off what is mounted at a path; `others` are the paths of what stays.
///
/// # Errors
/// When somebody uses it, or something that stays is mounted below it.
pub async fn detach(
    engine: &Arc<Engine>,
    id: &ContainerId,
    target: &str,
    others: Vec<String>,
) -> Result<(), Error> {
    run(engine, id, Action::Detach { target: target.to_owned(), others }).await
}

async fn run(engine: &Arc<Engine>, id: &ContainerId, action: Action) -> Result<(), Error> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = place::find(engine, id).await? {
            if found.place != copy::Place::Live {
                return Ok(());
            }
            let order = Order {
                container: id.to_string(),
                place: found.place,
                ids: found.ids,
                path: Vec::new(),
                action: action.clone(),
            };
            let mut helper = Helper::launch(engine, id, &order, found.fds).await?;
            // Else the life ended under it.
            if outcome(&mut helper).await?.is_some() {
                return Ok(());
            }
        }
        if Instant::now() > deadline {
            let message = format!("change mounts of container {id}: it is being started or ended: try again");
            return Err(Error::Copy { kind: FailureKind::Busy, message });
        }
        tokio::time::sleep(TICK).await;
    }
}

async fn outcome(helper: &mut Helper) -> Result<Option<()>, Error> {
    loop {
        match helper.first().await? {
            Some(Answer::Ready) => {}
            Some(Answer::Done { .. }) => return Ok(Some(())),
            None | Some(Answer::Failed { kind: FailureKind::Busy, .. }) => return Ok(None),
            Some(Answer::Failed { kind, message }) => return Err(Error::Copy { kind, message }),
            Some(Answer::Stat(_)) => return Err(out_of_turn()),
        }
    }
}
