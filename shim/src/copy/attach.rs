//! Something is mounted in a container that lives: opened where the host's mounts are, attached where the container's
//! are, by descriptor and below its root only.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use davit_proto::copy::{Answer, FailureKind, Mount};
use davit_sys::file::{self, FileType};
use davit_sys::mount::TreeDepth;
use davit_sys::namespace::{self, Kind};
use davit_sys::privilege;
use oci_spec::runtime::MountBuilder;

use super::failure::Failure;
use super::place::Place;
use crate::init::mount_plan::plan_mount;
use crate::init::plan::MountStep;
use crate::init::userns::map_tree;
use crate::init::{self, rootfs, source};

/// Mounts it, unless the same is mounted there already: a life that began meanwhile has it from its start.
pub fn attach(place: &Place, mount: &Mount) -> Result<Answer, Failure> {
    let (target, tree) = open(place, mount).map_err(of_init)?;
    if is_there(place, &target, &tree, mount).map_err(Failure::io("look at the target"))? {
        return Ok(Answer::Done { entries: 0, bytes: 0 });
    }
    let work = || Ok(rootfs::attach(&place.root, &target, &tree));
    let attached = inside(place, || match place.ids {
        // A folder to mount on is made as the container's root would make it.
        Some(ids) => privilege::with_file_identity(ids.uid, ids.gid, work),
        None => work(),
    });
    attached.map_err(Failure::io("enter the container's mounts"))?.map_err(of_init)?;
    Ok(Answer::Done { entries: 1, bytes: 0 })
}

/// What is to be attached, attached nowhere yet, and where it goes.
fn open(place: &Place, mount: &Mount) -> Result<(String, OwnedFd), init::Failure> {
    let described = MountBuilder::default()
        .typ(&mount.kind)
        .source(&mount.source)
        .destination(&mount.target)
        .options(mount.options.clone())
        .build();
    let described = described.map_err(|error| init::Failure::invalid(error.to_string()))?;
    let user = place.user.as_ref().map(|user| user.as_fd());
    match plan_mount(&described)? {
        (MountStep::Tree { target }, Some(tree)) => Ok((target, source::open_tree(&tree, user)?)),
        (MountStep::Tmpfs { target, attributes, options }, _) => {
            let tree = rootfs::new_tmpfs(attributes, &options);
            let tree =
                tree.map_err(|error| init::Failure::kernel(format_args!("make tmpfs for {target}"), &error))?;
            if let Some(user) = user {
                map_tree(&tree, TreeDepth::Single, user, Path::new("a tmpfs"))?;
            }
            Ok((target, tree))
        }
        (MountStep::Tree { target }, None) => {
            Err(init::Failure::invalid(format!("mount {target}: nothing to mount")))
        }
    }
}

fn is_there(place: &Place, target: &str, tree: &OwnedFd, mount: &Mount) -> io::Result<bool> {
    let found = match place.root.open_path(Path::new(target)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other?,
    };
    if !file::mount_of(&found)?.is_root {
        return Ok(false);
    }
    if mount.kind == "tmpfs" {
        return file::is_tmpfs(&found);
    }
    let kind = |file: &OwnedFd| file::stat(file).map(|stat| FileType::from_raw_mode(stat.st_mode));
    Ok(kind(&found)? == kind(tree)? && file::is_same(&found, tree)?)
}

/// Does something in the container's mount namespace, on a thread that is thrown away.
pub fn inside<T: Send>(place: &Place, act: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let mounts = place.mounts.as_ref().ok_or(io::ErrorKind::NotFound)?;
    let enter = || {
        // A thread shares what it stands on with the others until it leaves.
        namespace::leave(Kind::Mount)?;
        namespace::enter(mounts, Kind::Mount)?;
        act()
    };
    std::thread::scope(|scope| scope.spawn(enter).join())
        .map_err(|_| io::Error::other("thread that mounts ended early"))?
}

fn of_init(failure: init::Failure) -> Failure {
    let kind = match failure.kind {
        init::FailureKind::Invalid => FailureKind::Invalid,
        init::FailureKind::Refused => FailureKind::Refused,
        _ => FailureKind::Internal,
    };
    Failure::new(kind, failure.message)
}
