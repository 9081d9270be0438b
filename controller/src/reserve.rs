//! Disk space set aside for a start on a full disk: the store is written when it is opened, and an engine that cannot
//! start cannot remove anything either.

use std::fs::File;
use std::io;
use std::path::Path;

use davit_sys::file::reserve_ahead;

/// Name of the file below the root.
const FILE: &str = "reserve";
/// Bytes of disk that a start may need.
const BYTES: u64 = 4 << 20;
/// What is better than nothing.
const LEAST: u64 = 256 << 10;

/// Gives the space up when there is little else. Tells whether it did.
pub fn release_when_full(root: &Path) -> bool {
    let free =
        rustix::fs::statvfs(root).map_or(u64::MAX, |space| space.f_bavail.saturating_mul(space.f_frsize));
    if free >= BYTES {
        return false;
    }
    match std::fs::remove_file(root.join(FILE)) {
        Ok(()) => {
            tracing::warn!(free, root = %root.display(), "the disk is full, starting from the space set aside");
            true
        }
        Err(error) => {
            tracing::warn!(free, root = %root.display(), %error, "the disk is full, and no space is set aside");
            false
        }
    }
}

/// Sets the space aside, or as much of it as there is.
pub fn keep(root: &Path) {
    let set_aside = || -> io::Result<()> {
        let file = File::options().create(true).append(true).open(root.join(FILE))?;
        let mut bytes = BYTES;
        loop {
            match reserve_ahead(&file, 0, bytes) {
                Err(error) if error.kind() == io::ErrorKind::StorageFull && bytes > LEAST => bytes /= 2,
                other => return other,
            }
        }
    };
    if let Err(error) = set_aside() {
        tracing::debug!(%error, "no space is set aside for a start on a full disk");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn space_is_set_aside_once_and_kept_while_there_is_other() {
        let folder = tempfile::tempdir().unwrap();
        keep(folder.path());
        keep(folder.path());
        let about = std::fs::metadata(folder.path().join(FILE)).unwrap();
        assert_eq!(about.len(), 0);
        assert!(about.blocks() * 512 <= BYTES + 65_536);
        assert!(!release_when_full(folder.path()) && folder.path().join(FILE).exists());
    }
}
