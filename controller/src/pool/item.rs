//! One prepared shim: the first half of a start, made before anybody asks. Each step leaves only what is found by the
//! item's id: the mark in its folder says at the next start of an engine that it never was a container.

use std::sync::Arc;

use davit_proto::container::EndpointSpec;
use davit_proto::id::ContainerId;
use davit_proto::network::AttachRequest;
use davit_proto::status::chain;
use tokio::task::AbortHandle;

use super::{FIRST_PAUSE, Kind, LAST_PAUSE};
use crate::container::bundle::Bundle;
use crate::container::launch::{self, Prepared, Steps};
use crate::container::release::{self, UNDO};
use crate::container::{network, shape};
use crate::engine::Engine;
use crate::error::Error;
use crate::failpoint::{self, pass};
use crate::shim::{self, LONG, Process, within};

/// The points of its making.
const STEPS: Steps = Steps { launched: failpoint::POOL_LAUNCHED, prepared: failpoint::POOL_PREPARED };

/// A shim that waits for its container.
#[derive(Debug)]
pub struct Item {
    /// The id that the container will have.
    pub id: ContainerId,
    /// What it is ready for.
    pub kind: Kind,
    /// The shim. It ends with this, when it was not configured.
    pub prepared: Prepared,
    /// Sees whether it ends by itself.
    watcher: AbortHandle,
}

impl Item {
    /// From here on it is somebody's, who sees for himself whether it lives.
    pub fn into_prepared(self) -> Prepared {
        self.watcher.abort();
        self.prepared
    }
}

/// Makes one, or leaves nothing.
///
/// # Errors
/// When a step fails.
pub async fn make(engine: &Arc<Engine>, id: &ContainerId, kind: Kind) -> Result<Item, Error> {
    match steps(engine, id, kind).await {
        Ok(item) => Ok(item),
        Err(error) => {
            end(engine, id).await;
            Err(error)
        }
    }
}

async fn steps(engine: &Arc<Engine>, id: &ContainerId, kind: Kind) -> Result<Item, Error> {
    let bundle = Bundle::new(engine.config.bundle(id));
    bundle.make_ahead().map_err(Error::io(format!("make {}", bundle.path().display())))?;
    pass(failpoint::POOL_FOLDER).await?;
    let prepared = launch::prepare(engine, id, shape::default()?, STEPS).await?;
    if kind == Kind::Bridged {
        attach(engine, id, &prepared).await?;
    }
    pass(failpoint::POOL_ATTACHED).await?;
    let found = shim::find(&engine.config.shim_dir(id), &engine.facts.boot_id);
    let Process::Alive(_, pidfd) = found.map_err(Error::io(format!("find the shim of {id}")))? else {
        return Err(Error::Unreachable { id: id.clone(), why: "it has ended".to_owned() });
    };
    let (watching, watched) = (engine.clone(), id.clone());
    let watcher = tokio::spawn(async move {
        if shim::ended(pidfd).await.is_ok() {
            // By a task of its own: this one is aborted with the item.
            tokio::spawn(async move { super::lost(&watching, &watched).await });
        }
    });
    Ok(Item { id: id.clone(), kind, prepared, watcher: watcher.abort_handle() })
}

/// The default bridge, without a name: the container will say what it is called.
async fn attach(engine: &Arc<Engine>, id: &ContainerId, prepared: &Prepared) -> Result<(), Error> {
    let netns = prepared.made.network_namespace.unwrap_or_default();
    let bridge = EndpointSpec { network: network::BRIDGE.to_owned(), ..EndpointSpec::default() };
    let request = AttachRequest {
        container_id: id.to_string(),
        netns_pid: netns.pid,
        netns_fd: netns.fd,
        netns_inode: netns.inode,
        endpoints: vec![network::request(&bridge)],
        ..AttachRequest::default()
    };
    // Not for the price of another item: addresses that do not suffice for the pool are better used otherwise.
    let attached = within(LONG, "attach to the network", engine.networks().attach(request)).await;
    attached.map(drop).map_err(network::plain)
}

/// Releases one that nobody will use, as a half-made container is released. What cannot be released now is later, and
/// by the next engine at the latest.
pub async fn end(engine: &Arc<Engine>, id: &ContainerId) {
    let Err(error) = try_end(engine, id).await else { return };
    tracing::warn!(container_id = %id, error = %chain(&error), "failed to release a prepared shim");
    let (engine, id) = (engine.clone(), id.clone());
    tokio::spawn(async move {
        let mut pause = FIRST_PAUSE;
        loop {
            tokio::time::sleep(pause).await;
            match try_end(&engine, &id).await {
                Ok(()) => return,
                Err(error) => tracing::debug!(container_id = %id, error = %chain(&error), "not released yet"),
            }
            pause = (pause * 2).min(LAST_PAUSE);
        }
    });
}

async fn try_end(engine: &Arc<Engine>, id: &ContainerId) -> Result<(), Error> {
    let _turn = engine.turn(id).await;
    release::release(engine, id, UNDO).await?;
    engine.pool.reveal(id);
    Ok(())
}
