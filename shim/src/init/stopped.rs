//! The root of a container that does not run, mounted for a helper in a mount namespace of its own.

use std::io;
use std::path::Path;

use davit_sys::file::{self, Flock, Root};
use davit_sys::mount::{self, Attributes, Propagation, TreeDepth};
use oci_spec::runtime::Spec;

use super::error::{Failure, Step};
use super::mount_plan::{TreeFrom, plan_mounts};
use super::plan::MountStep;
use super::{rootfs, source};

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
