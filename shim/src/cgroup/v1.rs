//! Limits on v1 hierarchies.

mod plan;
mod stat;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;

use super::oom::OomWatch;
use super::{CgroupError, Counters, DevicePolicy, Doing, Layout, Legacy, Limits, counter};
use plan::{Present, Write1, plan_writes};

/// Makes a cgroup and those above it in one hierarchy, or finds them made.
pub(super) fn make(hierarchy: &Legacy, parent: &[String], name: &str) -> Result<PathBuf, CgroupError> {
    let mut dir = hierarchy.at.clone();
    for component in parent.iter().map(String::as_str).chain([name]) {
        dir.push(component);
        match fs::create_dir(&dir) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e).doing(|| format!("make cgroup {}", dir.display())),
        }
        // Also one that is there: who made it at this very moment may not have come to this yet.
        if hierarchy.controllers.iter().any(|c| c == "cpuset") {
            inherit_cpuset(&dir)?;
        }
    }
    Ok(dir)
}

/// A new cpuset is empty and takes no process; it gets what its parent has, and hands it on to its own children.
fn inherit_cpuset(dir: &Path) -> Result<(), CgroupError> {
    let doing = || format!("set up cpuset {}", dir.display());
    let mut was_empty = false;
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let own = fs::read_to_string(dir.join(file)).doing(doing)?;
        if !own.trim().is_empty() {
            continue;
        }
        was_empty = true;
        let above = dir.parent().unwrap_or(dir).join(file);
        let value = fs::read_to_string(above).doing(doing)?;
        write(&dir.join(file), value.trim())?;
    }
    if was_empty { write(&dir.join("cgroup.clone_children"), "1") } else { Ok(()) }
}

fn write(path: &Path, value: &str) -> Result<(), CgroupError> {
    let opened = fs::OpenOptions::new().write(true).open(path);
    let written = opened.and_then(|mut f| f.write_all(value.as_bytes()));
    written.doing(|| format!("write {value:?} to {}", path.display()))
}

/// Removes a cgroup and those below it.
pub(super) fn remove_tree(dir: &Path) -> Result<(), CgroupError> {
    let doing = || format!("remove cgroup {}", dir.display());
    match fs::remove_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::ResourceBusy => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => return other.doing(doing),
    }
    for entry in fs::read_dir(dir).doing(doing)? {
        let entry = entry.doing(doing)?;
        if entry.file_type().doing(doing)?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(dir).doing(doing)
}

/// The directories of one container, by controller.
#[derive(Debug)]
pub(super) struct Controllers {
    dirs: Vec<(Vec<String>, PathBuf)>,
}

impl Controllers {
    /// `dirs` are in the layout's order.
    pub(super) fn new(layout: &Layout, dirs: &[PathBuf]) -> Self {
        let names = layout.legacy.iter().map(|l| l.controllers.clone());
        Self { dirs: names.zip(dirs.iter().cloned()).collect() }
    }

    pub(super) fn dir(&self, controller: &str) -> Option<&Path> {
        self.dirs.iter().find(|(names, _)| names.iter().any(|n| n == controller)).map(|(_, d)| d.as_path())
    }
}

/// Sets which devices may be opened, in a cgroup of the devices hierarchy.
pub(super) fn set_devices(dir: &Path, policy: &DevicePolicy) -> Result<(), CgroupError> {
    let open = |file: &str| {
        let path = dir.join(file);
        fs::OpenOptions::new().write(true).open(&path).doing(|| format!("open {}", path.display()))
    };
    let (mut allow, mut deny) = (open("devices.allow")?, open("devices.deny")?);
    for rule in policy.v1_writes() {
        let file = if rule.allow { &mut allow } else { &mut deny };
        // One write a rule: the kernel reads no second line.
        file.write_all(rule.text.as_bytes()).doing(|| format!("set device rule {:?}", rule.text))?;
    }
    Ok(())
}

impl Controllers {
    /// Writes limits, and says in words what this host has no limit for.
    fn write_limits(&self, resources: &LinuxResources, present: Present) -> Result<Vec<String>, CgroupError> {
        let mut missing = Vec::new();
        for write in plan_writes(resources, present) {
            let found = self
                .dir(write.controller)
                .and_then(|dir| write.files.iter().map(|file| dir.join(file)).find(|path| path.exists()));
            match found {
                Some(path) => self::write(&path, &write.value).map_err(|e| self.explain(e, &write))?,
                None => write.need.missing(write.files, &write.value, &mut missing)?,
            }
        }
        Ok(missing)
    }

    /// What is set already.
    fn present(&self) -> Present {
        let number = |controller, file| -> Option<i64> {
            fs::read_to_string(self.dir(controller)?.join(file)).ok()?.trim().parse().ok()
        };
        let both = number("memory", "memory.memsw.limit_in_bytes");
        Present {
            memory_and_swap: both.and_then(|n| u64::try_from(n).ok()),
            has_quota: number("cpu", "cpu.cfs_quota_us").is_some_and(|quota| quota > 0),
        }
    }

    /// The kernel takes back what it can before it says that memory is busy.
    fn explain(&self, error: CgroupError, write: &Write1) -> CgroupError {
        let busy = matches!(&error, CgroupError::Io { source, .. }
            if source.kind() == io::ErrorKind::ResourceBusy);
        match (self.read_counters(), write.value.parse()) {
            (Ok(counters), Ok(limit)) if busy && write.controller == "memory" => {
                CgroupError::InUse { limit, used: counters.memory }
            }
            _ => error.of_limit(),
        }
    }
}

impl Limits for Controllers {
    fn set(&self, resources: &LinuxResources) -> Result<Vec<String>, CgroupError> {
        self.write_limits(resources, self.present())
    }

    fn oom_kills(&self) -> Result<u64, CgroupError> {
        let Some(dir) = self.dir("memory") else { return Ok(0) };
        let path = dir.join("memory.oom_control");
        let text = fs::read_to_string(&path).doing(|| format!("read {}", path.display()))?;
        Ok(counter(&text, "oom_kill").unwrap_or(0))
    }

    fn watch_oom(&self) -> Result<Option<OomWatch>, CgroupError> {
        self.dir("memory").map(OomWatch::legacy).transpose()
    }

    fn counters(&self) -> Result<Counters, CgroupError> {
        self.read_counters()
    }
}
