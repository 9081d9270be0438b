//! From the mounts of a spec to sources that the shim opens and steps that init takes: pure.

use std::path::{Component, Path, PathBuf};

use davit_sys::mount::Propagation;
use oci_spec::runtime::{Mount, Spec};

use super::error::Failure;
use super::plan::{MountFlags, MountStep};

/// Where the root comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootSource {
    /// Layers.
    Overlay {
        /// Read-only layers, the topmost first.
        lower: Vec<PathBuf>,
        /// The writable layer and its work directory.
        upper: Option<(PathBuf, PathBuf)>,
        /// Nothing of it needs to survive.
        volatile: bool,
    },
    /// A directory as it is.
    Directory(PathBuf),
}

/// Where a tree comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TreeFrom {
    /// A path of the host.
    Path(PathBuf),
    /// The layers of an image, the topmost first.
    Layers(Vec<PathBuf>),
}

/// A tree of the host to be shown inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeSource {
    /// Where it is.
    pub from: TreeFrom,
    /// What of it is shown, where that is not all: resolved in it when it is mounted, for its content is a container's.
    pub subpath: Option<PathBuf>,
    /// With what is mounted below.
    pub recursive: bool,
    /// Attributes for all of it.
    pub flags: MountFlags,
    /// Its top is read-only; what is mounted below is not.
    pub readonly_top: bool,
    /// Whether mounts travel between here and there.
    pub propagation: Propagation,
    /// Owners are shown as the container's user namespace maps them, where it has one.
    pub mapped: bool,
}

/// All mounts of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounts {
    /// The root.
    pub root: RootSource,
    /// What to open, in the order of the steps that take them.
    pub trees: Vec<TreeSource>,
    /// What to attach and make, outer before inner.
    pub steps: Vec<MountStep>,
    /// Options for the `/dev/shm` that is there already.
    pub shm: Vec<(String, String)>,
}

/// What every container has before its spec is known.
const PREPARED: [(&str, &[&str]); 7] = [
    ("/proc", &["proc"]),
    ("/sys", &["sysfs", "none"]),
    ("/dev", &["tmpfs"]),
    ("/dev/pts", &["devpts"]),
    ("/dev/shm", &["tmpfs", "shm"]),
    ("/dev/mqueue", &["mqueue"]),
    ("/sys/fs/cgroup", &["cgroup", "cgroup2"]),
];

/// Files of `/proc` that a bind may replace, so that a container can be shown its own share of the machine.
const REPLACEABLE: [&str; 9] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/net/dev",
];

/// Option of ours: what of a source is shown.
const SUBPATH: &str = "x-davit-subpath";

/// Sorts the mounts of a spec.
pub fn plan_mounts(spec: &Spec, bundle: &Path) -> Result<Mounts, Failure> {
    let mut root = None;
    let mut shm = Vec::new();
    let mut ordered: Vec<(usize, MountStep, Option<TreeSource>)> = Vec::new();
    for mount in spec.mounts().iter().flatten() {
        let target = plan_target(mount.destination())?;
        let kind = kind(mount);
        if target == "/" {
            root = Some(plan_root(mount, &kind)?);
            continue;
        }
        if PREPARED.iter().any(|(path, kinds)| *path == target && kinds.contains(&kind.as_str())) {
            if target == "/dev/shm" {
                shm = plan_tmpfs(mount)?.1;
            }
            continue;
        }
        refuse_proc(&target)?;
        let depth = target.matches('/').count();
        let (step, tree) = plan_step(mount, &kind, target)?;
        ordered.push((depth, step, tree));
    }
    // What is mounted on a folder must not hide what is mounted below it.
    ordered.sort_by_key(|(depth, _, _)| *depth);
    let root = match root {
        Some(root) => root,
        None => RootSource::Directory(plan_root_path(spec, bundle)?),
    };
    let (mut steps, mut trees) = (Vec::new(), Vec::new());
    for (_, step, tree) in ordered {
        steps.push(step);
        trees.extend(tree);
    }
    Ok(Mounts { root, trees, steps, shm })
}

/// One mount that is to be added to a container.
pub fn plan_mount(mount: &Mount) -> Result<(MountStep, Option<TreeSource>), Failure> {
    let target = plan_target(mount.destination())?;
    if target == "/" {
        return Err(Failure::refused("nothing can be mounted over the root"));
    }
    refuse_proc(&target)?;
    plan_step(mount, &kind(mount), target)
}

