//! What is mounted into a container: the wishes of request and image as one plan, and that plan as
//! mounts of an OCI runtime spec.

use std::collections::BTreeSet;
use std::path::PathBuf;

use davit_proto::container::{ContainerSpec, MountKind, MountSpec, MountStatus};
use davit_proto::types;
use davit_proto::volume::{PrepareResponse, Use};

use super::path::{clean, depth, is_below};
use super::tmpfs;
use super::{Error, ImageConfig};
use crate::container::copy::Candidate;

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
/// Option of a mount whose owners are shown by the container's numbers, where it has a user namespace.
pub const IDMAP: &str = "idmap";
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
    },
    /// A volume.
    Volume {
        /// Its name; empty for one that nobody named.
        name: String,
        /// Folder inside the volume.
        subpath: String,
        /// What the image holds at the target is not copied into it.
        no_copy: bool,
    },
    /// Memory.
    Tmpfs {
        /// Mount options.
        options: Vec<String>,
    },
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
            return Err(Error::invalid("mounts", &mount.target, "two mounts have the same target"));
        }
    }
    for volume in &image.volumes {
        let refuse = |_| Error::Image(format!("asks for a volume at {volume:?}, where none can be"));
        let target = clean("volume", volume).map_err(refuse)?;
        check_target(&target, false).map_err(refuse)?;
        if targets.insert(target.clone()) {
            let what = What::Volume { name: String::new(), subpath: String::new(), no_copy: false };
            plan.push(Wanted { target, read_only: false, what });
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
    }
    if mount.kind() != MountKind::Volume {
        only(!mount.subpath.is_empty(), "mounts.subpath", "volume")?;
        only(mount.no_copy, "mounts.no_copy", "volume")?;
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
        MountKind::Image => return Err(Error::Unserved("mounting an image is".to_owned())),
        MountKind::Unspecified => {
            return Err(Error::invalid("mounts.kind", &mount.kind.to_string(), "no such kind of mount"));
        }
    };
    Ok(Wanted { target, read_only: mount.read_only, what })
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
    })
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
    let escapes = |part: &str| part == "..";
    if mount.subpath.starts_with('/')
        || mount.subpath.split('/').any(escapes)
        || mount.subpath.chars().any(char::is_control)
    {
        return Err(Error::invalid("mounts.subpath", &mount.subpath, "must be a path inside the volume"));
    }
    let (name, subpath) = (mount.source.clone(), mount.subpath.clone());
    Ok(What::Volume { name, subpath, no_copy: mount.no_copy })
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

/// What the volume service is to prepare, in the order of the plan.
#[must_use]
pub fn uses(plan: &[Wanted]) -> Vec<Use> {
    plan.iter()
        .filter_map(|mount| match &mount.what {
            What::Volume { name, .. } => Some(Use {
                name: name.clone(),
                target: mount.target.clone(),
                read_only: mount.read_only,
                // Resolved by whoever mounts it, at that moment.
                ..Use::default()
            }),
            What::Bind { .. } | What::Tmpfs { .. } => None,
        })
        .collect()
}

