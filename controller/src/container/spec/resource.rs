//! Limits of a container as a whole: the `linux.resources` of its runtime spec.

use davit_proto::container::{ContainerSpec, Resources};
use oci_spec::runtime::{
    LinuxBlockIo, LinuxBlockIoBuilder, LinuxCpu, LinuxMemory, LinuxPidsBuilder, LinuxResources,
    LinuxResourcesBuilder, LinuxThrottleDevice, LinuxThrottleDeviceBuilder, LinuxWeightDeviceBuilder,
};

use super::device::Devices;
use super::{Error, Host};

/// Processes and threads of a container that does not say.
const PIDS: i64 = 4096;
/// Least memory a container can be limited to, below which not even its init starts.
const MEMORY_MIN: u64 = 6 << 20;
/// Length of the interval in which processor time is counted, in microseconds.
const PERIOD: u64 = 100_000;

/// Checks limits against each other and against what any kernel takes.
///
/// # Errors
/// When one cannot be right.
pub fn check(resources: &Resources) -> Result<(), Error> {
    let fail = |field: &'static str, value: String, rule: &str| Err(Error::invalid(field, &value, rule));
    let memory = resources.memory_bytes;
    if memory != 0 && memory < MEMORY_MIN {
        return fail("memory", memory.to_string(), "at least 6m");
    }
    for (field, value) in [("memory", memory), ("memory_reservation", resources.memory_reservation_bytes)] {
        if i64::try_from(value).is_err() {
            return fail(field, value.to_string(), "more than any host has");
        }
    }
    if memory != 0 && resources.memory_reservation_bytes > memory {
        let value = resources.memory_reservation_bytes.to_string();
        return fail("memory_reservation", value, "must not be above the memory limit");
    }
    let swap = resources.memory_swap_bytes;
    match u64::try_from(swap) {
        Err(_) if swap != -1 => return fail("memory_swap", swap.to_string(), "must be -1 or more"),
        Ok(1..) if memory == 0 => {
            return fail("memory_swap", swap.to_string(), "needs a memory limit as well");
        }
        Ok(bytes) if bytes != 0 && bytes < memory => {
            return fail("memory_swap", swap.to_string(), "must not be below the memory limit");
        }
        _ => {}
    }
    if let Some(swappiness) = resources.memory_swappiness.filter(|swappiness| *swappiness > 100) {
        return fail("memory_swappiness", swappiness.to_string(), "from 0 to 100");
    }
    check_time(resources)?;
    if resources.cpu_shares != 0 && !(2..=262_144).contains(&resources.cpu_shares) {
        return fail("cpu_shares", resources.cpu_shares.to_string(), "from 2 to 262144");
    }
    check_list("cpuset_cpus", &resources.cpuset_cpus)?;
    check_list("cpuset_mems", &resources.cpuset_mems)?;
    if resources.pids < -1 {
        return fail("pids", resources.pids.to_string(), "must be -1 or more");
    }
    if resources.blkio_weight != 0 && !(10..=1000).contains(&resources.blkio_weight) {
        return fail("blkio_weight", resources.blkio_weight.to_string(), "from 10 to 1000");
    }
    if let Some(bad) = resources.blkio_weight_devices.iter().find(|d| !(10..=1000).contains(&d.weight)) {
        return fail("blkio_weight_devices", format!("{}:{}", bad.device, bad.weight), "from 10 to 1000");
    }
    for (field, count) in [
        ("throttles", resources.throttles.len()),
        ("blkio_weight_devices", resources.blkio_weight_devices.len()),
    ] {
        if count > 64 {
            return fail(field, count.to_string(), "at most 64 devices");
        }
    }
    Ok(())
}

