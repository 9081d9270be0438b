//! The first half, in init: an empty read-only tmpfs as root, and on it `/proc`, `/sys` and `/dev` ready to be moved
//! below any image's root. All paths here are on file systems that this process has just made.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use davit_sys::file::{self, NodeKind, Root};
use davit_sys::mount::{self, Attributes, FileSystem, Propagation, TreeDepth};

use super::error::{Failure, Step};
use super::plan::PreparePlan;

/// What the first half leaves for the second one.
#[derive(Debug)]
pub struct Base {
    /// The empty root.
    pub root: OwnedFd,
    /// Root of the procfs.
    pub proc: OwnedFd,
    /// `/proc/sys`, as it was before it became read-only.
    pub proc_sys: Root,
    /// Root of the sysfs.
    pub sys: OwnedFd,
    /// Root of `/dev`.
    pub dev: OwnedFd,
    /// Root of the devpts.
    pub devpts: OwnedFd,
    /// Root of `/dev/shm`.
    pub shm: OwnedFd,
    /// Hides paths.
    pub masks: Masks,
}

const NOTHING_SPECIAL: Attributes = Attributes::NO_SUID.with(Attributes::NO_DEV).with(Attributes::NO_EXEC);

/// Name of the directory that the container's root is attached to.
pub const ROOT: &str = "root";

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

impl Base {
    /// Leaves the host's tree for one of our own. `shm` is another container's `/dev/shm`.
    pub fn build(plan: &PreparePlan, shm: Option<OwnedFd>) -> Result<Self, Failure> {
        let shared_shm = match shm {
            None => plan.host_shm.then(open_host_shm).transpose()?,
            other => other,
        };
        let root = enter_empty_root()?;
        let proc = filesystem("proc", &[], NOTHING_SPECIAL, &root, "proc")?;
        let sys_attributes =
            if plan.writable_sys { NOTHING_SPECIAL } else { NOTHING_SPECIAL.with(Attributes::READ_ONLY) };
        let sys = filesystem("sysfs", &[], sys_attributes, &root, "sys")?;
        show_cgroups(plan, sys_attributes)?;
        let (dev, devpts, shm) = make_dev(&root, shared_shm)?;
        let proc_sys = Root::open(Path::new("/proc/sys")).step("open /proc/sys")?;
        let mut masks = Masks { null: dev.try_clone().step("keep /dev")?, empty: None };
        let here = Root::from_fd(root.try_clone().step("keep the empty root")?);
        for path in plan.masked.iter().flat_map(|path| expand(path)) {
            masks.hide(&here, Path::new(&path))?;
        }
        for path in &plan.readonly {
            make_readonly(&here, Path::new(path))?;
        }
        mount::set_attributes(&root, TreeDepth::Single, Attributes::READ_ONLY, None)
            .step("make the empty root read-only")?;
        Ok(Self { root, proc, proc_sys, sys, dev, devpts, shm, masks })
    }
}

fn open_host_shm() -> Result<OwnedFd, Failure> {
    let host = file::open_dir(Path::new("/dev/shm")).step("open the host's /dev/shm")?;
    mount::open_tree(host, Path::new(""), TreeDepth::Recursive).step("bind the host's /dev/shm")
}

/// Nothing that is mounted from here on shows outside, and nothing from outside shows here.
fn enter_empty_root() -> Result<OwnedFd, Failure> {
    let host = file::open_dir(Path::new("/")).step("open the host's root")?;
    mount::set_attributes(&host, TreeDepth::Recursive, Attributes::NONE, Some(Propagation::Private))
        .step("make mounts private")?;
    let root = new_filesystem("tmpfs", &[("mode", "755"), ("size", "64k")])
        .and_then(|fs| fs.mount(NOTHING_SPECIAL))
        .step("mount an empty root")?;
    // Any directory will do to stand on until the host's tree is let go.
    let foothold = file::open_dir(Path::new("/sys")).step("open a foothold")?;
    mount::attach(&root, foothold).step("attach the empty root")?;
    mount::change_root(&root).step("change to the empty root")?;
    for name in ["proc", "sys", "dev", ROOT] {
        file::make_dir_at(&root, name.as_ref(), 0o755).step(format_args!("make /{name}"))?;
    }
    Ok(root)
}

