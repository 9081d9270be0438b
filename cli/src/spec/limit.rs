//! Flags of limits.

use davit_proto::container::{BlockThrottle, BlockWeight, ContainerSpec, Resources};

use super::{Invalid, bytes, text};
use crate::args::limit::ResourceArgs;
use crate::args::run::LimitArgs;
use crate::error::Error;

/// Fills in what a container may use.
pub fn fill(spec: &mut ContainerSpec, args: &LimitArgs) -> Result<(), Error> {
    let resources = Resources {
        throttles: throttles(args)?,
        blkio_weight_devices: weights(args)?,
        oom_kill_disable: args.oom_kill_disable,
        memory_swappiness: swappiness(args.memory_swappiness)?,
        ..resources(&args.resources)?
    };
    if resources != Resources::default() {
        spec.resources = Some(resources);
    }
    for ulimit in &args.ulimit {
        check_ulimit(ulimit)?;
    }
    spec.ulimits.clone_from(&args.ulimit);
    spec.oom_score_adj = args.oom_score_adj.unwrap_or(0);
    spec.cgroup_parent = text(args.cgroup_parent.as_ref());
    Ok(())
}

/// The limits that a container is made with or that `update` changes; what is not said is 0.
pub fn resources(args: &ResourceArgs) -> Result<Resources, Error> {
    let timed = args.cpu_quota.is_some() || args.cpu_period.is_some();
    if args.cpus.is_some() && timed {
        return Err(Error::Usage("--cpus excludes --cpu-quota and --cpu-period".into()));
    }
    Ok(Resources {
        memory_bytes: size("--memory", args.memory.as_ref())?,
        memory_reservation_bytes: size("--memory-reservation", args.memory_reservation.as_ref())?,
        memory_swap_bytes: swap(args.memory_swap.as_deref())?,
        nano_cpus: args.cpus.as_deref().map(nano_cpus).transpose()?.unwrap_or(0),
        cpu_quota_us: args.cpu_quota.unwrap_or(0),
        cpu_period_us: args.cpu_period.unwrap_or(0),
        cpu_shares: args.cpu_shares.unwrap_or(0),
        cpuset_cpus: text(args.cpuset_cpus.as_ref()),
        cpuset_mems: text(args.cpuset_mems.as_ref()),
        pids: pids(args.pids_limit),
        blkio_weight: args.blkio_weight.unwrap_or(0),
        ..Resources::default()
    })
}

/// A size flag in bytes; 0 when it is not there.
pub fn size(flag: &str, value: Option<&String>) -> Result<u64, Invalid> {
    value.map_or(Ok(0), |value| bytes(flag, value))
}

/// Memory and swap together; -1 for no limit on swap.
pub fn swap(value: Option<&str>) -> Result<i64, Invalid> {
    match value {
        None => Ok(0),
        Some("-1") => Ok(-1),
        Some(value) => i64::try_from(bytes("--memory-swap", value)?)
            .map_err(|_| Invalid::new("--memory-swap", value, "the size is too large")),
    }
}

/// Docker's -1 is what nobody said.
fn swappiness(value: Option<i64>) -> Result<Option<u32>, Invalid> {
    let wrong =
        |value: i64| Invalid::new("--memory-swappiness", value.to_string(), "0 to 100, or -1, is wanted");
    value.filter(|value| *value != -1).map(|value| u32::try_from(value).map_err(|_| wrong(value))).transpose()
}

/// Docker's 0 and -1 are both no limit; the wire's 0 is the engine's default.
fn pids(limit: Option<i64>) -> i64 {
    match limit {
        None => 0,
        Some(limit) if limit <= 0 => -1,
        Some(limit) => limit,
    }
}

/// `1.5` in billionths, without rounding.
fn nano_cpus(text: &str) -> Result<u64, Invalid> {
    let invalid = || Invalid::new("--cpus", text, "a number such as 1.5 is wanted");
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 9 || (whole.is_empty() && part.is_empty()) {
        return Err(invalid());
    }
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().map_err(|_| invalid())? };
    let part = format!("{part:0<9}").parse::<u64>().map_err(|_| invalid())?;
    whole.checked_mul(1_000_000_000).and_then(|nanos| nanos.checked_add(part)).ok_or_else(invalid)
}

/// Whether it is a limit of processes.
pub fn check_ulimit(text: &str) -> Result<(), Invalid> {
    let invalid = || Invalid::new("--ulimit", text, "NAME=SOFT[:HARD] is wanted");
    let (name, limits) = text.split_once('=').ok_or_else(invalid)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let number = |text: &str| text == "unlimited" || text == "-1" || text.parse::<u64>().is_ok();
    if name.is_empty() || !number(soft) || !number(hard) {
        return Err(invalid());
    }
    Ok(())
}

