//! Limits on v1 hierarchies.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;

use super::{CgroupError, DevicePolicy, Doing, Layout, Legacy, Limits, counter};

/// Makes a cgroup and those above it in one hierarchy, or finds them made.
pub(super) fn make(hierarchy: &Legacy, parent: &[String], name: &str) -> Result<PathBuf, CgroupError> {
    let mut dir = hierarchy.at.clone();
    for component in parent.iter().map(String::as_str).chain([name]) {
        dir.push(component);
        match fs::create_dir(&dir) {
            Ok(()) if hierarchy.controllers.iter().any(|c| c == "cpuset") => inherit_cpuset(&dir)?,
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e).doing(|| format!("make cgroup {}", dir.display())),
        }
    }
    Ok(dir)
}

/// A new cpuset is empty and takes no process; it gets what its parent has, and hands it on to its own children.
fn inherit_cpuset(dir: &Path) -> Result<(), CgroupError> {
    let doing = || format!("set up cpuset {}", dir.display());
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let own = fs::read_to_string(dir.join(file)).doing(doing)?;
        if !own.trim().is_empty() {
            continue;
        }
        let above = dir.parent().unwrap_or(dir).join(file);
        let value = fs::read_to_string(above).doing(doing)?;
        write(&dir.join(file), value.trim())?;
    }
    write(&dir.join("cgroup.clone_children"), "1")
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

    fn dir(&self, controller: &str) -> Option<&Path> {
        self.dirs.iter().find(|(names, _)| names.iter().any(|n| n == controller)).map(|(_, d)| d.as_path())
    }

    fn set_devices(&self, policy: &DevicePolicy) -> Result<Vec<String>, CgroupError> {
        let Some(dir) = self.dir("devices") else {
            return Ok(vec!["this host cannot limit devices".to_owned()]);
        };
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
        Ok(Vec::new())
    }
}

impl Limits for Controllers {
    fn set(&self, resources: &LinuxResources, devices: &DevicePolicy) -> Result<Vec<String>, CgroupError> {
        let mut warnings = self.set_devices(devices)?;
        for Write1 { controller, file, value } in plan_writes(resources) {
            let Some(dir) = self.dir(controller) else {
                warnings.push(format!("this host has no {controller} controller: {file} is not limited"));
                continue;
            };
            match write(&dir.join(file), &value) {
                Err(CgroupError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    warnings.push(format!("this host knows no {file}: it is not limited"));
                }
                other => other?,
            }
        }
        Ok(warnings)
    }

    fn oom_kills(&self) -> Result<u64, CgroupError> {
        let Some(dir) = self.dir("memory") else { return Ok(0) };
        let path = dir.join("memory.oom_control");
        let text = fs::read_to_string(&path).doing(|| format!("read {}", path.display()))?;
        Ok(counter(&text, "oom_kill").unwrap_or(0))
    }

    fn memory_limit(&self) -> Result<Option<u64>, CgroupError> {
        let Some(dir) = self.dir("memory") else { return Ok(None) };
        let path = dir.join("memory.limit_in_bytes");
        let text = fs::read_to_string(&path).doing(|| format!("read {}", path.display()))?;
        Ok(text.trim().parse().ok().filter(|limit| *limit < UNLIMITED))
    }
}

/// What the kernel shows without a limit, less the page that it rounds down to: the largest signed number.
const UNLIMITED: u64 = (i64::MAX as u64) & !0xffff;

/// One value for one file.
#[derive(Debug, PartialEq, Eq)]
struct Write1 {
    controller: &'static str,
    file: &'static str,
    value: String,
}

/// What to write, in the order in which the kernel takes it.
fn plan_writes(resources: &LinuxResources) -> Vec<Write1> {
    let mut writes = Vec::new();
    let mut add = |controller, file, value: Option<String>| {
        if let Some(value) = value {
            writes.push(Write1 { controller, file, value });
        }
    };
    if let Some(memory) = resources.memory() {
        let size = |n: Option<i64>| n.filter(|n| *n != 0).map(|n| n.to_string());
        add("memory", "memory.limit_in_bytes", size(memory.limit()));
        // Memory and swap together may not be less than memory, so it comes second.
        add("memory", "memory.memsw.limit_in_bytes", size(memory.swap()));
        add("memory", "memory.soft_limit_in_bytes", size(memory.reservation()));
        add("memory", "memory.swappiness", memory.swappiness().map(|n| n.to_string()));
        let disable = memory.disable_oom_killer().filter(|disable| *disable);
        add("memory", "memory.oom_control", disable.map(|_| "1".to_owned()));
    }
    if let Some(cpu) = resources.cpu() {
        let number = |n: Option<u64>| n.filter(|n| *n != 0).map(|n| n.to_string());
        let signed = |n: Option<i64>| n.filter(|n| *n != 0).map(|n| n.to_string());
        let list = |l: &Option<String>| l.clone().filter(|l| !l.is_empty());
        add("cpu", "cpu.shares", number(cpu.shares()));
        add("cpu", "cpu.cfs_period_us", number(cpu.period()));
        add("cpu", "cpu.cfs_quota_us", signed(cpu.quota()));
        add("cpu", "cpu.rt_period_us", number(cpu.realtime_period()));
        add("cpu", "cpu.rt_runtime_us", signed(cpu.realtime_runtime()));
        add("cpuset", "cpuset.cpus", list(cpu.cpus()));
        add("cpuset", "cpuset.mems", list(cpu.mems()));
    }
    if let Some(pids) = resources.pids() {
        let limit = if pids.limit() > 0 { pids.limit().to_string() } else { "max".to_owned() };
        add("pids", "pids.max", Some(limit));
    }
    writes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_ordered_and_complete() {
        let resources: LinuxResources = serde_json::from_str(
            r#"{"memory":{"limit":1000,"swap":2000,"swappiness":0},"pids":{"limit":4096},
                "cpu":{"shares":512,"quota":50000,"period":100000,"cpus":"0-1"}}"#,
        )
        .unwrap();
        let seen: Vec<_> =
            plan_writes(&resources).into_iter().map(|w| format!("{}={}", w.file, w.value)).collect();
        assert_eq!(
            seen,
            [
                "memory.limit_in_bytes=1000",
                "memory.memsw.limit_in_bytes=2000",
                "memory.swappiness=0",
                "cpu.shares=512",
                "cpu.cfs_period_us=100000",
                "cpu.cfs_quota_us=50000",
                "cpuset.cpus=0-1",
                "pids.max=4096"
            ]
        );
        let unlimited: LinuxResources = serde_json::from_str(r#"{"pids":{"limit":-1}}"#).unwrap();
        assert_eq!(plan_writes(&unlimited)[0].value, "max");
    }
}
