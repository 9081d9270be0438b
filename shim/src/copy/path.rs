//! A path inside a container as its user typed it: what it means, and what is there.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use davit_proto::copy::{FailureKind, Order};
use davit_sys::file::{self, OFlags, Root};

use super::HANDLE;
use super::failure::Failure;

/// What is wanted, and how its user calls it.
#[derive(Debug)]
pub struct Wanted<'a> {
    container: &'a str,
    path: &'a [u8],
}

impl<'a> Wanted<'a> {
    /// The path of an order.
    pub fn new(order: &'a Order) -> Self {
        Self { container: &order.container, path: &order.path }
    }

    /// An `O_PATH` handle of what is there. A link at the end is itself meant, unless it is to be followed or more comes
    /// after it.
    pub fn find(&self, root: &Root, follow: bool) -> Result<OwnedFd, Failure> {
        let path = self.relative()?;
        let directory = is_directory(path);
        let flags = if directory { HANDLE | OFlags::DIRECTORY } else { HANDLE };
        let flags = if follow || directory { flags } else { flags | OFlags::NOFOLLOW };
        let found = root.resolve(Path::new(OsStr::from_bytes(path)), flags, 0);
        self.in_container(found)
    }

    /// An `O_PATH` handle of a folder that files may be put into.
    pub fn find_folder(&self, root: &Root) -> Result<OwnedFd, Failure> {
        let path = self.relative()?;
        let found = root.resolve(Path::new(OsStr::from_bytes(path)), HANDLE, 0);
        let found = self.in_container(found)?;
        if !file::is_dir(&found).map_err(Failure::io("look at the target"))? {
            return Err(Failure::new(FailureKind::Invalid, "extraction point is not a directory"));
        }
        if file::is_kernel_interface(&found).map_err(Failure::io("look at the target"))? {
            return Err(self.refused("lies in a file system of the kernel, where nothing is copied to"));
        }
        Ok(found)
    }

    /// The file's own name; `.` where only the content of a folder is meant.
    pub fn name(&self) -> Vec<u8> {
        let mut parts = self.path.split(|byte| *byte == b'/').filter(|part| !part.is_empty());
        match parts.next_back() {
            None | Some(b"." | b"..") => b".".to_vec(),
            Some(name) => name.to_vec(),
        }
    }

    /// Something that is not done.
    pub fn refused(&self, why: &str) -> Failure {
        let path = String::from_utf8_lossy(self.path);
        Failure::new(FailureKind::Refused, format!("{path} of container {} {why}", self.container))
    }

    fn relative(&self) -> Result<&'a [u8], Failure> {
        if self.path.contains(&0) {
            return Err(Failure::new(FailureKind::Invalid, "path holds a NUL byte"));
        }
        Ok(if self.path.is_empty() { b"/" } else { self.path })
    }

    fn in_container(&self, found: io::Result<OwnedFd>) -> Result<OwnedFd, Failure> {
        let found = found.map_err(|error| self.missing(error))?;
        // What the kernel shows in there is not the container's; the folder that it is mounted on is.
        let inside = file::is_kernel_interface(&found).map_err(Failure::io("look at the file"))?;
        if inside && !file::is_dir(&found).map_err(Failure::io("look at the file"))? {
            return Err(self.not_found());
        }
        Ok(found)
    }

    fn missing(&self, error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::NotFound => self.not_found(),
            io::ErrorKind::NotADirectory => {
                let path = String::from_utf8_lossy(self.path);
                Failure::new(
                    FailureKind::Invalid,
                    format!("{path} of container {}: not a directory", self.container),
                )
            }
            _ => {
                let path = String::from_utf8_lossy(self.path);
                Failure::new(
                    FailureKind::Refused,
                    format!("find {path} in container {}: {error}", self.container),
                )
            }
        }
    }

    fn not_found(&self) -> Failure {
        let path = String::from_utf8_lossy(self.path);
        Failure::new(
            FailureKind::Missing,
            format!("Could not find the file {path} in container {}", self.container),
        )
    }
}

/// Whether a path says of itself that a directory is meant.
fn is_directory(path: &[u8]) -> bool {
    path.ends_with(b"/") || path.ends_with(b"/.") || path == b"."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_archives() {
        let name =
            |path: &str| String::from_utf8(Wanted { container: "c", path: path.as_bytes() }.name()).unwrap();
        for (path, wanted) in [
            ("/a/b", "b"),
            ("/a/b/", "b"),
            ("/a/b/.", "."),
            ("/", "."),
            ("", "."),
            ("a", "a"),
            ("/a/..", "."),
        ] {
            assert_eq!(name(path), wanted, "{path}");
        }
    }

    #[test]
    fn links_at_the_end_are_followed_when_more_comes() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        std::os::unix::fs::symlink("/d", dir.path().join("l")).unwrap();
        std::fs::write(dir.path().join("f"), "").unwrap();
        let root = Root::open(dir.path()).unwrap();
        let find = |path: &str, follow| Wanted { container: "c", path: path.as_bytes() }.find(&root, follow);
        let is_dir = |path: &str, follow| file::is_dir(find(path, follow).unwrap()).unwrap();
        assert!(!is_dir("/l", false) && is_dir("/l", true) && is_dir("/l/", false) && is_dir("l/.", false));
        assert!(is_dir("", false) && is_dir("/../../..", false));
        assert!(find("/f/", false).is_err() && find("/f/.", false).is_err() && find("/none", false).is_err());
    }
}
