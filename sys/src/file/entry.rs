//! One directory entry at a time: an open directory and a single name, or an open file. Nothing here follows a
//! symlink.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

/// What `mknod` makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeKind {
    /// A named pipe.
    Fifo,
    /// A socket's name.
    Socket,
    /// A character device.
    Character {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    Block {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

/// Access and modification time, each seconds and nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// Time of last access.
    pub accessed: (i64, u32),
    /// Time of last modification.
    pub modified: (i64, u32),
}

impl Times {
    /// The kernel's own clock, when it sets them.
    #[must_use]
    pub fn now() -> Self {
        // UTIME_NOW is 2^30 - 1 on every architecture.
        let now = (0, 0x3fff_ffff);
        Self { accessed: now, modified: now }
    }

    pub(super) fn raw(self) -> Timestamps {
        let spec = |(s, n): (i64, u32)| Timespec { tv_sec: s, tv_nsec: n.into() };
        Timestamps { last_access: spec(self.accessed), last_modification: spec(self.modified) }
    }
}

/// Refuses everything that is not one plain component, so that no name walks out of its directory.
pub(crate) fn single(name: &OsStr) -> io::Result<&OsStr> {
    let bytes = name.as_encoded_bytes();
    if bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.contains(&b'/') || bytes.contains(&0) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a single file name"));
    }
    Ok(name)
}

/// Opens one entry of `dir`, without following a symlink and without becoming the owner of a terminal.
pub fn open_at(dir: impl AsFd, name: &OsStr, flags: OFlags, mode: u32) -> io::Result<OwnedFd> {
    let flags = if flags.contains(OFlags::PATH) { flags } else { flags | OFlags::NOCTTY };
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(rustix::fs::openat(dir, single(name)?, flags, Mode::from_raw_mode(mode))?)
}

/// Opens a directory by a path that the caller trusts, for listing and syncing.
pub fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Opens a directory that is an entry of `dir`, for listing and syncing.
pub fn open_dir_at(dir: impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    open_at(dir, name, OFlags::RDONLY | OFlags::DIRECTORY, 0)
}

/// What an open file is.
pub fn stat(fd: impl AsFd) -> io::Result<Stat> {
    Ok(rustix::fs::fstat(fd)?)
}