/// The volumes of a plan that may have to be filled. `new`: the container was not made before; only then docker copies.
#[must_use]
pub fn candidates(plan: &[Wanted], prepared: &PrepareResponse, new: bool) -> Vec<Candidate> {
    let volumes = plan.iter().filter_map(|mount| match &mount.what {
        What::Volume { subpath, no_copy, .. } => Some((mount, new && !no_copy && subpath.is_empty())),
        What::Bind { .. } | What::Tmpfs { .. } => None,
    });
    let candidate = |((mount, wanted), prepared): ((&Wanted, bool), &types::Mount)| Candidate {
        path: mount.target.clone(),
        folder: prepared.source.clone().into(),
        wanted,
    };
    // What is no folder of the host is new in each life.
    let folders = volumes.zip(&prepared.mounts).filter(|(_, prepared)| prepared.r#type == "bind");
    folders.map(candidate).collect()
}

/// The layers that an image is mounted from, the topmost first.
#[must_use]
pub fn layers(rootfs: &types::Mount) -> Vec<PathBuf> {
    rootfs.options.iter().filter_map(|option| option.strip_prefix("lowerdir=").map(PathBuf::from)).collect()
}

/// What each mount of the plan came to, for those who ask.
#[must_use]
pub fn statuses(plan: &[Wanted], prepared: &PrepareResponse) -> Vec<MountStatus> {
    let mut volumes = prepared.volumes.iter().zip(&prepared.mounts);
    plan.iter()
        .map(|mount| {
            let mut status = MountStatus {
                target: mount.target.clone(),
                read_only: mount.read_only,
                ..MountStatus::default()
            };
            match &mount.what {
                What::Bind { source, propagation, .. } => {
                    status.set_kind(MountKind::Bind);
                    status.source.clone_from(source);
                    status.propagation.clone_from(propagation);
                }
                What::Volume { name, .. } => {
                    status.set_kind(MountKind::Volume);
                    status.name.clone_from(name);
                    status.anonymous = name.is_empty();
                    if let Some((volume, mounted)) = volumes.next() {
                        status.name.clone_from(&volume.name);
                        status.driver.clone_from(&volume.driver);
                        status.source.clone_from(&mounted.source);
                    }
                }
                What::Tmpfs { .. } => status.set_kind(MountKind::Tmpfs),
            }
            status
        })
        .collect()
}

/// The plan as mounts, shallow targets first, so that none hides another. `volumes` are the volume
/// service's answers in the order of the plan.
///
/// # Errors
/// When there are fewer answers than volumes.
pub fn resolved(plan: &[Wanted], volumes: &[types::Mount]) -> Result<Vec<types::Mount>, Error> {
    let mut volumes = volumes.iter();
    let mut mounts = Vec::with_capacity(plan.len());
    for wanted in plan {
        mounts.push(match &wanted.what {
            What::Bind { source, propagation, idmap, .. } => {
                let mut options = vec!["rbind".to_owned(), propagation.clone()];
                if *idmap {
                    options.push(IDMAP.to_owned());
                }
                if wanted.read_only {
                    options.push("ro".to_owned());
                }
                mount("bind", source, &wanted.target, options)
            }
            What::Volume { .. } => {
                let prepared = volumes.next().ok_or_else(|| {
                    Error::Host(format!("the volume service prepared nothing for {}", wanted.target))
                })?;
                let mut options = prepared.options.clone();
                let read_only = wanted.read_only.then_some("ro");
                // A volume outlives its container and another may use it: no program in it gains rights.
                // And its files have the numbers of whoever uses it.
                let mapped = (prepared.r#type == "bind").then_some(IDMAP);
                for needed in ["nosuid", "nodev"].into_iter().chain(read_only).chain(mapped) {
                    if !options.iter().any(|option| option == needed) {
                        options.push(needed.to_owned());
                    }
                }
                mount(&prepared.r#type, &prepared.source, &wanted.target, options)
            }
            What::Tmpfs { options } => mount("tmpfs", "tmpfs", &wanted.target, options.clone()),
        });
    }
    mounts.sort_by_key(|mount| depth(&mount.target));
    Ok(mounts)
}

fn mount(kind: &str, source: &str, target: &str, options: Vec<String>) -> types::Mount {
    types::Mount { r#type: kind.to_owned(), source: source.to_owned(), target: target.to_owned(), options }
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
        assert_eq!(uses(&plan).len(), 2);
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

    #[test]
    fn nested_targets_come_after_their_parents() {
        let plan = planned(
            vec![
                spec(MountKind::Bind, "/b", "/a/b/c"),
                spec(MountKind::Volume, "v", "/a"),
                MountSpec { read_only: true, ..spec(MountKind::Volume, "", "/z") },
            ],
            &[],
        )
        .unwrap();
        let answer = |source: &str| mount("bind", source, "/ignored", vec!["rbind".into()]);
        let mounts = resolved(&plan, &[answer("/1"), answer("/2")]).unwrap();
        let shown: Vec<_> =
            mounts.iter().map(|m| format!("{}:{}:{}", m.source, m.target, m.options.join(","))).collect();
        assert_eq!(
            shown,
            [
                "/1:/a:rbind,nosuid,nodev,idmap",
                "/2:/z:rbind,nosuid,nodev,ro,idmap",
                "/b:/a/b/c:rbind,rprivate"
            ]
        );
        assert!(resolved(&plan, &[answer("/1")]).is_err());
    }
}
