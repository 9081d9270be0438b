//! Limits on the unified hierarchy.

mod plan;
mod stat;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use oci_spec::runtime::LinuxResources;

use super::dir::Dir;
use super::oom::OomWatch;
use super::{CgroupError, Counters, DevicePolicy, Doing, Limits, counter};
use plan::plan_writes;
use stat::read_counters;

/// The controllers that containers are limited by.
const WANTED: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];

/// Makes the cgroup above shims and containers, with the controllers handed down on the way.
pub(super) fn make_parent(root: &Dir, parent: &[String]) -> Result<Dir, CgroupError> {
    let mut dir = root.try_clone()?;
    hand_down(&dir)?;
    for component in parent {
        dir = dir.make(component)?;
        hand_down(&dir)?;
    }
    Ok(dir)
}

/// Lets children use the controllers that this cgroup has.
fn hand_down(dir: &Dir) -> Result<(), CgroupError> {
    let has = dir.read("cgroup.controllers")?;
    let given = dir.read("cgroup.subtree_control")?;
    for controller in WANTED {
        let named = |list: &str| list.split_ascii_whitespace().any(|c| c == controller);
        if named(&has) && !named(&given) {
            dir.write("cgroup.subtree_control", &format!("+{controller}"))?;
        }
    }
    Ok(())
}

/// The limits of one container.
#[derive(Debug)]
pub(super) struct Controllers {
    dir: Dir,
}

impl Controllers {
    pub(super) fn new(dir: Dir) -> Self {
        Self { dir }
    }

    fn has(&self, file: &str) -> Result<bool, CgroupError> {
        self.dir.has(file)
    }

    /// v2 kills at once where a limit is set below what is in use. So it is asked for the memory first, and when it
    /// cannot give enough back, nothing is changed.
    fn make_room(&self, limit: u64) -> Result<(), CgroupError> {
        let used = || -> Result<u64, CgroupError> {
            Ok(self.dir.read("memory.current")?.trim().parse().unwrap_or(0))
        };
        if used()? <= limit {
            return Ok(());
        }
        let before = self.dir.read("memory.high")?;
        self.dir.write("memory.high", &limit.to_string())?;
        let left = used();
        self.dir.write("memory.high", before.trim())?;
        match left? {
            used if used > limit => Err(CgroupError::InUse { limit, used }),
            _ => Ok(()),
        }
    }
}

impl Limits for Controllers {
    fn set(&self, resources: &LinuxResources) -> Result<Vec<String>, CgroupError> {
        let limit = resources.memory().and_then(|memory| u64::try_from(memory.limit()?).ok());
        if let Some(limit) = limit.filter(|limit| *limit != 0)
            && self.has("memory.high")?
        {
            self.make_room(limit)?;
        }
        let mut missing = Vec::new();
        for write in plan_writes(resources) {
            let mut found = None;
            for (file, value) in &write.choices {
                if found.is_none() && self.has(file)? {
                    found = Some((file, value));
                }
            }
            match found {
                Some((file, value)) => self.dir.write(file, value).map_err(CgroupError::of_limit)?,
                None => {
                    let files: Vec<_> = write.choices.iter().map(|(file, _)| file.as_str()).collect();
                    let value = write.choices.first().map_or("", |(_, value)| value.as_str());
                    write.need.missing(&files, value, &mut missing)?;
                }
            }
        }
        Ok(missing)
    }

    fn oom_kills(&self) -> Result<u64, CgroupError> {
        match self.dir.read("memory.events") {
            Ok(text) => Ok(counter(&text, "oom_kill").unwrap_or(0)),
            Err(CgroupError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(e) => Err(e),
        }
    }

    fn watch_oom(&self) -> Result<Option<OomWatch>, CgroupError> {
        if self.has("memory.events")? { OomWatch::unified(&self.dir).map(Some) } else { Ok(None) }
    }

    fn counters(&self) -> Result<Counters, CgroupError> {
        read_counters(&self.dir)
    }
}

/// What lets devices pass or not: a filter on a cgroup.
#[derive(Debug)]
pub(super) struct Gate {
    dir: Dir,
    filtered: AtomicBool,
}

impl Gate {
    pub(super) fn new(dir: Dir) -> Self {
        Self { dir, filtered: AtomicBool::new(false) }
    }

    /// Filters add up, and a later life of the same container has the same one.
    pub(super) fn set(&self, policy: &DevicePolicy) -> Result<(), CgroupError> {
        let Some(filter) = policy.v2_filter() else { return Ok(()) };
        if self.filtered.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        filter.attach(&self.dir).doing(|| "filter devices".to_owned())
    }
}
