//! `Prepare`: a container begins to use volumes.
//!
//! The use is recorded before a volume is made or mounted: a crash between leaves a use of nothing, which Release ends.

use std::collections::{BTreeMap, BTreeSet};

use davit_proto::id::{ContainerId, Name};

use crate::error::Error;
use crate::failpoint::{self, pass};
use crate::options::Options;
use crate::usage::Uses;
use crate::volume::{Volume, Wanted};
use crate::volumes::Volumes;

/// Volumes that one container may use.
pub const MAX_USES: usize = 1024;
/// Longest path inside a container.
const MAX_TARGET: usize = 4095;

/// One volume that a container wants.
#[derive(Debug, Clone)]
pub struct Use {
    /// Its name; none for a new one without a name.
    pub name: Option<Name>,
    /// Where the container sees it.
    pub target: Target,
    /// The container may not write to it.
    pub read_only: bool,
    /// Driver of one that has to be made; empty for local.
    pub driver: String,
    /// Options of one that has to be made.
    pub options: Options,
    /// Labels of one that has to be made.
    pub labels: BTreeMap<String, String>,
}

/// An absolute path inside a container that is not its root.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target(String);

impl Target {
    /// The path.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Target {
    type Error = Error;
    fn try_from(path: String) -> Result<Self, Error> {
        let names = path.split('/').filter(|part| !part.is_empty() && *part != ".").count();
        let rule = if !path.starts_with('/') || names == 0 {
            "must be an absolute path inside the container, and not its root"
        } else if path.contains('\0') || path.split('/').any(|part| part == "..") {
            "may not hold NUL or '..'"
        } else if path.len() > MAX_TARGET {
            "may have 4095 bytes"
        } else {
            return Ok(Self(path));
        };
        Err(Error::Invalid { field: "target", value: path.chars().take(200).collect(), rule })
    }
}

/// What a use became.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The volume.
    pub volume: Volume,
    /// Where the container sees it.
    pub target: Target,
    /// The container may not write to it.
    pub read_only: bool,
}

impl Volumes {
    /// Records the uses, makes the volumes that are not there, and answers in the order of the request.
    pub fn prepare(&self, container_id: &ContainerId, wanted: Vec<Use>) -> Result<Vec<Prepared>, Error> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let plan = {
            let mut state = self.state();
            let known = state.usage.of(container_id).cloned().unwrap_or_else(Uses::none);
            let plan = plan(known, &wanted)?;
            state.usage.record(container_id, plan.uses.clone())?;
            plan
        };
        pass(failpoint::RECORDED)?;
        let mut prepared = Vec::with_capacity(wanted.len());
        for (use_, volume) in wanted.into_iter().zip(plan.volumes) {
            let volume = self.ready(volume, container_id.as_str())?;
            prepared.push(Prepared { volume, target: use_.target, read_only: use_.read_only });
        }
        pass(failpoint::READY)?;
        Ok(prepared)
    }

    /// Has all that a container uses mounted again. One that uses nothing, or no longer, is none the wiser.
    pub fn remount(&self, container_id: &ContainerId) -> Result<(), Error> {
        let names: BTreeSet<Name> = match self.state().usage.of(container_id) {
            Some(uses) => uses.by_target.values().cloned().collect(),
            None => return Ok(()),
        };
        for name in names {
            let known = self.state().records.get(&name).is_some_and(|record| !record.is_plain());
            if known {
                self.ready(Wanted::named(name), container_id.as_str())?;
            }
        }
        Ok(())
    }
}

/// What is to be recorded and to exist.
struct Plan {
    uses: Uses,
    volumes: Vec<Wanted>,
}

/// Finds a volume for each use. One without a name keeps the volume that the container had at this path before.
/// Earlier uses stay: only Release ends a use.
fn plan(mut uses: Uses, wanted: &[Use]) -> Result<Plan, Error> {
    if wanted.len() > MAX_USES {
        return Err(Error::Invalid {
            field: "uses",
            value: wanted.len().to_string(),
            rule: "a container may use 1024 volumes",
        });
    }
    let mut seen = BTreeMap::new();
    let mut volumes = Vec::with_capacity(wanted.len());
    for use_ in wanted {
        let target = use_.target.as_str().to_owned();
        if seen.insert(target.clone(), ()).is_some() {
            return Err(Error::Invalid { field: "target", value: target, rule: "may be given once" });
        }
        let asked = |volume: Wanted| -> Result<Wanted, Error> {
            volume.driven(use_.driver.clone(), use_.options.clone()).labelled(use_.labels.clone())
        };
        let volume = match (&use_.name, uses.by_target.get(&target)) {
            // In later lives the container knows the name of a volume that it did not name.
            (Some(name), Some(had)) if name == had => asked(Wanted::named(name.clone()))?,
            (Some(name), _) => {
                uses.called.insert(target.clone());
                asked(Wanted::named(name.clone()))?
            }
            (None, Some(had)) => asked(Wanted { anonymous: true, ..Wanted::named(had.clone()) })?,
            (None, None) => asked(Wanted::anonymous()?)?,
        };
        uses.by_target.insert(target, volume.name.clone());
        volumes.push(volume);
    }
    Ok(Plan { uses, volumes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn use_(name: &str, target: &str) -> Use {
        let name = (!name.is_empty()).then(|| name.parse().unwrap());
        Use {
            name,
            target: target.to_owned().try_into().unwrap(),
            read_only: false,
            driver: String::new(),
            options: Options::new(),
            labels: BTreeMap::new(),
        }
    }

    #[test]
    fn targets_are_absolute_and_plain() {
        for good in ["/data", "/a/b", "/ü", "/a/./b", "//a"] {
            assert!(Target::try_from(good.to_owned()).is_ok(), "{good}");
        }
        for bad in ["", "/", "//", "/.", "data", "/a/../b", "/a\0b", &format!("/{}", "x".repeat(4096))] {
            assert!(Target::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_volume_without_a_name_is_chosen_once() {
        let first = plan(Uses::none(), &[use_("", "/a"), use_("db", "/b")]).unwrap();
        assert_eq!(first.volumes[0].name.as_str().len(), 64);
        assert!(first.volumes[0].anonymous && !first.volumes[1].anonymous);
        let again = plan(first.uses.clone(), &[use_("db", "/b"), use_("", "/a")]).unwrap();
        assert_eq!(again.uses, first.uses);
        assert_eq!(again.volumes[1].name, first.volumes[0].name);
        assert!(plan(Uses::none(), &[use_("x", "/a"), use_("y", "/a")]).is_err());
        assert!(again.uses.called.contains("/b") && again.uses.called.len() == 1);
        let later = plan(again.uses.clone(), &[use_(first.volumes[0].name.as_str(), "/a")]).unwrap();
        assert!(!later.uses.called.contains("/a"), "it is told its own volume's name");
    }
}
