//! From the process of a spec to what init runs: pure.

use std::path::Path;

use davit_sys::privilege::Capabilities;
use oci_spec::runtime::{Capabilities as CapabilityNames, Process, Spec};

use super::error::Failure;
use super::plan::{ProcessPlan, SeccompProgram, StdioPlan, UserPlan};
use super::seccomp;
use super::shape::Shape;

/// Who runs: `name|uid[:group|gid]`, resolved in the container's own files.
pub(super) const USER: &str = "davit.user";
/// More groups, names or numbers with commas between.
const GROUPS: &str = "davit.group-add";
/// `true`: a reaper of ours is pid 1.
pub(super) const REAPER: &str = "davit.init";
/// `default` or `unconfined`, where the spec has no profile.
pub(super) const SECCOMP: &str = "davit.seccomp";

const UMASK: u32 = 0o022;
/// The kernel's own bound on one argument.
const MAX_STRING: usize = 128 * 1024;

/// Plans the process of a spec.
pub fn plan_process(spec: &Spec, shape: &Shape, stdio: StdioPlan) -> Result<ProcessPlan, Failure> {
    let process = spec.process().as_ref().ok_or_else(|| Failure::invalid("spec has no process"))?;
    refuse_unsupported(process)?;
    let args = process.args().clone().unwrap_or_default();
    if args.first().is_none_or(String::is_empty) {
        return Err(Failure::invalid("no command specified"));
    }
    let env = process.env().clone().unwrap_or_default();
    for text in args.iter().chain(&env) {
        if text.contains('\0') || text.len() >= MAX_STRING {
            return Err(Failure::invalid("argument or environment holds a NUL byte or is too long"));
        }
    }
    if let Some(bad) = env.iter().find(|e| e.find('=').is_none_or(|at| at == 0)) {
        return Err(Failure::invalid(format!("environment {bad:?} is not NAME=value")));
    }
    let capabilities = process.capabilities().as_ref();
    let set = |pick: fn(&oci_spec::runtime::LinuxCapabilities) -> &Option<CapabilityNames>| {
        plan_capabilities(capabilities.and_then(|c| pick(c).as_ref()))
    };
    let bounding = set(|c| c.bounding())?;
    Ok(ProcessPlan {
        args,
        env,
        cwd: plan_cwd(process.cwd())?,
        makes_cwd: true,
        user: plan_user(spec, process)?,
        umask: process.user().umask().unwrap_or(UMASK) & 0o777,
        bounding: bounding.0,
        effective: set(|c| c.effective())?.0,
        permitted: set(|c| c.permitted())?.0,
        no_new_privileges: process.no_new_privileges().unwrap_or(false),
        limits: plan_limits(process)?,
        seccomp: plan_seccomp(spec, shape, bounding)?,
        stdio,
        reaper: annotation(spec, REAPER) == Some("true"),
    })
}

fn annotation<'a>(spec: &'a Spec, key: &str) -> Option<&'a str> {
    spec.annotations().as_ref()?.get(key).map(String::as_str).filter(|value| !value.is_empty())
}

fn refuse_unsupported(process: &Process) -> Result<(), Failure> {
    let named = |profile: &Option<String>| profile.clone().filter(|p| !p.is_empty() && p != "unconfined");
    if let Some(profile) = named(process.apparmor_profile()) {
        return Err(Failure::invalid(format!("apparmor profile {profile:?}: not supported")));
    }
    if let Some(label) = named(process.selinux_label()) {
        return Err(Failure::invalid(format!("selinux label {label:?}: not supported")));
    }
    Ok(())
}

fn plan_cwd(cwd: &Path) -> Result<std::path::PathBuf, Failure> {
    if cwd.as_os_str().is_empty() {
        return Ok("/".into());
    }
    let text = cwd.to_str().filter(|c| !c.contains('\0') && c.len() < 4096);
    match text {
        Some(_) if cwd.is_absolute() => Ok(cwd.to_owned()),
        _ => Err(Failure::invalid(format!("working directory {cwd:?} is not an absolute path"))),
    }
}

fn plan_user(spec: &Spec, process: &Process) -> Result<UserPlan, Failure> {
    let user = process.user();
    let ids = user.additional_gids().clone().unwrap_or_default();
    let named = annotation(spec, USER);
    if let Some(bad) = [user.uid(), user.gid()].iter().chain(&ids).find(|id| **id > i32::MAX.unsigned_abs()) {
        return Err(Failure::invalid(format!("user or group {bad} is out of range")));
    }
    let added = annotation(spec, GROUPS).into_iter().flat_map(|list| list.split(','));
    let groups = ids.iter().map(ToString::to_string).chain(added.map(str::to_owned)).collect();
    Ok(match named {
        Some(user) => UserPlan::Named { user: user.to_owned(), groups },
        None => UserPlan::Numeric { uid: user.uid(), gid: user.gid(), groups },
    })
}

