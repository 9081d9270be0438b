//! A folder of this host as a tree in the store: what git wrote. Whatever is in it, no link is followed, and nothing
//! outside of it is opened.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use davit_sys::file::{self, FileType, OFlags, Root};

use crate::context::{ENTRIES, Store};
use crate::error::Error;
use crate::tree::{Kind, Node};
use crate::unpack::{Nodes, Watched};

/// Bytes of all the names in a folder.
const NAMES: usize = 64 << 20;

/// Reads a folder, all of it dated alike. What `leave_out` says of stays behind, with all that is in it.
///
/// # Errors
/// Something cannot be read, there is too much, or nobody waits any more.
pub fn walk(
    top: &Path,
    store: &Store,
    watched: &Watched,
    modified: (i64, u32),
    leave_out: &dyn Fn(&Path) -> bool,
) -> Result<Nodes, Error> {
    let mut nodes = Nodes::new();
    let root = Root::open(top).map_err(Error::io(format!("open {}", top.display())))?;
    let root = root.open_path(Path::new("/")).map_err(Error::io(format!("open {}", top.display())))?;
    let mut open: Vec<(PathBuf, OwnedFd)> = vec![(PathBuf::new(), root)];
    while let Some((folder, handle)) = open.pop() {
        let failed = || Error::io(format!("read {}", top.join(&folder).display()));
        let listing = file::open_listing(&handle).map_err(failed())?;
        for name in file::list_names(&listing, NAMES).map_err(failed())? {
            if watched.is_over() {
                return Err(Error::Cancelled);
            }
            let path = folder.join(&name);
            if leave_out(&path) {
                continue;
            }
            if nodes.len() >= ENTRIES {
                return Err(Error::Invalid(format!("it has more than {ENTRIES} entries")));
            }
            let failed = || Error::io(format!("read {}", top.join(&path).display()));
            let (node, inner) = entry(&listing, &name, store, modified).map_err(failed())?;
            if let Some(node) = node {
                nodes.insert(path.clone(), node);
            }
            open.extend(inner.map(|inner| (path, inner)));
        }
    }
    Ok(nodes)
}

/// One entry of a folder; none for what is neither file, folder nor link. And the folder, to go on with.
fn entry(
    folder: &OwnedFd,
    name: &OsString,
    store: &Store,
    modified: (i64, u32),
) -> io::Result<(Option<Node>, Option<OwnedFd>)> {
    let handle = file::open_at(folder, name, OFlags::PATH | OFlags::NOFOLLOW, 0)?;
    let stat = file::stat(&handle)?;
    let mut inner = None;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let mut source = File::from(file::reopen(&handle, OFlags::RDONLY)?);
            let mut blob = store.blob_writer()?;
            io::copy(&mut source, &mut blob)?;
            let stored = blob.finish()?;
            Kind::File { size: stored.size, digest: Some(stored.digest), number: None }
        }
        FileType::Directory => {
            inner = Some(handle);
            Kind::Directory
        }
        FileType::Symlink => Kind::Symlink(PathBuf::from(file::read_link(&handle)?)),
        _ => return Ok((None, None)),
    };
    // Of permissions, a repository knows whether a file may be executed, and the rest is this host's.
    let mode = if inner.is_some() || stat.st_mode & 0o100 != 0 { 0o755 } else { 0o644 };
    let node = Node { kind, mode, uid: 0, gid: 0, modified, xattrs: Vec::new() };
    Ok((Some(node), inner))
}
