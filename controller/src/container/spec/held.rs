//! From the plan of a container's mounts to what the services are asked for, and from their answers to mounts of an OCI
//! runtime spec: pure.

use std::path::PathBuf;

use davit_proto::container::{MountKind, MountStatus};
use davit_proto::image::MountedImage;
use davit_proto::types;
use davit_proto::volume::{PrepareResponse, Use};

use super::Error;
use super::mounts::{Recursive, Wanted, What};
use super::path::depth;
use crate::container::copy::Candidate;

/// Option of a mount whose owners are shown by the container's numbers, where it has a user namespace.
pub const IDMAP: &str = "idmap";
/// Option of a mount that may not be written to, nor what is mounted below it.
const READ_ONLY: &str = "rro";

/// What the volume service is to prepare, in the order of the plan.
#[must_use]
pub fn uses(plan: &[Wanted]) -> Vec<Use> {
    plan.iter()
        .filter_map(|mount| match &mount.what {
            What::Volume { name, made, .. } => Some(Use {
                name: name.clone(),
                target: mount.target.clone(),
                read_only: mount.read_only,
                // Resolved by whoever mounts it, at that moment.
                subpath: String::new(),
                driver: made.driver.clone(),
                options: made.options.clone(),
                labels: made.labels.clone(),
            }),
            What::Bind { .. } | What::Tmpfs { .. } | What::Image { .. } => None,
        })
        .collect()
}

/// What the image service is to prepare beside the container's own image, in the order of the plan.
#[must_use]
pub fn images(plan: &[Wanted]) -> Vec<String> {
    let image = |mount: &Wanted| match &mount.what {
        What::Image { reference, .. } => Some(reference.clone()),
        What::Bind { .. } | What::Tmpfs { .. } | What::Volume { .. } => None,
    };
    plan.iter().filter_map(image).collect()
}

