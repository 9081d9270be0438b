//! Seccomp profiles as docker writes them, turned into the OCI's form: what is for other machines, other
//! kernels or other capabilities is left out here, so that the shim only compiles.

use oci_spec::runtime::{Arch, LinuxSeccomp, LinuxSyscall};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Error;

/// Most rules of a profile.
const RULES: usize = 1024;
/// Most system calls that one rule names.
const NAMES: usize = 1024;
/// Actions that can be carried out.
const ACTIONS: [&str; 7] = [
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_LOG",
    "SCMP_ACT_ALLOW",
];
/// Comparisons of an argument.
const OPERATORS: [&str; 7] = [
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
];

/// A profile in docker's format.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Profile {
    default_action: String,
    #[serde(default)]
    default_errno_ret: Option<u32>,
    #[serde(default)]
    architectures: Option<Vec<String>>,
    #[serde(default)]
    arch_map: Option<Vec<ArchMap>>,
    #[serde(default)]
    flags: Option<Vec<String>>,
    #[serde(default)]
    syscalls: Option<Vec<Rule>>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMap {
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    names: Option<Vec<String>>,
    action: String,
    #[serde(default)]
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<Argument>>,
    #[serde(default)]
    comment: Option<String>,
    #[serde(default)]
    includes: Option<Condition>,
    #[serde(default)]
    excludes: Option<Condition>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u32,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Condition {
    #[serde(default)]
    caps: Option<Vec<String>>,
    #[serde(default)]
    arches: Option<Vec<String>>,
    #[serde(default)]
    min_kernel: Option<String>,
}

fn fail<T>(rule: impl Into<String>) -> Result<T, Error> {
    Err(Error::invalid("security_opt", "seccomp={…}", rule))
}

/// Reads and checks a profile.
///
/// # Errors
/// When it is none, or has what cannot be carried out.
pub fn parse(text: &str) -> Result<Profile, Error> {
    let profile: Profile = match serde_json::from_str(text) {
        Ok(profile) => profile,
        Err(error) => return fail(format!("no seccomp profile: {error}")),
    };
    action(&profile.default_action)?;
    if profile.flags.as_ref().is_some_and(|flags| !flags.is_empty()) {
        return Err(Error::Unserved("flags of a seccomp profile are".to_owned()));
    }
    let rules = profile.syscalls.as_deref().unwrap_or_default();
    if rules.len() > RULES {
        return fail(format!("more than {RULES} rules"));
    }
    for rule in rules {
        action(&rule.action)?;
        if rule.calls().next().is_none() || rule.calls().count() > NAMES {
            return fail(format!("a rule must name 1 to {NAMES} system calls"));
        }
        for argument in rule.args.as_deref().unwrap_or_default() {
            if argument.index > 5 || !OPERATORS.contains(&argument.op.as_str()) {
                return fail("an argument has an index of 0 to 5 and a known operator");
            }
        }
        for condition in [&rule.includes, &rule.excludes].into_iter().flatten() {
            if let Some(text) = &condition.min_kernel {
                kernel_of(text).map_or_else(|| fail(format!("{text:?} is no kernel version")), Ok)?;
            }
        }
    }
    Ok(profile)
}

fn action(name: &str) -> Result<(), Error> {
    match name {
        "SCMP_ACT_NOTIFY" | "SCMP_ACT_TRACE" => Err(Error::Unserved(format!("the seccomp action {name} is"))),
        name if ACTIONS.contains(&name) => Ok(()),
        other => fail(format!("{other:?} is no action")),
    }
}

impl Rule {
    fn calls(&self) -> impl Iterator<Item = &String> {
        self.name.iter().chain(self.names.iter().flatten())
    }

    /// Whether the rule is for this machine and a container with these capabilities.
    fn applies(&self, here: &Here<'_>) -> bool {
        let holds = |condition: &Condition| Holds::of(condition, here);
        self.includes.as_ref().map(holds).is_none_or(|found| found.all())
            && self.excludes.as_ref().map(holds).is_none_or(|found| !found.any())
    }
}

/// What conditions are compared with.
struct Here<'a> {
    caps: &'a [String],
    arch: &'a str,
    kernel: (u64, u64),
}

/// The parts of one condition; `None` where it does not say.
struct Holds {
    caps: Option<(bool, bool)>,
    arch: Option<bool>,
    kernel: Option<bool>,
}

impl Holds {
    fn of(condition: &Condition, here: &Here<'_>) -> Self {
        let caps = condition.caps.as_deref().filter(|caps| !caps.is_empty()).map(|caps| {
            let has = |cap: &String| here.caps.contains(cap);
            (caps.iter().all(has), caps.iter().any(has))
        });
        let arch = condition
            .arches
            .as_deref()
            .filter(|arches| !arches.is_empty())
            .map(|arches| arches.iter().any(|arch| arch == here.arch));
        let kernel = condition.min_kernel.as_deref().and_then(kernel_of).map(|wanted| here.kernel >= wanted);
        Self { caps, arch, kernel }
    }

