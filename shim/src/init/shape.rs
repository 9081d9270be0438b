//! What cannot change after the init process was cloned.

use std::path::PathBuf;

use super::error::Failure;
use serde::{Deserialize, Serialize};

/// Where one namespace of a container comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Namespace {
    /// A new one, that ends with the container.
    Own,
    /// The host's.
    Host,
    /// An existing one.
    Joined {
        /// A file that stands for it: `/proc/<shim>/fd/<n>` of another container.
        path: PathBuf,
        /// The number that it must have, for the path may have been exchanged.
        inode: u64,
    },
}

impl Namespace {
    /// Whether it is made for this container.
    pub fn is_own(&self) -> bool {
        *self == Self::Own
    }
}

/// Which ids of the host are a container's: 0 and those after it inside are these outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMap {
    /// User of the host that is root inside.
    pub uid: u32,
    /// Group of the host that is root inside.
    pub gid: u32,
    /// How many of each there are.
    pub count: u32,
}

impl IdMap {
    /// What a user and a group of the container are on the host.
    pub fn outside(&self, uid: u32, gid: u32) -> Result<(u32, u32), Failure> {
        let map = |first: u32, id: u32| first.checked_add(id).filter(|_| id < self.count);
        map(self.uid, uid).zip(map(self.gid, gid)).ok_or_else(|| {
            let count = self.count;
            Failure::invalid(format!("{uid}:{gid} is none of the {count} ids of the container"))
        })
    }
}

/// The half of a container that knows nothing of image or command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// User namespace.
    pub user: Namespace,
    /// Its ids, where the user namespace is [`Namespace::Own`].
    pub ids: Option<IdMap>,
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
    /// Paths to leave unmasked and writable; `ALL` for every one.
    pub unmask: Vec<String>,
    /// Cgroup to make the container's below, where it is not the engine's.
    pub cgroup_parent: Option<String>,
    /// The mount namespace whose `/dev/shm` is shared, with the IPC namespace of the same container.
    pub shm: Option<Namespace>,
}

impl Shape {
    /// The ids of a user namespace of its own.
    pub fn own_ids(&self) -> Option<&IdMap> {
        self.ids.as_ref().filter(|_| self.user.is_own())
    }

    /// Whether a path that is masked or read-only by default stays as it is.
    pub fn leaves_open(&self, path: &str) -> bool {
        self.privileged || self.unmask.iter().any(|open| open == "ALL" || open == path)
    }

    /// The shape that most containers have, and that a warm pool would hold.
    pub fn standard() -> Self {
        Self {
            user: Namespace::Host,
            ids: None,
            pid: Namespace::Own,
            net: Namespace::Own,
            ipc: Namespace::Own,
            uts: Namespace::Own,
            cgroup: Namespace::Own,
            privileged: false,
            unmask: Vec::new(),
            cgroup_parent: None,
            shm: None,
        }
    }
}
