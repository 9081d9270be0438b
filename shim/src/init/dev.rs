//! `/dev`: a small tmpfs with the few nodes that every container has.
//!
//! Init makes it for itself. In a user namespace nobody may make device nodes, so there the shim makes it, for the
//! namespace's root, and init attaches it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use davit_sys::file::{self, NodeKind, Root};
use davit_sys::mount::{Attributes, FileSystem};

use super::error::{Failure, Step};
use super::plan::{DeviceKind, DeviceNode};
use super::shape::IdMap;

/// Attributes of its mount.
const ATTRIBUTES: Attributes = Attributes::NO_SUID.with(Attributes::NO_EXEC);

const NODES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

const LINKS: [(&str, &str); 6] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("/proc/kcore", "core"),
    ("pts/ptmx", "ptmx"),
];

/// Folders that something is mounted on.
const FOLDERS: [&str; 3] = ["pts", "shm", "mqueue"];

/// The tmpfs with its nodes, not attached yet, owned by the container's root.
pub fn make(ids: Option<&IdMap>) -> Result<OwnedFd, Failure> {
    let new = || -> io::Result<OwnedFd> {
        let context = FileSystem::open("tmpfs")?;
        for (key, value) in [("mode", "755"), ("size", "64k")] {
            context.set(key, value)?;
        }
        context.mount(ATTRIBUTES)
    };
    let dev = new().step("make a tmpfs for /dev")?;
    for (name, major, minor) in NODES {
        let kind = NodeKind::Character { major, minor };
        made(&dev, name, kind, 0o666).step(format_args!("make /dev/{name}"))?;
    }
    for (target, name) in LINKS {
        file::symlink_at(target.as_ref(), &dev, name.as_ref()).step(format_args!("make /dev/{name}"))?;
    }
    for name in FOLDERS {
        file::make_dir_at(&dev, name.as_ref(), 0o755).step(format_args!("make /dev/{name}"))?;
    }
    if let Some(ids) = ids {
        let names = NODES.iter().map(|(name, ..)| *name).chain(LINKS.iter().map(|(_, name)| *name));
        for name in names.chain(FOLDERS) {
            file::chown_at(&dev, name.as_ref(), ids.uid, ids.gid)
                .step(format_args!("give /dev/{name} away"))?;
        }
        file::chown(&dev, ids.uid, ids.gid).step("give /dev away")?;
    }
    Ok(dev)
}

/// The mode is as said whatever the umask of whoever makes it.
fn made(dir: impl AsFd, name: &str, kind: NodeKind, mode: u32) -> io::Result<()> {
    file::make_node_at(&dir, name.as_ref(), kind, mode)?;
    file::chmod_at(&dir, name.as_ref(), mode)
}

/// Adds a node; owner and group are the container's numbers.
pub fn add_node(dev: &OwnedFd, node: &DeviceNode, ids: Option<&IdMap>) -> Result<(), Failure> {
    let kind = match node.kind {
        DeviceKind::Character => NodeKind::Character { major: node.major, minor: node.minor },
        DeviceKind::Block => NodeKind::Block { major: node.major, minor: node.minor },
        DeviceKind::Fifo => NodeKind::Fifo,
    };
    let (uid, gid) = match ids {
        None => (node.uid, node.gid),
        Some(ids) => ids.outside(node.uid, node.gid)?,
    };
    let make = || -> io::Result<()> {
        let dev = Root::from_fd(dev.try_clone()?);
        let parent = dev.make_parent(Path::new(&node.path), 0o755)?;
        match made(&parent.dir, &parent.name.to_string_lossy(), kind, node.mode) {
            // A default device that the spec names again keeps what it is.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            other => other?,
        }
        file::chown_at(&parent.dir, &parent.name, uid, gid)
    };
    make().step(format_args!("make /dev/{}", node.path))
}
