//! Prepare: the half of a start that knows nothing of image or command.

use std::os::fd::AsRawFd as _;
use std::time::Duration;

use davit_proto::task::NetworkNamespace;
use davit_sys::file::Flock;
use tokio::time::{Instant, sleep};

use super::driver::{Body, Driver};
use super::error::TaskError;
use super::state::{Admit, Command, Event};
use crate::bundle::Bundle;
use crate::cgroup::ContainerCgroup;
use crate::failpoint::{self, pass};
use crate::init::{Init, Shape};

/// How long an earlier shim of the same container may take to let go of it.
const LOCK_WAIT: Duration = Duration::from_secs(8);
/// How often that is looked at.
const LOCK_POLL: Duration = Duration::from_millis(2);

/// Prepares the task. A shim that cannot is of no use and ends.
pub(super) async fn prepare(driver: &mut Driver, shape: Shape) -> Result<(), TaskError> {
    if driver.admit(Command::Prepare)? == Admit::Repeat {
        let same = driver.task.init().is_some_and(|body| *body.init.shape() == shape);
        return if same { Ok(()) } else { Err(TaskError::OtherShape) };
    }
    let body = make(driver, shape).await.inspect_err(|_| driver.ending = true)?;
    driver.apply(Event::Prepared { init: body });
    Ok(())
}

/// Takes the container's lock and makes its cgroup, its namespaces and the process that waits in them.
async fn make(driver: &mut Driver, shape: Shape) -> Result<Body, TaskError> {
    // Before anything that is named after the container, since the one before may still be taking it down.
    let lock = lock(&driver.bundle).await?;
    driver.journal = Some(driver.bundle.journal()?);
    let parent = shape.cgroup_parent.as_ref().unwrap_or(&driver.cgroup_parent);
    let cgroup = ContainerCgroup::create(parent, &driver.container_id)?;
    let init = match Init::prepare(&shape, &cgroup, None) {
        Ok(init) => init,
        Err(error) => {
            if let Err(error) = cgroup.kill().and_then(|()| cgroup.remove()) {
                tracing::warn!(%error, "cannot remove the cgroup of a container that could not be prepared");
            }
            return Err(error.into());
        }
    };
    pass(failpoint::PREPARED).map_err(TaskError::Failpoint)?;
    let network = network(driver, &init)?;
    Ok(Body { init, network, ports: Vec::new(), relays: Vec::new(), names: None, cgroup, lock, life: None })
}

async fn lock(bundle: &Bundle) -> Result<Flock, TaskError> {
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        if let Some(lock) = bundle.try_lock()? {
            return Ok(lock);
        }
        if Instant::now() >= deadline {
            return Err(TaskError::Busy { seconds: LOCK_WAIT.as_secs() });
        }
        sleep(LOCK_POLL).await;
    }
}

/// Where the network service finds the namespace to wire: a descriptor of this process.
fn network(driver: &Driver, init: &Init) -> Result<Option<NetworkNamespace>, TaskError> {
    if !init.shape().net.is_own() {
        return Ok(None);
    }
    let net = &init.namespaces().net;
    let inode = davit_sys::namespace::inode(net).map_err(TaskError::Namespace)?;
    Ok(Some(NetworkNamespace { pid: driver.shim_pid(), fd: net.as_raw_fd(), inode }))
}
