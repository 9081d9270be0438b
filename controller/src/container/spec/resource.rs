//! Limits of a container as a whole: the `linux.resources` of its runtime spec.

use davit_proto::container::{ContainerSpec, Resources};
use oci_spec::runtime::{
    LinuxBlockIo, LinuxBlockIoBuilder, LinuxCpu, LinuxMemory, LinuxPidsBuilder, LinuxResources,
    LinuxResourcesBuilder, LinuxThrottleDevice, LinuxThrottleDeviceBuilder,
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
    if resources.cpu_shares != 0 && !(2..=262_144).contains(&resources.cpu_shares) {
        return fail("cpu_shares", resources.cpu_shares.to_string(), "from 2 to 262144");
    }
    if resources.nano_cpus != 0 && !(10_000_000..=1_000_000_000_000_000).contains(&resources.nano_cpus) {
        return fail("nano_cpus", resources.nano_cpus.to_string(), "from 0.01 processors on");
    }
    check_list("cpuset_cpus", &resources.cpuset_cpus)?;
    check_list("cpuset_mems", &resources.cpuset_mems)?;
    if resources.pids < -1 {
        return fail("pids", resources.pids.to_string(), "must be -1 or more");
    }
    if resources.blkio_weight != 0 && !(10..=1000).contains(&resources.blkio_weight) {
        return fail("blkio_weight", resources.blkio_weight.to_string(), "from 10 to 1000");
    }
    if resources.throttles.len() > 64 {
        return fail("throttles", resources.throttles.len().to_string(), "at most 64 devices");
    }
    Ok(())
}

/// A list of numbers as the kernel writes them: `0-3,5`.
fn check_list(field: &'static str, text: &str) -> Result<(), Error> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        match (first.parse::<u16>(), last.parse::<u16>()) {
            (Ok(first), Ok(last)) => first <= last && !part.contains('+'),
            _ => false,
        }
    };
    if text.is_empty() || (text.len() < 4096 && text.split(',').all(range)) {
        return Ok(());
    }
    Err(Error::invalid(field, text, "must be numbers and ranges: 0-3,5"))
}

/// The limits of a container.
///
/// # Errors
/// When this host has not what they need.
pub fn resources(spec: &ContainerSpec, devices: &Devices, host: &Host) -> Result<LinuxResources, Error> {
    let wanted = spec.resources.clone().unwrap_or_default();
    if wanted.nano_cpus > u64::from(host.cpus) * 1_000_000_000 {
        return Err(Error::Host(format!(
            "more processors were asked for than the {} that this host has",
            host.cpus
        )));
    }
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

fn memory(wanted: &Resources) -> Option<LinuxMemory> {
    let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    if wanted.memory_bytes == 0 && wanted.memory_reservation_bytes == 0 {
        return None;
    }
    let mut memory = LinuxMemory::default();
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
    Some(memory)
}

fn cpu(wanted: &Resources) -> Option<LinuxCpu> {
    let mut cpu = LinuxCpu::default();
    let unset = cpu.clone();
    if wanted.nano_cpus != 0 {
        let quota = u128::from(wanted.nano_cpus) * u128::from(PERIOD) / 1_000_000_000;
        cpu.set_period(Some(PERIOD)).set_quota(Some(i64::try_from(quota).unwrap_or(i64::MAX)));
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
    if wanted.blkio_weight == 0 && devices.throttles.is_empty() {
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
    let mut builder = LinuxBlockIoBuilder::default()
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
            Resources { blkio_weight: 9, ..Default::default() },
        ] {
            assert!(check(&bad).is_err(), "{bad:?}");
        }
        let many = Resources { nano_cpus: 500_000_000_000, ..Default::default() };
        let spec = ContainerSpec { resources: Some(many), ..Default::default() };
        assert!(resources(&spec, &Devices::default(), &host()).is_err());
    }
}
