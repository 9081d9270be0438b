//! Mounts by descriptor: file systems, detached trees, attributes, attachment, change of root.
//!
//! UNSAFETY: `mount_setattr` and `fsconfig` with a descriptor for `lowerdir+` have no safe wrapper.

#![expect(unsafe_code, reason = "mount_setattr(2) and part of fsconfig(2) are raw system calls")]
#![expect(clippy::disallowed_methods, reason = "home of mount(2) and its successors")]

mod filesystem;
mod overlay;
mod subtree;
mod table;

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags};

pub use filesystem::{FileSystem, reconfigure};
pub use overlay::Overlay;
pub use subtree::open_subtree;
pub use table::{MountEntry, mount_table, mount_table_of};

/// Whether a call means one mount or the whole tree below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TreeDepth {
    /// The mount alone.
    Single,
    /// With everything mounted below.
    Recursive,
}

/// What mounting and unmounting elsewhere does to a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// Nothing, in both directions.
    Private,
    /// It receives, and does not send.
    Slave,
    /// It receives and sends.
    Shared,
    /// Nothing, and it cannot be bound.
    Unbindable,
}

/// Attributes of a mount (not of its file system).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes(u64);

impl Attributes {
    /// None.
    pub const NONE: Self = Self(0);
    /// No writing through this mount.
    pub const READ_ONLY: Self = Self(libc::MOUNT_ATTR_RDONLY);
    /// Set-user-id bits do not count.
    pub const NO_SUID: Self = Self(libc::MOUNT_ATTR_NOSUID);
    /// Device nodes cannot be opened.
    pub const NO_DEV: Self = Self(libc::MOUNT_ATTR_NODEV);
    /// Nothing can be executed.
    pub const NO_EXEC: Self = Self(libc::MOUNT_ATTR_NOEXEC);
    /// Times of access are not recorded.
    pub const NO_ATIME: Self = Self(libc::MOUNT_ATTR_NOATIME);
    /// Times of access of directories are not recorded.
    pub const NO_DIR_ATIME: Self = Self(libc::MOUNT_ATTR_NODIRATIME);

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is in here.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether nothing is in here.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn bits(self) -> u32 {
        u32::try_from(self.0).unwrap_or_default()
    }
}

/// A detached copy of the mount at `path` below `dir`: it belongs to no namespace until it is attached.
pub fn open_tree(dir: impl AsFd, path: &Path, depth: TreeDepth) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    flags |= OpenTreeFlags::AT_EMPTY_PATH | OpenTreeFlags::AT_NO_AUTOMOUNT;
    if depth == TreeDepth::Recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(rustix::mount::open_tree(dir, path, flags)?)
}

/// Sets attributes and propagation of the mount that a descriptor is the root of.
pub fn set_attributes(
    mount: impl AsFd,
    depth: TreeDepth,
    set: Attributes,
    propagation: Option<Propagation>,
) -> io::Result<()> {
    change_attributes(mount, depth, Change { set, propagation, ..Change::default() })
}

/// Shows the owners of a detached tree as a user namespace maps them: what belongs to id 0 on disk belongs to the
/// namespace's root here, and what its root makes here belongs to id 0 on disk.
///
/// `EINVAL` means that a file system of the tree cannot do that, or that the tree is mapped already.
pub fn set_id_map(tree: impl AsFd, depth: TreeDepth, user_namespace: impl AsFd) -> io::Result<()> {
    let user_namespace = Some(user_namespace.as_fd());
    change_attributes(tree, depth, Change { user_namespace, ..Change::default() })
}

/// What becomes of a mount.
#[derive(Debug, Default)]
struct Change<'a> {
    set: Attributes,
    propagation: Option<Propagation>,
    user_namespace: Option<BorrowedFd<'a>>,
}

fn change_attributes(mount: impl AsFd, depth: TreeDepth, change: Change<'_>) -> io::Result<()> {
    let Change { set, propagation, user_namespace } = change;
    let attr = libc::mount_attr {
        attr_set: set.0 | if user_namespace.is_some() { libc::MOUNT_ATTR_IDMAP } else { 0 },
        attr_clr: if set.has(Attributes::NO_ATIME) { libc::MOUNT_ATTR__ATIME } else { 0 },
        propagation: propagation.map_or(0, |p| match p {
            Propagation::Private => libc::MS_PRIVATE,
            Propagation::Slave => libc::MS_SLAVE,
            Propagation::Shared => libc::MS_SHARED,
            Propagation::Unbindable => libc::MS_UNBINDABLE,
        }),
        userns_fd: user_namespace.map_or(0, |fd| u64::try_from(fd.as_raw_fd()).unwrap_or(u64::MAX)),
    };
    let recursive = if depth == TreeDepth::Recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: an empty path with AT_EMPTY_PATH, a structure of the size that is passed along, and a descriptor in it
    // that is borrowed for the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | recursive,
            std::ptr::from_ref(&attr),
            size_of::<libc::mount_attr>(),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Attaches a detached tree (or moves an attached one) onto what `target` is open as.
pub fn attach(tree: impl AsFd, target: impl AsFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(tree, c"", target, c"", flags)?)
}

/// Makes the directory `root`, which must be a mount, the root of this mount namespace, and lets the old one go.
pub fn change_root(root: impl AsFd) -> io::Result<()> {
    rustix::process::fchdir(root)?;
    // Both "." : the old root ends up on top of the new one, from where it is taken off.
    rustix::process::pivot_root(c".", c".")?;
    rustix::mount::unmount(c".", UnmountFlags::DETACH)?;
    rustix::process::chdir(c"/")?;
    Ok(())
}

/// Takes off what is mounted on one entry of a directory; no link is followed. The directory becomes this thread's
/// working directory. `EBUSY` while somebody uses it, but for `lazily`: then it goes when the last one has.
pub fn unmount_at(dir: impl AsFd, name: &OsStr, lazily: bool) -> io::Result<()> {
    crate::file::single(name)?;
    rustix::process::fchdir(dir)?;
    let how = if lazily { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    Ok(rustix::mount::unmount(name, how | UnmountFlags::NOFOLLOW)?)
}

/// Detaches whatever is mounted at `path`.
pub fn detach(path: &Path) -> io::Result<()> {
    Ok(rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?)
}

/// Bytes that the file system at `path` holds.
pub fn used(path: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(path)?;
    Ok(found.f_blocks.saturating_sub(found.f_bfree).saturating_mul(found.f_frsize))
}

#[cfg(test)]
mod tests;
