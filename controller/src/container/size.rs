//! How much a container wrote: a walk of its writable layer, which the container itself may change at the
//! same time, so every step goes by descriptor and no link is followed.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use davit_proto::container::Container;
use davit_proto::id::ContainerId;
use davit_proto::image;
use davit_proto::status::{Classify as _, ErrorKind};
use davit_sys::file::{FileType, Stat, open_dir, open_dir_at, stat_at};
use rustix::fs::Dir;

use crate::engine::Engine;
use crate::error::Error;
use crate::shim::{SHORT, within};

/// Deepest folder that is counted; each level holds a descriptor.
const DEPTH: usize = 64;

/// Fills in the sizes of a container.
///
/// # Errors
/// When its layer cannot be read, or the image service does not answer.
pub async fn measure(engine: &Arc<Engine>, container: &mut Container) -> Result<(), Error> {
    let id: ContainerId = container.id.parse()?;
    let upper = engine.config.bundle(&id).join("upper");
    let walked = tokio::task::spawn_blocking(move || walk(&upper)).await.map_err(io::Error::other);
    let own = walked.and_then(|walked| walked).map_err(Error::io(format!("measure container {id}")))?;
    let image = image_size(engine, &container.image_id).await?;
    let status = container.status.get_or_insert_default();
    status.size_rw = own;
    status.size_root = own.saturating_add(image);
    Ok(())
}

async fn image_size(engine: &Arc<Engine>, image_id: &str) -> Result<u64, Error> {
    if image_id.is_empty() {
        return Ok(0);
    }
    let request = image::InspectRequest { image: image_id.to_owned() };
    match within(SHORT, "look for the image", engine.images().inspect(request)).await {
        Ok(answer) => Ok(answer.image.map_or(0, |image| image.size)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

/// Bytes of all files below a folder, each file once however many names it has.
fn walk(folder: &Path) -> io::Result<u64> {
    let top = match open_dir(folder) {
        Ok(top) => top,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut total = 0_u64;
    let mut seen = HashSet::new();
    // One open folder a level, with the names of it that are still to be looked at.
    let mut open = vec![(names(&top)?, top)];
    loop {
        let depth = open.len();
        let Some((left, folder)) = open.last_mut() else { return Ok(total) };
        let Some(name) = left.pop() else {
            open.pop();
            continue;
        };
        let found = match stat_at(&*folder, &name) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
            if depth < DEPTH
                && let Some(below) = enter(folder, &name)?
            {
                open.push((names(&below)?, below));
            }
        } else if found.st_nlink < 2 || seen.insert((found.st_dev, found.st_ino)) {
            total = total.saturating_add(bytes(&found));
        }
    }
}

fn bytes(found: &Stat) -> u64 {
    match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile | FileType::Symlink => u64::try_from(found.st_size).unwrap_or(0),
        _ => 0,
    }
}

/// Opens a folder below; nothing when it is none any more.
fn enter(folder: &OwnedFd, name: &OsStr) -> io::Result<Option<OwnedFd>> {
    match open_dir_at(folder, name) {
        Ok(opened) => Ok(Some(opened)),
        // ENOENT, ENOTDIR, ELOOP: removed or exchanged since it was looked at.
        Err(error) if matches!(error.raw_os_error(), Some(2 | 20 | 40)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn names(folder: &OwnedFd) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn files_count_once_and_links_are_not_followed() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("big"), vec![0; 100_000]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("a/b")).unwrap();
        fs::write(path("a/b/file"), vec![0; 1000]).unwrap();
        fs::write(path("x"), vec![0; 10]).unwrap();
        fs::hard_link(path("x"), path("y")).unwrap();
        std::os::unix::fs::symlink(outside.path(), path("link")).unwrap();
        let link = outside.path().as_os_str().len() as u64;
        assert_eq!(walk(folder.path()).unwrap(), 1010 + link);
        assert_eq!(walk(&path("missing")).unwrap(), 0);
    }
}
