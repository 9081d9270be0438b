//! The container's root: where it is mounted already, or mounted here for as long as this process lives.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use davit_archive::IdRange;
use davit_proto::copy::{self, FailureKind, Order};
use davit_proto::status::chain;
use davit_sys::fd;
use davit_sys::file::{self, Flock, Root};
use davit_sys::mount::{self, TreeDepth};
use davit_sys::namespace::{self, Kind};
use davit_sys::process;

use super::failure::{Failure, READ_ONLY_ROOT, READ_ONLY_VOLUME};
use crate::bundle::Bundle;
use crate::init::{source, stopped};

/// A container's root.
#[derive(Debug)]
pub struct Place {
    /// Below which all paths are resolved.
    pub root: Root,
    /// The ids of the host that its files show, where they are others than the container's.
    pub ids: Option<IdRange>,
    /// The mount namespace that it is the root of, where that is not this process's.
    pub mounts: Option<OwnedFd>,
    /// The container's user namespace, where it has one and it came along.
    pub user: Option<OwnedFd>,
    /// The process with whose end the place is not ours to use any more.
    guardian: Option<OwnedFd>,
    /// Shows that nobody else has the writable layer mounted.
    _lock: Option<Flock>,
    /// What the controller wants held as long as this process lives.
    _held: Vec<OwnedFd>,
}

impl Place {
    /// Goes where an order says.
    pub fn enter(order: &Order, fds: Vec<OwnedFd>) -> Result<Self, Failure> {
        match &order.place {
            copy::Place::Live => {
                let missing = || Failure::new(FailureKind::Internal, "descriptors of the order are missing");
                let mut fds = fds.into_iter();
                let namespace = fds.next().ok_or_else(missing)?;
                let guardian = Some(fds.next().ok_or_else(missing)?);
                let keep = namespace.try_clone().map_err(Failure::io("keep the container's mounts"))?;
                let root = look_into(namespace, of(order))
                    .map_err(Failure::io("look into the container's mounts"))?;
                let ids = order.ids.map(|ids| IdRange { uid: ids.uid, gid: ids.gid, count: ids.count });
                Ok(Self { ids, guardian, mounts: Some(keep), user: fds.next(), ..Self::plain(root) })
            }
            // Without a user namespace in between its files show the container's own numbers.
            copy::Place::Stopped(folder) => {
                let (root, lock) = mount_stopped(folder, order)?;
                Ok(Self { _lock: Some(lock), ..Self::plain(root) })
            }
            copy::Place::Layer(_) => {
                Err(Failure::new(FailureKind::Internal, "a layer as it lies on the disk has no such files"))
            }
            // Here too files show the container's own numbers.
            copy::Place::Image(layers) => {
                let root = source::open_image(layers, None);
                let root = root.map_err(|failure| Failure::new(FailureKind::Internal, failure.message))?;
                Ok(Self { _held: fds, ..Self::plain(Root::from_fd(root)) })
            }
        }
    }

    fn plain(root: Root) -> Self {
        Self { root, ids: None, mounts: None, user: None, guardian: None, _lock: None, _held: Vec::new() }
    }

    /// Whose end is the end of the place, as the host counts.
    pub fn guardian_pid(&self) -> io::Result<u32> {
        self.guardian.as_ref().map_or_else(|| Err(io::ErrorKind::NotFound.into()), process::host_pid)
    }

    /// From now on this process ends with its controller and with whoever guards the place.
    pub fn watch(&self, socket: &OwnedFd) -> Result<(), Failure> {
        watch_controller(socket)?;
        let Some(guardian) = &self.guardian else { return Ok(()) };
        let watched = guardian.try_clone().map_err(Failure::io("watch the container"))?;
        end_with(watched).map_err(Failure::io("watch the container"))?;
        // It may have ended before its mounts were looked at, and another have begun: only now it is sure.
        match fd::wait_readable(guardian, Some(Duration::ZERO)) {
            Ok(false) => Ok(()),
            Ok(true) => Err(Failure::new(FailureKind::Busy, "the container has just ended")),
            Err(error) => Err(Failure::io("watch the container")(error)),
        }
    }