/// Processor time may be said in two ways, and only in one at once.
fn check_time(resources: &Resources) -> Result<(), Error> {
    let fail = |field: &'static str, value: String, rule: &str| Err(Error::invalid(field, &value, rule));
    let Resources { nano_cpus, cpu_quota_us: quota, cpu_period_us: period, .. } = *resources;
    if nano_cpus != 0 && (quota != 0 || period != 0) {
        let both = "the number of processors and a quota or period of processor time exclude each other";
        return Err(Error::Conflict(both.to_owned()));
    }
    if nano_cpus != 0 && !(10_000_000..=1_000_000_000_000_000).contains(&nano_cpus) {
        return fail("nano_cpus", nano_cpus.to_string(), "from 0.01 processors on");
    }
    if period != 0 && !(1000..=1_000_000).contains(&period) {
        return fail("cpu_period", period.to_string(), "from 1000 to 1000000 microseconds");
    }
    if quota != 0 && quota != -1 && quota < 1000 {
        return fail("cpu_quota", quota.to_string(), "-1, or at least 1000 microseconds");
    }
    Ok(())
}

/// New limits over old ones: what is 0 or empty in `change` stays.
#[must_use]
pub fn merged(old: &Resources, change: &Resources) -> Resources {
    fn over<T: Default + PartialEq + Clone>(old: &T, new: &T) -> T {
        if *new == T::default() { old.clone() } else { new.clone() }
    }
    // A limit of processor time takes the place of one that was said the other way.
    let none = Resources::default();
    let timed = change.cpu_quota_us != 0 || change.cpu_period_us != 0;
    let cpus = if timed { &none } else { old };
    let quota = if change.nano_cpus != 0 { &none } else { old };
    let mut throttles = old.throttles.clone();
    for new in &change.throttles {
        throttles.retain(|throttle| throttle.device != new.device);
        throttles.push(new.clone());
    }
    let mut weights = old.blkio_weight_devices.clone();
    for new in &change.blkio_weight_devices {
        weights.retain(|weight| weight.device != new.device);
        weights.push(new.clone());
    }
    Resources {
        memory_bytes: over(&old.memory_bytes, &change.memory_bytes),
        memory_reservation_bytes: over(&old.memory_reservation_bytes, &change.memory_reservation_bytes),
        memory_swap_bytes: over(&old.memory_swap_bytes, &change.memory_swap_bytes),
        nano_cpus: over(&cpus.nano_cpus, &change.nano_cpus),
        cpu_shares: over(&old.cpu_shares, &change.cpu_shares),
        cpuset_cpus: over(&old.cpuset_cpus, &change.cpuset_cpus),
        cpuset_mems: over(&old.cpuset_mems, &change.cpuset_mems),
        pids: over(&old.pids, &change.pids),
        blkio_weight: over(&old.blkio_weight, &change.blkio_weight),
        throttles,
        cpu_quota_us: over(&quota.cpu_quota_us, &change.cpu_quota_us),
        cpu_period_us: over(&quota.cpu_period_us, &change.cpu_period_us),
        blkio_weight_devices: weights,
        oom_kill_disable: old.oom_kill_disable || change.oom_kill_disable,
        memory_swappiness: change.memory_swappiness.or(old.memory_swappiness),
    }
}

/// A list of numbers as the kernel writes them: `0-3,5`.
fn check_list(field: &'static str, text: &str) -> Result<(), Error> {
    if text.is_empty() || rows(text).is_some() {
        return Ok(());
    }
    Err(Error::invalid(field, text, "must be numbers and ranges: 0-3,5"))
}

/// First and last of each part of such a list.
pub(super) fn rows(text: &str) -> Option<Vec<(u16, u16)>> {
    let row = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<u16>().ok()?, last.parse::<u16>().ok()?);
        (first <= last && !part.contains('+')).then_some((first, last))
    };
    if text.len() < 4096 { text.split(',').map(row).collect() } else { None }
}

