//! The root of a container that does not run, mounted for a helper in a mount namespace of its own.

use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use davit_archive::Overlay;
use davit_sys::file::{self, Flock, Root};
use davit_sys::mount::{self, Attributes, Propagation, TreeDepth};
use oci_spec::runtime::Spec;

use super::error::{Failure, Step};
use super::mount_plan::{RootSource, TreeFrom, plan_mounts};
use super::plan::MountStep;
use super::{rootfs, source};

/// The root alone, without anything mounted on it, and attached nowhere.
pub fn root(spec: &Spec, bundle: &Path, lock: &Flock) -> Result<Root, Failure> {
    let mounts = plan_mounts(spec, bundle)?;
    Ok(Root::from_fd(source::open_root(&mounts.root, None, lock)?))
}

/// The layers of a root, and what is mounted on it, as they lie on the disk; none for a root that is no overlay.
pub fn layers(spec: &Spec, bundle: &Path) -> Result<Option<Overlay>, Failure> {
    let mounts = plan_mounts(spec, bundle)?;
    let RootSource::Overlay { lower, upper: Some((upper, _)), .. } = &mounts.root else { return Ok(None) };
    let open = |path: &Path| file::open_dir(path).step(format_args!("open layer {}", path.display()));
    let lower = lower.iter().map(|path| open(path)).collect::<Result<Vec<_>, _>>()?;
    let upper = match file::open_dir(upper) {
        // Nobody has mounted it yet, so nothing has changed.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.step(format_args!("open {}", upper.display()))?,
    };
    let targets = spec.mounts().iter().flatten().map(|mount| mount.destination());
    let relative =
        |path: &PathBuf| path.strip_prefix("/").ok().map(|path| path.as_os_str().as_bytes().to_vec());
    let mounts = targets.filter_map(relative).filter(|path| !path.is_empty()).collect();
    Ok(Some(Overlay { upper, lower, mounts }))
}

/// Mounts the root with the volumes and folders of the host on it. What is made anew for each life (`/proc`, `/dev`, tmpfs)
/// is not there.
///
/// No owner is mapped: what is on disk are the container's own numbers.
pub fn mount(spec: &Spec, bundle: &Path, lock: &Flock) -> Result<Root, Failure> {
    // What is mounted here must not show on the host, and what the host unmounts must go here too.
    let all = file::open_dir(Path::new("/")).step("open the root of the host")?;
    mount::set_attributes(&all, TreeDepth::Recursive, Attributes::NONE, Some(Propagation::Slave))
        .step("keep mounts from the host")?;
    let mounts = plan_mounts(spec, bundle)?;
    let mut trees = Vec::new();
    for tree in &mounts.trees {
        // What the host has no more, the container has no more either.
        let gone = match &tree.from {
            TreeFrom::Path(path) => {
                let below = tree.subpath.as_ref().map_or_else(|| path.clone(), |below| path.join(below));
                matches!(below.symlink_metadata(), Err(e) if e.kind() == io::ErrorKind::NotFound)
            }
            TreeFrom::Layers(_) => false,
        };
        trees.push(if gone { None } else { Some(source::open_tree(tree, None)?) });
    }
    let root = source::open_root(&mounts.root, None, lock)?;
    let at = file::open_dir(bundle).step(format_args!("open {}", bundle.display()))?;
    mount::attach(&root, at).step("attach the root")?;
    let root = Root::from_fd(root);
    let targets = mounts.steps.iter().filter_map(|step| match step {
        MountStep::Tree { target } => Some(target),
        MountStep::Tmpfs { .. } => None,
    });
    for (target, tree) in targets.zip(trees) {
        if let Some(tree) = tree {
            rootfs::attach(&root, target, &tree)?;
        }
    }
    if spec.root().as_ref().and_then(oci_spec::runtime::Root::readonly).unwrap_or(false) {
        mount::set_attributes(&root, TreeDepth::Single, Attributes::READ_ONLY, None)
            .step("make the root read-only")?;
    }
    Ok(root)
}