fn plan_step(mount: &Mount, kind: &str, target: String) -> Result<(MountStep, Option<TreeSource>), Failure> {
    match kind {
        "bind" => Ok((MountStep::Tree { target }, Some(plan_tree(mount)?))),
        "overlay" => Ok((MountStep::Tree { target }, Some(plan_image(mount)?))),
        "tmpfs" => {
            let (attributes, options) = plan_tmpfs(mount)?;
            Ok((MountStep::Tmpfs { target, attributes, options }, None))
        }
        other => Err(Failure::invalid(format!("mount {target}: type {other:?} is not supported"))),
    }
}

fn plan_root_path(spec: &Spec, bundle: &Path) -> Result<PathBuf, Failure> {
    let root = spec.root().as_ref().ok_or_else(|| Failure::invalid("spec has no root"))?;
    Ok(bundle.join(root.path()))
}

/// A clean absolute path: what the kernel resolves is in the root anyway, this is for equality and order.
fn plan_target(destination: &Path) -> Result<String, Failure> {
    let invalid = |why: &str| Failure::invalid(format!("mount target {}: {why}", destination.display()));
    if !destination.is_absolute() {
        return Err(invalid("is not an absolute path"));
    }
    let mut clean = PathBuf::from("/");
    for component in destination.components() {
        match component {
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => return Err(invalid("holds ..")),
        }
    }
    let text = clean.into_os_string().into_string().map_err(|_| invalid("is not UTF-8"))?;
    if text.contains('\0') {
        return Err(invalid("holds a NUL byte"));
    }
    Ok(text)
}

fn options(mount: &Mount) -> impl Iterator<Item = &str> {
    mount.options().iter().flatten().map(String::as_str)
}

fn kind(mount: &Mount) -> String {
    let bound = options(mount).any(|o| o == "bind" || o == "rbind");
    match mount.typ() {
        _ if bound => "bind".to_owned(),
        Some(kind) if kind != "none" => kind.clone(),
        _ => "none".to_owned(),
    }
}

fn refuse_proc(target: &str) -> Result<(), Failure> {
    let inside = target == "/proc" || target.starts_with("/proc/");
    if inside && !REPLACEABLE.contains(&target) {
        return Err(Failure::refused(format!("mount target {target}: nothing can be mounted in /proc")));
    }
    Ok(())
}

fn plan_root(mount: &Mount, kind: &str) -> Result<RootSource, Failure> {
    if kind == "bind" {
        let source = mount.source().clone().filter(|s| s.is_absolute());
        return source
            .map(RootSource::Directory)
            .ok_or_else(|| Failure::invalid("root mount has no absolute source"));
    }
    if kind != "overlay" {
        return Err(Failure::invalid(format!("root mount has type {kind:?}, not overlay or bind")));
    }
    let (mut lower, mut upper, mut work, mut volatile) = (Vec::new(), None, None, false);
    for option in options(mount) {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        let path = || match Path::new(value) {
            path if path.is_absolute() && !value.contains('\0') => Ok(path.to_owned()),
            _ => Err(Failure::invalid(format!("root option {key}: {value:?} is not an absolute path"))),
        };
        match key {
            "lowerdir" => lower.push(path()?),
            "upperdir" => upper = Some(path()?),
            "workdir" => work = Some(path()?),
            "volatile" => volatile = true,
            _ => return Err(Failure::invalid(format!("root option {key:?} is not supported"))),
        }
    }
    if lower.is_empty() {
        return Err(Failure::invalid("root overlay has no lowerdir"));
    }
    let upper = match (upper, work) {
        (Some(upper), Some(work)) => Some((upper, work)),
        (None, None) => None,
        _ => return Err(Failure::invalid("root overlay needs upperdir and workdir, or neither")),
    };
    Ok(RootSource::Overlay { lower, upper, volatile })
}

/// Takes an option that every kind of mount knows.
fn common_option(option: &str, flags: &mut MountFlags) -> bool {
    match option {
        "ro" | "rro" => flags.readonly = true,
        "rw" => flags.readonly = false,
        "nosuid" => flags.nosuid = true,
        "suid" => flags.nosuid = false,
        "nodev" => flags.nodev = true,
        "dev" => flags.nodev = false,
        "noexec" => flags.noexec = true,
        "exec" => flags.noexec = false,
        "noatime" => flags.noatime = true,
        "atime" | "relatime" | "strictatime" | "norelatime" | "diratime" | "nodiratime" | "defaults"
        | "async" | "z" | "Z" => {}
        _ => return false,
    }
    true
}