    fn all(&self) -> bool {
        self.caps.is_none_or(|(all, _)| all) && self.arch != Some(false) && self.kernel != Some(false)
    }

    fn any(&self) -> bool {
        self.caps.is_some_and(|(_, any)| any) || self.arch == Some(true) || self.kernel == Some(true)
    }
}

/// Major and minor number of a kernel's version: "6.18.2-x" is (6, 18).
fn kernel_of(text: &str) -> Option<(u64, u64)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u64>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Some((major, minor)),
        _ => None,
    }
}

/// The profile in the OCI's form, for a container with these capabilities (as "CAP_CHOWN").
///
/// # Errors
/// When the OCI's form cannot say it.
pub fn linux(profile: &Profile, caps: &[String]) -> Result<LinuxSeccomp, Error> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let here =
        Here { caps, arch: super::host::architecture(), kernel: kernel_of(&release).unwrap_or_default() };
    for_host(profile, &here)
}

fn for_host(profile: &Profile, here: &Here<'_>) -> Result<LinuxSeccomp, Error> {
    let mut architectures: Vec<String> = profile.architectures.clone().unwrap_or_default();
    let native = native(here.arch);
    for map in profile.arch_map.iter().flatten().filter(|map| Some(map.architecture.as_str()) == native) {
        architectures.push(map.architecture.clone());
        architectures.extend(map.sub_architectures.iter().flatten().cloned());
    }
    let mut rules: Vec<Value> = Vec::new();
    for rule in profile.syscalls.iter().flatten().filter(|rule| rule.applies(here)) {
        let args: Vec<Value> = rule
            .args
            .iter()
            .flatten()
            .map(|a| json!({"index": a.index, "value": a.value, "valueTwo": a.value_two, "op": a.op}))
            .collect();
        let mut made = json!({"names": rule.calls().collect::<Vec<_>>(), "action": rule.action});
        if !args.is_empty() {
            made["args"] = Value::Array(args);
        }
        if let Some(errno) = rule.errno_ret {
            made["errnoRet"] = errno.into();
        }
        rules.push(made);
    }
    let convert = |value: Value| serde_json::from_value::<LinuxSyscall>(value);
    let mut seccomp = LinuxSeccomp::default();
    seccomp
        .set_default_action(
            serde_json::from_value(Value::String(profile.default_action.clone()))
                .or_else(|error| fail(error.to_string()))?,
        )
        .set_default_errno_ret(profile.default_errno_ret)
        .set_syscalls(Some(
            rules.into_iter().map(convert).collect::<Result<_, _>>().or_else(|e| fail(e.to_string()))?,
        ));
    if !architectures.is_empty() {
        let arches: Vec<Arch> =
            serde_json::from_value(json!(architectures)).or_else(|e| fail(e.to_string()))?;
        seccomp.set_architectures(Some(arches));
    }
    Ok(seccomp)
}

fn native(arch: &str) -> Option<&'static str> {
    match arch {
        "amd64" => Some("SCMP_ARCH_X86_64"),
        "arm64" => Some("SCMP_ARCH_AARCH64"),
        "386" => Some("SCMP_ARCH_X86"),
        "arm" => Some("SCMP_ARCH_ARM"),
        "riscv64" => Some("SCMP_ARCH_RISCV64"),
        "ppc64le" => Some("SCMP_ARCH_PPC64LE"),
        "s390x" => Some("SCMP_ARCH_S390X"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILE: &str = r#"{
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
                    {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]}],
        "syscalls": [
            {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW", "comment": "x"},
            {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["arm_sync"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm64"]}},
            {"names": ["new"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "99.1"}},
            {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
            {"name": "clone", "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"], "arches": ["s390"]},
             "args": [{"index": 0, "value": 2114060288, "op": "SCMP_CMP_MASKED_EQ"}]},
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}
        ]}"#;

    fn names(caps: &[&str]) -> Vec<String> {
        let caps: Vec<String> = caps.iter().map(|cap| (*cap).to_owned()).collect();
        let here = Here { caps: &caps, arch: "amd64", kernel: (6, 1) };
        let made = for_host(&parse(PROFILE).unwrap(), &here).unwrap();
        assert_eq!(made.architectures().as_ref().unwrap().len(), 3);
        made.syscalls().iter().flatten().flat_map(|rule| rule.names().clone()).collect()
    }

    #[test]
    fn rules_for_other_hosts_and_capabilities_are_left_out() {
        assert_eq!(names(&[]), ["read", "write", "ptrace", "clone", "clone3"]);
        assert_eq!(names(&["CAP_SYS_ADMIN"]), ["read", "write", "mount", "ptrace", "clone3"]);
    }

    #[test]
    fn profiles_that_cannot_be_carried_out_are_refused() {
        for bad in [
            "{}",
            r#"{"defaultAction":"SCMP_ACT_X"}"#,
            r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/x"}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_LOG"]}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":[],"action":"SCMP_ACT_ALLOW"}]}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a"],"action":"SCMP_ACT_ALLOW","args":[{"index":6,"value":1,"op":"SCMP_CMP_EQ"}]}]}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"x"}}]}"#,
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
