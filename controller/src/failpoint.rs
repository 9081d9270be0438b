//! Named points where a test can make the engine fail, stop or wait: `DAVIT_FAILPOINT=create.intent=abort` or
//! `release.trash=error,start.opened=delay:500`. Costs one load of a pointer where none is set.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::time::Duration;

use crate::error::Error;

/// The variable that sets them.
const VARIABLE: &str = "DAVIT_FAILPOINT";

/// Every point there is, in the order in which a container's life passes them.
pub const ALL: [&str; 35] = [
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

/// What a point does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    /// Ends the process at once, as a crash does.
    Abort,
    /// Lets the operation fail here.
    Error,
    /// Waits.
    Delay(Duration),
}

/// A setting that names no point or no action.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid {VARIABLE} {0:?}: must be name=abort|error|delay:<ms>, with a name that --list-failpoints knows"
)]
pub struct Invalid(String);

static SET: OnceLock<HashMap<&'static str, Action>> = OnceLock::new();

/// Reads the variable, once, at the start of the program.
///
/// # Errors
/// When it names what does not exist: a test that cannot fail is worse than none.
pub fn load() -> Result<(), Invalid> {
    let text = std::env::var(VARIABLE).unwrap_or_default();
    let set = parse(&text)?;
    if !set.is_empty() {
        tracing::warn!(%text, "failpoints are set");
        // A second call finds the same.
        let _ = SET.set(set);
    }
    Ok(())
}

fn parse(text: &str) -> Result<HashMap<&'static str, Action>, Invalid> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(one).collect()
}

fn one(part: &str) -> Result<(&'static str, Action), Invalid> {
    let invalid = || Invalid(part.to_owned());
    let (name, action) = part.split_once('=').ok_or_else(invalid)?;
    let name = ALL.iter().find(|known| **known == name).ok_or_else(invalid)?;
    let action = match action {
        "abort" => Action::Abort,
        "error" => Action::Error,
        other => {
            let millis = other.strip_prefix("delay:").and_then(|ms| ms.parse().ok()).ok_or_else(invalid)?;
            Action::Delay(Duration::from_millis(millis))
        }
    };
    Ok((name, action))
}

/// Passes a point.
///
/// # Errors
/// When the point was told to fail.
pub async fn pass(name: &'static str) -> Result<(), Error> {
    match SET.get().and_then(|set| set.get(name)) {
        None => Ok(()),
        Some(Action::Abort) => std::process::abort(),
        Some(Action::Error) => Err(Error::Failpoint(name)),
        Some(Action::Delay(time)) => {
            tokio::time::sleep(*time).await;
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_whole_or_refused() {
        let set = parse("create.intent=abort, start.opened=delay:20,release.trash=error").unwrap();
        assert_eq!(set[CREATE_INTENT], Action::Abort);
        assert_eq!(set[START_OPENED], Action::Delay(Duration::from_millis(20)));
        assert_eq!(set[RELEASE_TRASH], Action::Error);
        assert!(parse("").unwrap().is_empty());
        for bad in ["create.intent", "nowhere=abort", "create.intent=explode", "create.intent=delay:x"] {
            assert_eq!(parse(bad).unwrap_err(), Invalid(bad.to_owned()));
        }
    }

    #[test]
    fn no_name_stands_twice() {
        let names: std::collections::HashSet<_> = ALL.iter().collect();
        assert_eq!(names.len(), ALL.len());
    }
}
