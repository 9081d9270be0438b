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
const ACTIONS: [&str; 8] = [
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_TRACE",
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

/// Flags that make sense for a process with one thread and nobody who listens.
const FLAGS: [&str; 3] =
    ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"];
/// Errors that profiles give by name; the numbers are the same on all machines.
const ERRORS: [(&str, u32); 12] = [
    ("EPERM", 1),
    ("ENOENT", 2),
    ("EIO", 5),
    ("EBADF", 9),
    ("EAGAIN", 11),
    ("ENOMEM", 12),
    ("EACCES", 13),
    ("EFAULT", 14),
    ("EBUSY", 16),
    ("EINVAL", 22),
    ("ENOSYS", 38),
    ("EOPNOTSUPP", 95),
];

/// A profile in docker's format, with the names of errors that podman writes beside their numbers.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Profile {
    default_action: String,
    #[serde(default)]
    default_errno_ret: Option<u32>,
    #[serde(default)]
    default_errno: Option<String>,
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
    errno: Option<String>,
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
    action(&profile.default_action, "the default")?;
    error_number(profile.default_errno_ret, profile.default_errno.as_deref())?;
    if let Some(flag) = profile.flags.iter().flatten().find(|flag| !FLAGS.contains(&flag.as_str())) {
        return Err(Error::Unserved(format!("the seccomp flag {} is", shown(flag))));
    }
    let rules = profile.syscalls.as_deref().unwrap_or_default();
    if rules.len() > RULES {
        return fail(format!("more than {RULES} rules"));
    }
    for rule in rules {
        let call = rule.calls().next().map_or("a rule without system calls", String::as_str);
        action(&rule.action, call)?;
        error_number(rule.errno_ret, rule.errno.as_deref())?;
        if rule.calls().next().is_none() || rule.calls().count() > NAMES {
            return fail(format!("a rule must name 1 to {NAMES} system calls"));
        }
        for argument in rule.args.as_deref().unwrap_or_default() {
            if argument.index > 5 || !OPERATORS.contains(&argument.op.as_str()) {
                let (op, index) = (shown(&argument.op), argument.index);
                return fail(format!(
                    "{}: argument {index} with {op}: indexes are 0 to 5, operators SCMP_CMP_NE, LT, LE, EQ, GE, GT, \
                     MASKED_EQ",
                    shown(call)
                ));
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

/// Text of a profile, cut and escaped.
fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(64).collect::<String>())
}

fn action(name: &str, call: &str) -> Result<(), Error> {
    match name {
        "SCMP_ACT_NOTIFY" => {
            Err(Error::Unserved(format!("the seccomp action SCMP_ACT_NOTIFY (of {}) is", shown(call))))
        }
        name if ACTIONS.contains(&name) => Ok(()),
        other => fail(format!("{} of {} is none of {}", shown(other), shown(call), ACTIONS.join(", "))),
    }
}

/// The number counts where both are given.
fn error_number(number: Option<u32>, name: Option<&str>) -> Result<Option<u32>, Error> {
    match (number, name) {
        (None, Some(name)) => match ERRORS.iter().find(|(known, _)| *known == name) {
            Some((_, number)) => Ok(Some(*number)),
            None => fail(format!("the error {} has no number here: errnoRet says it", shown(name))),
        },
        (number, _) => Ok(number),
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
        if let Some(errno) = error_number(rule.errno_ret, rule.errno.as_deref())? {
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
        .set_default_errno_ret(error_number(profile.default_errno_ret, profile.default_errno.as_deref())?)
        .set_syscalls(Some(
            rules.into_iter().map(convert).collect::<Result<_, _>>().or_else(|e| fail(e.to_string()))?,
        ));
    if let Some(flags) = profile.flags.as_ref().filter(|flags| !flags.is_empty()) {
        let flags = serde_json::from_value(json!(flags)).or_else(|e| fail(e.to_string()))?;
        seccomp.set_flags(Some(flags));
    }
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
    fn what_is_wrong_is_named() {
        let said = |rule: &str| {
            let text = format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{rule}]}}"#);
            parse(&text).unwrap_err().to_string()
        };
        let error = said(r#"{"names":["ptrace"],"action":"SCMP_ACT_DENY"}"#);
        assert!(error.contains(r#""SCMP_ACT_DENY" of "ptrace""#), "{error}");
        let error = said(r#"{"names":["mount"],"action":"SCMP_ACT_NOTIFY"}"#);
        assert!(error.contains(r#"SCMP_ACT_NOTIFY (of "mount") is not served"#), "{error}");
        let error = said(
            r#"{"names":["clone"],"action":"SCMP_ACT_ERRNO","args":[{"index":0,"value":1,"op":"SCMP_CMP_XX"}]}"#,
        );
        assert!(error.contains(r#""clone": argument 0 with "SCMP_CMP_XX""#), "{error}");
        assert!(said(r#"{"names":["clone"],"action":"SCMP_ACT_ERRNO","agrs":[]}"#).contains("agrs"));
    }

    #[test]
    fn podmans_names_of_errors_and_flags() {
        let text = r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrno":"ENOSYS","flags":["SECCOMP_FILTER_FLAG_LOG"],
            "syscalls":[{"names":["a"],"action":"SCMP_ACT_ERRNO","errnoRet":1,"errno":"ENOSYS"},
                        {"names":["b"],"action":"SCMP_ACT_ERRNO","errno":"EACCES"}]}"#;
        let here = Here { caps: &[], arch: "amd64", kernel: (6, 1) };
        let made = for_host(&parse(text).unwrap(), &here).unwrap();
        assert_eq!(made.default_errno_ret(), Some(38));
        let numbers: Vec<_> = made.syscalls().iter().flatten().map(|rule| rule.errno_ret()).collect();
        assert_eq!(numbers, [Some(1), Some(13)]);
        assert_eq!(made.flags().as_ref().map(Vec::len), Some(1));
    }

    #[test]
    fn profiles_that_cannot_be_carried_out_are_refused() {
        for bad in [
            "{}",
            r#"{"defaultAction":"SCMP_ACT_X"}"#,
            r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/x"}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_NEW_LISTENER"]}"#,
            r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrno":"EWHAT"}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":[],"action":"SCMP_ACT_ALLOW"}]}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a"],"action":"SCMP_ACT_ALLOW","args":[{"index":6,"value":1,"op":"SCMP_CMP_EQ"}]}]}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"x"}}]}"#,
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
