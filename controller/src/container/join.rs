//! Namespaces of other containers that a container shares. They are found anew at each start, for they belong to the
//! other one's shim: it holds them over restarts by policy, and they go with it.

use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use davit_proto::container::{Container, ContainerSpec};
use davit_proto::id::ContainerId;
use davit_proto::task::{Namespace, NamespaceMode, Shape, Snapshot, StateRequest};

use super::bundle::Bundle;
use super::shape;
use super::spec::Error as Wrong;
use crate::engine::Engine;
use crate::error::Error;
use crate::shim::{SHORT, within};

/// The word before the other container's name.
const PREFIX: &str = "container:";

/// What of other containers is shared beside namespaces.
#[derive(Debug, Default)]
pub struct Joined {
    /// The container whose network is shared: its names and addresses are this one's too.
    pub network: Option<Bundle>,
    /// The host name that is seen, where it is another container's.
    pub hostname: Option<String>,
    /// Variables that tell of the containers that it is linked to.
    pub variables: Vec<String>,
}

/// The other container that a text names.
#[must_use]
pub fn other(text: &str) -> Option<&str> {
    text.strip_prefix(PREFIX)
}

/// Names other containers by their ids from now on, so that another name means the same ones.
///
/// # Errors
/// When one is not there, or does not share.
pub fn name_by_id(engine: &Engine, spec: &mut ContainerSpec) -> Result<(), Error> {
    let by_id = |text: &mut String| -> Result<Option<Container>, Error> {
        let Some(name) = other(text) else { return Ok(None) };
        let id = engine.find(name)?;
        *text = format!("{PREFIX}{id}");
        engine.container(&id).map(Some)
    };
    for endpoint in &mut spec.networks {
        by_id(&mut endpoint.network)?;
    }
    let Some(names) = &mut spec.namespaces else { return Ok(()) };
    by_id(&mut names.pid)?;
    by_id(&mut names.uts)?;
    if let Some(owner) = by_id(&mut names.ipc)? {
        let mode = owner.spec.and_then(|spec| spec.namespaces).unwrap_or_default().ipc;
        if matches!(mode.as_str(), "" | "private") {
            return Err(Wrong::Conflict(format!(
                "the ipc namespace of container {:?} is not shareable: it has to be made with --ipc shareable",
                owner.name
            ))
            .into());
        }
    }
    Ok(())
}

/// Finds the namespaces that a container shares and enters them into its shape.
///
/// # Errors
/// When another container is not there or has no process and no namespaces now.
pub async fn find(engine: &Arc<Engine>, spec: &ContainerSpec, shape: &mut Shape) -> Result<Joined, Error> {
    let names = spec.namespaces.clone().unwrap_or_default();
    let mut joined = Joined::default();
    if let shape::Network::Container(name) = shape::network(spec)? {
        let owner = Owner::ask(engine, &name, "join the network of").await?;
        shape.net = Some(owner.held("net")?);
        joined.hostname = Some(owner.hostname()?);
        joined.network = Some(owner.bundle);
    }
    if let Some(name) = other(&names.ipc) {
        let owner = Owner::ask(engine, name, "share the memory of").await?;
        shape.ipc = Some(owner.held("ipc")?);
        shape.shm = Some(owner.held("mnt")?);
    }
    if let Some(name) = other(&names.uts) {
        let owner = Owner::ask(engine, name, "share the host name of").await?;
        shape.uts = Some(owner.held("uts")?);
        joined.hostname = Some(owner.hostname()?);
    }
    if let Some(name) = other(&names.pid) {
        let owner = Owner::ask(engine, name, "share the processes of").await?;
        shape.pid = Some(owner.processes()?);
    }
    Ok(joined)
}

/// Another container, and what its shim holds now.
struct Owner {
    id: ContainerId,
    name: String,
    verb: &'static str,
    bundle: Bundle,
    snapshot: Snapshot,
}

impl Owner {
    async fn ask(engine: &Arc<Engine>, name: &str, verb: &'static str) -> Result<Self, Error> {
        let id = engine.find(name)?;
        engine.heard_from(&id).await;
        let container = engine.container(&id)?;
        let not_running = || Error::NotRunning { verb, container: container.name.clone(), id: id.clone() };
        let shim = match engine.shim(&id) {
            Err(Error::NotRunning { .. }) => return Err(not_running()),
            other => other?,
        };
        let state =
            within(SHORT, "ask another container's shim", shim.tasks().state(StateRequest {})).await?;
        let snapshot = state.snapshot.ok_or_else(not_running)?;
        let bundle = Bundle::new(engine.config.bundle(&id));
        Ok(Self { id, name: container.name, verb, bundle, snapshot })
    }

    fn gone(&self) -> Error {
        Error::NotRunning { verb: self.verb, container: self.name.clone(), id: self.id.clone() }
    }

    /// A namespace by its kind, where the shim holds it.
    fn held(&self, kind: &str) -> Result<Namespace, Error> {
        let held =
            self.snapshot.namespaces.iter().find(|held| held.kind == kind).ok_or_else(|| self.gone())?;
        let path = format!("/proc/{}/fd/{}", self.snapshot.shim_pid, held.fd);
        Ok(Namespace { mode: NamespaceMode::Joined.into(), path, inode: held.inode })
    }

    /// The process namespace, which lives as long as its first process.
    fn processes(&self) -> Result<Namespace, Error> {
        if self.snapshot.pid <= 0 {
            return Err(self.gone());
        }
        let path = format!("/proc/{}/ns/pid", self.snapshot.pid);
        let inode = std::fs::metadata(&path).map_err(|_| self.gone())?.ino();
        Ok(Namespace { mode: NamespaceMode::Joined.into(), path, inode })
    }

    fn hostname(&self) -> Result<String, Error> {
        let path = self.bundle.file("hostname");
        let bytes = davit_sys::file::read_bounded(&path, 4096);
        let bytes = bytes.map_err(Error::io(format!("read {}", path.display())))?;
        Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
    }
}
