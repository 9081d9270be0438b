//! From an OCI runtime spec to the second half of a start: pure.

use std::path::Path;

use davit_proto::confinement::{MASKED, READ_ONLY};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType, LinuxIdMapping, Spec};

use super::error::Failure;
use super::mount_plan::{Mounts, RootSource, TreeSource, plan_mounts};
use super::plan::{ConfigurePlan, DeviceKind, DeviceNode, StdioPlan};
use super::process_plan::plan_process;
use super::shape::Shape;
use super::sysctl::plan_sysctl;
use crate::cgroup::DevicePolicy;

/// What the shim and init do for one spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecPlan {
    /// What the shim opens as the root.
    pub root: RootSource,
    /// What the shim opens to be attached.
    pub trees: Vec<TreeSource>,
    /// Which devices may be opened.
    pub devices: DevicePolicy,
    /// What init does.
    pub configure: ConfigurePlan,
}

/// Plans a spec for a shape.
pub fn plan_spec(spec: &Spec, shape: &Shape, bundle: &Path, stdio: StdioPlan) -> Result<SpecPlan, Failure> {
    refuse_unsupported(spec, shape)?;
    let linux = spec.linux().as_ref();
    let Mounts { root, trees, steps, shm } = plan_mounts(spec, bundle)?;
    let more = |list: Option<&Vec<String>>, known: &[&str]| -> Vec<String> {
        // What the first half left open is open by default only: the spec may close it.
        let new = |path: &&String| !known.contains(&path.as_str()) || shape.leaves_open(path);
        list.into_iter().flatten().filter(new).cloned().collect()
    };
    let rules = linux.and_then(|l| l.resources().as_ref()).and_then(|r| r.devices().as_ref());
    let nodes = linux.and_then(|l| l.devices().as_ref()).into_iter().flatten();
    let configure = ConfigurePlan {
        mounts: steps,
        readonly_root: spec.root().as_ref().and_then(|root| root.readonly()).unwrap_or(false),
        masked: more(linux.and_then(|l| l.masked_paths().as_ref()), &MASKED),
        readonly: more(linux.and_then(|l| l.readonly_paths().as_ref()), &READ_ONLY),
        devices: nodes.map(plan_node).collect::<Result<_, _>>()?,
        hostname: plan_name(shape, spec.hostname().as_deref())?,
        domainname: plan_name(shape, spec.domainname().as_deref())?,
        sysctls: plan_sysctls(spec, shape)?,
        // One that is shared keeps the size that its owner gave it.
        shm: shm
            .into_iter()
            .filter(|(key, _)| shape.ipc.is_own() && (key == "size" || key.starts_with("nr_")))
            .collect(),
        oom_score_adj: plan_badness(spec)?,
        process: plan_process(spec, shape, stdio)?,
    };
    let devices = DevicePolicy::plan(shape.privileged, rules.map(Vec::as_slice).unwrap_or_default())?;
    Ok(SpecPlan { root, trees, devices, configure })
}

fn refuse_unsupported(spec: &Spec, shape: &Shape) -> Result<(), Failure> {
    if spec.hooks().is_some() {
        return Err(Failure::invalid("hooks are not supported"));
    }
    let Some(linux) = spec.linux() else { return Ok(()) };
    // The namespace is made, so the spec can only say once more what it is.
    let ids = shape.own_ids();
    let said = |given: &Option<Vec<LinuxIdMapping>>, first: Option<u32>| match given
        .as_deref()
        .unwrap_or_default()
    {
        [] => true,
        [one] => {
            one.container_id() == 0
                && Some(one.host_id()) == first
                && Some(one.size()) == ids.map(|ids| ids.count)
        }
        _ => false,
    };
    if !said(linux.uid_mappings(), ids.map(|ids| ids.uid))
        || !said(linux.gid_mappings(), ids.map(|ids| ids.gid))
    {
        return Err(Failure::invalid("user mappings of the spec are not those of the container"));
    }
    match linux.rootfs_propagation().as_deref() {
        None | Some("" | "private" | "rprivate" | "slave" | "rslave") => Ok(()),
        Some(other) => Err(Failure::invalid(format!("root propagation {other:?} is not supported"))),
    }
}

/// A host or domain name, where there is a namespace to put it in.
fn plan_name(shape: &Shape, name: Option<&str>) -> Result<Option<String>, Failure> {
    let Some(name) = name.filter(|name| !name.is_empty() && shape.uts.is_own()) else { return Ok(None) };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if name.len() > 64 || !name.chars().all(plain) {
        return Err(Failure::invalid(format!("host name {name:?} is not up to 64 letters, digits, - . _")));
    }
    Ok(Some(name.to_owned()))
}

