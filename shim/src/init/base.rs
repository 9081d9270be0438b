//! The first half, in init: an empty read-only tmpfs as root, and on it `/proc`, `/sys` and `/dev` ready to be moved
//! below any image's root. All paths here are on file systems that this process has just made.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use davit_sys::file::{self, Root};
use davit_sys::mount::{self, Attributes, FileSystem, Propagation, TreeDepth};

use super::dev;
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

impl Base {
    /// Leaves the host's tree for one of our own.
    ///
    /// `shm` is another container's `/dev/shm`; `dev` is what is to be attached as `/dev`, where this process may not
    /// make it itself.
    pub fn build(plan: &PreparePlan, shm: Option<OwnedFd>, dev: Option<OwnedFd>) -> Result<Self, Failure> {
        let sys_attributes =
            if plan.writable_sys { NOTHING_SPECIAL } else { NOTHING_SPECIAL.with(Attributes::READ_ONLY) };
        // While the host's are still to be seen: in a user namespace the kernel makes none that shows more than they.
        let proc = detached("proc", NOTHING_SPECIAL)?;
        let sys = detached("sysfs", sys_attributes)?;
        let host = HostTrees::open(plan, shm)?;
        let dev = dev.map_or_else(|| dev::make(None), Ok)?;
        let root = enter_empty_root()?;
        for (name, tree) in [("proc", &proc), ("sys", &sys), ("dev", &dev)] {
            attach_to(&root, name, tree)?;
        }
        match &host.cgroups {
            Some(tree) => attach_to(&sys, "fs/cgroup", tree)?,
            None => show_cgroups(plan)?,
        }
        let (devpts, shm) = furnish_dev(&dev, host)?;
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

/// What of the host's tree is shown as it is.
struct HostTrees {
    shm: Option<OwnedFd>,
    mqueue: Option<OwnedFd>,
    own_mqueue: bool,
    cgroups: Option<OwnedFd>,
}

impl HostTrees {
    fn open(plan: &PreparePlan, shm: Option<OwnedFd>) -> Result<Self, Failure> {
        let shm = match shm {
            None => plan.host_shm.then(|| host_tree("/dev/shm")).transpose()?,
            other => other,
        };
        // Queues that belong to the host are not a user namespace's to mount.
        let own_mqueue = !(plan.host_shm && plan.in_user_namespace);
        let mqueue = match own_mqueue || !Path::new("/dev/mqueue").exists() {
            true => None,
            false => Some(host_tree("/dev/mqueue")?),
        };
        let cgroups = plan.host_cgroups.then(|| host_tree("/sys/fs/cgroup")).transpose()?;
        if let Some(tree) = &cgroups {
            let readonly = NOTHING_SPECIAL.with(Attributes::READ_ONLY);
            mount::set_attributes(tree, TreeDepth::Recursive, readonly, None)
                .step("make the host's cgroups read-only")?;
        }
        Ok(Self { shm, mqueue, own_mqueue, cgroups })
    }
}

fn host_tree(path: &str) -> Result<OwnedFd, Failure> {
    let host = file::open_dir(Path::new(path)).step(format_args!("open the host's {path}"))?;
    mount::open_tree(host, Path::new(""), TreeDepth::Recursive).step(format_args!("bind the host's {path}"))
}

/// A new file system that is not attached yet.
fn detached(kind: &str, attributes: Attributes) -> Result<OwnedFd, Failure> {
    new_filesystem(kind, &[]).and_then(|fs| fs.mount(attributes)).step(format_args!("mount {kind}"))
}

fn attach_to(parent: &OwnedFd, path: &str, tree: &OwnedFd) -> Result<(), Failure> {
    let here = || -> io::Result<()> {
        let target = Root::from_fd(parent.try_clone()?).open_path(Path::new(path))?;
        mount::attach(tree, target)
    };
    here().step(format_args!("attach {path}"))
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

/// What is mounted in `/dev`: terminals, message queues, shared memory.
fn furnish_dev(dev: &OwnedFd, host: HostTrees) -> Result<(OwnedFd, OwnedFd), Failure> {
    let attributes = Attributes::NO_SUID.with(Attributes::NO_EXEC);
    let options = [("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")];
    let devpts = filesystem("devpts", &options, attributes, dev, "pts").or_else(|failure| {
        // A user namespace of a few ids has no group 5.
        filesystem("devpts", &options[..2], attributes, dev, "pts").map_err(|_| failure)
    })?;
    match &host.mqueue {
        Some(tree) => attach_to(dev, "mqueue", tree)?,
        None if host.own_mqueue => filesystem("mqueue", &[], NOTHING_SPECIAL, dev, "mqueue").map(drop)?,
        None => {}
    }
    let shm = match host.shm {
        Some(tree) => {
            attach_to(dev, "shm", &tree)?;
            tree
        }
        None => filesystem("tmpfs", &[("mode", "1777"), ("size", "64m")], NOTHING_SPECIAL, dev, "shm")?,
    };
    Ok((devpts, shm))
}

/// Shows the container its own cgroups, the way the host shows its.
fn show_cgroups(plan: &PreparePlan) -> Result<(), Failure> {
    let attributes =
        if plan.writable_cgroups { NOTHING_SPECIAL } else { NOTHING_SPECIAL.with(Attributes::READ_ONLY) };
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
