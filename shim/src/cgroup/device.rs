//! Which device nodes may be opened: one policy, in the words of both hierarchies.

use davit_proto::confinement::DEVICES;
use davit_sys::bpf::{DeviceFilter, FilterRule};
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use crate::init::error::Failure;

/// Which devices a container may open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DevicePolicy {
    /// Every one: privileged.
    Everything,
    /// What the last fitting rule allows; what no rule fits is denied.
    Only(Vec<FilterRule>),
}

/// A rule as v1 reads it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) allow: bool,
    pub(super) text: String,
}

const CHARACTER: Option<char> = Some('c');
const ALL: &str = "rwm";

impl DevicePolicy {
    /// The default devices, then what the spec adds or takes away. Nodes may be made, not opened.
    pub fn plan(privileged: bool, spec: &[LinuxDeviceCgroup]) -> Result<Self, Failure> {
        if privileged {
            return Ok(Self::Everything);
        }
        let rule = |kind, major, minor, access: &str| FilterRule {
            allow: true,
            kind,
            major,
            minor,
            access: access.to_owned(),
        };
        let mut rules = vec![rule(CHARACTER, None, None, "m"), rule(Some('b'), None, None, "m")];
        rules.extend(DEVICES.iter().map(|(major, minor)| rule(CHARACTER, Some(*major), *minor, ALL)));
        for given in spec {
            let given = plan_rule(given)?;
            match (given.is_everything(), given.allow) {
                // How every list starts: what is not named is denied, as here.
                (true, false) => {}
                (true, true) => return Ok(Self::Everything),
                (false, _) => rules.push(given),
            }
        }
        Ok(Self::Only(rules))
    }

    /// What to write into `devices.deny` and `devices.allow`.
    pub(super) fn v1_writes(&self) -> Vec<Line> {
        let everything = |allow| Line { allow, text: "a".to_owned() };
        match self {
            Self::Everything => vec![everything(true)],
            Self::Only(rules) => {
                let number = |n: Option<u32>| n.map_or("*".to_owned(), |n| n.to_string());
                let line = |r: &FilterRule| Line {
                    allow: r.allow,
                    text: format!(
                        "{} {}:{} {}",
                        r.kind.unwrap_or('a'),
                        number(r.major),
                        number(r.minor),
                        r.access
                    ),
                };
                [everything(false)].into_iter().chain(rules.iter().map(line)).collect()
            }
        }
    }

    /// The same for v2; `None` where nothing is to be filtered.
    pub(super) fn v2_filter(&self) -> Option<DeviceFilter> {
        match self {
            Self::Everything => None,
            Self::Only(rules) => Some(DeviceFilter::new(rules)),
        }
    }
}

fn plan_rule(given: &LinuxDeviceCgroup) -> Result<FilterRule, Failure> {
    let kind = match given.typ() {
        None | Some(LinuxDeviceType::A) => None,
        Some(LinuxDeviceType::B) => Some('b'),
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => CHARACTER,
        Some(LinuxDeviceType::P) => return Err(Failure::invalid("device rule for a named pipe")),
    };
    let number = |n: Option<i64>| match n {
        None | Some(-1) => Ok(None),
        Some(n) => u32::try_from(n)
            .map(Some)
            .map_err(|_| Failure::invalid(format!("device number {n} is out of range"))),
    };
    let access = given.access().clone().unwrap_or_else(|| ALL.to_owned());
    if access.is_empty() || access.len() > 3 || !access.chars().all(|c| ALL.contains(c)) {
        return Err(Failure::invalid(format!("device access {access:?} is not made of r, w and m")));
    }
    Ok(FilterRule {
        allow: given.allow(),
        kind,
        major: number(given.major())?,
        minor: number(given.minor())?,
        access,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(json: &str) -> Vec<LinuxDeviceCgroup> {
        serde_json::from_str(json).unwrap()
    }

    fn lines(policy: &DevicePolicy) -> Vec<String> {
        let sign = |l: Line| format!("{}{}", if l.allow { '+' } else { '-' }, l.text);
        policy.v1_writes().into_iter().map(sign).collect()
    }

    #[test]
    fn the_default_opens_nothing_but_the_harmless() {
        let policy = DevicePolicy::plan(false, &spec(r#"[{"allow":false,"access":"rwm"}]"#)).unwrap();
        let lines = lines(&policy);
        assert_eq!(lines[..4], ["-a", "+c *:* m", "+b *:* m", "+c 1:3 rwm"]);
        assert_eq!(lines.last().unwrap(), "+c 136:* rwm");
    }

    #[test]
    fn a_device_is_added_and_privileged_opens_all() {
        let more = spec(r#"[{"allow":true,"type":"b","major":8,"minor":0,"access":"r"}]"#);
        let policy = DevicePolicy::plan(false, &more).unwrap();
        assert_eq!(lines(&policy).last().unwrap(), "+b 8:0 r");
        assert_eq!(DevicePolicy::plan(true, &more).unwrap(), DevicePolicy::Everything);
        let all = spec(r#"[{"allow":true,"access":"rwm"}]"#);
        assert_eq!(DevicePolicy::plan(false, &all).unwrap(), DevicePolicy::Everything);
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [
            r#"[{"allow":true,"type":"c","major":-2,"minor":0,"access":"r"}]"#,
            r#"[{"allow":true,"type":"c","major":1,"minor":0,"access":"x"}]"#,
            r#"[{"allow":true,"type":"p","access":"r"}]"#,
        ] {
            assert!(DevicePolicy::plan(false, &spec(bad)).is_err(), "{bad}");
        }
    }
}