/// The volumes of a plan that may have to be filled. `new`: the container was not made before; only then docker copies.
#[must_use]
pub fn candidates(plan: &[Wanted], prepared: &[types::Mount], new: bool) -> Vec<Candidate> {
    let volumes = plan.iter().filter_map(|mount| match &mount.what {
        What::Volume { subpath, no_copy, .. } => Some((mount, new && !no_copy && subpath.is_empty())),
        What::Bind { .. } | What::Tmpfs { .. } | What::Image { .. } => None,
    });
    let candidate = |((mount, wanted), prepared): ((&Wanted, bool), &types::Mount)| Candidate {
        path: mount.target.clone(),
        folder: prepared.source.clone().into(),
        wanted,
    };
    // What is no folder of the host is new in each life.
    let folders = volumes.zip(prepared).filter(|(_, prepared)| prepared.r#type == "bind");
    folders.map(candidate).collect()
}

/// The layers that an image is mounted from, the topmost first.
#[must_use]
pub fn layers(rootfs: &types::Mount) -> Vec<PathBuf> {
    rootfs.options.iter().filter_map(|option| option.strip_prefix("lowerdir=").map(PathBuf::from)).collect()
}

/// What the services answered, in the order of the plan.
#[derive(Debug, Clone, Default)]
pub struct Held {
    /// Volumes as they are mounted, and what they are.
    pub volumes: PrepareResponse,
    /// Further images.
    pub images: Vec<MountedImage>,
}

/// What each mount of the plan came to, for those who ask.
#[must_use]
pub fn statuses(plan: &[Wanted], held: &Held) -> Vec<MountStatus> {
    let mut volumes = held.volumes.volumes.iter().zip(&held.volumes.mounts);
    let mut images = held.images.iter();
    plan.iter()
        .map(|mount| {
            let mut status = MountStatus {
                target: mount.target.clone(),
                read_only: mount.read_only,
                of_image: mount.of_image,
                ..MountStatus::default()
            };
            match &mount.what {
                What::Bind { source, propagation, .. } => {
                    status.set_kind(MountKind::Bind);
                    status.source.clone_from(source);
                    status.propagation.clone_from(propagation);
                }
                What::Volume { name, subpath, .. } => {
                    status.set_kind(MountKind::Volume);
                    status.name.clone_from(name);
                    status.subpath.clone_from(subpath);
                    status.anonymous = name.is_empty();
                    if let Some((volume, mounted)) = volumes.next() {
                        status.name.clone_from(&volume.name);
                        status.driver.clone_from(&volume.driver);
                        status.source.clone_from(&mounted.source);
                    }
                }
                What::Tmpfs { .. } => status.set_kind(MountKind::Tmpfs),
                What::Image { reference, subpath } => {
                    status.set_kind(MountKind::Image);
                    status.source.clone_from(reference);
                    status.subpath.clone_from(subpath);
                    if let Some(image) = images.next() {
                        status.image_id.clone_from(&image.image_id);
                    }
                }
            }
            status
        })
        .collect()
}

/// The plan as mounts, shallow targets first, so that none hides another.
///
/// # Errors
/// When the services answered with less than there is in the plan.
pub fn resolved(plan: &[Wanted], held: &Held) -> Result<Vec<types::Mount>, Error> {
    let mut volumes = held.volumes.mounts.iter();
    let mut images = held.images.iter();
    let missing = |service: &str, wanted: &Wanted| {
        Error::Host(format!("the {service} service prepared nothing for {}", wanted.target))
    };
    let mut mounts = Vec::with_capacity(plan.len());
    for wanted in plan {
        mounts.push(match &wanted.what {
            What::Bind { source, propagation, idmap, recursive, .. } => {
                let bind = if *recursive == Recursive::Disabled { "bind" } else { "rbind" };
                let mut options = vec![bind.to_owned(), propagation.clone()];
                if *idmap {
                    options.push(IDMAP.to_owned());
                }
                if wanted.read_only {
                    options.push(if *recursive == Recursive::Writable { "ro" } else { READ_ONLY }.to_owned());
                }
                mount("bind", source, &wanted.target, options)
            }
            What::Volume { subpath, .. } => {
                let prepared = volumes.next().ok_or_else(|| missing("volume", wanted))?;
                volume_mount(wanted, prepared, subpath)
            }
            What::Tmpfs { options } => mount("tmpfs", "tmpfs", &wanted.target, options.clone()),
            What::Image { subpath, .. } => {
                let prepared = images.next().and_then(|image| image.rootfs.as_ref());
                let mut options = prepared.ok_or_else(|| missing("image", wanted))?.options.clone();
                options.extend([READ_ONLY, "nosuid", "nodev", IDMAP].map(str::to_owned));
                options.extend(part(subpath));
                mount("overlay", "overlay", &wanted.target, options)
            }
        });
    }
    mounts.sort_by_key(|mount| depth(&mount.target));
    Ok(mounts)
}

fn volume_mount(wanted: &Wanted, prepared: &types::Mount, subpath: &str) -> types::Mount {
    let mut options = prepared.options.clone();
    let read_only = wanted.read_only || options.iter().any(|option| option == "ro");
    options.retain(|option| option != "ro");
    let read_only = read_only.then_some(if prepared.r#type == "bind" { READ_ONLY } else { "ro" });
    // A volume outlives its container and another may use it: no program in it gains rights.
    // And its files have the numbers of whoever uses it.
    let mapped = (prepared.r#type == "bind").then_some(IDMAP);
    for needed in ["nosuid", "nodev"].into_iter().chain(read_only).chain(mapped) {
        if !options.iter().any(|option| option == needed) {
            options.push(needed.to_owned());
        }
    }
    options.extend(part(subpath));
    mount(&prepared.r#type, &prepared.source, &wanted.target, options)
}

/// The option by which whoever mounts knows what of a source is wanted.
fn part(subpath: &str) -> Option<String> {
    (!subpath.is_empty()).then(|| format!("x-davit-subpath={subpath}"))
}

fn mount(kind: &str, source: &str, target: &str, options: Vec<String>) -> types::Mount {
    types::Mount { r#type: kind.to_owned(), source: source.to_owned(), target: target.to_owned(), options }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::spec::{ImageConfig, mounts};
    use davit_proto::container::{ContainerSpec, MountSpec};

    fn spec(kind: MountKind, source: &str, target: &str) -> MountSpec {
        let mut mount = MountSpec { source: source.into(), target: target.into(), ..Default::default() };
        mount.set_kind(kind);
        mount
    }

    fn plan_of(mounts: Vec<MountSpec>) -> Result<Vec<Wanted>, Error> {
        mounts::plan(&ContainerSpec { mounts, ..Default::default() }, &ImageConfig::default())
    }

    fn answered(mounts: Vec<types::Mount>) -> Held {
        Held { volumes: PrepareResponse { mounts, ..PrepareResponse::default() }, ..Held::default() }
    }

    fn shown(mounts: &[types::Mount]) -> Vec<String> {
        mounts.iter().map(|m| format!("{}:{}:{}", m.source, m.target, m.options.join(","))).collect()
    }

    #[test]
    fn nested_targets_come_after_their_parents() {
        let plan = plan_of(vec![
            spec(MountKind::Bind, "/b", "/a/b/c"),
            spec(MountKind::Volume, "v", "/a"),
            MountSpec { read_only: true, ..spec(MountKind::Volume, "", "/z") },
        ])
        .unwrap();
        let answer = |source: &str| mount("bind", source, "/ignored", vec!["rbind".into()]);
        let mounts = resolved(&plan, &answered(vec![answer("/1"), answer("/2")])).unwrap();
        let shown: Vec<_> =
            mounts.iter().map(|m| format!("{}:{}:{}", m.source, m.target, m.options.join(","))).collect();
        assert_eq!(
            shown,
            [
                "/1:/a:rbind,nosuid,nodev,idmap",
                "/2:/z:rbind,nosuid,nodev,rro,idmap",
                "/b:/a/b/c:rbind,rprivate"
            ]
        );
        assert!(resolved(&plan, &answered(vec![answer("/1")])).is_err());
    }

    #[test]
    fn what_is_below_a_bind_is_as_it_was_asked() {
        let bind = |recursive: &str, target: &str| MountSpec {
            recursive: recursive.into(),
            read_only: true,
            ..spec(MountKind::Bind, "/s", target)
        };
        let plan = plan_of(vec![bind("", "/a"), bind("disabled", "/b"), bind("writable", "/c")]).unwrap();
        assert_eq!(
            shown(&resolved(&plan, &Held::default()).unwrap()),
            ["/s:/a:rbind,rprivate,rro", "/s:/b:bind,rprivate,rro", "/s:/c:rbind,rprivate,ro"]
        );
        for wrong in [
            MountSpec { recursive: "readonly".into(), ..spec(MountKind::Bind, "/s", "/a") },
            MountSpec { recursive: "odd".into(), ..spec(MountKind::Bind, "/s", "/a") },
            MountSpec { propagation: "rslave".into(), ..bind("readonly", "/a") },
            MountSpec { recursive: "disabled".into(), ..spec(MountKind::Volume, "v", "/a") },
        ] {
            assert!(plan_of(vec![wrong.clone()]).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn parts_of_volumes_and_images_are_named_to_whoever_mounts() {
        let volume = MountSpec { subpath: "a/b".into(), ..spec(MountKind::Volume, "v", "/v") };
        let image = MountSpec { subpath: "etc".into(), ..spec(MountKind::Image, "busybox", "/i") };
        let plan = plan_of(vec![volume, image]).unwrap();
        assert_eq!((uses(&plan).len(), images(&plan)), (1, vec!["busybox".to_owned()]));
        assert!(plan[1].read_only, "an image always is");
        let mut held = answered(vec![mount("bind", "/1", "", vec!["rbind".into()])]);
        assert!(resolved(&plan, &held).is_err(), "the image is missing");
        let rootfs = mount("overlay", "overlay", "/", vec!["lowerdir=/l".into()]);
        held.images = vec![MountedImage { rootfs: Some(rootfs), ..MountedImage::default() }];
        assert_eq!(
            shown(&resolved(&plan, &held).unwrap()),
            [
                "/1:/v:rbind,nosuid,nodev,idmap,x-davit-subpath=a/b",
                "overlay:/i:lowerdir=/l,rro,nosuid,nodev,idmap,x-davit-subpath=etc"
            ]
        );
    }
}
