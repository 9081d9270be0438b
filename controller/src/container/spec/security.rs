//! How far a container is confined: the words of `--security-opt`, masks, read-only paths.

use davit_proto::confinement::{CGROUPS, MASKED, MASKED_BY_PROCESSOR, READ_ONLY};
use oci_spec::runtime::LinuxSeccomp;

use super::path::clean;
use super::seccomp;
use super::{Error, Host};

/// Which system calls a container may make.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Seccomp {
    /// As the shim's own profile says.
    #[default]
    Default,
    /// All.
    Unconfined,
    /// As this profile says, docker's format.
    Profile(seccomp::Profile),
}

/// The words of `--security-opt`, understood.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    /// Which system calls are allowed.
    pub seccomp: Seccomp,
    /// No program may gain rights by execve(2).
    pub no_new_privileges: bool,
    /// Paths to hide beside the usual ones, clean.
    pub mask: Vec<String>,
    /// Paths not to hide nor protect, clean; "ALL" for every one.
    pub unmask: Vec<String>,
}

impl Options {
    /// Whether the container may write to its cgroups.
    #[must_use]
    pub fn writable_cgroups(&self) -> bool {
        self.unmask.iter().any(|path| path == CGROUPS)
    }
}

/// Understands all words; a later one wins over an earlier one of the same kind.
///
/// # Errors
/// When a word is unknown, or asks for what this version does not confine with.
pub fn parse(words: &[String]) -> Result<Options, Error> {
    let mut options = Options::default();
    for word in words {
        // The sign was a colon once, and scripts still write it so.
        let (key, value) = word.split_once(['=', ':']).unwrap_or((word, ""));
        match (key, value) {
            ("seccomp", "unconfined") => options.seccomp = Seccomp::Unconfined,
            ("seccomp", "builtin" | "default") => options.seccomp = Seccomp::Default,
            ("seccomp", text) if text.trim_start().starts_with('{') => {
                options.seccomp = Seccomp::Profile(seccomp::parse(text)?);
            }
            ("seccomp", _) => return unknown(word, "must be unconfined, builtin or a profile's JSON text"),
            ("no-new-privileges", "" | "true") => options.no_new_privileges = true,
            ("no-new-privileges", "false") => options.no_new_privileges = false,
            ("mask", list) => options.mask.extend(paths(word, list)?),
            ("unmask", "ALL" | "all") | ("systempaths", "unconfined") => {
                options.unmask = vec!["ALL".to_owned()];
            }
            ("unmask", list) => options.unmask.extend(paths(word, list)?.iter().flat_map(|p| expanded(p))),
            ("writable-cgroups", "" | "true") => options.unmask.push(CGROUPS.to_owned()),
            ("writable-cgroups", "false") => options.unmask.retain(|path| path != CGROUPS),
            // Containers are confined by neither, so to ask for none of them is to ask for what is.
            ("apparmor", "unconfined") | ("label", "disable") => {}
            ("apparmor", _) => return Err(Error::Unserved("AppArmor profiles are".to_owned())),
            ("label", _) => return Err(Error::Unserved("SELinux labels are".to_owned())),
            _ => return unknown(word, "no such option"),
        }
    }
    Ok(options)
}

fn unknown(word: &str, rule: &str) -> Result<Options, Error> {
    Err(Error::invalid("security_opt", word, rule))
}

fn paths(word: &str, list: &str) -> Result<Vec<String>, Error> {
    list.split(':')
        .map(|path| {
            clean("security_opt", path)
                .map_err(|_| Error::invalid("security_opt", word, "wants absolute paths"))
        })
        .collect()
}

/// The paths that a pattern of `unmask` means: of those that are hidden or protected, the ones that fit.
fn expanded(pattern: &str) -> Vec<String> {
    let ours = MASKED.iter().chain(&READ_ONLY).chain([&MASKED_BY_PROCESSOR, &CGROUPS]);
    let mut found: Vec<String> =
        ours.filter(|path| fits(pattern, path)).map(|path| (*path).to_owned()).collect();
    if found.is_empty() {
        // A path that only this container hides, or that nobody does.
        found.push(pattern.to_owned());
    }
    found
}

/// Shell patterns in paths: `*` and `?` are anything but a slash.
fn fits(pattern: &str, path: &str) -> bool {
    let parts = |text: &str| text.split('/').count();
    let mut both = pattern.split('/').zip(path.split('/'));
    parts(pattern) == parts(path)
        && both.all(|(pattern, name)| fits_name(pattern.as_bytes(), name.as_bytes()))
}

