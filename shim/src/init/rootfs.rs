//! The second half, in init: the container's root with everything on it, and nothing else left.
//!
//! The root's content is an image's: every path below it is resolved in it by [`Root`], and every mount is attached
//! by descriptor.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use davit_sys::file::{self, OFlags, Root};
use davit_sys::mount::{self, Attributes, FileSystem, TreeDepth};
use davit_sys::pty::{self, Pty, WindowSize};

use super::base::{Base, ROOT, make_readonly};
use super::dev;
use super::error::{Failure, Step};
use super::plan::{ConfigurePlan, MountFlags, MountStep};

/// Builds the root from its own tree and the trees that the shim has opened.
pub fn build(
    base: &mut Base,
    plan: &ConfigurePlan,
    root: OwnedFd,
    trees: &mut impl Iterator<Item = OwnedFd>,
) -> Result<Root, Failure> {
    let at = file::open_dir_at(&base.root, ROOT.as_ref()).step("open the place of the root")?;
    mount::attach(&root, at).step("attach the root")?;
    let root = Root::from_fd(root);
    for (name, tree) in [("proc", &base.proc), ("sys", &base.sys), ("dev", &base.dev)] {
        let target = prepared_target(&root, name)?;
        mount::attach(tree, target).step(format_args!("attach /{name}"))?;
    }
    resize_shm(base, &plan.shm)?;
    for step in &plan.mounts {
        carry_out(&root, step, trees)?;
    }
    for node in &plan.devices {
        dev::add_node(&base.dev, node, None)?;
    }
    for path in &plan.masked {
        base.masks.hide(&root, Path::new(path))?;
    }
    for path in &plan.readonly {
        make_readonly(&root, Path::new(path))?;
    }
    Ok(root)
}

/// The last touch: from here on the root is what the container sees.
pub fn enter(root: &Root, readonly: bool) -> Result<(), Failure> {
    if readonly {
        mount::set_attributes(root, TreeDepth::Single, Attributes::READ_ONLY, None)
            .step("make the root read-only")?;
    }
    mount::change_root(root).step("change to the container's root")
}

/// The directories that `/proc`, `/sys` and `/dev` go onto must be directories in the image, or be made.
fn prepared_target(root: &Root, name: &str) -> Result<OwnedFd, Failure> {
    let open = || file::open_at(root, name.as_ref(), OFlags::PATH, 0);
    let target = match open() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            file::make_dir_at(root, name.as_ref(), 0o755).and_then(|()| open())
        }
        other => other,
    };
    let target = target.step(format_args!("open /{name} of the image"))?;
    if !file::is_dir(&target).step(format_args!("look at /{name} of the image"))? {
        return Err(Failure::refused(format!("/{name} of the image is not a directory")));
    }
    Ok(target)
}

fn resize_shm(base: &Base, options: &[(String, String)]) -> Result<(), Failure> {
    if options.is_empty() {
        return Ok(());
    }
    let options: Vec<(&str, &str)> = options.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    mount::reconfigure(&base.shm, &options).step("size /dev/shm")
}

fn carry_out(
    root: &Root,
    step: &MountStep,
    trees: &mut impl Iterator<Item = OwnedFd>,
) -> Result<(), Failure> {
    match step {
        MountStep::Tree { target } => {
            let tree = trees.next().ok_or_else(|| Failure::invalid("a tree to mount is missing"))?;
            attach(root, target, &tree)
        }
        MountStep::Tmpfs { target, attributes, options } => {
            let tree = new_tmpfs(*attributes, options).step(format_args!("make tmpfs for {target}"))?;
            attach(root, target, &tree)
        }
    }
}

/// A tmpfs that is attached nowhere.
pub fn new_tmpfs(flags: MountFlags, options: &[(String, String)]) -> io::Result<OwnedFd> {
    let context = FileSystem::open("tmpfs")?;
    for (key, value) in options {
        context.set(key, value)?;
    }
    context.mount(attributes(flags))
}

/// The kernel's words for attributes.
pub fn attributes(flags: MountFlags) -> Attributes {
    [
        (flags.readonly, Attributes::READ_ONLY),
        (flags.nosuid, Attributes::NO_SUID),
        (flags.nodev, Attributes::NO_DEV),
        (flags.noexec, Attributes::NO_EXEC),
        (flags.noatime, Attributes::NO_ATIME),
    ]
    .into_iter()
    .filter(|(set, _)| *set)
    .fold(Attributes::NONE, |all, (_, one)| all.with(one))
}

/// Attaches a tree to a path of the root, which is made if it is not there.
pub fn attach(root: &Root, path: &str, tree: &OwnedFd) -> Result<(), Failure> {
    let directory = file::is_dir(tree).step(format_args!("look at the source of {path}"))?;
    let target = open_target(root, path, directory)?;
    refuse_target(root, path, tree, &target)?;
    mount::attach(tree, target).step(format_args!("mount {path}"))
}

fn open_target(root: &Root, path: &str, directory: bool) -> Result<OwnedFd, Failure> {
    match root.open_path(Path::new(path)) {
        Ok(target) => {
            let is_directory = file::is_dir(&target).step(format_args!("look at {path}"))?;
            if is_directory == directory {
                return Ok(target);
            }
            let (source, target) =
                if directory { ("a directory", "not") } else { ("not a directory", "one") };
            Err(Failure::invalid(format!("mount {path}: source is {source}, target is {target}")))
        }
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e).step(format_args!("open {path}")),
        Err(_) if directory => {
            root.make_dirs(Path::new(path), 0o755).step(format_args!("make {path} to mount on"))
        }
        Err(_) => root.make_file(Path::new(path), 0o644).step(format_args!("make {path} to mount on")),
    }
}

/// What a symlink of the image leads to may be a place where nothing must be mounted.
fn refuse_target(root: &Root, path: &str, tree: &OwnedFd, target: &OwnedFd) -> Result<(), Failure> {
    let look = || -> io::Result<Option<&'static str>> {
        if file::is_same(target, root)? {
            return Ok(Some("is the root itself"));
        }
        if file::is_procfs(target)? && !path.starts_with("/proc/") {
            return Ok(Some("lies in /proc"));
        }
        let sys = root.open_path_nofollow(Path::new("/sys"))?;
        if file::is_same(target, sys)? && !file::is_sysfs(tree)? {
            return Ok(Some("is /sys"));
        }
        Ok(None)
    };
    match look().step(format_args!("look at {path}"))? {
        Some(why) => Err(Failure::refused(format!("mount target {path}: {why}"))),
        None => Ok(()),
    }
}

/// Opens a terminal of the container's own devpts, and shows it as `/dev/console`.
pub fn open_terminal(base: &Base, size: Option<(u16, u16)>) -> Result<Pty, Failure> {
    let terminal = pty::open(&base.devpts).step("open a terminal")?;
    if let Some((rows, columns)) = size {
        let size = WindowSize { rows, columns };
        pty::set_window_size(&terminal.master, size).step("size the terminal")?;
    }
    let show = || -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        file::open_at(&base.dev, "console".as_ref(), flags, 0o600)?;
        let console = file::open_at(&base.dev, "console".as_ref(), OFlags::PATH, 0)?;
        let index = terminal.index.to_string();
        let slave = mount::open_tree(base.devpts.as_fd(), Path::new(&index), TreeDepth::Single)?;
        mount::attach(slave, console)
    };
    show().step("make /dev/console")?;
    Ok(terminal)
}
