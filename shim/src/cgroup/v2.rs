//! Limits on the unified hierarchy.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use oci_spec::runtime::LinuxResources;

use super::dir::Dir;
use super::{CgroupError, DevicePolicy, Doing, Limits, counter};

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

/// The cgroup of one container.
#[derive(Debug)]
pub(super) struct Controllers {
    dir: Dir,
    filtered: AtomicBool,
}

impl Controllers {
    pub(super) fn new(dir: Dir) -> Self {
        Self { dir, filtered: AtomicBool::new(false) }
    }

    /// Filters add up, and a later life of the same container has the same one.
    fn filter_devices(&self, devices: &DevicePolicy) -> Result<(), CgroupError> {
        let Some(filter) = devices.v2_filter() else { return Ok(()) };
        if self.filtered.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        filter.attach(&self.dir).doing(|| "filter devices".to_owned())
    }
}

impl Limits for Controllers {
    fn set(&self, resources: &LinuxResources, devices: &DevicePolicy) -> Result<Vec<String>, CgroupError> {
        let mut warnings = Vec::new();
        self.filter_devices(devices)?;
        for Write2 { file, value } in plan_writes(resources) {
            match self.dir.write(&file, &value) {
                Err(CgroupError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    warnings.push(format!("this host knows no {file}: it is not limited"));
                }
                other => other?,
            }
        }
        Ok(warnings)
    }

    fn oom_kills(&self) -> Result<u64, CgroupError> {
        match self.dir.read("memory.events") {
            Ok(text) => Ok(counter(&text, "oom_kill").unwrap_or(0)),
            Err(CgroupError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(e) => Err(e),
        }
    }

    fn memory_limit(&self) -> Result<Option<u64>, CgroupError> {
        match self.dir.read("memory.max") {
            Ok(text) => Ok(text.trim().parse().ok()),
            Err(CgroupError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// One value for one file.
#[derive(Debug, PartialEq, Eq)]
struct Write2 {
    file: String,
    value: String,
}

/// What to write; v1's notions are translated as all engines do.
fn plan_writes(resources: &LinuxResources) -> Vec<Write2> {
    let mut writes = Vec::new();
    let mut add = |file: &str, value: Option<String>| {
        if let Some(value) = value {
            writes.push(Write2 { file: file.to_owned(), value });
        }
    };
    if let Some(memory) = resources.memory() {
        let size = |n: i64| if n < 0 { "max".to_owned() } else { n.to_string() };
        let limit = memory.limit().filter(|n| *n != 0);
        add("memory.max", limit.map(size));
        add("memory.low", memory.reservation().filter(|n| *n != 0).map(size));
        let swap = memory.swap().filter(|n| *n != 0);
        add("memory.swap.max", swap.map(|both| plan_swap(both, limit)));
    }
    if let Some(cpu) = resources.cpu() {
        add("cpu.weight", cpu.shares().filter(|n| *n != 0).map(|n| plan_weight(n).to_string()));
        let period = cpu.period().filter(|n| *n != 0).unwrap_or(100_000);
        let quota = cpu.quota().filter(|n| *n != 0);
        let quota = quota.map(|q| if q < 0 { "max".to_owned() } else { q.to_string() });
        add("cpu.max", quota.map(|quota| format!("{quota} {period}")));
        add("cpuset.cpus", cpu.cpus().clone().filter(|l| !l.is_empty()));
        add("cpuset.mems", cpu.mems().clone().filter(|l| !l.is_empty()));
    }
    if let Some(pids) = resources.pids() {
        add("pids.max", Some(if pids.limit() > 0 { pids.limit().to_string() } else { "max".to_owned() }));
    }
    let mut unified: Vec<_> = resources.unified().iter().flatten().collect();
    unified.sort();
    for (file, value) in unified.into_iter().filter(|(file, _)| !file.contains('/')) {
        add(file, Some(value.clone()));
    }
    writes
}

/// v1 counts memory and swap together, v2 swap alone.
fn plan_swap(both: i64, memory: Option<i64>) -> String {
    match memory {
        _ if both < 0 => "max".to_owned(),
        Some(memory) if memory > 0 => both.saturating_sub(memory).max(0).to_string(),
        _ => both.to_string(),
    }
}

/// Shares run from 2 to 262144, weights from 1 to 10000.
fn plan_weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9_999 / 262_142
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_notions_are_translated() {
        let resources: LinuxResources = serde_json::from_str(
            r#"{"memory":{"limit":1000,"swap":3000},"pids":{"limit":0},"cpu":{"shares":1024,"quota":50000},
                "unified":{"memory.high":"900","../x/y":"1"}}"#,
        )
        .unwrap();
        let seen: Vec<_> =
            plan_writes(&resources).into_iter().map(|w| format!("{}={}", w.file, w.value)).collect();
        assert_eq!(
            seen,
            [
                "memory.max=1000",
                "memory.swap.max=2000",
                "cpu.weight=39",
                "cpu.max=50000 100000",
                "pids.max=max",
                "memory.high=900"
            ]
        );
    }

    #[test]
    fn ends_of_the_scales() {
        assert_eq!((plan_weight(0), plan_weight(2), plan_weight(262_144)), (1, 1, 10_000));
        assert_eq!(plan_swap(-1, Some(5)), "max");
        assert_eq!(plan_swap(5, Some(9)), "0");
    }
}
