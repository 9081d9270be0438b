//! Limits of single processes (`--ulimit`) and kernel parameters of a container's namespaces
//! (`--sysctl`).

use std::collections::{BTreeMap, HashMap};

use davit_proto::confinement::is_of_ipc;
use davit_proto::container::ContainerSpec;
use oci_spec::runtime::{PosixRlimit, PosixRlimitBuilder, PosixRlimitType};

use super::super::join;
use super::{Error, Host};

/// Limits by docker's names.
const NAMES: [(&str, PosixRlimitType); 16] = [
    ("as", PosixRlimitType::RlimitAs),
    ("core", PosixRlimitType::RlimitCore),
    ("cpu", PosixRlimitType::RlimitCpu),
    ("data", PosixRlimitType::RlimitData),
    ("fsize", PosixRlimitType::RlimitFsize),
    ("locks", PosixRlimitType::RlimitLocks),
    ("memlock", PosixRlimitType::RlimitMemlock),
    ("msgqueue", PosixRlimitType::RlimitMsgqueue),
    ("nice", PosixRlimitType::RlimitNice),
    ("nofile", PosixRlimitType::RlimitNofile),
    ("nproc", PosixRlimitType::RlimitNproc),
    ("rss", PosixRlimitType::RlimitRss),
    ("rtprio", PosixRlimitType::RlimitRtprio),
    ("rttime", PosixRlimitType::RlimitRttime),
    ("sigpending", PosixRlimitType::RlimitSigpending),
    ("stack", PosixRlimitType::RlimitStack),
];
/// Open files a program gets without asking: many allocate a table of this size.
const NOFILE_SOFT: u64 = 1024;
/// Open files a program may ask for.
const NOFILE_HARD: u64 = 524_288;

/// One limit: `nofile=1024:2048`, `core=-1`.
fn parse(text: &str) -> Result<(PosixRlimitType, u64, u64), Error> {
    let fail = |rule: &str| Err(Error::invalid("ulimits", text, rule));
    let Some((name, values)) = text.split_once('=') else {
        return fail("must be name=soft[:hard]");
    };
    let Some((_, kind)) = NAMES.iter().find(|(known, _)| *known == name) else {
        return fail("no such limit");
    };
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let number = |text: &str| match text {
        "-1" | "unlimited" => Some(u64::MAX),
        digits if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse::<u64>().ok(),
        _ => None,
    };
    match (number(soft), number(hard)) {
        (Some(soft), Some(hard)) if soft <= hard => Ok((*kind, soft, hard)),
        (Some(_), Some(_)) => fail("the soft limit must not be above the hard limit"),
        _ => fail("limits are numbers, or -1 for none"),
    }
}

/// Checks limits and kernel parameters.
///
/// # Errors
/// When one cannot be right.
pub fn check(spec: &ContainerSpec) -> Result<(), Error> {
    spec.ulimits.iter().try_for_each(|text| parse(text).map(|_| ()))?;
    sysctls(spec, false).map(|_| ())
}

/// The limits of a container's processes: those asked for, and stated defaults for open files and core
/// files, so that they do not depend on how the engine was started.
///
/// # Errors
/// When a limit is none, or above what the engine itself may have.
pub fn rlimits(spec: &ContainerSpec, host: &Host) -> Result<Vec<PosixRlimit>, Error> {
    let files = NOFILE_HARD.min(host.nofile);
    let mut limits = vec![
        (PosixRlimitType::RlimitNofile, NOFILE_SOFT.min(files), files),
        (PosixRlimitType::RlimitCore, 0, host.core),
    ];
    for text in &spec.ulimits {
        let (kind, soft, hard) = parse(text)?;
        if kind == PosixRlimitType::RlimitNofile && hard > host.nofile && !host.has(super::Cap::SysResource) {
            return Err(Error::Host(format!(
                "the limit {text} cannot be set: the engine may have {} open files itself",
                host.nofile
            )));
        }
        limits.retain(|(other, _, _)| *other != kind);
        limits.push((kind, soft, hard));
    }
    let built = |(kind, soft, hard)| {
        PosixRlimitBuilder::default()
            .typ(kind)
            .soft(soft)
            .hard(hard)
            .build()
            .expect("every field has a value")
    };
    Ok(limits.into_iter().map(built).collect())
}

