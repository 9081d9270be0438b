//! What is mounted into a container: the wishes of request and image as one plan.

use std::collections::{BTreeSet, HashMap};

use davit_proto::container::{ContainerSpec, MountKind, MountSpec};

use super::path::{clean, is_below};
use super::tmpfs;
use super::{Error, ImageConfig};

/// Most mounts of one container.
const LIMIT: usize = 512;
/// Files below `/proc` that tools such as lxcfs put in place of the kernel's.
const PROC_FILES: [&str; 9] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/sys/kernel/ns_last_pid",
];
/// Words for how mounts pass between inside and outside.
const PROPAGATIONS: [&str; 6] = ["rprivate", "private", "rslave", "slave", "rshared", "shared"];

/// One mount of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Path inside the container, clean.
    pub target: String,
    /// The container may not write to it.
    pub read_only: bool,
    /// What is mounted.
    pub what: What,
    /// It is the image that asks for it.
    pub of_image: bool,
}

/// What a mount of the plan shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A file or folder of the host.
    Bind {
        /// Its path on the host, as it was said.
        source: String,
        /// How mounts pass between inside and outside.
        propagation: String,
        /// A missing source becomes a folder.
        create: bool,
        /// Its owners are shown by the container's numbers.
        idmap: bool,
        /// What becomes of the mounts below it.
        recursive: Recursive,
    },
    /// A volume.
    Volume {
        /// Its name; empty for one that nobody named.
        name: String,
        /// Folder inside the volume.
        subpath: String,
        /// What the image holds at the target is not copied into it.
        no_copy: bool,
        /// How it is made when it is not there.
        made: Made,
    },
    /// Memory.
    Tmpfs {
        /// Mount options.
        options: Vec<String>,
    },
    /// Another image.
    Image {
        /// Its reference or id.
        reference: String,
        /// Folder or file inside it.
        subpath: String,
    },
}

/// What becomes of the mounts below the source of a bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Recursive {
    /// They are shown, and as read-only as the bind.
    #[default]
    Enabled,
    /// They are not shown.
    Disabled,
    /// They are shown, and may be written to where the bind may not.
    Writable,
}

/// How a volume is made that is not there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Made {
    /// Its driver; empty for the usual one.
    pub driver: String,
    /// Options of the driver.
    pub options: HashMap<String, String>,
    /// Its labels.
    pub labels: HashMap<String, String>,
}

/// The mounts of a request in its order, then the volumes of the image, where nothing else is mounted.
///
/// # Errors
/// When a mount cannot be right, or two have the same target.
pub fn plan(spec: &ContainerSpec, image: &ImageConfig) -> Result<Vec<Wanted>, Error> {
    if spec.mounts.len() > LIMIT {
        return Err(Error::invalid("mounts", &spec.mounts.len().to_string(), format!("at most {LIMIT}")));
    }
    let mut plan = spec.mounts.iter().map(wanted).collect::<Result<Vec<_>, _>>()?;
    let mut targets = BTreeSet::new();
    for mount in &plan {
        if !targets.insert(mount.target.clone()) {
            return Err(Error::invalid(
                "mounts",
                &mount.target,
                "duplicate mount point: two mounts have the same target",
            ));
        }
    }
    let volumes = if spec.no_image_volumes { &[][..] } else { &image.volumes };
    for volume in volumes {
        let refuse = |_| Error::Image(format!("asks for a volume at {volume:?}, where none can be"));
        let target = clean("volume", volume).map_err(refuse)?;
        check_target(&target, false).map_err(refuse)?;
        if targets.insert(target.clone()) {
            let what = What::Volume {
                name: String::new(),
                subpath: String::new(),
                no_copy: false,
                made: Made::default(),
            };
            plan.push(Wanted { target, read_only: false, what, of_image: true });
        }
    }
    if plan.len() > LIMIT {
        return Err(Error::Image(format!("and the request ask for more than {LIMIT} mounts together")));
    }
    Ok(plan)
}

