//! `--volumes-from`: a container sees what another one mounts, at the same paths.
//!
//! What it takes is written down when it is made: later changes of the other container are not its own, and it goes on
//! when that one is gone. A mount of its own at the same path comes first; so does that of a container named earlier.

use std::collections::BTreeSet;

use davit_proto::container::{Container, ContainerSpec, MountKind, MountSpec, MountStatus};

use super::spec::Error as Wrong;
use super::spec::path::clean;
use crate::engine::Engine;
use crate::error::Error;

/// Containers that one container may take volumes from.
const LIMIT: usize = 64;

/// Which container, and whether its mounts may be written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source<'a> {
    /// Its name or id.
    pub container: &'a str,
    /// Nothing of it may be written to.
    pub read_only: bool,
}

/// Reads `NAME`, `NAME:ro` or `NAME:rw`.
///
/// # Errors
/// When it is none of them.
pub fn parse(text: &str) -> Result<Source<'_>, Wrong> {
    let refuse = |rule: &str| Wrong::invalid("volumes_from", text, rule.to_owned());
    let (container, mode) = text.split_once(':').unwrap_or((text, "rw"));
    if container.is_empty() {
        return Err(refuse("must name a container: NAME, NAME:ro or NAME:rw"));
    }
    match mode {
        "rw" | "ro" => Ok(Source { container, read_only: mode == "ro" }),
        _ => Err(refuse("the mode must be ro or rw")),
    }
}

/// Checks what is asked for, before any container is looked for.
///
/// # Errors
/// With the first thing that is wrong.
pub fn check(spec: &ContainerSpec) -> Result<(), Wrong> {
    if spec.volumes_from.len() > LIMIT {
        let rule = format!("at most {LIMIT} containers");
        return Err(Wrong::invalid("volumes_from", &spec.volumes_from.len().to_string(), rule));
    }
    if let Some(mount) = spec.mounts.iter().find(|mount| !mount.taken_from.is_empty()) {
        let rule = "is the engine's to say: use volumes_from".to_owned();
        return Err(Wrong::invalid("mounts.taken_from", &mount.taken_from, rule));
    }
    spec.volumes_from.iter().try_for_each(|text| parse(text).map(drop))
}

/// Adds to a request's mounts those of the containers that it takes volumes from.
///
/// # Errors
/// When one of them is not there.
pub fn take(engine: &Engine, spec: &mut ContainerSpec) -> Result<(), Error> {
    let mut targets = spec
        .mounts
        .iter()
        .map(|mount| clean("mounts.target", &mount.target))
        .collect::<Result<BTreeSet<_>, _>>()?;
    for text in spec.volumes_from.clone() {
        let source = parse(&text)?;
        let owner = engine.container(&engine.find(source.container)?)?;
        for mount in lent(&owner, source.read_only) {
            if targets.insert(mount.target.clone()) {
                spec.mounts.push(mount);
            }
        }
    }
    Ok(())
}

/// What a container mounts, as others may mount it. Memory is nobody else's.
fn lent(owner: &Container, read_only: bool) -> Vec<MountSpec> {
    let asked = owner.spec.as_ref().map(|spec| spec.mounts.as_slice()).unwrap_or_default();
    let status = owner.status.as_ref().map(|status| status.mounts.as_slice()).unwrap_or_default();
    let mounts = status.iter().filter_map(|mount| {
        let source = match mount.kind() {
            MountKind::Bind => &mount.source,
            MountKind::Volume => &mount.name,
            MountKind::Unspecified | MountKind::Tmpfs | MountKind::Image => return None,
        };
        let same = |asked: &&MountSpec| is_at(asked, mount);
        let asked = asked.iter().find(same).cloned().unwrap_or_default();
        let mut lent = MountSpec {
            source: source.clone(),
            target: mount.target.clone(),
            read_only: read_only || mount.read_only,
            propagation: mount.propagation.clone(),
            // The folder was there; when it is not now, that is told and not made.
            create_source: false,
            // A volume that somebody has is not filled for the sake of another image.
            no_copy: mount.kind() == MountKind::Volume,
            taken_from: owner.id.clone(),
            ..asked
        };
        lent.set_kind(mount.kind());
        Some(lent)
    });
    mounts.collect()
}

fn is_at(asked: &MountSpec, mount: &MountStatus) -> bool {
    clean("mounts.target", &asked.target).is_ok_and(|target| target == mount.target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use davit_proto::container::ContainerStatus;

    #[test]
    fn sources_are_a_name_and_a_mode() {
        assert_eq!(parse("data").unwrap(), Source { container: "data", read_only: false });
        assert_eq!(parse("data:rw").unwrap(), Source { container: "data", read_only: false });
        assert_eq!(parse("data:ro").unwrap(), Source { container: "data", read_only: true });
        for wrong in ["", ":ro", "data:", "data:z", "data:ro:rw"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_lent_is_what_it_came_to() {
        let status = |kind: MountKind, name: &str, source: &str, target: &str| MountStatus {
            kind: kind.into(),
            name: name.into(),
            source: source.into(),
            target: target.into(),
            ..MountStatus::default()
        };
        let asked =
            MountSpec { target: "/bind/".into(), idmap: true, create_source: true, ..Default::default() };
        let owner = Container {
            id: "id".into(),
            spec: Some(ContainerSpec { mounts: vec![asked], ..Default::default() }),
            status: Some(ContainerStatus {
                mounts: vec![
                    status(MountKind::Bind, "", "/srv", "/bind"),
                    status(MountKind::Volume, "abc", "/var/lib/davit/volume/abc/data", "/anonymous"),
                    status(MountKind::Tmpfs, "", "", "/tmp"),
                ],
                ..Default::default()
            }),
            ..Default::default()
        };
        let lent = lent(&owner, true);
        let shown: Vec<_> = lent.iter().map(|m| (m.kind(), m.source.as_str(), m.target.as_str())).collect();
        assert_eq!(shown, [(MountKind::Bind, "/srv", "/bind"), (MountKind::Volume, "abc", "/anonymous")]);
        assert!(lent.iter().all(|mount| mount.read_only && mount.taken_from == "id" && !mount.create_source));
        assert!(lent[0].idmap, "what it asked for beyond that is lent too");
    }
}
