//! How much a plain volume may take: its folder is a project of the file system's, and the project has a limit.
//!
//! Which project a volume is stands on its folder alone; so a volume that goes takes its limit along, after any crash.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use davit_sys::quota;

use crate::error::Error;
use crate::options::wrong;

/// Ours are of these many, beyond those that people give by hand.
const FIRST: u32 = 1 << 28;
/// As many numbers are tried as somebody else may have taken.
const TRIES: u32 = 64;

/// Limits what an empty folder will hold.
pub fn limit(folder: BorrowedFd<'_>, path: &Path, bytes: u64) -> Result<(), Error> {
    if !quota::is_enforced(folder) {
        let rule = format!(
            "the file system of {} does not limit projects: it can on xfs and ext4, mounted with prjquota",
            path.display()
        );
        return Err(wrong("size", &bytes.to_string(), &rule));
    }
    let failed = Error::file("limit the size of", path);
    let limited = (|| {
        for _ in 0..TRIES {
            let project = candidate()?;
            let usage = quota::usage(folder, project)?;
            if (usage.bytes, usage.inodes, usage.limit) == (0, 0, 0) {
                quota::set_limit(folder, project, bytes)?;
                return quota::set_project(folder, project);
            }
        }
        Err(std::io::Error::other("found no number of a project that is free"))
    })();
    limited.map_err(failed)
}

fn candidate() -> std::io::Result<u32> {
    let hex = davit_proto::id::random_hex().map_err(|error| std::io::Error::other(error.to_string()))?;
    let number = u32::from_str_radix(hex.get(..8).unwrap_or("0"), 16).unwrap_or(0);
    Ok(FIRST | (number >> 4))
}

/// The project of a folder, if it is one of ours.
pub fn project(folder: impl AsFd) -> Option<u32> {
    quota::project(folder).ok().filter(|project| *project >= FIRST && *project < FIRST << 1)
}

/// Forgets a limit, when all that it was about is gone.
pub fn forget(near: impl AsFd, project: u32) {
    if let Err(error) = quota::set_limit(near, project, 0) {
        tracing::warn!(%error, project, "left the limit of a volume that is gone");
    }
}
