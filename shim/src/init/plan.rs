//! What init is to do, as data: made by the shim from shape and spec without asking the kernel, carried out by
//! [`super::base`], [`super::rootfs`], [`super::process`].

use std::path::PathBuf;

use davit_sys::pty::WindowSize;
use davit_sys::seccomp::Program;
use serde::{Deserialize, Serialize};

/// The first half.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreparePlan {
    /// Namespaces to join, in the order of the descriptors that come along.
    pub join: Vec<JoinKind>,
    /// The container lives in a user namespace: `/dev` comes along as the last descriptor.
    pub in_user_namespace: bool,
    /// v1 `tasks` files to write `0` to.
    pub tasks: Vec<String>,
    /// A view of the cgroup tree of its own.
    pub own_cgroup_view: bool,
    /// The network namespace is new and its loopback is down.
    pub bring_up_loopback: bool,
    /// The host's cgroup tree is shown, where only a user namespace's own could be mounted.
    pub host_cgroups: bool,
    /// `/dev/shm` is the host's, as its System V memory is.
    pub host_shm: bool,
    /// `/dev/shm` is another container's: the last descriptor that comes along is its mount namespace.
    pub joined_shm: bool,
    /// v1 hierarchies to show: folder name and controllers.
    pub legacy: Vec<(String, Vec<String>)>,
    /// Whether the host mounts v2.
    pub unified: bool,
    /// `/sys` may be written.
    pub writable_sys: bool,
    /// Cgroups may be written.
    pub writable_cgroups: bool,
    /// Paths to hide.
    pub masked: Vec<String>,
    /// Paths to make read-only.
    pub readonly: Vec<String>,
}

/// A namespace that can be joined after the clone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum JoinKind {
    /// Network.
    Net,
    /// IPC.
    Ipc,
    /// Host name.
    Uts,
    /// View of the cgroup tree.
    Cgroup,
}

/// The second half.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigurePlan {
    /// Everything below the root, in order. Each [`MountStep::Tree`] takes the next descriptor.
    pub mounts: Vec<MountStep>,
    /// The root is read-only when all is mounted.
    pub readonly_root: bool,
    /// More paths to hide.
    pub masked: Vec<String>,
    /// More paths to make read-only.
    pub readonly: Vec<String>,
    /// More nodes in `/dev`.
    pub devices: Vec<DeviceNode>,
    /// Host name.
    pub hostname: Option<String>,
    /// Domain name.
    pub domainname: Option<String>,
    /// Kernel settings: path below `/proc/sys`, and value.
    pub sysctls: Vec<(String, String)>,
    /// Options of `/dev/shm`, where they differ from the prepared ones.
    pub shm: Vec<(String, String)>,
    /// Adjustment of the badness for the out-of-memory killer.
    pub oom_score_adj: Option<i32>,
    /// What runs.
    pub process: ProcessPlan,
}

/// One mount of the second half.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountStep {
    /// Attach a tree that the shim has opened.
    Tree {
        /// Where, inside the root.
        target: String,
    },
    /// A new tmpfs.
    Tmpfs {
        /// Where, inside the root.
        target: String,
        /// Attributes of the mount.
        attributes: MountFlags,
        /// Options of the file system.
        options: Vec<(String, String)>,
    },
}

/// Attributes of a mount, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MountFlags {
    /// No writing.
    pub readonly: bool,
    /// Set-user-id bits do not count.
    pub nosuid: bool,
    /// Device nodes cannot be opened.
    pub nodev: bool,
    /// Nothing can be executed.
    pub noexec: bool,
    /// Times of access are not recorded.
    pub noatime: bool,
}

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceNode {
    /// Path below `/dev`.
    pub path: String,
    /// What it is.
    pub kind: DeviceKind,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Kinds of node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceKind {
    /// Character device.
    Character,
    /// Block device.
    Block,
    /// Named pipe.
    Fifo,
}

/// What runs in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessPlan {
    /// Command and arguments; never empty.
    pub args: Vec<String>,
    /// Environment, `NAME=value`.
    pub env: Vec<String>,
    /// Working directory, absolute.
    pub cwd: PathBuf,
    /// It is made when it is not there.
    pub makes_cwd: bool,
    /// As whom.
    pub user: UserPlan,
    /// Umask.
    pub umask: u32,
    /// Capabilities that it may have.
    pub bounding: u64,
    /// Capabilities that count at once.
    pub effective: u64,
    /// Capabilities that it has.
    pub permitted: u64,
    /// No program gives more than it has.
    pub no_new_privileges: bool,
    /// Resource limits: name, soft, hard.
    pub limits: Vec<(String, u64, u64)>,
    /// The compiled filter.
    pub seccomp: Option<SeccompProgram>,
    /// Its streams.
    pub stdio: StdioPlan,
    /// A reaper of ours is pid 1, and the command its child.
    pub reaper: bool,
}

/// A compiled filter on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeccompProgram {
    /// Its instructions.
    pub instructions: Vec<u64>,
    /// How it is installed.
    pub flags: u32,
}

impl From<Program> for SeccompProgram {
    fn from(program: Program) -> Self {
        Self { instructions: program.0, flags: 0 }
    }
}

/// As whom to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum UserPlan {
    /// As said, by numbers.
    Numeric {
        /// User.
        uid: u32,
        /// Group.
        gid: u32,
        /// More groups, names or numbers.
        groups: Vec<String>,
    },
    /// As the container's own files say.
    Named {
        /// `user[:group]`, each a name or a number.
        user: String,
        /// More groups, names or numbers.
        groups: Vec<String>,
    },
}

/// Where the streams come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StdioPlan {
    /// A terminal of the container's own devpts, of this size if it is known.
    Terminal(Option<(u16, u16)>),
    /// The last three descriptors that come along.
    Given,
}

impl StdioPlan {
    /// A terminal of a size.
    pub fn terminal(size: Option<WindowSize>) -> Self {
        Self::Terminal(size.map(|s| (s.rows, s.columns)))
    }
}
