//! Extended attributes of files in archives: which go along, and setting them.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;

use davit_sys::file;

use crate::tar::Entry;

/// Whether an extended attribute goes along: `trusted.*` and `user.overlay.*` steer the overlay file system,
/// `security.*` other than capabilities the host.
#[must_use]
pub fn is_kept_xattr(name: &[u8]) -> bool {
    name == b"security.capability" || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
}

/// Gives a file those attributes of an entry that go along.
///
/// # Errors
/// When the file system refuses one that it could keep.
pub fn set_xattrs(file: impl AsFd, entry: &Entry) -> io::Result<()> {
    for (name, value) in entry.xattrs.iter().filter(|(name, _)| is_kept_xattr(name)) {
        match file::set_xattr(file.as_fd(), OsStr::from_bytes(name), value) {
            // Not every file system keeps a user's attributes; capabilities are another thing.
            Err(error) if error.kind() == io::ErrorKind::Unsupported && name.starts_with(b"user.") => {}
            other => other?,
        }
    }
    Ok(())
}
