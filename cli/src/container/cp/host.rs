//! This side of a copy: what is at a path that was typed.

use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use davit_sys::file::{self, FileType, OFlags, Root};

use super::path::{Subject, Target, says_directory, split, through_link};
use crate::error::Error;

/// As many links as one after the other may lead to a target.
const LINKS: usize = 255;

/// A file or folder of this side.
#[derive(Debug)]
pub struct Source {
    /// An `O_PATH` handle.
    pub handle: OwnedFd,
    /// What it is.
    pub subject: Subject,
}

/// Finds what is to be copied. A link at the end is itself meant, unless it is followed or more comes after it.
pub fn source(typed: &str, follow: bool) -> Result<Source, Error> {
    let failed = |error| Error::io(format!("lstat {typed}"), error);
    let path = PathBuf::from(absolute(typed)?);
    let directory = says_directory(typed);
    let mut flags = OFlags::PATH;
    if directory {
        flags |= OFlags::DIRECTORY;
    } else if !follow {
        flags |= OFlags::NOFOLLOW;
    }
    let handle = Root::open(Path::new("/")).and_then(|root| root.resolve(&path, flags, 0)).map_err(failed)?;
    let mode = file::stat(&handle).map_err(failed)?.st_mode;
    let is_dir = FileType::from_raw_mode(mode) == FileType::Directory;
    let (_, mut name) = split(typed);
    if name == ".." {
        let real = std::fs::canonicalize(&path).map_err(failed)?;
        name = real.file_name().map_or_else(|| ".".into(), |name| name.to_string_lossy().into_owned());
    }
    Ok(Source { handle, subject: Subject { name, is_dir } })
}

/// A path from the root, with what its end says of it.
pub fn absolute(typed: &str) -> Result<String, Error> {
    if typed.starts_with('/') {
        return Ok(typed.to_owned());
    }
    let here = std::env::current_dir().map_err(|error| Error::io("find the working directory", error))?;
    Ok(format!("{}/{typed}", here.to_string_lossy().trim_end_matches('/')))
}

/// docker's first look at a target: its folder must be there, and it must be a file or folder itself.
pub fn check_output(path: &str) -> Result<(), Error> {
    let (folder, _) = split(path.trim_end_matches("/."));
    if !Path::new(&folder).exists() {
        return Err(Error::Usage(format!("invalid output path: directory {folder:?} does not exist")));
    }
    match std::fs::metadata(path) {
        Ok(meta) if !meta.is_dir() && !meta.is_file() => {
            Err(Error::Usage(format!("invalid output path: {path:?} must be a directory or a regular file")))
        }
        _ => Ok(()),
    }
}

/// What is at a target; links are followed, also to what is not there yet.
pub fn target(typed: &str) -> Result<Target, Error> {
    let mut path = typed.to_owned();
    for _ in 0..LINKS {
        let found = std::fs::symlink_metadata(path.trim_end_matches("/.").trim_end_matches('/'));
        match found {
            _ if path.bytes().all(|byte| byte == b'/') => {
                return Ok(Target { path: "/".into(), exists: true, is_dir: true });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Target { path, exists: false, is_dir: false });
            }
            Err(error) => return Err(Error::io(format!("lstat {path}"), error)),
            Ok(meta) if meta.is_symlink() => {
                let link = std::fs::read_link(path.trim_end_matches("/.").trim_end_matches('/'))
                    .map_err(|error| Error::io(format!("read the link {path}"), error))?;
                path = through_link(path.trim_end_matches("/."), &link.to_string_lossy());
            }
            Ok(meta) => return Ok(Target { path, exists: true, is_dir: meta.is_dir() }),
        }
    }
    Err(Error::Usage(format!("too many links at {typed:?}")))
}

/// Opens the folder that an archive is extracted into.
pub fn open_folder(path: &str) -> Result<OwnedFd, Error> {
    file::open_dir(Path::new(path)).map_err(|error| Error::io(format!("open {path}"), error))
}

/// Writes a piece of an archive to standard output.
pub fn write_stdout(bytes: &[u8]) -> Result<(), Error> {
    io::stdout().lock().write_all(bytes).map_err(Error::output)
}

/// Writes the last piece.
pub fn flush_stdout() -> Result<(), Error> {
    io::stdout().lock().flush().map_err(Error::output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_at_a_target_are_followed_to_what_is_not_there() {
        let dir = tempfile_dir();
        let at = |name: &str| format!("{}/{name}", dir.display());
        std::fs::create_dir(at("d")).unwrap();
        std::os::unix::fs::symlink("d", at("l")).unwrap();
        std::os::unix::fs::symlink("new", at("dangling")).unwrap();
        std::os::unix::fs::symlink("round", at("round")).unwrap();
        assert_eq!(target(&at("l")).unwrap(), Target { path: at("d"), exists: true, is_dir: true });
        assert_eq!(target(&at("l/")).unwrap().path, at("d"));
        assert_eq!(
            target(&at("dangling")).unwrap(),
            Target { path: at("new"), exists: false, is_dir: false }
        );
        assert!(target(&at("round")).is_err());
        assert!(check_output(&at("none/x")).is_err() && check_output(&at("x")).is_ok());
        assert!(check_output("/dev/null").is_err());
        let link = source(&at("l"), false).unwrap().subject;
        assert_eq!(link, Subject { name: "l".into(), is_dir: false });
        assert_eq!(source(&at("l"), true).unwrap().subject, Subject { name: "l".into(), is_dir: true });
        assert_eq!(source(&at("l/."), false).unwrap().subject, Subject { name: ".".into(), is_dir: true });
        let up = source(&at("d/.."), false).unwrap().subject.name;
        assert_eq!(up, dir.file_name().unwrap().to_string_lossy());
        std::fs::remove_dir_all(dir).unwrap();
    }

    fn tempfile_dir() -> PathBuf {
        let dir = std::env::temp_dir().join(format!("davit-cp-test-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }
}