/// The kernel parameters of a container, none of which is seen outside its namespaces.
///
/// # Errors
/// When a parameter is the host's, or its value could be read as more than one.
pub fn sysctls(spec: &ContainerSpec, shares_network: bool) -> Result<HashMap<String, String>, Error> {
    let namespaces = spec.namespaces.clone().unwrap_or_default();
    let shared = |text: &str| text == "host" || join::other(text).is_some();
    let sorted: BTreeMap<_, _> = spec.sysctls.iter().collect();
    for (key, value) in sorted {
        let fail = |rule: &str| Err(Error::invalid("sysctls", key, rule));
        let letters = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
        };
        if key.len() > 256 || !key.split('.').all(letters) {
            return fail("must be parts of letters, digits, _ and -, with dots between");
        }
        let shared = if key.starts_with("net.") {
            shares_network
        } else if is_of_ipc(key) {
            shared(&namespaces.ipc)
        } else if key == "kernel.domainname" {
            shared(&namespaces.uts)
        } else {
            return fail("is not a parameter of a namespace");
        };
        if shared {
            return fail("belongs to a namespace that is not the container's own");
        }
        let odd = |c: char| c.is_control() && c != '\t' || matches!(c, '=' | '+');
        if value.is_empty() || value.len() > 1024 || value.chars().any(odd) {
            return Err(Error::invalid("sysctls", value, format!("cannot be the value of {key}")));
        }
    }
    Ok(spec.sysctls.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::spec::tests::host;
    use davit_proto::container::Namespaces;

    #[test]
    fn limits_have_stated_defaults() {
        let shown = |ulimits: &[&str], host: &Host| {
            let ulimits = ulimits.iter().map(|text| (*text).to_owned()).collect();
            rlimits(&ContainerSpec { ulimits, ..Default::default() }, host).map(|limits| {
                limits.iter().map(|l| format!("{} {} {}", l.typ(), l.soft(), l.hard())).collect::<Vec<_>>()
            })
        };
        assert_eq!(
            shown(&[], &host()).unwrap(),
            ["RLIMIT_NOFILE 1024 524288", "RLIMIT_CORE 0 18446744073709551615"]
        );
        assert_eq!(
            shown(&["nofile=100:200", "nproc=7"], &host()).unwrap(),
            ["RLIMIT_CORE 0 18446744073709551615", "RLIMIT_NOFILE 100 200", "RLIMIT_NPROC 7 7"]
        );
        let mut poor = host();
        poor.capabilities.clear();
        poor.nofile = 4096;
        assert_eq!(shown(&[], &poor).unwrap()[0], "RLIMIT_NOFILE 1024 4096");
        assert!(shown(&["nofile=8192"], &poor).unwrap_err().to_string().contains("4096"));
        for bad in
            ["nofile", "x=1", "nofile=2:1", "nofile=-2", "nofile=", "nofile=1:", "nofile=1:2:3", "nofile=+1"]
        {
            assert!(shown(&[bad], &host()).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_parameters_of_namespaces_are_set() {
        let one = |key: &str, value: &str| ContainerSpec {
            sysctls: HashMap::from([(key.to_owned(), value.to_owned())]),
            ..Default::default()
        };
        for good in
            ["net.ipv4.ip_forward", "kernel.shmmax", "fs.mqueue.msg_max", "net.ipv4.conf.all.rp_filter"]
        {
            sysctls(&one(good, "1 2\t3"), false).unwrap();
        }
        for (key, value) in [
            ("kernel.core_pattern", "x"),
            ("a", "1+kernel.core_pattern=x"),
            ("kernel.shm_rmid_forced", "1+kernel.core_pattern=x"),
            ("net.ipv4.ip_forward", "1\n2"),
            ("net.ipv4.ip_forward", ""),
            ("net../../kernel.core_pattern", "1"),
            ("net/ipv4/ip_forward", "1"),
            ("net..x", "1"),
            ("kernel.hostname", "x"),
        ] {
            assert!(sysctls(&one(key, value), false).is_err(), "{key}={value}");
        }
        assert!(sysctls(&one("net.ipv4.ip_forward", "1"), true).is_err());
        let mut shared = one("kernel.sem", "1");
        shared.namespaces = Some(Namespaces { ipc: "host".to_owned(), ..Default::default() });
        assert!(sysctls(&shared, false).is_err());
    }
}
