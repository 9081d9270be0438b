//! Project quotas: how much of a file system the files below one directory may take.
//!
//! A directory and everything made in it later belong to a project, a number of the file system's; the limit is the
//! project's. ext4 and xfs have it when they are mounted with `prjquota`.
//!
//! UNSAFETY: `quotactl_fd(2)` and the ioctls of file attributes have no safe wrapper.

#![expect(unsafe_code, reason = "quotactl_fd(2) and FS_IOC_FS[GS]ETXATTR are raw system calls")]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Commands of `quotactl(2)`, for the quotas of projects.
const PROJECT: u32 = 2;
const GET_QUOTA: u32 = (0x0080_0007 << 8) | PROJECT;
const SET_QUOTA: u32 = (0x0080_0008 << 8) | PROJECT;
const GET_STATE: u32 = (0x5805 << 8) | PROJECT;
/// `fs_quota_stat.qs_flags`: limits of projects hold.
const ENFORCED: u16 = 1 << 5;
/// `fs_quota_stat.qs_version`.
const STATE_VERSION: i8 = 1;
/// `if_dqblk.dqb_valid`: the limits of blocks are meant.
const BLOCK_LIMITS: u32 = 1;
/// Bytes of a block, in which limits are told.
const BLOCK: u64 = 1024;
/// `fsxattr.fsx_xflags`: what is made inside belongs to the same project.
const INHERIT: u32 = 0x200;
/// `_IOR('X', 31, struct fsxattr)` and `_IOW('X', 32, struct fsxattr)`.
const GET_ATTRIBUTES: u32 = 0x801c_581f;
const SET_ATTRIBUTES: u32 = 0x401c_5820;

/// `struct fsxattr`.
#[repr(C)]
#[derive(Default)]
struct FileAttributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    copy_on_write: u32,
    padding: [u8; 8],
}

/// `struct if_dqblk`.
#[repr(C)]
#[derive(Default)]
struct Block {
    hard_blocks: u64,
    soft_blocks: u64,
    bytes: u64,
    hard_inodes: u64,
    soft_inodes: u64,
    inodes: u64,
    block_time: u64,
    inode_time: u64,
    valid: u32,
}

/// `struct fs_quota_stat`.
#[repr(C)]
#[derive(Default)]
struct State {
    version: i8,
    flags: u16,
    padding: i8,
    files: [[u64; 3]; 2],
    incore: u32,
    times: [i32; 3],
    warnings: [u16; 2],
}

/// What a project has and may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Bytes that it takes.
    pub bytes: u64,
    /// Files and directories.
    pub inodes: u64,
    /// Bytes that it may take; 0 without a limit.
    pub limit: u64,
}

/// The project that a directory belongs to; 0 for none.
pub fn project(dir: impl AsFd) -> io::Result<u32> {
    Ok(attributes(&dir)?.project)
}

/// Makes an empty directory, and all that will be made in it, a project's; 0 for no project's.
pub fn set_project(dir: impl AsFd, project: u32) -> io::Result<()> {
    let mut attributes = attributes(&dir)?;
    attributes.project = project;
    attributes.flags = if project == 0 { attributes.flags & !INHERIT } else { attributes.flags | INHERIT };
    // SAFETY: the request takes one `struct fsxattr`, which lives over the call.
    let result = unsafe {
        libc::ioctl(dir.as_fd().as_raw_fd(), SET_ATTRIBUTES as libc::Ioctl, std::ptr::from_ref(&attributes))
    };
    answer(i64::from(result))
}

fn attributes(dir: impl AsFd) -> io::Result<FileAttributes> {
    let mut attributes = FileAttributes::default();
    // SAFETY: the request fills one `struct fsxattr`, which lives over the call.
    let result = unsafe {
        libc::ioctl(
            dir.as_fd().as_raw_fd(),
            GET_ATTRIBUTES as libc::Ioctl,
            std::ptr::from_mut(&mut attributes),
        )
    };
    answer(i64::from(result))?;
    Ok(attributes)
}

/// Whether the file system of a directory holds projects to their limits.
pub fn is_enforced(dir: impl AsFd) -> bool {
    let mut state = State { version: STATE_VERSION, ..State::default() };
    control(dir, GET_STATE, 0, &mut state).is_ok() && state.flags & ENFORCED != 0
}

/// What a project of a directory's file system has.
pub fn usage(dir: impl AsFd, project: u32) -> io::Result<Usage> {
    let mut block = Block::default();
    match control(dir, GET_QUOTA, project, &mut block) {
        // Nobody has told the file system of this project.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => other?,
    }
    let limit = block.hard_blocks.saturating_mul(BLOCK);
    Ok(Usage { bytes: block.bytes, inodes: block.inodes, limit })
}

/// Limits the bytes of a project, rounded up to 1024; 0 takes the limit away.
pub fn set_limit(dir: impl AsFd, project: u32, bytes: u64) -> io::Result<()> {
    let blocks = bytes.div_ceil(BLOCK);
    let mut block =
        Block { hard_blocks: blocks, soft_blocks: blocks, valid: BLOCK_LIMITS, ..Block::default() };
    control(dir, SET_QUOTA, project, &mut block)
}

fn control<T>(dir: impl AsFd, command: u32, id: u32, argument: &mut T) -> io::Result<()> {
    // SAFETY: each command is called with the structure that it reads or fills, which lives over the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_quotactl_fd,
            dir.as_fd().as_raw_fd(),
            command,
            id,
            std::ptr::from_mut(argument),
        )
    };
    answer(result)
}

fn answer(result: i64) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_are_the_kernels() {
        assert_eq!(size_of::<FileAttributes>(), 28);
        assert_eq!(size_of::<Block>(), 72);
        assert_eq!(size_of::<State>(), 80);
    }

    #[test]
    fn a_file_system_without_projects_says_so() {
        let proc = std::fs::File::open("/proc").unwrap();
        assert!(!is_enforced(&proc));
        assert!(project(&proc).is_err());
        assert!(set_limit(&proc, 7, 1 << 20).is_err());
    }
}