fn wanted(mount: &MountSpec) -> Result<Wanted, Error> {
    let target = clean("mounts.target", &mount.target)?;
    check_target(&target, mount.kind() == MountKind::Bind)?;
    let only = |there: bool, field: &'static str, kind: &str| {
        if there {
            return Err(Error::invalid(field, &mount.target, format!("is for a {kind} only")));
        }
        Ok(())
    };
    if mount.kind() != MountKind::Bind {
        only(!mount.propagation.is_empty(), "mounts.propagation", "bind")?;
        only(mount.create_source, "mounts.create_source", "bind")?;
        only(mount.idmap, "mounts.idmap", "bind")?;
        only(!mount.recursive.is_empty(), "mounts.recursive", "bind")?;
    }
    if !matches!(mount.kind(), MountKind::Volume | MountKind::Image) {
        only(!mount.subpath.is_empty(), "mounts.subpath", "volume or an image")?;
    }
    if mount.kind() != MountKind::Volume {
        only(mount.no_copy, "mounts.no_copy", "volume")?;
        only(!mount.driver.is_empty(), "mounts.driver", "volume")?;
        only(!mount.driver_options.is_empty(), "mounts.driver_options", "volume")?;
        only(!mount.volume_labels.is_empty(), "mounts.volume_labels", "volume")?;
    }
    if mount.kind() != MountKind::Tmpfs {
        only(!mount.options.is_empty(), "mounts.options", "tmpfs")?;
    }
    let what = match mount.kind() {
        MountKind::Bind => bind(mount)?,
        MountKind::Volume => volume(mount)?,
        MountKind::Tmpfs if mount.source.is_empty() => {
            What::Tmpfs { options: tmpfs::options(&mount.options, mount.read_only)? }
        }
        MountKind::Tmpfs => {
            return Err(Error::invalid("mounts.source", &mount.source, "a tmpfs has no source"));
        }
        MountKind::Image => image(mount)?,
        MountKind::Unspecified => {
            return Err(Error::invalid("mounts.kind", &mount.kind.to_string(), "no such kind of mount"));
        }
    };
    let read_only = mount.read_only || mount.kind() == MountKind::Image;
    Ok(Wanted { target, read_only, what, of_image: false })
}

fn bind(mount: &MountSpec) -> Result<What, Error> {
    let propagation = match mount.propagation.as_str() {
        "" => "rprivate",
        word if PROPAGATIONS.contains(&word) => word,
        other => {
            return Err(Error::invalid(
                "mounts.propagation",
                other,
                format!("must be one of {}", PROPAGATIONS.join(", ")),
            ));
        }
    };
    Ok(What::Bind {
        source: source(&mount.source)?,
        propagation: propagation.to_owned(),
        create: mount.create_source,
        idmap: mount.idmap,
        recursive: recursive(mount, propagation)?,
    })
}

fn recursive(mount: &MountSpec, propagation: &str) -> Result<Recursive, Error> {
    let refuse = |rule: &str| Err(Error::invalid("mounts.recursive", &mount.recursive, rule.to_owned()));
    match mount.recursive.as_str() {
        "" | "enabled" => Ok(Recursive::Enabled),
        "disabled" => Ok(Recursive::Disabled),
        "writable" if mount.read_only => Ok(Recursive::Writable),
        "readonly" if mount.read_only && propagation == "rprivate" => Ok(Recursive::Enabled),
        "readonly" if mount.read_only => refuse("needs the propagation rprivate"),
        "writable" | "readonly" => refuse("is for a read-only mount"),
        _ => refuse("must be enabled, disabled, writable or readonly"),
    }
}

/// The source of a bind as it was said: `..` after a link means another folder on the host than in the
/// text, so nothing is taken out of it.
fn source(text: &str) -> Result<String, Error> {
    clean("mounts.source", text)?;
    Ok(text.to_owned())
}

fn volume(mount: &MountSpec) -> Result<What, Error> {
    if !mount.source.is_empty() {
        mount.source.parse::<davit_proto::id::Name>().map_err(|invalid| {
            Error::invalid(
                "mounts.source",
                &mount.source,
                format!("as the name of a volume, {}", invalid.rule),
            )
        })?;
    }
    let made = Made {
        driver: mount.driver.clone(),
        options: pairs("mounts.driver_options", &mount.driver_options)?,
        labels: pairs("mounts.volume_labels", &mount.volume_labels)?,
    };
    let (name, subpath) = (mount.source.clone(), subpath(mount)?);
    Ok(What::Volume { name, subpath, no_copy: mount.no_copy, made })
}

fn image(mount: &MountSpec) -> Result<What, Error> {
    if mount.source.is_empty() {
        return Err(Error::invalid("mounts.source", &mount.target, "an image mount names an image"));
    }
    Ok(What::Image { reference: mount.source.clone(), subpath: subpath(mount)? })
}