/// Refuses a list that names what this host has not.
fn check_online(what: &str, wanted: &str, online: &[(u16, u16)]) -> Result<(), Error> {
    let there = |number: u16| online.iter().any(|(first, last)| (*first..=*last).contains(&number));
    let mut numbers = rows(wanted).into_iter().flatten().flat_map(|(first, last)| first..=last);
    if wanted.is_empty() || numbers.all(there) {
        return Ok(());
    }
    let row = |(first, last): &(u16, u16)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    let there = online.iter().map(row).collect::<Vec<_>>().join(",");
    Err(Error::Host(format!("the {what} {wanted} are not all there: this host has {there}")))
}

/// The limits of a container.
///
/// # Errors
/// When this host has not what they need.
pub fn resources(spec: &ContainerSpec, devices: &Devices, host: &Host) -> Result<LinuxResources, Error> {
    let wanted = spec.resources.clone().unwrap_or_default();
    if wanted.nano_cpus > u64::from(host.cpus) * 1_000_000_000 {
        return Err(Error::Host(format!(
            "{}.{:09} processors were asked for, and this host has {}",
            wanted.nano_cpus / 1_000_000_000,
            wanted.nano_cpus % 1_000_000_000,
            host.cpus
        )));
    }
    check_online("processors", &wanted.cpuset_cpus, &host.online_cpus)?;
    check_online("memory nodes", &wanted.cpuset_mems, &host.online_mems)?;
    check_legacy(&wanted, host)?;
    let pids = if wanted.pids == 0 { PIDS } else { wanted.pids };
    let mut builder = LinuxResourcesBuilder::default()
        .devices(devices.rules.clone())
        .pids(LinuxPidsBuilder::default().limit(pids).build().expect("every field has a value"));
    if let Some(memory) = memory(&wanted) {
        builder = builder.memory(memory);
    }
    if let Some(cpu) = cpu(&wanted) {
        builder = builder.cpu(cpu);
    }
    if let Some(block) = block(&wanted, devices) {
        builder = builder.block_io(block);
    }
    Ok(builder.build().expect("every field has a default"))
}

/// What only cgroup v1 knows.
fn check_legacy(wanted: &Resources, host: &Host) -> Result<(), Error> {
    let refused = [
        (wanted.oom_kill_disable, "killing for want of memory cannot be switched off"),
        (wanted.memory_swappiness.is_some(), "no container has a swappiness of its own"),
    ];
    match refused.into_iter().find(|(wanted, _)| *wanted && !host.legacy_memory) {
        Some((_, why)) => Err(Error::Host(format!("this host limits memory through cgroup v2, where {why}"))),
        None => Ok(()),
    }
}

fn memory(wanted: &Resources) -> Option<LinuxMemory> {
    let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let mut memory = LinuxMemory::default();
    let unset = memory;
    memory.set_swappiness(wanted.memory_swappiness.map(u64::from));
    if wanted.memory_bytes != 0 {
        let limit = signed(wanted.memory_bytes);
        // As much swap as memory where nothing is said, so the sum is twice the memory.
        let swap =
            if wanted.memory_swap_bytes == 0 { limit.saturating_mul(2) } else { wanted.memory_swap_bytes };
        memory.set_limit(Some(limit)).set_swap(Some(swap));
    }
    if wanted.memory_reservation_bytes != 0 {
        memory.set_reservation(Some(signed(wanted.memory_reservation_bytes)));
    }
    if wanted.oom_kill_disable {
        memory.set_disable_oom_killer(Some(true));
    }
    (memory != unset).then_some(memory)
}

