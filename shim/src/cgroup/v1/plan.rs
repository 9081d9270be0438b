//! What to write for limits on v1 hierarchies, and in which order: pure.

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};

use super::super::Need;

/// One value for one file.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::cgroup) struct Write1 {
    /// The controller that has the file.
    pub(in crate::cgroup) controller: &'static str,
    /// The file's names; the first one that is there counts.
    pub(in crate::cgroup) files: &'static [&'static str],
    /// What to write.
    pub(in crate::cgroup) value: String,
    /// What it means when there is no such file.
    pub(in crate::cgroup) need: Need,
}

/// What is set already, as far as the order depends on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::cgroup) struct Present {
    /// Limit of memory and swap together, in bytes.
    pub(in crate::cgroup) memory_and_swap: Option<u64>,
    /// A quota was given before, and may not fit a new period.
    pub(in crate::cgroup) has_quota: bool,
}

/// What to write, in the order in which the kernel takes it.
pub(in crate::cgroup) fn plan_writes(resources: &LinuxResources, present: Present) -> Vec<Write1> {
    let mut writes = Vec::new();
    if let Some(memory) = resources.memory() {
        memory_writes(&mut writes, memory, present);
    }
    if let Some(cpu) = resources.cpu() {
        cpu_writes(&mut writes, cpu, present);
    }
    if let Some(pids) = resources.pids() {
        let limit = if pids.limit() > 0 { pids.limit().to_string() } else { "max".to_owned() };
        // There is one by default, so a host that cannot count processes still runs containers.
        writes.push(Write1 { controller: "pids", files: &["pids.max"], value: limit, need: Need::Wished });
    }
    if let Some(block) = resources.block_io() {
        block_writes(&mut writes, block);
    }
    writes
}

fn write(
    writes: &mut Vec<Write1>,
    controller: &'static str,
    files: &'static [&'static str],
    value: Option<String>,
) {
    if let Some(value) = value {
        writes.push(Write1 { controller, files, value, need: Need::Required });
    }
}

fn memory_writes(writes: &mut Vec<Write1>, memory: &LinuxMemory, present: Present) {
    let size = |n: Option<i64>| n.filter(|n| *n != 0).map(|n| n.to_string());
    let limit = Write1 {
        controller: "memory",
        files: &["memory.limit_in_bytes"],
        value: size(memory.limit()).unwrap_or_default(),
        need: Need::Required,
    };
    // Without a word about swap it is limited by default, which not every kernel can.
    let swap = Write1 {
        controller: "memory",
        files: &["memory.memsw.limit_in_bytes"],
        value: size(memory.swap()).unwrap_or_default(),
        need: Need::Wished,
    };
    // Memory and swap together may at no moment be less than memory.
    let wanted = memory.limit().and_then(|n| u64::try_from(n).ok());
    let rises = wanted.zip(present.memory_and_swap).is_some_and(|(wanted, both)| wanted > both);
    let pair = if rises { [swap, limit] } else { [limit, swap] };
    writes.extend(pair.into_iter().filter(|write| !write.value.is_empty()));
    write(writes, "memory", &["memory.soft_limit_in_bytes"], size(memory.reservation()));
    write(writes, "memory", &["memory.swappiness"], memory.swappiness().map(|n| n.to_string()));
    let disable = memory.disable_oom_killer().filter(|disable| *disable);
    write(writes, "memory", &["memory.oom_control"], disable.map(|_| "1".to_owned()));
}

fn cpu_writes(writes: &mut Vec<Write1>, cpu: &LinuxCpu, present: Present) {
    let number = |n: Option<u64>| n.filter(|n| *n != 0).map(|n| n.to_string());
    let signed = |n: Option<i64>| n.filter(|n| *n != 0).map(|n| n.to_string());
    let list = |l: &Option<String>| l.clone().filter(|l| !l.is_empty());
    write(writes, "cpu", &["cpu.shares"], number(cpu.shares()));
    let (period, quota) = (number(cpu.period()), signed(cpu.quota()));
    // The old quota in the new period may be more than the cgroup above allows.
    let lift = present.has_quota && period.is_some() && quota.is_some();
    write(writes, "cpu", &["cpu.cfs_quota_us"], lift.then(|| "-1".to_owned()));
    write(writes, "cpu", &["cpu.cfs_period_us"], period);
    write(writes, "cpu", &["cpu.cfs_quota_us"], quota);
    write(writes, "cpu", &["cpu.rt_period_us"], number(cpu.realtime_period()));
    write(writes, "cpu", &["cpu.rt_runtime_us"], signed(cpu.realtime_runtime()));
    write(writes, "cpuset", &["cpuset.cpus"], list(cpu.cpus()));
    write(writes, "cpuset", &["cpuset.mems"], list(cpu.mems()));
}