/// Links in it are followed where it is mounted, and never out of the volume or image.
fn subpath(mount: &MountSpec) -> Result<String, Error> {
    let escapes = |part: &str| part == "..";
    if mount.subpath.starts_with('/')
        || mount.subpath.split('/').any(escapes)
        || mount.subpath.chars().any(char::is_control)
    {
        let rule = "must be a relative path that stays inside, without ..";
        return Err(Error::invalid("mounts.subpath", &mount.subpath, rule));
    }
    Ok(mount.subpath.clone())
}

fn pairs(field: &'static str, texts: &[String]) -> Result<HashMap<String, String>, Error> {
    let pair = |text: &String| match text.split_once('=').unwrap_or((text, "")) {
        ("", _) => Err(Error::invalid(field, text, "must be key=value")),
        (key, value) => Ok((key.to_owned(), value.to_owned())),
    };
    texts.iter().map(pair).collect()
}

/// Nothing is mounted over the root, nor over or into what the engine vouches for: a `/proc` or `/sys`
/// of someone else's would turn every later write to it into one anywhere.
fn check_target(target: &str, bind: bool) -> Result<(), Error> {
    let fail = |rule: &str| Err(Error::invalid("mounts.target", target, rule));
    if target == "/" {
        return fail("nothing can be mounted over the root");
    }
    if is_below(target, "/proc") && !(bind && PROC_FILES.contains(&target)) {
        return fail("nothing can be mounted in /proc");
    }
    if is_below(target, "/sys") && !bind {
        return fail("only a folder of the host can be mounted in /sys");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(kind: MountKind, source: &str, target: &str) -> MountSpec {
        let mut mount = MountSpec { source: source.into(), target: target.into(), ..Default::default() };
        mount.set_kind(kind);
        mount
    }

    fn planned(mounts: Vec<MountSpec>, volumes: &[&str]) -> Result<Vec<Wanted>, Error> {
        let image = ImageConfig {
            volumes: volumes.iter().map(|v| (*v).to_owned()).collect(),
            ..ImageConfig::default()
        };
        plan(&ContainerSpec { mounts, ..Default::default() }, &image)
    }

    #[test]
    fn volumes_of_the_image_give_way_to_mounts() {
        let plan = planned(vec![spec(MountKind::Bind, "/srv", "/data/")], &["/data", "/../../../etc", "/x"])
            .unwrap();
        let targets: Vec<_> = plan.iter().map(|mount| mount.target.as_str()).collect();
        assert_eq!(targets, ["/data", "/etc", "/x"]);
    }

    #[test]
    fn mounts_that_cannot_be_are_refused() {
        for mount in [
            spec(MountKind::Bind, "/a", "relative"),
            spec(MountKind::Bind, "a", "/a"),
            spec(MountKind::Bind, "/a", "/"),
            spec(MountKind::Bind, "/a", "/x/../"),
            spec(MountKind::Bind, "/a", "/proc"),
            spec(MountKind::Bind, "/a", "/x/../proc/sys"),
            spec(MountKind::Volume, "v", "/proc/cpuinfo"),
            spec(MountKind::Tmpfs, "", "/sys"),
            spec(MountKind::Tmpfs, "x", "/t"),
            spec(MountKind::Volume, "../x", "/v"),
            spec(MountKind::Bind, "/a\nb", "/v"),
            spec(MountKind::Unspecified, "/a", "/v"),
            MountSpec { kind: 99, ..spec(MountKind::Bind, "/a", "/v") },
            MountSpec { propagation: "odd".into(), ..spec(MountKind::Bind, "/a", "/v") },
            MountSpec { subpath: "a/../../b".into(), ..spec(MountKind::Volume, "v", "/v") },
            MountSpec { options: vec!["size=1".into()], ..spec(MountKind::Volume, "v", "/v") },
        ] {
            assert!(planned(vec![mount.clone()], &[]).is_err(), "{mount:?}");
        }
        let twice = vec![spec(MountKind::Bind, "/a", "/v"), spec(MountKind::Tmpfs, "", "/v/")];
        assert!(planned(twice, &[]).unwrap_err().to_string().contains("same target"));
        for hostile in ["data", "/", "/proc/sys", "/sys"] {
            assert!(planned(vec![], &[hostile]).unwrap_err().to_string().starts_with("the image"));
        }
        planned(
            vec![spec(MountKind::Bind, "/a", "/sys/fs/bpf"), spec(MountKind::Bind, "/a", "/proc/stat")],
            &[],
        )
        .unwrap();
    }
}
