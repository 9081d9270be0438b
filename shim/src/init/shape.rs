//! What cannot change after the init process was cloned.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where one namespace of a container comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Namespace {
    /// A new one, that ends with the container.
    Own,
    /// The host's.
    Host,
    /// An existing one, named by a file that the shim can open (`/proc/<shim>/fd/<n>` of another container).
    Joined(PathBuf),
}

impl Namespace {
    /// Whether it is made for this container.
    pub fn is_own(&self) -> bool {
        *self == Self::Own
    }
}

/// The half of a container that knows nothing of image or command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// User namespace.
    pub user: Namespace,
    /// Process ids. Anything but [`Namespace::Own`] needs a shim launched with `--shared-pid`.
    pub pid: Namespace,
    /// Network.
    pub net: Namespace,
    /// System V IPC and POSIX message queues.
    pub ipc: Namespace,
    /// Host name.
    pub uts: Namespace,
    /// View of the cgroup tree.
    pub cgroup: Namespace,
    /// No masks, no read-only paths, writable `/sys` and cgroups.
    pub privileged: bool,
    /// No masks and no read-only paths, and nothing more.
    pub unmask: bool,
}

impl Shape {
    /// The shape that most containers have, and that a warm pool would hold.
    pub fn standard() -> Self {
        Self {
            user: Namespace::Host,
            pid: Namespace::Own,
            net: Namespace::Own,
            ipc: Namespace::Own,
            uts: Namespace::Own,
            cgroup: Namespace::Own,
            privileged: false,
            unmask: false,
        }
    }
}