/// What one entry of `dir` is; a symlink is described itself.
pub fn stat_at(dir: impl AsFd, name: &OsStr) -> io::Result<Stat> {
    Ok(rustix::fs::statat(dir, single(name)?, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Whether an open file is a regular one.
pub(super) fn is_regular(fd: impl AsFd) -> io::Result<bool> {
    Ok(FileType::from_raw_mode(stat(fd)?.st_mode) == FileType::RegularFile)
}

/// Whether an open file is a directory; an `O_PATH` handle will do.
pub fn is_dir(fd: impl AsFd) -> io::Result<bool> {
    Ok(FileType::from_raw_mode(stat(fd)?.st_mode) == FileType::Directory)
}

/// Whether two handles are of the same file.
pub fn is_same(a: impl AsFd, b: impl AsFd) -> io::Result<bool> {
    let (a, b) = (stat(a)?, stat(b)?);
    Ok((a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
}

/// The numbers of the device that a node stands for; nonsense for anything else.
pub fn device_numbers(stat: &Stat) -> (u32, u32) {
    (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev))
}

const PROC_SUPER_MAGIC: i64 = 0x9fa0;
const SYSFS_MAGIC: i64 = 0x6265_6572;
const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// Whether a file lies on a procfs.
pub fn is_procfs(fd: impl AsFd) -> io::Result<bool> {
    Ok(magic(fd)? == PROC_SUPER_MAGIC)
}

/// Whether a file lies on a devpts.
pub fn is_devpts(fd: impl AsFd) -> io::Result<bool> {
    Ok(magic(fd)? == DEVPTS_SUPER_MAGIC)
}

/// Whether a file lies on a sysfs.
pub fn is_sysfs(fd: impl AsFd) -> io::Result<bool> {
    Ok(magic(fd)? == SYSFS_MAGIC)
}

/// Whether a file lies on a tmpfs.
pub fn is_tmpfs(fd: impl AsFd) -> io::Result<bool> {
    Ok(magic(fd)? == TMPFS_MAGIC)
}

/// Whether a file lies on a file system that is an interface of the kernel, where reading and writing are acts: procfs,
/// sysfs, cgroups and the like.
pub fn is_kernel_interface(fd: impl AsFd) -> io::Result<bool> {
    const OTHERS: [i64; 11] = [
        0x27e0eb,    // cgroup
        0x6367_7270, // cgroup2
        0x1980_0202, // mqueue
        0x6462_6720, // debugfs
        0x7472_6163, // tracefs
        0x7363_6673, // securityfs
        0xcafe_4a11, // bpf
        0x6265_6570, // configfs
        0x6165_676c, // pstore
        0xde5e_81e4, // efivarfs
        0xf97c_ff8c, // selinuxfs
    ];
    let magic = magic(fd)?;
    Ok(matches!(magic, PROC_SUPER_MAGIC | SYSFS_MAGIC | DEVPTS_SUPER_MAGIC) || OTHERS.contains(&magic))
}

fn magic(fd: impl AsFd) -> io::Result<i64> {
    #[expect(clippy::useless_conversion, reason = "the field's type differs between architectures")]
    Ok(i64::from(rustix::fs::fstatfs(fd)?.f_type))
}

/// Makes an open directory the working directory of this process.
pub fn change_directory(dir: impl AsFd) -> io::Result<()> {
    Ok(rustix::process::fchdir(dir)?)
}

/// Makes a directory with exactly `mode`, whatever the umask is.
pub fn make_dir_at(dir: impl AsFd, name: &OsStr, mode: u32) -> io::Result<()> {
    let name = single(name)?;
    rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(mode))?;
    let made = stat_at(&dir, name)?;
    if made.st_mode & 0o7777 == mode & 0o7777 {
        return Ok(());
    }
    let fd = open_at(&dir, name, OFlags::RDONLY | OFlags::DIRECTORY, 0)?;
    chmod(&fd, mode)
}

/// Makes a device node, a FIFO or a socket's name; the mode is subject to the umask.
pub fn make_node_at(dir: impl AsFd, name: &OsStr, kind: NodeKind, mode: u32) -> io::Result<()> {
    let (file_type, device) = match kind {
        NodeKind::Fifo => (FileType::Fifo, 0),
        NodeKind::Socket => (FileType::Socket, 0),
        NodeKind::Character { major, minor } => {
            (FileType::CharacterDevice, rustix::fs::makedev(major, minor))
        }
        NodeKind::Block { major, minor } => (FileType::BlockDevice, rustix::fs::makedev(major, minor)),
    };
    Ok(rustix::fs::mknodat(dir, single(name)?, file_type, Mode::from_raw_mode(mode), device)?)
}

/// Makes a symlink; `target` is data and is not looked at.
pub fn symlink_at(target: &OsStr, dir: impl AsFd, name: &OsStr) -> io::Result<()> {
    Ok(rustix::fs::symlinkat(target, dir, single(name)?)?)
}

/// Gives an existing entry a second name; a symlink is linked itself.
pub fn link_at(from: impl AsFd, from_name: &OsStr, to: impl AsFd, to_name: &OsStr) -> io::Result<()> {
    Ok(rustix::fs::linkat(from, single(from_name)?, to, single(to_name)?, AtFlags::empty())?)
}

/// Renames an entry, replacing what has the new name.
pub fn rename_at(from: impl AsFd, from_name: &OsStr, to: impl AsFd, to_name: &OsStr) -> io::Result<()> {
    Ok(rustix::fs::renameat(from, single(from_name)?, to, single(to_name)?)?)
}

/// Unlinks an entry that is not a directory.
pub fn remove_file_at(dir: impl AsFd, name: &OsStr) -> io::Result<()> {
    Ok(rustix::fs::unlinkat(dir, single(name)?, AtFlags::empty())?)
}

/// Removes an empty directory.
pub fn remove_dir_at(dir: impl AsFd, name: &OsStr) -> io::Result<()> {
    Ok(rustix::fs::unlinkat(dir, single(name)?, AtFlags::REMOVEDIR)?)
}

/// Sets the mode of an open file (not of an `O_PATH` handle).
pub fn chmod(fd: impl AsFd, mode: u32) -> io::Result<()> {
    Ok(rustix::fs::fchmod(fd, Mode::from_raw_mode(mode))?)
}

/// Sets the mode of one entry that nobody else can exchange meanwhile: a symlink is refused, and not followed.
///
/// For what must not be opened (device nodes, pipes); a file or directory is better opened and given to [`chmod`].
pub fn chmod_at(dir: impl AsFd, name: &OsStr, mode: u32) -> io::Result<()> {
    if FileType::from_raw_mode(stat_at(&dir, name)?.st_mode) == FileType::Symlink {
        return Err(Errno::LOOP.into());
    }
    Ok(rustix::fs::chmodat(dir, single(name)?, Mode::from_raw_mode(mode), AtFlags::empty())?)
}

/// Sets owner and group of an open file; an `O_PATH` handle, also of a symlink, will do.
pub fn chown(fd: impl AsFd, uid: u32, gid: u32) -> io::Result<()> {
    let (uid, gid) = owner(uid, gid)?;
    Ok(rustix::fs::chownat(fd, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?)
}

/// Sets owner and group of one entry; a symlink is changed itself.
pub fn chown_at(dir: impl AsFd, name: &OsStr, uid: u32, gid: u32) -> io::Result<()> {
    let (uid, gid) = owner(uid, gid)?;
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    Ok(rustix::fs::chownat(dir, single(name)?, Some(uid), Some(gid), flags)?)
}

/// `u32::MAX` means "leave as it is" to the kernel, which nobody here ever wants to say.
fn owner(uid: u32, gid: u32) -> io::Result<(Uid, Gid)> {
    if uid == u32::MAX || gid == u32::MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "owner out of range"));
    }
    Ok((Uid::from_raw(uid), Gid::from_raw(gid)))
}

/// Sets the times of an open file.
pub fn set_times(fd: impl AsFd, times: Times) -> io::Result<()> {
    Ok(rustix::fs::futimens(fd, &times.raw())?)
}

/// Sets the times of one entry; a symlink is changed itself.
pub fn set_times_at(dir: impl AsFd, name: &OsStr, times: Times) -> io::Result<()> {
    Ok(rustix::fs::utimensat(dir, single(name)?, &times.raw(), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Sets an extended attribute of an open file (not of an `O_PATH` handle).
pub fn set_xattr(fd: impl AsFd, name: &OsStr, value: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty())?)
}

/// Sets an extended attribute of one entry of any type; a symlink is changed itself.
///
/// There is no `setxattrat` before Linux 6.13, so the directory goes by its name in a verified `/proc`.
pub fn set_xattr_at(dir: impl AsFd, entry: &OsStr, name: &OsStr, value: &[u8]) -> io::Result<()> {
    let dir = dir.as_fd();
    verify_proc(dir)?;
    let path = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(single(entry)?);
    Ok(rustix::fs::lsetxattr(&path, name, value, XattrFlags::empty())?)
}

/// Checks that `/proc/self/fd/N` is what the kernel says about us, and not what an image made of it.
fn verify_proc(dir: BorrowedFd<'_>) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let cwd = rustix::fs::CWD;
    let proc = rustix::fs::openat2(cwd, c"/proc", flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS)?;
    let ours = rustix::fs::statat(&proc, format!("self/fd/{}", dir.as_raw_fd()), AtFlags::empty())?;
    let real = rustix::fs::fstat(dir)?;
    if !is_procfs(&proc)? || (ours.st_dev, ours.st_ino) != (real.st_dev, real.st_ino) {
        return Err(Errno::NOSYS.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, symlink};

    #[test]
    fn names_that_walk_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let fd = open_dir(dir.path()).unwrap();
        for bad in ["", ".", "..", "a/b", "/a", "a\0b"] {
            assert!(make_dir_at(&fd, bad.as_ref(), 0o755).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn mode_is_exact_under_any_umask() {
        let dir = tempfile::tempdir().unwrap();
        let fd = open_dir(dir.path()).unwrap();
        make_dir_at(&fd, "d".as_ref(), 0o1777).unwrap();
        assert_eq!(stat_at(&fd, "d".as_ref()).unwrap().st_mode & 0o7777, 0o1777);
    }

    #[test]
    fn a_symlink_is_changed_itself() {
        let dir = tempfile::tempdir().unwrap();
        let fd = open_dir(dir.path()).unwrap();
        std::fs::write(dir.path().join("target"), "x").unwrap();
        symlink("target", dir.path().join("link")).unwrap();
        let times = Times { accessed: (5, 6), modified: (7, 8) };
        set_times_at(&fd, "link".as_ref(), times).unwrap();
        let link = stat_at(&fd, "link".as_ref()).unwrap();
        assert_eq!((link.st_mtime, link.st_mtime_nsec), (7, 8));
        assert_ne!(std::fs::metadata(dir.path().join("target")).unwrap().mtime(), 7);
        assert!(open_at(&fd, "link".as_ref(), OFlags::RDONLY, 0).is_err());
    }

    #[test]
    fn privileged_owner_of_a_path_handle_changes() {
        let dir = tempfile::tempdir().unwrap();
        symlink("nowhere", dir.path().join("link")).unwrap();
        let fd = open_dir(dir.path()).unwrap();
        let link = open_at(&fd, "link".as_ref(), OFlags::PATH, 0).unwrap();
        chown(&link, 12, 34).unwrap();
        let seen = stat_at(&fd, "link".as_ref()).unwrap();
        assert_eq!((seen.st_uid, seen.st_gid), (12, 34));
        assert!(chown(&link, u32::MAX, 0).is_err());
    }

    #[test]
    fn privileged_trusted_attribute_on_a_symlink() {
        let dir = tempfile::tempdir().unwrap();
        symlink("nowhere", dir.path().join("link")).unwrap();
        let fd = open_dir(dir.path()).unwrap();
        set_xattr_at(&fd, "link".as_ref(), "trusted.davit".as_ref(), b"v").unwrap();
        let mut value = [0u8; 8];
        let n = rustix::fs::lgetxattr(dir.path().join("link"), c"trusted.davit", &mut value[..]).unwrap();
        assert_eq!(&value[..n], b"v");
    }
}