fn block_writes(writes: &mut Vec<Write1>, block: &LinuxBlockIo) {
    let weight = block.weight().filter(|n| *n != 0).map(|n| n.to_string());
    write(writes, "blkio", &["blkio.weight", "blkio.bfq.weight"], weight);
    for device in block.weight_device().iter().flatten() {
        let text = device.weight().map(|weight| format!("{}:{} {weight}", device.major(), device.minor()));
        write(writes, "blkio", &["blkio.weight_device", "blkio.bfq.weight_device"], text);
    }
    type Throttles = Option<Vec<LinuxThrottleDevice>>;
    let kinds: [(&Throttles, &'static [&'static str]); 4] = [
        (block.throttle_read_bps_device(), &["blkio.throttle.read_bps_device"]),
        (block.throttle_write_bps_device(), &["blkio.throttle.write_bps_device"]),
        (block.throttle_read_iops_device(), &["blkio.throttle.read_iops_device"]),
        (block.throttle_write_iops_device(), &["blkio.throttle.write_iops_device"]),
    ];
    for (devices, files) in kinds {
        for device in devices.iter().flatten() {
            let text = format!("{}:{} {}", device.major(), device.minor(), device.rate());
            write(writes, "blkio", files, Some(text));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(json: &str, present: Present) -> Vec<String> {
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        plan_writes(&resources, present).iter().map(|w| format!("{}={}", w.files[0], w.value)).collect()
    }

    #[test]
    fn writes_are_ordered_and_complete() {
        let json = r#"{"memory":{"limit":1000,"swap":2000,"swappiness":0},"pids":{"limit":4096},
            "cpu":{"shares":512,"quota":50000,"period":100000,"cpus":"0-1"}}"#;
        assert_eq!(
            seen(json, Present::default()),
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
        assert_eq!(seen(r#"{"pids":{"limit":-1}}"#, Present::default()), ["pids.max=max"]);
    }

    #[test]
    fn a_rising_limit_lets_swap_rise_first() {
        let json = r#"{"memory":{"limit":3000,"swap":6000}}"#;
        let present = |both| Present { memory_and_swap: Some(both), has_quota: false };
        let rising = ["memory.memsw.limit_in_bytes=6000", "memory.limit_in_bytes=3000"];
        assert_eq!(seen(json, present(2000)), rising);
        assert_eq!(seen(json, present(4000))[0], "memory.limit_in_bytes=3000");
    }

    #[test]
    fn a_new_period_has_no_old_quota() {
        let json = r#"{"cpu":{"quota":5000,"period":10000}}"#;
        let present = Present { memory_and_swap: None, has_quota: true };
        let wanted = ["cpu.cfs_quota_us=-1", "cpu.cfs_period_us=10000", "cpu.cfs_quota_us=5000"];
        assert_eq!(seen(json, present), wanted);
    }

    #[test]
    fn block_devices_are_weighed_and_throttled() {
        let json = r#"{"blockIO":{"weight":500,"weightDevice":[{"major":8,"minor":0,"weight":200}],
            "throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1048576}],
            "throttleWriteIOPSDevice":[{"major":8,"minor":16,"rate":10}]}}"#;
        assert_eq!(
            seen(json, Present::default()),
            [
                "blkio.weight=500",
                "blkio.weight_device=8:0 200",
                "blkio.throttle.read_bps_device=8:0 1048576",
                "blkio.throttle.write_iops_device=8:16 10"
            ]
        );
    }
}
