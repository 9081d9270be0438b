//! The points of the engine where a test can make it fail, stop or wait, as [`davit_failpoint`] says.

use davit_failpoint::{Failed, Invalid};

use crate::error::Error;

/// Every point of the controller, in the order in which a container's life passes them.
pub const ALL: [&str; 41] = [
    CREATE_RECORDED,
    CREATE_INTENT,
    CREATE_LAUNCHED,
    CREATE_PREPARED,
    CREATE_CONTENT,
    CREATE_RESERVED,
    CREATE_ATTACHED,
    CREATE_SPEC,
    CREATE_CONFIGURED,
    CREATE_DONE,
    POOL_FOLDER,
    POOL_LAUNCHED,
    POOL_PREPARED,
    POOL_ATTACHED,
    POOL_TAKEN,
    START_WANTED,
    START_OPENED,
    PUBLISH_WANTED,
    PUBLISH_RESERVED,
    PUBLISH_LED,
    MOUNT_WANTED,
    MOUNT_NOTED,
    MOUNT_DONE,
    CONNECT_INTENT,
    CONNECT_ATTACHED,
    CONNECT_RECORDED,
    DISCONNECT_INTENT,
    DISCONNECT_DETACHED,
    DISCONNECT_RECORDED,
    COMMIT_MARKED,
    COMMIT_FROZEN,
    COMMIT_READ,
    COMMIT_MADE,
    EXIT_SEEN,
    RELEASE_SHIM,
    RELEASE_TRASH,
    RELEASE_SERVICES,
    RELEASE_CGROUP,
    RELEASE_RECORD,
    RELEASE_EARLY,
    REMOVE_MARKED,
];

/// The record says that a container is being made.
pub const CREATE_RECORDED: &str = "create.recorded";
/// Its bundle holds the request.
pub const CREATE_INTENT: &str = "create.intent";
/// Its shim was launched.
pub const CREATE_LAUNCHED: &str = "create.launched";
/// Its shim has made the namespaces.
pub const CREATE_PREPARED: &str = "create.prepared";
/// Image and volumes are held for it.
pub const CREATE_CONTENT: &str = "create.content";
/// Its ports are held on the host.
pub const CREATE_RESERVED: &str = "create.reserved";
/// It is wired to its networks.
pub const CREATE_ATTACHED: &str = "create.attached";
/// Its runtime spec is written.
pub const CREATE_SPEC: &str = "create.spec";
/// Its init waits at the gate.
pub const CREATE_CONFIGURED: &str = "create.configured";
/// The record says that it is made.
pub const CREATE_DONE: &str = "create.done";
/// The folder of a shim that is prepared ahead is made.
pub const POOL_FOLDER: &str = "pool.folder";
/// That shim was launched.
pub const POOL_LAUNCHED: &str = "pool.launched";
/// It has made the namespaces.
pub const POOL_PREPARED: &str = "pool.prepared";
/// It is on the network that it is to be on.
pub const POOL_ATTACHED: &str = "pool.attached";
/// It became a container.
pub const POOL_TAKEN: &str = "pool.taken";
/// The wish that it runs is written.
pub const START_WANTED: &str = "start.wanted";
/// The gate is open.
pub const START_OPENED: &str = "start.opened";
/// The record wants other ports published.
pub const PUBLISH_WANTED: &str = "publish.wanted";
/// Those that come are held on the host.
pub const PUBLISH_RESERVED: &str = "publish.reserved";
/// They lead to the container, and those that go do no more.
pub const PUBLISH_LED: &str = "publish.led";
/// The record wants other mounts.
pub const MOUNT_WANTED: &str = "mount.wanted";
/// The next life would have them.
pub const MOUNT_NOTED: &str = "mount.noted";
/// This life has them.
pub const MOUNT_DONE: &str = "mount.done";
/// The record says that a container is to be on one more network.
pub const CONNECT_INTENT: &str = "connect.intent";
/// It is wired to it.
pub const CONNECT_ATTACHED: &str = "connect.attached";
/// The record says where it is there.
pub const CONNECT_RECORDED: &str = "connect.recorded";
/// The record says that a container is to leave a network.
pub const DISCONNECT_INTENT: &str = "disconnect.intent";
/// It is wired to it no more.
pub const DISCONNECT_DETACHED: &str = "disconnect.detached";
/// The record says so.
pub const DISCONNECT_RECORDED: &str = "disconnect.recorded";
/// The bundle says that a container is to be frozen for a reader.
pub const COMMIT_MARKED: &str = "commit.marked";
/// It is frozen.
pub const COMMIT_FROZEN: &str = "commit.frozen";
/// Its layer was read whole, and it is still frozen.
pub const COMMIT_READ: &str = "commit.read";
/// The image is made.
pub const COMMIT_MADE: &str = "commit.made";
/// An exit came in and is not recorded yet.
pub const EXIT_SEEN: &str = "exit.seen";
/// The record says that a container is being removed.
pub const REMOVE_MARKED: &str = "remove.marked";
/// Its shim has ended.
pub const RELEASE_SHIM: &str = "release.shim";
/// Its bundle is in the trash: it no longer exists.
pub const RELEASE_TRASH: &str = "release.trash";
/// Network, volumes and image no longer know it.
pub const RELEASE_SERVICES: &str = "release.services";
/// Its cgroups are gone.
pub const RELEASE_CGROUP: &str = "release.cgroup";
/// Its record is gone.
pub const RELEASE_RECORD: &str = "release.record";
/// Its record is gone before its shim is.
pub const RELEASE_EARLY: &str = "release.early";

/// Every point of this program: the controller's, and those of the services that it may embed.
pub fn all() -> impl Iterator<Item = &'static str> {
    let services = [
        &davit_network::failpoint::ALL[..],
        &davit_volume::failpoint::ALL[..],
        &davit_image::failpoint::ALL[..],
    ];
    ALL.into_iter().chain(services.into_iter().flatten().copied())
}

/// Reads the variable that sets them, once, at the start of the program.
///
/// # Errors
/// When it names what does not exist.
pub fn load() -> Result<(), Invalid> {
    if let Some(text) = davit_failpoint::load(all(), |name| name.starts_with("shim."))? {
        tracing::warn!(%text, "failpoints are set");
    }
    Ok(())
}

/// Passes a point.
///
/// # Errors
/// When the point was told to fail.
pub async fn pass(name: &'static str) -> Result<(), Error> {
    match davit_failpoint::reach(name) {
        Ok(None) => Ok(()),
        Ok(Some(time)) => {
            tokio::time::sleep(time).await;
            Ok(())
        }
        Err(Failed(name)) => Err(Error::Failpoint(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_stands_twice() {
        let names: std::collections::HashSet<_> = all().collect();
        assert_eq!(names.len(), all().count());
    }
}