/// One step back to the last star is enough, so that no pattern takes long.
fn fits_name(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut read) = (0, 0);
    let mut star = None;
    while read < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, read));
                at += 1;
            }
            Some(wanted) if *wanted == b'?' || Some(wanted) == name.get(read) => {
                at += 1;
                read += 1;
            }
            _ => match star {
                Some((from, taken)) => {
                    star = Some((from, taken + 1));
                    (at, read) = (from + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern.get(at..).unwrap_or_default().iter().all(|rest| *rest == b'*')
}

/// Paths to hide and paths to protect from writing.
#[must_use]
pub fn paths_of(options: &Options, privileged: bool, host: &Host) -> (Vec<String>, Vec<String>) {
    let bare = privileged || options.unmask.iter().any(|path| path == "ALL");
    let spared = |path: &String| options.unmask.contains(path);
    let usual = MASKED.iter().map(|path| (*path).to_owned());
    let shown = options.unmask.iter().any(|path| path == MASKED_BY_PROCESSOR);
    let thermal = host.thermal.iter().filter(|_| !shown).map(|path| path.display().to_string());
    let mut masked: Vec<String> = usual.chain(thermal).filter(|path| !bare && !spared(path)).collect();
    for path in &options.mask {
        if !masked.contains(path) {
            masked.push(path.clone());
        }
    }
    let protected = READ_ONLY.iter().map(|path| (*path).to_owned());
    (masked, protected.filter(|path| !bare && !spared(path)).collect())
}

/// What the shim is told of seccomp: the word of its annotation, or a whole profile.
///
/// # Errors
/// When the profile cannot be applied here.
pub fn seccomp_of(
    options: &Options,
    privileged: bool,
    given: &[String],
) -> Result<(&'static str, Option<LinuxSeccomp>), Error> {
    match &options.seccomp {
        Seccomp::Profile(profile) => Ok(("profile", Some(seccomp::linux(profile, given)?))),
        Seccomp::Unconfined => Ok(("unconfined", None)),
        Seccomp::Default if privileged => Ok(("unconfined", None)),
        Seccomp::Default => Ok(("default", None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::spec::tests::host;

    fn parsed(words: &[&str]) -> Result<Options, Error> {
        parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn dockers_words_are_understood() {
        let options = parsed(&[
            "no-new-privileges",
            "seccomp=unconfined",
            "mask=/proc/a:/b/",
            "unmask=/proc/acpi:/sys/firmware",
            "label=disable",
            "apparmor:unconfined",
        ])
        .unwrap();
        assert!(options.no_new_privileges);
        assert_eq!(options.seccomp, Seccomp::Unconfined);
        let (masked, protected) = paths_of(&options, false, &host());
        assert!(masked.contains(&"/b".to_owned()) && !masked.contains(&"/proc/acpi".to_owned()));
        assert_eq!(masked.len(), MASKED.len() + host().thermal.len(), "two spared, two added");
        assert_eq!(protected.len(), READ_ONLY.len());
        assert!(!parsed(&["no-new-privileges:true", "no-new-privileges=false"]).unwrap().no_new_privileges);
    }

    #[test]
    fn patterns_mean_what_is_hidden() {
        let options = parsed(&["unmask=/proc/*:/sys/devices/system/cpu/cpu*/thermal_throttle"]).unwrap();
        let (masked, protected) = paths_of(&options, false, &host());
        assert_eq!(masked, ["/sys/devices/virtual/powercap", "/sys/firmware"]);
        assert_eq!(protected, [""; 0]);
        assert!(fits("/a/?c/*", "/a/bc/d") && !fits("/a/*", "/a/b/c") && !fits("/a", "/a/"));
        assert!(fits("/p*c/*_l*t", "/proc/timer_list") && !fits("/p*c/*_l*x", "/proc/timer_list"));
        assert!(!fits(&format!("/{}b", "*".repeat(10_000)), "/proc"), "and at once");
        assert_eq!(parsed(&["writable-cgroups=true"]).unwrap().unmask, [CGROUPS]);
        assert_eq!(parsed(&["unmask=/sys/fs/*"]).unwrap().unmask, [CGROUPS]);
        assert!(parsed(&["writable-cgroups=maybe"]).is_err());
    }

    #[test]
    fn unmask_all_and_privileged_leave_only_what_was_asked_for() {
        let options = parsed(&["systempaths=unconfined", "mask=/x"]).unwrap();
        assert_eq!(paths_of(&options, false, &host()), (vec!["/x".to_owned()], vec![]));
        assert_eq!(paths_of(&Options::default(), true, &host()), (vec![], vec![]));
    }

    #[test]
    fn unknown_words_are_refused() {
        for bad in [
            "",
            "x",
            "seccomp=/etc/x.json",
            "seccomp={",
            "mask=a",
            "no-new-privileges=maybe",
            "apparmor=web",
            "label=type:x",
        ] {
            assert!(parsed(&[bad]).is_err(), "{bad}");
        }
    }
}