fn new_filesystem(kind: &str, options: &[(&str, &str)]) -> io::Result<FileSystem> {
    let context = FileSystem::open(kind)?;
    for (key, value) in options {
        context.set(key, value)?;
    }
    Ok(context)
}

/// Mounts a new file system on an entry of `parent`, and answers with its root.
fn filesystem(
    kind: &str,
    options: &[(&str, &str)],
    attributes: Attributes,
    parent: impl AsFd,
    name: &str,
) -> Result<OwnedFd, Failure> {
    let mounted = new_filesystem(kind, options).and_then(|fs| fs.mount(attributes)).and_then(|tree| {
        mount::attach(&tree, file::open_dir_at(parent, name.as_ref())?)?;
        Ok(tree)
    });
    mounted.step(format_args!("mount {kind} on {name}"))
}

fn make_dev(root: &OwnedFd, shared_shm: Option<OwnedFd>) -> Result<(OwnedFd, OwnedFd, OwnedFd), Failure> {
    let attributes = Attributes::NO_SUID.with(Attributes::NO_EXEC);
    let dev = filesystem("tmpfs", &[("mode", "755"), ("size", "64k")], attributes, root, "dev")?;
    for (name, major, minor) in NODES {
        let kind = NodeKind::Character { major, minor };
        file::make_node_at(&dev, name.as_ref(), kind, 0o666).step(format_args!("make /dev/{name}"))?;
    }
    for (target, name) in LINKS {
        file::symlink_at(target.as_ref(), &dev, name.as_ref()).step(format_args!("make /dev/{name}"))?;
    }
    for name in ["pts", "shm", "mqueue"] {
        file::make_dir_at(&dev, name.as_ref(), 0o755).step(format_args!("make /dev/{name}"))?;
    }
    let options = [("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")];
    let devpts = filesystem("devpts", &options, attributes, &dev, "pts")?;
    filesystem("mqueue", &[], NOTHING_SPECIAL, &dev, "mqueue")?;
    let shm = match shared_shm {
        Some(tree) => {
            let target = file::open_dir_at(&dev, "shm".as_ref()).step("open /dev/shm")?;
            mount::attach(&tree, target).step("attach a shared /dev/shm")?;
            tree
        }
        None => filesystem("tmpfs", &[("mode", "1777"), ("size", "64m")], NOTHING_SPECIAL, &dev, "shm")?,
    };
    Ok((dev, devpts, shm))
}

/// Shows the container its own cgroups, the way the host shows its.
fn show_cgroups(plan: &PreparePlan, attributes: Attributes) -> Result<(), Failure> {
    let at = file::open_dir(Path::new("/sys/fs/cgroup")).step("open /sys/fs/cgroup")?;
    if plan.legacy.is_empty() {
        return mount_on("cgroup2", new_filesystem("cgroup2", &[]), attributes, &at).map(drop);
    }
    let folder = new_filesystem("tmpfs", &[("mode", "755"), ("size", "64k")]);
    let folder = mount_on("cgroup folder", folder, NOTHING_SPECIAL, &at)?;
    for (name, controllers) in &plan.legacy {
        file::make_dir_at(&folder, name.as_ref(), 0o755).step(format_args!("make cgroup folder {name}"))?;
        let at = file::open_dir_at(&folder, name.as_ref()).step("open a cgroup folder")?;
        mount_on(name, legacy_hierarchy(controllers), attributes, &at)?;
        for one in controllers.iter().filter(|c| *c != name && !c.starts_with("name=")) {
            file::symlink_at(name.as_ref(), &folder, one.as_ref()).step(format_args!("link cgroup {one}"))?;
        }
    }
    if plan.unified {
        file::make_dir_at(&folder, "unified".as_ref(), 0o755).step("make cgroup folder unified")?;
        let at = file::open_dir_at(&folder, "unified".as_ref()).step("open a cgroup folder")?;
        mount_on("cgroup2", new_filesystem("cgroup2", &[]), attributes, &at)?;
    }
    if attributes.has(Attributes::READ_ONLY) {
        mount::set_attributes(&folder, TreeDepth::Single, Attributes::READ_ONLY, None)
            .step("make /sys/fs/cgroup read-only")?;
    }
    Ok(())
}