fn plan_capabilities(names: Option<&CapabilityNames>) -> Result<Capabilities, Failure> {
    let mut set = Capabilities::default();
    for name in names.into_iter().flatten() {
        let name = name.to_string();
        let one = Capabilities::named(&name);
        set = set.with(one.ok_or_else(|| Failure::invalid(format!("unknown capability {name}")))?);
    }
    Ok(set)
}

fn plan_limits(process: &Process) -> Result<Vec<(String, u64, u64)>, Failure> {
    let mut limits = vec![("RLIMIT_CORE".to_owned(), 0, 0)];
    for limit in process.rlimits().iter().flatten() {
        let name = limit.typ().to_string();
        if limit.soft() > limit.hard() {
            let (soft, hard) = (limit.soft(), limit.hard());
            return Err(Failure::invalid(format!("{name}: soft limit {soft} is above hard limit {hard}")));
        }
        limits.retain(|(known, _, _)| *known != name);
        limits.push((name, limit.soft(), limit.hard()));
    }
    Ok(limits)
}

fn plan_seccomp(
    spec: &Spec,
    shape: &Shape,
    capabilities: Capabilities,
) -> Result<Option<SeccompProgram>, Failure> {
    let given = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    if let Some(profile) = given {
        let program: SeccompProgram = seccomp::spec_program(profile)?.into();
        return Ok(Some(SeccompProgram { flags: seccomp::spec_flags(profile)?.0, ..program }));
    }
    match annotation(spec, SECCOMP) {
        Some("unconfined") => Ok(None),
        None if shape.privileged => Ok(None),
        None | Some("default") => Ok(Some(seccomp::default_program(capabilities)?.into())),
        Some(other) => {
            Err(Failure::invalid(format!("{SECCOMP}: {other:?} is neither default nor unconfined")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(process: &str, rest: &str) -> Spec {
        serde_json::from_str(&format!(r#"{{"ociVersion":"1.0.2","process":{process}{rest}}}"#)).unwrap()
    }

    fn plan(process: &str, rest: &str) -> Result<ProcessPlan, Failure> {
        plan_process(&spec(process, rest), &Shape::standard(), StdioPlan::Given)
    }

    const SH: &str = r#"{"cwd":"/","user":{"uid":1,"gid":2,"additionalGids":[3]},"args":["sh"],"env":["A=b"],
        "capabilities":{"bounding":["CAP_CHOWN","CAP_KILL"],"effective":["CAP_CHOWN"]},
        "rlimits":[{"type":"RLIMIT_NOFILE","soft":10,"hard":20}]}"#;

    #[test]
    fn defaults_and_what_was_said() {
        let plan = plan(SH, "").unwrap();
        assert_eq!((plan.bounding, plan.effective, plan.permitted), (0b10_0001, 1, 0));
        assert_eq!(plan.user, UserPlan::Numeric { uid: 1, gid: 2, groups: vec!["3".into()] });
        assert_eq!(plan.limits[0], ("RLIMIT_CORE".to_owned(), 0, 0));
        assert_eq!(plan.limits[1], ("RLIMIT_NOFILE".to_owned(), 10, 20));
        assert!(plan.seccomp.is_some() && !plan.reaper && plan.umask == 0o022);
    }

    #[test]
    fn annotations_choose() {
        let rest = r#","annotations":{"davit.user":"app:staff","davit.group-add":"audio","davit.init":"true","davit.seccomp":"unconfined"}"#;
        let chosen = plan(SH, rest).unwrap();
        assert_eq!(
            chosen.user,
            UserPlan::Named { user: "app:staff".into(), groups: vec!["3".into(), "audio".into()] }
        );
        assert!(chosen.reaper && chosen.seccomp.is_none());
        assert!(plan(SH, r#","annotations":{"davit.seccomp":"maybe"}"#).is_err());
    }

    #[test]
    fn privileged_has_no_filter_unless_it_asks_for_one() {
        let shape = Shape { privileged: true, ..Shape::standard() };
        let with = |rest| plan_process(&spec(SH, rest), &shape, StdioPlan::Given).unwrap().seccomp;
        assert!(with("").is_none());
        assert!(with(r#","annotations":{"davit.seccomp":"default"}"#).is_some());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for bad in [
            r#"{"cwd":"/","user":{},"args":[]}"#,
            r#"{"cwd":"/","user":{},"args":[""]}"#,
            r#"{"cwd":"x","user":{},"args":["a"]}"#,
            r#"{"cwd":"/","user":{"uid":2147483648},"args":["a"]}"#,
            r#"{"cwd":"/","user":{"gid":4294967295},"args":["a"]}"#,
            r#"{"cwd":"/","user":{},"args":["a"],"env":["=x"]}"#,
            r#"{"cwd":"/","user":{},"args":["a"],"env":["x"]}"#,
            r#"{"cwd":"/","user":{},"args":["a\u0000b"]}"#,
            r#"{"cwd":"/","user":{},"args":["a"],"apparmorProfile":"docker-default"}"#,
            r#"{"cwd":"/","user":{},"args":["a"],"rlimits":[{"type":"RLIMIT_CPU","soft":2,"hard":1}]}"#,
        ] {
            assert!(plan(bad, "").is_err(), "{bad}");
        }
    }
}
