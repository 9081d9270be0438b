//! What the shim opens for init, in the host's mount namespace: the root's tree and the trees to be attached.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use davit_sys::file::{self, Flock, Root};
use davit_sys::mount::{self, Attributes, Overlay, Propagation, TreeDepth};

use super::error::{Failure, Step};
use super::mount_plan::{RootSource, TreeFrom, TreeSource};
use super::rootfs::attributes;
use super::shape::IdMap;
use super::userns::map_tree;

/// So that a writable layer means the same on every host.
const OPTIONS: [(&str, &str); 3] = [("redirect_dir", "off"), ("metacopy", "off"), ("index", "off")];

/// A detached mount of the root. The lock shows that nobody else has the writable layer mounted.
///
/// With a user namespace all owners are shown as it maps them, so that what is on disk has the container's numbers
/// whichever numbers of the host it lives under, and nothing needs to be copied.
pub fn open_root(
    source: &RootSource,
    user: Option<(BorrowedFd<'_>, &IdMap)>,
    _lock: &Flock,
) -> Result<OwnedFd, Failure> {
    match source {
        RootSource::Directory(path) => {
            let bound = bind(path, TreeDepth::Recursive, Attributes::NONE, Propagation::Private);
            let tree = bound.step(format_args!("bind root {}", path.display()))?;
            if let Some((user, _)) = user {
                map_tree(&tree, TreeDepth::Recursive, user, path)?;
            }
            Ok(tree)
        }
        RootSource::Overlay { lower, upper, volatile } => {
            let open = |path: &Path| file::open_dir(path).step(format_args!("open layer {}", path.display()));
            let mut lower_fds = lower.iter().map(|path| open(path)).collect::<Result<Vec<_>, _>>()?;
            let mut upper_fds = match upper {
                Some((upper, work)) => Some(open_writable(upper, work, &lower_fds)?),
                None => None,
            };
            let mut trees = Vec::new();
            if let Some((user, _)) = user {
                for (layer, path) in lower_fds.iter_mut().zip(lower) {
                    *layer = mapped(&*layer, user, path)?;
                    trees.push(layer.try_clone().step("keep a layer")?);
                }
                if let Some((upper, work)) = upper {
                    let (tree, both) = map_writable(upper, work, user)?;
                    trees.push(tree);
                    upper_fds = Some(both);
                }
            }
            let overlay = Overlay {
                lower: &lower_fds,
                upper: upper_fds,
                trees: &trees,
                owner: user.map(|(_, ids)| (ids.uid, ids.gid)),
                options: &OPTIONS,
                volatile: *volatile,
            };
            overlay.mount().step("mount the overlay of the root")
        }
    }
}

/// The tree of an image as it is, without a writable layer: nothing is attached anywhere.
pub fn open_image(lower: &[PathBuf], user: Option<BorrowedFd<'_>>) -> Result<OwnedFd, Failure> {
    let mut layers = Vec::with_capacity(lower.len());
    for path in lower {
        let layer = file::open_dir(path).step(format_args!("open layer {}", path.display()))?;
        layers.push(match user {
            Some(user) => mapped(&layer, user, path)?,
            None => layer,
        });
    }
    // The kernel makes no overlay of one.
    if let [only] = &layers[..] {
        let whole = mount::open_tree(only, Path::new(""), TreeDepth::Single);
        return whole.step("bind the image's layer");
    }
    let copies = || layers.iter().map(OwnedFd::try_clone).collect::<io::Result<Vec<_>>>();
    let trees = if user.is_some() { copies().step("keep a layer")? } else { Vec::new() };
    let overlay = Overlay {
        lower: &layers,
        upper: None,
        trees: &trees,
        owner: None,
        options: &OPTIONS,
        volatile: false,
    };
    overlay.mount().step("mount the image")
}

/// A detached copy of an open folder whose owners are shown as a user namespace maps them.
fn mapped(folder: &OwnedFd, user: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Failure> {
    let tree = mount::open_tree(folder, Path::new(""), TreeDepth::Single);
    let tree = tree.step(format_args!("bind {}", path.display()))?;
    map_tree(&tree, TreeDepth::Single, user, path)?;
    Ok(tree)
}

/// An overlay wants both of its own folders on one mount, so it is the folder of both that is mapped.
fn map_writable(
    upper: &Path,
    work: &Path,
    user: BorrowedFd<'_>,
) -> Result<(OwnedFd, (OwnedFd, OwnedFd)), Failure> {
    let folder = upper.parent().filter(|folder| work.parent() == Some(folder));
    let folder =
        folder.ok_or_else(|| Failure::invalid("upperdir and workdir of the root are not in one folder"))?;
    let opened = file::open_dir(folder).step(format_args!("open {}", folder.display()))?;
    let tree = mapped(&opened, user, folder)?;
    let below = |path: &Path| {
        let name = path.file_name().unwrap_or_default();
        file::open_dir_at(&tree, name).step(format_args!("open {}", path.display()))
    };
    let both = (below(upper)?, below(work)?);
    Ok((tree, both))
}

/// Opens the writable layer and its work directory, made if they are not there. The writable layer's mode and owner
/// are those of the container's `/`, so a new one takes them from the image.
fn open_writable(upper: &Path, work: &Path, lower: &[OwnedFd]) -> Result<(OwnedFd, OwnedFd), Failure> {
    let made = |path: &Path| match std::fs::create_dir(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(e).step(format_args!("make {}", path.display())),
    };
    let new = made(upper)?;
    made(work)?;
    let open = |path: &Path| file::open_dir(path).step(format_args!("open {}", path.display()));
    let (upper_fd, work_fd) = (open(upper)?, open(work)?);
    if let (true, Some(image)) = (new, lower.first()) {
        let copy = || -> io::Result<()> {
            let seen = file::stat(image)?;
            file::chown(&upper_fd, seen.st_uid, seen.st_gid)?;
            file::chmod(&upper_fd, seen.st_mode & 0o7777)
        };
        copy().step(format_args!("set up {}", upper.display()))?;
    }
    forget_crash(&work_fd).step(format_args!("clean up {}", work.display()))?;
    Ok((upper_fd, work_fd))
}

/// A volatile overlay that was not unmounted leaves a marker that forbids the next mount. Whoever asked for volatile
/// has accepted that a crash of the host loses data; a shim that was killed loses none.
fn forget_crash(work: &OwnedFd) -> io::Result<()> {
    let root = Root::from_fd(work.try_clone()?);
    match root.open_dir(Path::new("work/incompat")) {
        Ok(incompat) => file::remove_tree(incompat, "volatile".as_ref()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

/// A detached copy of a host's tree, private or as asked, with its attributes set before anyone can see it.
pub fn open_tree(source: &TreeSource, user: Option<BorrowedFd<'_>>) -> Result<OwnedFd, Failure> {
    let depth = if source.recursive { TreeDepth::Recursive } else { TreeDepth::Single };
    let user = user.filter(|_| source.mapped);
    let tree = match &source.from {
        TreeFrom::Path(path) => {
            let tree = open_path(path, source.subpath.as_deref(), depth)?;
            set(&tree, source, depth).step(format_args!("bind {}", path.display()))?;
            if let Some(user) = user {
                map_tree(&tree, depth, user, path)?;
            }
            tree
        }
        TreeFrom::Layers(layers) => {
            let whole = open_image(layers, user)?;
            let tree = match &source.subpath {
                Some(path) => mount::open_subtree(&whole, path)
                    .step(format_args!("cannot access path {} of the image", path.display()))?,
                None => whole,
            };
            set(&tree, source, depth).step("bind the image")?;
            tree
        }
    };
    Ok(tree)
}

/// What is at a path of the host, or at a path below it that does not lead out of it.
fn open_path(path: &Path, below: Option<&Path>, depth: TreeDepth) -> Result<OwnedFd, Failure> {
    // The path is the user's own; a link of the /proc/self/fd kind would still name something of ours.
    let opened = Root::open(Path::new("/")).and_then(|root| root.open_path(path));
    let mut opened = opened.step(format_args!("bind {}", path.display()))?;
    if let Some(below) = below {
        let found = Root::from_fd(opened).open_path(below);
        opened = found.step(format_args!("cannot access path {}", path.join(below).display()))?;
    }
    let tree = mount::open_tree(opened, Path::new(""), depth);
    tree.step(format_args!("bind {}", path.display()))
}

fn set(tree: &OwnedFd, source: &TreeSource, depth: TreeDepth) -> io::Result<()> {
    mount::set_attributes(tree, depth, attributes(source.flags), Some(source.propagation))?;
    if source.readonly_top {
        mount::set_attributes(tree, TreeDepth::Single, Attributes::READ_ONLY, None)?;
    }
    Ok(())
}

fn bind(
    path: &Path,
    depth: TreeDepth,
    attributes: Attributes,
    propagation: Propagation,
) -> io::Result<OwnedFd> {
    // The path is the user's own; a link of the /proc/self/fd kind would still name something of ours.
    let opened = Root::open(Path::new("/"))?.open_path(path)?;
    let tree = mount::open_tree(opened, Path::new(""), depth)?;
    mount::set_attributes(&tree, depth, attributes, Some(propagation))?;
    Ok(tree)
}
