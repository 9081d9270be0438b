//! A container's network namespace: opened by what its shim holds, entered by a thread that is thrown away, and let
//! go again. Nothing of it is kept, for a descriptor or connection of ours would keep it alive.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use davit_sys::namespace::{self, Kind};

use crate::error::Error;
use crate::holding::NetnsId;
use crate::link::{self, Connection};
use crate::redirect;
use crate::sysctl;

/// Where a namespace is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reference {
    /// Which one.
    pub id: NetnsId,
    /// Descriptor of it in that process.
    pub fd: u32,
}

/// An open namespace.
#[derive(Debug)]
pub struct Netns {
    fd: OwnedFd,
    links: Connection,
}

impl Netns {
    /// Opens the namespace that a process holds, makes sure that it is the one that was meant and not our own,
    /// and opens a connection in it. IPv6 is off on links that come later, until somebody switches it on.
    pub fn open(reference: Reference) -> Result<Self, Error> {
        Self::open_and(reference, || {})
    }

    /// As [`Netns::open`], and leads port 53 of the resolver's address to the shim. Where that cannot be done, a
    /// person is told.
    pub fn open_for_names(reference: Reference, warnings: &mut Vec<String>) -> Result<Self, Error> {
        let mut refused = None;
        let netns = Self::open_and(reference, || refused = redirect::make().err())?;
        warnings.extend(refused.map(|error| {
            format!(
                "names will not resolve: the container's port 53 could not be led to its resolver: {error}"
            )
        }));
        Ok(netns)
    }

    fn open_and(reference: Reference, act: impl FnOnce() + Send) -> Result<Self, Error> {
        let Reference { id, fd } = reference;
        let failed = |source| Error::Netns { pid: id.pid, fd, source };
        let path = format!("/proc/{}/fd/{fd}", id.pid);
        let fd = namespace::open(Path::new(&path)).map_err(failed)?;
        let found = namespace::inode(&fd).map_err(failed)?;
        let own = namespace::open_own(Kind::Net).and_then(namespace::inode).map_err(failed)?;
        if found != id.inode {
            return Err(Error::OtherNetns { wanted: id.inode, found });
        }
        if found == own {
            return Err(Error::invalid("netns_inode", found, "is the host's own network namespace"));
        }
        let links = within(fd.as_fd(), || {
            sysctl::ipv6_off("default")?;
            act();
            link::open()
        });
        let links = links.map_err(failed)?;
        Ok(Self { fd, links })
    }

    /// Does something on a thread inside.
    pub fn within<T: Send>(&self, act: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        within(self.fd.as_fd(), act)
    }

    /// The connection for links inside.
    pub fn links(&self) -> &Connection {
        &self.links
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A namespace belongs to a thread, so that a thread of the runtime never changes its own.
fn within<T: Send>(netns: BorrowedFd<'_>, act: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let spawned =
            std::thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, move || {
                namespace::enter(netns, Kind::Net)?;
                act()
            })?;
        spawned.join().unwrap_or_else(|_panic| Err(io::Error::other("the thread inside panicked")))
    })
}