fn legacy_hierarchy(controllers: &[String]) -> io::Result<FileSystem> {
    let context = FileSystem::open("cgroup")?;
    for controller in controllers {
        match controller.strip_prefix("name=") {
            Some(name) => {
                context.flag("none")?;
                context.set("name", name)?;
            }
            None => context.flag(controller)?,
        }
    }
    Ok(context)
}

fn mount_on(
    what: &str,
    context: io::Result<FileSystem>,
    attributes: Attributes,
    at: impl AsFd,
) -> Result<OwnedFd, Failure> {
    let mounted = context.and_then(|fs| fs.mount(attributes)).and_then(|tree| {
        mount::attach(&tree, at)?;
        Ok(tree)
    });
    mounted.step(format_args!("mount {what}"))
}

/// Replaces the one wildcard that paths may hold, a processor's number.
fn expand(path: &str) -> Vec<String> {
    let Some((before, after)) = path.split_once("cpu*") else { return vec![path.to_owned()] };
    let numbered = |name: &str| {
        let digits = name.strip_prefix("cpu").unwrap_or_default();
        !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
    };
    // A machine that does not list its processors has nothing to hide there.
    let entries = std::fs::read_dir(before).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| numbered(name)).map(|name| format!("{before}{name}{after}")).collect()
}

/// Makes what a path names read-only, with all that is below; what is not there needs nothing.
pub fn make_readonly(root: &Root, path: &Path) -> Result<(), Failure> {
    let target = match root.open_path(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.step(format_args!("open {}", path.display()))?,
    };
    let covered = mount::open_tree(&target, Path::new(""), TreeDepth::Recursive).and_then(|tree| {
        mount::set_attributes(&tree, TreeDepth::Recursive, Attributes::READ_ONLY, None)?;
        mount::attach(&tree, &target)
    });
    covered.step(format_args!("make {} read-only", path.display()))
}

/// Hides paths: directories behind one empty directory, files behind the null device.
#[derive(Debug)]
pub struct Masks {
    null: OwnedFd,
    empty: Option<OwnedFd>,
}

impl Masks {
    /// Hides what a path names; what is not there needs no hiding. Types are looked at first, because a copy of a
    /// mount that fits nowhere costs a grace period to let go.
    pub fn hide(&mut self, root: &Root, path: &Path) -> Result<(), Failure> {
        let target = match root.open_path(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.step(format_args!("open {}", path.display()))?,
        };
        let directory = file::is_dir(&target).step(format_args!("look at {}", path.display()))?;
        let hidden = if directory { self.hide_directory(&target) } else { self.hide_file(&target) };
        hidden.step(format_args!("mask {}", path.display()))
    }

    fn hide_file(&self, target: &OwnedFd) -> io::Result<()> {
        let null = mount::open_tree(&self.null, Path::new("null"), TreeDepth::Single)?;
        mount::attach(null, target)
    }

    fn hide_directory(&mut self, target: &OwnedFd) -> io::Result<()> {
        if let Some(empty) = &self.empty {
            return mount::attach(mount::open_tree(empty, Path::new(""), TreeDepth::Single)?, target);
        }
        let attributes = NOTHING_SPECIAL.with(Attributes::READ_ONLY);
        let empty = new_filesystem("tmpfs", &[("mode", "755"), ("size", "4k")])?.mount(attributes)?;
        mount::attach(&empty, target)?;
        self.empty = Some(empty);
        Ok(())
    }
}