fn plan_tree(mount: &Mount) -> Result<TreeSource, Failure> {
    let target = mount.destination().display();
    let source = mount.source().clone().filter(|s| s.is_absolute());
    let source =
        source.ok_or_else(|| Failure::invalid(format!("mount {target}: source is not an absolute path")))?;
    let mut tree = TreeSource {
        from: TreeFrom::Path(source),
        subpath: None,
        recursive: !options(mount).any(|o| o == "bind"),
        flags: MountFlags::default(),
        readonly_top: false,
        propagation: Propagation::Private,
        mapped: false,
    };
    for option in options(mount) {
        match option {
            "bind" | "rbind" => {}
            "ro" => tree.readonly_top = true,
            "idmap" | "ridmap" => tree.mapped = true,
            "private" | "rprivate" => tree.propagation = Propagation::Private,
            "slave" | "rslave" => tree.propagation = Propagation::Slave,
            "shared" | "rshared" => tree.propagation = Propagation::Shared,
            other if common_option(other, &mut tree.flags) => {}
            other => match plan_subpath(mount, other)? {
                Some(subpath) => tree.subpath = Some(subpath),
                None => return Err(Failure::invalid(format!("mount {target}: unknown option {other:?}"))),
            },
        }
    }
    Ok(tree)
}

/// An image is never written to, whatever the options say.
fn plan_image(mount: &Mount) -> Result<TreeSource, Failure> {
    let target = mount.destination().display();
    let (mut layers, mut subpath, mut mapped) = (Vec::new(), None, false);
    let mut flags = MountFlags::default();
    for option in options(mount) {
        let layer = option.strip_prefix("lowerdir=").map(Path::new);
        match layer {
            Some(path) if path.is_absolute() && !option.contains('\0') => layers.push(path.to_owned()),
            None if matches!(option, "idmap" | "ridmap") => mapped = true,
            None if common_option(option, &mut flags) => {}
            _ => match plan_subpath(mount, option)? {
                Some(path) => subpath = Some(path),
                None => return Err(Failure::invalid(format!("mount {target}: unknown option {option:?}"))),
            },
        }
    }
    if layers.is_empty() {
        return Err(Failure::invalid(format!("mount {target}: the image has no layers")));
    }
    flags.readonly = true;
    let propagation = Propagation::Private;
    let from = TreeFrom::Layers(layers);
    Ok(TreeSource { from, subpath, recursive: false, flags, readonly_top: false, propagation, mapped })
}

/// The value of the option that says what of a source is shown.
fn plan_subpath(mount: &Mount, option: &str) -> Result<Option<PathBuf>, Failure> {
    match option.split_once('=') {
        Some((SUBPATH, path)) if path.contains('\0') => {
            let target = mount.destination().display();
            Err(Failure::invalid(format!("mount {target}: the path inside its source holds a NUL byte")))
        }
        Some((SUBPATH, path)) => Ok(Some(PathBuf::from(path))),
        _ => Ok(None),
    }
}

