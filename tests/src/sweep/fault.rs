//! What a system call is made to do, and which calls are.

/// What happens at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The disk is full.
    NoSpace,
    /// The disk is broken, or whatever else the call goes to.
    Io,
    /// The process is killed before the call.
    Kill,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::NoSpace, Self::Io, Self::Kill];

    /// As it is asked for and told.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NoSpace => "ENOSPC",
            Self::Io => "EIO",
            Self::Kill => "SIGKILL",
        }
    }

    /// In the words of `strace -e inject=`.
    #[must_use]
    pub fn injection(self) -> String {
        let what = if self == Self::Kill { "signal" } else { "error" };
        format!("{what}={}", self.name())
    }

    /// The calls that it may happen to.
    #[must_use]
    pub fn calls(self) -> Vec<&'static str> {
        match self {
            // A call that makes nothing is not refused for want of room.
            Self::NoSpace => MAKING.to_vec(),
            Self::Io | Self::Kill => MAKING.iter().chain(&OTHER).copied().collect(),
        }
    }
}

/// Calls that a file system refuses when it is full. `mount` and its like are refused when there are too many of them.
const MAKING: [&str; 34] = [
    "copy_file_range",
    "fallocate",
    "fdatasync",
    "fsconfig",
    "fsetxattr",
    "fsync",
    "ftruncate",
    "link",
    "linkat",
    "lsetxattr",
    "mkdir",
    "mkdirat",
    "mknod",
    "mknodat",
    "mount",
    "move_mount",
    "open",
    "openat",
    "openat2",
    "open_tree",
    "pwrite64",
    "pwritev",
    "rename",
    "renameat",
    "renameat2",
    "sendfile",
    "setxattr",
    "splice",
    "symlink",
    "symlinkat",
    "sync_file_range",
    "syncfs",
    "write",
    "utimensat",
];

/// Calls that fail otherwise.
const OTHER: [&str; 41] = [
    "bind",
    "chmod",
    "chown",
    "clone",
    "clone3",
    "connect",
    "fchmod",
    "fchmodat",
    "fchown",
    "fchownat",
    "flock",
    "fsmount",
    "fsopen",
    "getdents64",
    "lchown",
    "listen",
    "memfd_create",
    "mount_setattr",
    "newfstatat",
    "pidfd_getfd",
    "pidfd_open",
    "pidfd_send_signal",
    "pivot_root",
    "pread64",
    "prctl",
    "read",
    "recvmsg",
    "rmdir",
    "seccomp",
    "sendmsg",
    "sendto",
    "sethostname",
    "setns",
    "setresuid",
    "socket",
    "statx",
    "umount2",
    "unlink",
    "unlinkat",
    "unshare",
    "writev",
];

/// Every call that is swept.
#[must_use]
pub fn all() -> Vec<&'static str> {
    Fault::Io.calls()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_is_in_one_list_once() {
        let mut names = all();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