fn weights(args: &LimitArgs) -> Result<Vec<BlockWeight>, Invalid> {
    let weight = |text: &String| {
        let read = device_rate("--blkio-weight-device", text, |weight| weight.parse().ok());
        let out = || Invalid::new("--blkio-weight-device", text, "a weight from 10 to 1000 is wanted");
        read.and_then(|(device, weight)| {
            let weight = u32::try_from(weight).map_err(|_| out())?;
            Ok(BlockWeight { device: device.to_owned(), weight })
        })
    };
    args.blkio_weight_device.iter().map(weight).collect()
}

fn throttles(args: &LimitArgs) -> Result<Vec<BlockThrottle>, Invalid> {
    let mut throttles: Vec<BlockThrottle> = Vec::new();
    let mut note = |device: &str, set: &dyn Fn(&mut BlockThrottle)| {
        if let Some(known) = throttles.iter_mut().find(|throttle| throttle.device == device) {
            set(known);
        } else {
            let mut throttle = BlockThrottle { device: device.to_owned(), ..BlockThrottle::default() };
            set(&mut throttle);
            throttles.push(throttle);
        }
    };
    for text in &args.device_read_bps {
        let (device, rate) = device_rate("--device-read-bps", text, crate::human::parse_size)?;
        note(device, &|throttle| throttle.read_bps = rate);
    }
    for text in &args.device_write_bps {
        let (device, rate) = device_rate("--device-write-bps", text, crate::human::parse_size)?;
        note(device, &|throttle| throttle.write_bps = rate);
    }
    for text in &args.device_read_iops {
        let (device, rate) = device_rate("--device-read-iops", text, |rate| rate.parse().ok())?;
        note(device, &|throttle| throttle.read_iops = rate);
    }
    for text in &args.device_write_iops {
        let (device, rate) = device_rate("--device-write-iops", text, |rate| rate.parse().ok())?;
        note(device, &|throttle| throttle.write_iops = rate);
    }
    Ok(throttles)
}

fn device_rate<'a>(
    flag: &str,
    text: &'a str,
    read: impl Fn(&str) -> Option<u64>,
) -> Result<(&'a str, u64), Invalid> {
    text.rsplit_once(':')
        .filter(|(device, _)| device.starts_with('/'))
        .and_then(|(device, rate)| Some((device, read(rate)?)))
        .ok_or_else(|| Invalid::new(flag, text, "/dev/DEVICE:RATE is wanted"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn processors() {
        for (text, wanted) in [
            ("1.5", 1_500_000_000),
            ("2", 2_000_000_000),
            (".5", 500_000_000),
            ("0.000000001", 1),
            ("3.", 3_000_000_000),
        ] {
            assert_eq!(nano_cpus(text).unwrap(), wanted, "{text}");
        }
        for bad in ["", ".", "-1", "x", "1.0000000001", "1e3", "99999999999999"] {
            assert!(nano_cpus(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn swap_and_pids() {
        assert_eq!(
            (swap(None).unwrap(), swap(Some("-1")).unwrap(), swap(Some("1g")).unwrap()),
            (0, -1, 1 << 30)
        );
        assert!(swap(Some("-2")).is_err());
        assert_eq!((pids(None), pids(Some(0)), pids(Some(-1)), pids(Some(9))), (0, -1, -1, 9));
    }

    #[test]
    fn ulimits() {
        for good in ["nofile=1024:2048", "nofile=1024", "core=0", "core=unlimited", "nproc=-1:-1"] {
            assert!(check_ulimit(good).is_ok(), "{good}");
        }
        for bad in ["nofile", "=1", "nofile=", "nofile=a", "nofile=1:b", "nofile=1:2:3"] {
            assert!(check_ulimit(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rates() {
        let size = crate::human::parse_size;
        assert_eq!(device_rate("--x", "/dev/sda:1m", size).unwrap(), ("/dev/sda", 1 << 20));
        assert!(device_rate("--x", "sda:1m", size).is_err());
        assert!(device_rate("--x", "/dev/sda", size).is_err());
    }

    proptest! {
        #[test]
        fn nothing_typed_makes_a_parser_panic(text in "\\PC{0,20}") {
            let _ = (nano_cpus(&text), check_ulimit(&text), swap(Some(&text)));
        }
    }
}
