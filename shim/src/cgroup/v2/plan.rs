//! What to write for limits on the unified hierarchy, v1's notions translated as all engines do: pure.

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};

use super::super::Need;

/// One value for one file.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::cgroup) struct Write2 {
    /// The file's names and what to write into each; the first one that is there counts.
    pub(in crate::cgroup) choices: Vec<(String, String)>,
    /// What it means when there is no such file.
    pub(in crate::cgroup) need: Need,
}

/// What to write, in order.
pub(in crate::cgroup) fn plan_writes(resources: &LinuxResources) -> Vec<Write2> {
    let mut writes = Vec::new();
    if let Some(memory) = resources.memory() {
        memory_writes(&mut writes, memory);
    }
    if let Some(cpu) = resources.cpu() {
        cpu_writes(&mut writes, cpu);
    }
    if let Some(pids) = resources.pids() {
        let limit = if pids.limit() > 0 { pids.limit().to_string() } else { "max".to_owned() };
        // There is one by default, so a host that cannot count processes still runs containers.
        writes.push(Write2 { choices: vec![("pids.max".to_owned(), limit)], need: Need::Wished });
    }
    if let Some(block) = resources.block_io() {
        block_writes(&mut writes, block);
    }
    let mut unified: Vec<_> = resources.unified().iter().flatten().collect();
    unified.sort();
    for (file, value) in unified.into_iter().filter(|(file, _)| !file.contains('/')) {
        write(&mut writes, file, Some(value.clone()));
    }
    writes
}

fn write(writes: &mut Vec<Write2>, file: &str, value: Option<String>) {
    if let Some(value) = value {
        writes.push(Write2 { choices: vec![(file.to_owned(), value)], need: Need::Required });
    }
}

fn memory_writes(writes: &mut Vec<Write2>, memory: &LinuxMemory) {
    let size = |n: i64| if n < 0 { "max".to_owned() } else { n.to_string() };
    let limit = memory.limit().filter(|n| *n != 0);
    write(writes, "memory.max", limit.map(size));
    write(writes, "memory.low", memory.reservation().filter(|n| *n != 0).map(size));
    if let Some(both) = memory.swap().filter(|n| *n != 0) {
        // Without a word about swap it is limited by default, which not every kernel can.
        let choices = vec![("memory.swap.max".to_owned(), plan_swap(both, limit))];
        writes.push(Write2 { choices, need: Need::Wished });
    }
    if memory.disable_oom_killer() == Some(true) {
        // Always missing: v2 kills.
        write(writes, "memory.oom_control", Some("1".to_owned()));
    }
}

fn cpu_writes(writes: &mut Vec<Write2>, cpu: &LinuxCpu) {
    let weight = cpu.shares().filter(|n| *n != 0).map(|n| plan_weight(n).to_string());
    write(writes, "cpu.weight", weight);
    let period = cpu.period().filter(|n| *n != 0);
    let quota = cpu.quota().filter(|n| *n != 0).or(period.map(|_| -1));
    let quota = quota.map(|q| if q < 0 { "max".to_owned() } else { q.to_string() });
    write(writes, "cpu.max", quota.map(|quota| format!("{quota} {}", period.unwrap_or(100_000))));
    write(writes, "cpuset.cpus", cpu.cpus().clone().filter(|l| !l.is_empty()));
    write(writes, "cpuset.mems", cpu.mems().clone().filter(|l| !l.is_empty()));
}

fn block_writes(writes: &mut Vec<Write2>, block: &LinuxBlockIo) {
    let choose = |device: &str, weight: u16| {
        // bfq's weights are v1's; those of the other cost model run from 1 to 10000.
        let other = 1 + u32::from(weight.clamp(10, 1000) - 10) * 9_999 / 990;
        vec![
            ("io.bfq.weight".to_owned(), format!("{device} {weight}")),
            ("io.weight".to_owned(), format!("{device} {other}")),
        ]
    };
    if let Some(weight) = block.weight().filter(|n| *n != 0) {
        writes.push(Write2 { choices: choose("default", weight), need: Need::Required });
    }
    for device in block.weight_device().iter().flatten() {
        if let Some(weight) = device.weight() {
            let choices = choose(&format!("{}:{}", device.major(), device.minor()), weight);
            writes.push(Write2 { choices, need: Need::Required });
        }
    }
    type Throttles = Option<Vec<LinuxThrottleDevice>>;
    let kinds: [(&Throttles, &str); 4] = [
        (block.throttle_read_bps_device(), "rbps"),
        (block.throttle_write_bps_device(), "wbps"),
        (block.throttle_read_iops_device(), "riops"),
        (block.throttle_write_iops_device(), "wiops"),
    ];
    for (devices, key) in kinds {
        for device in devices.iter().flatten() {
            let rate = if device.rate() == 0 { "max".to_owned() } else { device.rate().to_string() };
            let text = format!("{}:{} {key}={rate}", device.major(), device.minor());
            write(writes, "io.max", Some(text));
        }
    }
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

    fn seen(json: &str) -> Vec<String> {
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        plan_writes(&resources).iter().map(|w| format!("{}={}", w.choices[0].0, w.choices[0].1)).collect()
    }

    #[test]
    fn old_notions_are_translated() {
        assert_eq!(
            seen(
                r#"{"memory":{"limit":1000,"swap":3000},"pids":{"limit":0},"cpu":{"shares":1024,"quota":50000},
                "unified":{"memory.high":"900","../x/y":"1"}}"#
            ),
            [
                "memory.max=1000",
                "memory.swap.max=2000",
                "cpu.weight=39",
                "cpu.max=50000 100000",
                "pids.max=max",
                "memory.high=900"
            ]
        );
        assert_eq!(seen(r#"{"cpu":{"quota":-1,"period":20000}}"#), ["cpu.max=max 20000"]);
        assert_eq!(seen(r#"{"memory":{"disableOOMKiller":true}}"#), ["memory.oom_control=1"]);
    }

    #[test]
    fn block_devices_are_weighed_and_throttled() {
        let json = r#"{"blockIO":{"weight":500,"weightDevice":[{"major":8,"minor":0,"weight":200}],
            "throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1048576}],
            "throttleWriteIOPSDevice":[{"major":8,"minor":16,"rate":10}]}}"#;
        assert_eq!(
            seen(json),
            [
                "io.bfq.weight=default 500",
                "io.bfq.weight=8:0 200",
                "io.max=8:0 rbps=1048576",
                "io.max=8:16 wiops=10"
            ]
        );
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        assert_eq!(plan_writes(&resources)[0].choices[1].1, "default 4950");
    }

    #[test]
    fn ends_of_the_scales() {
        assert_eq!((plan_weight(0), plan_weight(2), plan_weight(262_144)), (1, 1, 10_000));
        assert_eq!(plan_swap(-1, Some(5)), "max");
        assert_eq!(plan_swap(5, Some(9)), "0");
    }
}