fn plan_sysctls(spec: &Spec, shape: &Shape) -> Result<Vec<(String, String)>, Failure> {
    let given = spec.linux().as_ref().and_then(|linux| linux.sysctl().as_ref());
    let mut given: Vec<_> = given.into_iter().flatten().collect();
    given.sort();
    given.into_iter().map(|(name, value)| plan_sysctl(shape, name, value)).collect()
}

fn plan_badness(spec: &Spec) -> Result<Option<i32>, Failure> {
    let badness = spec.process().as_ref().and_then(|process| process.oom_score_adj());
    match badness.filter(|n| !(-1000..=1000).contains(n)) {
        Some(bad) => Err(Failure::invalid(format!("oom score adjustment {bad} is not in -1000..1000"))),
        None => Ok(badness),
    }
}

fn plan_node(device: &LinuxDevice) -> Result<DeviceNode, Failure> {
    let path = device.path().to_str().unwrap_or_default();
    let invalid = |why: &str| Failure::invalid(format!("device {}: {why}", device.path().display()));
    let name = path.strip_prefix("/dev/").filter(|name| {
        name.split('/').all(|c| !c.is_empty() && c != "." && c != "..") && !name.contains('\0')
    });
    let kind = match device.typ() {
        LinuxDeviceType::C | LinuxDeviceType::U => DeviceKind::Character,
        LinuxDeviceType::B => DeviceKind::Block,
        LinuxDeviceType::P => DeviceKind::Fifo,
        LinuxDeviceType::A => return Err(invalid("has no type")),
    };
    let number = |n: i64| u32::try_from(n).map_err(|_| invalid("number is out of range"));
    Ok(DeviceNode {
        path: name.ok_or_else(|| invalid("is not a path below /dev"))?.to_owned(),
        kind,
        major: number(device.major())?,
        minor: number(device.minor())?,
        mode: device.file_mode().unwrap_or(0o666) & 0o7777,
        uid: device.uid().unwrap_or(0),
        gid: device.gid().unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::shape::Namespace;

    fn plan(rest: &str, shape: &Shape) -> Result<SpecPlan, Failure> {
        let process = r#"{"cwd":"/","user":{},"args":["sh"]}"#;
        let json = format!(r#"{{"ociVersion":"1.0.2","root":{{"path":"r"}},"process":{process},{rest}}}"#);
        plan_spec(&serde_json::from_str(&json).unwrap(), shape, Path::new("/b"), StdioPlan::Given)
    }

    #[test]
    fn only_what_is_not_prepared_is_left() {
        let rest = r#""hostname":"box","linux":{"maskedPaths":["/proc/kcore","/proc/more"],
            "readonlyPaths":["/proc/sys","/proc/other"],"sysctl":{"net.ipv4.ip_forward":"1"},
            "devices":[{"path":"/dev/fuse","type":"c","major":10,"minor":229}]}"#;
        let plan = plan(rest, &Shape::standard()).unwrap().configure;
        assert_eq!(plan.masked, ["/proc/more"]);
        assert_eq!(plan.readonly, ["/proc/other"]);
        assert_eq!(plan.hostname.as_deref(), Some("box"));
        assert_eq!(plan.sysctls, [("net/ipv4/ip_forward".to_owned(), "1".to_owned())]);
        assert_eq!((plan.devices[0].path.as_str(), plan.devices[0].mode), ("fuse", 0o666));
    }

    #[test]
    fn a_host_name_needs_a_namespace() {
        let shape = Shape { uts: Namespace::Host, ..Shape::standard() };
        assert_eq!(plan(r#""hostname":"box""#, &shape).unwrap().configure.hostname, None);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for bad in [
            r#""hooks":{"prestart":[{"path":"/x"}]}"#,
            r#""hostname":"a b""#,
            r#""linux":{"rootfsPropagation":"shared"}"#,
            r#""linux":{"uidMappings":[{"containerID":0,"hostID":1000,"size":1}]}"#,
            r#""linux":{"devices":[{"path":"/etc/x","type":"c","major":1,"minor":1}]}"#,
            r#""linux":{"devices":[{"path":"/dev/../x","type":"c","major":1,"minor":1}]}"#,
            r#""linux":{"devices":[{"path":"/dev/x","type":"c","major":-1,"minor":1}]}"#,
        ] {
            assert!(plan(bad, &Shape::standard()).is_err(), "{bad}");
        }
    }
}
