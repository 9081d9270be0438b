//! Flags of limits.

use davit_proto::container::{BlockThrottle, ContainerSpec, Resources};

use super::{Invalid, bytes, text};
use crate::args::container::UpdateArgs;
use crate::args::run::LimitArgs;
use crate::error::Error;

/// Docker's scheduling period when only a quota is given.
const PERIOD: u64 = 100_000;

/// Fills in what a container may use.
pub fn fill(spec: &mut ContainerSpec, args: &LimitArgs) -> Result<(), Error> {
    let resources = resources(args)?;
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

fn resources(args: &LimitArgs) -> Result<Resources, Error> {
    let quota = args.cpu_quota.map(|quota| nanos_of(quota, args.cpu_period.unwrap_or(PERIOD))).transpose()?;
    if args.cpus.is_some() && (quota.is_some() || args.cpu_period.is_some()) {
        return Err(Error::Usage("--cpus and --cpu-quota exclude each other".into()));
    }
    let nano_cpus = args.cpus.as_deref().map(nano_cpus).transpose()?;
    Ok(Resources {
        memory_bytes: size("--memory", args.memory.as_ref())?,
        memory_reservation_bytes: size("--memory-reservation", args.memory_reservation.as_ref())?,
        memory_swap_bytes: swap(args.memory_swap.as_deref())?,
        nano_cpus: nano_cpus.or(quota).unwrap_or(0),
        cpu_shares: args.cpu_shares.unwrap_or(0),
        cpuset_cpus: text(args.cpuset_cpus.as_ref()),
        cpuset_mems: text(args.cpuset_mems.as_ref()),
        pids: pids(args.pids_limit),
        blkio_weight: args.blkio_weight.unwrap_or(0),
        throttles: throttles(args)?,
        ..Resources::default()
    })
}

/// The limits that `update` changes.
pub fn changed(args: &UpdateArgs) -> Result<Resources, Error> {
    Ok(Resources {
        memory_bytes: size("--memory", args.memory.as_ref())?,
        memory_reservation_bytes: size("--memory-reservation", args.memory_reservation.as_ref())?,
        memory_swap_bytes: swap(args.memory_swap.as_deref())?,
        nano_cpus: args.cpus.as_deref().map(nano_cpus).transpose()?.unwrap_or(0),
        cpu_shares: args.cpu_shares.unwrap_or(0),
        cpuset_cpus: text(args.cpuset_cpus.as_ref()),
        cpuset_mems: text(args.cpuset_mems.as_ref()),
        pids: pids(args.pids_limit),
        blkio_weight: args.blkio_weight.unwrap_or(0),
        ..Resources::default()
    })
}

fn size(flag: &str, value: Option<&String>) -> Result<u64, Invalid> {
    value.map_or(Ok(0), |value| bytes(flag, value))
}

fn swap(value: Option<&str>) -> Result<i64, Invalid> {
    match value {
        None => Ok(0),
        Some("-1") => Ok(-1),
        Some(value) => i64::try_from(bytes("--memory-swap", value)?)
            .map_err(|_| Invalid::new("--memory-swap", value, "the size is too large")),
    }
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

fn nanos_of(quota: u64, period: u64) -> Result<u64, Invalid> {
    let nanos = quota.checked_mul(1_000_000_000).and_then(|nanos| nanos.checked_div(period));
    nanos.ok_or_else(|| {
        Invalid::new("--cpu-quota", quota.to_string(), "quota and period make no sense together")
    })
}

fn check_ulimit(text: &str) -> Result<(), Invalid> {
    let invalid = || Invalid::new("--ulimit", text, "NAME=SOFT[:HARD] is wanted");
    let (name, limits) = text.split_once('=').ok_or_else(invalid)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let number = |text: &str| text == "unlimited" || text == "-1" || text.parse::<u64>().is_ok();
    if name.is_empty() || !number(soft) || !number(hard) {
        return Err(invalid());
    }
    Ok(())
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
        assert_eq!(nanos_of(50_000, 100_000).unwrap(), 500_000_000);
        assert!(nanos_of(1, 0).is_err());
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