fn plan_tmpfs(mount: &Mount) -> Result<(MountFlags, Vec<(String, String)>), Failure> {
    let target = mount.destination().display();
    let (mut flags, mut values) = (MountFlags::default(), Vec::new());
    for option in options(mount) {
        match option.split_once('=') {
            Some((key @ ("size" | "mode" | "uid" | "gid" | "nr_inodes" | "nr_blocks" | "huge"), value)) => {
                values.push((key.to_owned(), value.to_owned()));
            }
            None if common_option(option, &mut flags) => {}
            None if matches!(option, "private" | "rprivate" | "slave" | "rslave") => {}
            _ => return Err(Failure::invalid(format!("mount {target}: unknown option {option:?}"))),
        }
    }
    Ok((flags, values))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(mounts: &str) -> Spec {
        serde_json::from_str(&format!(
            r#"{{"ociVersion":"1.0.2","root":{{"path":"rootfs"}},"mounts":[{mounts}]}}"#
        ))
        .unwrap()
    }

    fn plan(mounts: &str) -> Result<Mounts, Failure> {
        plan_mounts(&spec(mounts), Path::new("/bundle"))
    }

    #[test]
    fn prepared_mounts_are_left_and_shm_keeps_its_size() {
        let mounts = plan(
            r#"{"destination":"/proc","type":"proc","source":"proc"},
               {"destination":"/dev/","type":"tmpfs","options":["nosuid","mode=755"]},
               {"destination":"/dev/shm","type":"tmpfs","options":["nosuid","size=32m"]},
               {"destination":"/sys/fs/cgroup","type":"cgroup"}"#,
        )
        .unwrap();
        assert_eq!(mounts.steps, []);
        assert_eq!(mounts.shm, [("size".to_owned(), "32m".to_owned())]);
        assert_eq!(mounts.root, RootSource::Directory("/bundle/rootfs".into()));
    }

    #[test]
    fn outer_mounts_come_first_and_keep_their_trees() {
        let mounts = plan(
            r#"{"destination":"/a/b/c","source":"/deep","options":["rbind","ro"]},
               {"destination":"/t","type":"tmpfs","options":["size=1m"]},
               {"destination":"/a","type":"bind","source":"/top","options":["bind","rslave","nosuid"]}"#,
        )
        .unwrap();
        let target = |s: &MountStep| match s {
            MountStep::Tree { target } | MountStep::Tmpfs { target, .. } => target.clone(),
        };
        assert_eq!(mounts.steps.iter().map(target).collect::<Vec<_>>(), ["/t", "/a", "/a/b/c"]);
        assert_eq!(mounts.trees[0].from, TreeFrom::Path("/top".into()));
        assert!(!mounts.trees[0].recursive && mounts.trees[0].propagation == Propagation::Slave);
        assert!(mounts.trees[1].recursive && mounts.trees[1].readonly_top);
        assert!(!mounts.trees[1].flags.readonly);
    }

    #[test]
    fn read_only_is_of_all_or_of_the_top() {
        let mounts = plan(
            r#"{"destination":"/a","source":"/x","options":["rbind","rro","x-davit-subpath=b/c"]},
               {"destination":"/b","source":"/x","options":["rbind","ro"]}"#,
        )
        .unwrap();
        let [all, top] = &mounts.trees[..] else { panic!("{mounts:?}") };
        assert_eq!((all.flags.readonly, all.readonly_top), (true, false));
        assert_eq!((top.flags.readonly, top.readonly_top), (false, true));
        assert_eq!(all.subpath.as_deref(), Some(Path::new("b/c")));
    }

    #[test]
    fn an_image_is_read_only_layers() {
        let mounts = plan(
            r#"{"destination":"/i","type":"overlay","options":["lowerdir=/b","lowerdir=/a","rw","nodev"]}"#,
        )
        .unwrap();
        let [image] = &mounts.trees[..] else { panic!("{mounts:?}") };
        assert_eq!(image.from, TreeFrom::Layers(vec!["/b".into(), "/a".into()]));
        assert!(image.flags.readonly && image.flags.nodev && !image.recursive);
        for bad in [
            r#"{"destination":"/i","type":"overlay","options":["lowerdir=/b","upperdir=/u"]}"#,
            r#"{"destination":"/i","type":"overlay","options":["lowerdir=b"]}"#,
            r#"{"destination":"/i","type":"overlay"}"#,
        ] {
            assert!(plan(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_root_is_an_overlay_as_described() {
        let mounts = plan(
            r#"{"destination":"/","type":"overlay","options":["lowerdir=/l2","lowerdir=/l1","upperdir=/u",
                "workdir=/w","volatile"]}"#,
        )
        .unwrap();
        let upper = Some(("/u".into(), "/w".into()));
        let lower = vec!["/l2".into(), "/l1".into()];
        assert_eq!(mounts.root, RootSource::Overlay { lower, upper, volatile: true });
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for bad in [
            r#"{"destination":"relative","source":"/x","options":["bind"]}"#,
            r#"{"destination":"/a/../b","source":"/x","options":["bind"]}"#,
            r#"{"destination":"/proc","source":"/x","options":["bind"]}"#,
            r#"{"destination":"/proc/self","source":"/x","options":["bind"]}"#,
            r#"{"destination":"/a","source":"x","options":["bind"]}"#,
            r#"{"destination":"/a","source":"/x","options":["bind","frobnicate"]}"#,
            r#"{"destination":"/a","type":"nfs","source":"/x"}"#,
            r#"{"destination":"/a","type":"tmpfs","options":["tmpcopyup"]}"#,
            r#"{"destination":"/","type":"overlay","options":["upperdir=/u"]}"#,
            r#"{"destination":"/","type":"overlay","options":["lowerdir=/l","upperdir=/u"]}"#,
            r#"{"destination":"/","type":"overlay","options":["lowerdir=l"]}"#,
            r#"{"destination":"/","type":"tmpfs"}"#,
        ] {
            assert!(plan(bad).is_err(), "{bad}");
        }
        plan(r#"{"destination":"/proc/meminfo","source":"/x","options":["bind"]}"#).unwrap();
    }
}