    /// The device of the container's own `/dev`, which is made anew in each life and is no file of it.
    pub fn own_dev(&self) -> Option<u64> {
        let dev = self.root.open_path_nofollow(Path::new("dev")).and_then(file::stat).ok()?;
        let root = file::stat(&self.root).ok()?;
        (dev.st_dev != root.st_dev).then_some(dev.st_dev)
    }

    /// docker's words for where nothing can be written.
    pub fn refuse_read_only(&self, folder: &OwnedFd) -> Result<(), Failure> {
        let look = || -> io::Result<Option<&str>> {
            if !file::is_read_only(folder)? {
                return Ok(None);
            }
            let own = file::stat(folder)?.st_dev == file::stat(&self.root)?.st_dev;
            Ok(Some(if own { READ_ONLY_ROOT } else { READ_ONLY_VOLUME }))
        };
        match look().map_err(Failure::io("look at the target"))? {
            None => Ok(()),
            Some(why) => Err(Failure::new(FailureKind::Refused, why)),
        }
    }
}

/// How much of a container's files is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// With all that is mounted on them.
    Mounted,
    /// Its root alone.
    Root,
}

fn of(order: &Order) -> Extent {
    if order.action == copy::Action::Export { Extent::Root } else { Extent::Mounted }
}

/// From now on this process ends with its controller.
pub fn watch_controller(socket: &OwnedFd) -> Result<(), Failure> {
    let socket = socket.try_clone().map_err(Failure::io("watch the controller"))?;
    end_with(socket).map_err(Failure::io("watch the controller"))
}

/// The root of a mount namespace. Nothing but a look is taken there: this process has one thread yet, and comes back
/// before it does anything else.
fn look_into(mounts: OwnedFd, extent: Extent) -> io::Result<Root> {
    let home = namespace::open_own(Kind::Mount)?;
    namespace::enter(mounts, Kind::Mount)?;
    let root = Root::open(Path::new("/"));
    let root = match extent {
        Extent::Mounted => root,
        // A mount is copied where it is. The copy is nobody's, and nothing is mounted on it.
        Extent::Root => {
            root.and_then(|root| mount::open_tree(&root, Path::new(""), TreeDepth::Single).map(Root::from_fd))
        }
    };
    namespace::enter(home, Kind::Mount)?;
    root
}

fn mount_stopped(folder: &Path, order: &Order) -> Result<(Root, Flock), Failure> {
    let internal = |error: &dyn std::error::Error| {
        let why = format!("mount the files of container {}: {}", order.container, chain(error));
        Failure::new(FailureKind::Internal, why)
    };
    let bundle = Bundle::new(folder.to_owned());
    let lock = bundle.try_lock().map_err(|error| internal(&error))?;
    let lock = lock.ok_or_else(|| {
        let why = format!("container {} is held by another process", order.container);
        Failure::new(FailureKind::Busy, why)
    })?;
    let spec = bundle.spec().map_err(|error| internal(&error))?;
    let root = match of(order) {
        Extent::Mounted => stopped::mount(&spec, folder, &lock),
        Extent::Root => stopped::root(&spec, folder, &lock),
    };
    Ok((root.map_err(|error| internal(&error))?, lock))
}

/// Ends this process as soon as something can be read: the end of a process, or of a connection.
fn end_with(fd: OwnedFd) -> io::Result<()> {
    std::thread::Builder::new().stack_size(64 << 10).spawn(move || {
        loop {
            match fd::wait_readable(&fd, None) {
                Ok(false) => {}
                // Nobody is left to be told.
                Ok(true) | Err(_) => std::process::exit(1),
            }
        }
    })?;
    Ok(())
}