fn cpu(wanted: &Resources) -> Option<LinuxCpu> {
    let mut cpu = LinuxCpu::default();
    let unset = cpu.clone();
    if wanted.nano_cpus != 0 {
        let quota = u128::from(wanted.nano_cpus) * u128::from(PERIOD) / 1_000_000_000;
        cpu.set_period(Some(PERIOD)).set_quota(Some(i64::try_from(quota).unwrap_or(i64::MAX)));
    }
    if wanted.cpu_quota_us != 0 {
        cpu.set_quota(Some(wanted.cpu_quota_us));
    }
    if wanted.cpu_period_us != 0 {
        cpu.set_period(Some(wanted.cpu_period_us));
    }
    if wanted.cpu_shares != 0 {
        cpu.set_shares(Some(wanted.cpu_shares));
    }
    if !wanted.cpuset_cpus.is_empty() {
        cpu.set_cpus(Some(wanted.cpuset_cpus.clone()));
    }
    if !wanted.cpuset_mems.is_empty() {
        cpu.set_mems(Some(wanted.cpuset_mems.clone()));
    }
    (cpu != unset).then_some(cpu)
}

fn block(wanted: &Resources, devices: &Devices) -> Option<LinuxBlockIo> {
    if wanted.blkio_weight == 0 && devices.throttles.is_empty() && devices.weights.is_empty() {
        return None;
    }
    let limits = |rate: fn(&davit_proto::container::BlockThrottle) -> u64| -> Vec<LinuxThrottleDevice> {
        let limited = devices.throttles.iter().filter(|(_, throttle)| rate(throttle) != 0);
        limited
            .map(|((major, minor), throttle)| {
                LinuxThrottleDeviceBuilder::default()
                    .major(*major)
                    .minor(*minor)
                    .rate(rate(throttle))
                    .build()
                    .expect("every field has a value")
            })
            .collect()
    };
    let weights = devices.weights.iter().map(|((major, minor), weight)| {
        LinuxWeightDeviceBuilder::default()
            .major(*major)
            .minor(*minor)
            .weight(*weight)
            .build()
            .expect("every field has a value")
    });
    let mut builder = LinuxBlockIoBuilder::default()
        .weight_device(weights.collect::<Vec<_>>())
        .throttle_read_bps_device(limits(|t| t.read_bps))
        .throttle_write_bps_device(limits(|t| t.write_bps))
        .throttle_read_iops_device(limits(|t| t.read_iops))
        .throttle_write_iops_device(limits(|t| t.write_iops));
    if let Ok(weight @ 1..) = u16::try_from(wanted.blkio_weight) {
        builder = builder.weight(weight);
    }
    Some(builder.build().expect("every field has a default"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::spec::tests::host;
    use davit_proto::container::{BlockThrottle, BlockWeight};

    fn made(resources: Resources) -> serde_json::Value {
        check(&resources).unwrap();
        let spec = ContainerSpec { resources: Some(resources), ..Default::default() };
        serde_json::to_value(super::resources(&spec, &Devices::default(), &host()).unwrap()).unwrap()
    }

    #[test]
    fn limits_become_the_runtimes() {
        assert_eq!(made(Resources::default())["pids"]["limit"], 4096);
        assert_eq!(made(Resources { pids: -1, ..Default::default() })["pids"]["limit"], -1);
        let value = made(Resources {
            memory_bytes: 64 << 20,
            nano_cpus: 1_500_000_000,
            cpuset_cpus: "0-1".into(),
            blkio_weight: 500,
            ..Default::default()
        });
        assert_eq!(value["memory"], serde_json::json!({"limit": 64 << 20, "swap": 128 << 20}));
        assert_eq!(value["cpu"], serde_json::json!({"period": 100_000, "quota": 150_000, "cpus": "0-1"}));
        assert_eq!(value["blockIO"]["weight"], 500);
        let value = made(Resources { memory_bytes: 64 << 20, memory_swap_bytes: -1, ..Default::default() });
        assert_eq!(value["memory"]["swap"], -1);
    }

    #[test]
    fn limits_that_cannot_be_are_refused() {
        for bad in [
            Resources { memory_bytes: 1, ..Default::default() },
            Resources { memory_bytes: u64::MAX, ..Default::default() },
            Resources { memory_bytes: 64 << 20, memory_reservation_bytes: 65 << 20, ..Default::default() },
            Resources { memory_bytes: 64 << 20, memory_swap_bytes: 63 << 20, ..Default::default() },
            Resources { memory_swap_bytes: 1, ..Default::default() },
            Resources { memory_swap_bytes: -2, ..Default::default() },
            Resources { cpu_shares: 1, ..Default::default() },
            Resources { nano_cpus: 1, ..Default::default() },
            Resources { nano_cpus: u64::MAX, ..Default::default() },
            Resources { cpuset_cpus: "3-0".into(), ..Default::default() },
            Resources { cpuset_mems: "0;1".into(), ..Default::default() },
            Resources { pids: -2, ..Default::default() },
            Resources { memory_swappiness: Some(101), ..Default::default() },
            Resources { blkio_weight: 9, ..Default::default() },
            Resources { cpu_quota_us: 999, ..Default::default() },
            Resources { cpu_quota_us: -2, ..Default::default() },
            Resources { cpu_period_us: 999, ..Default::default() },
            Resources { cpu_quota_us: 5000, nano_cpus: 1_000_000_000, ..Default::default() },
            Resources {
                blkio_weight_devices: vec![BlockWeight { device: "/dev/x".into(), weight: 1001 }],
                ..Default::default()
            },
        ] {
            assert!(check(&bad).is_err(), "{bad:?}");
        }
        for (absent, named) in [
            (Resources { nano_cpus: 500_000_000_000, ..Default::default() }, "this host has 4"),
            (Resources { cpuset_cpus: "1,7".into(), ..Default::default() }, "this host has 0-3"),
            (Resources { cpuset_mems: "1".into(), ..Default::default() }, "this host has 0"),
        ] {
            let spec = ContainerSpec { resources: Some(absent), ..Default::default() };
            let refused = resources(&spec, &Devices::default(), &host()).unwrap_err().to_string();
            assert!(refused.contains(named), "{refused}");
        }
    }

    #[test]
    fn what_only_v1_knows_is_refused_on_v2() {
        let off = Resources { oom_kill_disable: true, ..Default::default() };
        assert_eq!(made(off.clone())["memory"]["disableOOMKiller"], true);
        let never = Resources { memory_swappiness: Some(0), ..Default::default() };
        assert_eq!(made(never.clone())["memory"], serde_json::json!({ "swappiness": 0 }));
        assert_eq!(merged(&never, &Resources::default()).memory_swappiness, Some(0));
        for wanted in [off, never] {
            let spec = ContainerSpec { resources: Some(wanted), ..Default::default() };
            let host = Host { legacy_memory: false, ..host() };
            assert!(resources(&spec, &Devices::default(), &host).unwrap_err().to_string().contains("v2"));
        }
    }

    #[test]
    fn changed_limits_leave_the_others() {
        let old = Resources {
            memory_bytes: 64 << 20,
            nano_cpus: 1_000_000_000,
            throttles: vec![BlockThrottle { device: "/dev/a".into(), read_bps: 1, ..Default::default() }],
            ..Default::default()
        };
        let change = Resources { pids: 9, cpu_quota_us: 5000, ..Default::default() };
        let new = merged(&old, &change);
        assert_eq!((new.memory_bytes, new.pids, new.nano_cpus, new.cpu_quota_us), (64 << 20, 9, 0, 5000));
        assert_eq!(new.throttles, old.throttles);
        let back = merged(&new, &Resources { nano_cpus: 2_000_000_000, ..Default::default() });
        assert_eq!((back.nano_cpus, back.cpu_quota_us), (2_000_000_000, 0));
        let throttle = BlockThrottle { device: "/dev/a".into(), write_bps: 2, ..Default::default() };
        let throttled = merged(&old, &Resources { throttles: vec![throttle.clone()], ..Default::default() });
        assert_eq!(throttled.throttles, [throttle]);
    }
}
