//! What `launch` and `serve` are told on their command line.

use std::ffi::{OsStr, OsString};
use std::os::fd::RawFd;
use std::path::PathBuf;

use davit_proto::id::ContainerId;

/// The options of `launch`, passed on to `serve` as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The container to serve.
    pub id: ContainerId,
    /// The lasting half of its bundle: `<root>/containers/<id>`.
    pub bundle: PathBuf,
    /// The half that is gone after a reboot: `<run>/shim/<id>`.
    pub run: PathBuf,
    /// Name of the engine that it belongs to.
    pub instance: String,
    /// The cgroup below which it makes its own, from the root of the hierarchy.
    pub cgroup_parent: String,
    /// Reading end of a pipe: its end of file before Configure ends the shim.
    pub unconfigured_fd: Option<RawFd>,
    /// Stay in the caller's pid namespace, for `--pid host` and `--pid container:X`.
    pub shared_pid: bool,
}

/// A command line that makes no sense.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// A word that is no option.
    #[error("unknown option {0:?}")]
    Unknown(OsString),
    /// An option without its value.
    #[error("option {0} needs a value")]
    NoValue(&'static str),
    /// A value that does not fit.
    #[error("option {name}: invalid value {value:?}: {rule}")]
    Invalid {
        /// Which option.
        name: &'static str,
        /// What was said.
        value: OsString,
        /// What can be said.
        rule: &'static str,
    },
    /// An option that is always needed.
    #[error("option {0} is missing")]
    Missing(&'static str),
}

const ID: &str = "--id";
const BUNDLE: &str = "--bundle";
const RUN: &str = "--run";
const INSTANCE: &str = "--instance";
const CGROUP_PARENT: &str = "--cgroup-parent";
const UNCONFIGURED_FD: &str = "--unconfigured-fd";
const SHARED_PID: &str = "--shared-pid";
const WITH_VALUE: [&str; 6] = [ID, BUNDLE, RUN, INSTANCE, CGROUP_PARENT, UNCONFIGURED_FD];

impl Options {
    /// Reads the words after the command.
    pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Self, OptionsError> {
        let mut values: [Option<OsString>; WITH_VALUE.len()] = [const { None }; WITH_VALUE.len()];
        let mut shared_pid = false;
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            if word == SHARED_PID {
                shared_pid = true;
                continue;
            }
            let known = WITH_VALUE.iter().zip(&mut values).find(|(name, _)| word == **name);
            let (name, slot) = known.ok_or(OptionsError::Unknown(word))?;
            *slot = Some(words.next().ok_or(OptionsError::NoValue(name))?);
        }
        let [id, bundle, run, instance, cgroup_parent, unconfigured_fd] = values;
        Ok(Self {
            id: text(ID, id)?.parse().map_err(|_| invalid(ID, "", "must be 64 lower-case hex digits"))?,
            bundle: absolute(BUNDLE, bundle)?,
            run: absolute(RUN, run)?,
            instance: text(INSTANCE, instance)?,
            cgroup_parent: text(CGROUP_PARENT, cgroup_parent)?,
            unconfigured_fd: unconfigured_fd.map(descriptor).transpose()?,
            shared_pid,
        })
    }

    /// The words that [`Options::parse`] reads back as the same.
    pub fn to_words(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec![
            ID.into(),
            self.id.as_str().into(),
            BUNDLE.into(),
            self.bundle.clone().into(),
            RUN.into(),
            self.run.clone().into(),
            INSTANCE.into(),
            self.instance.clone().into(),
            CGROUP_PARENT.into(),
            self.cgroup_parent.clone().into(),
        ];
        if let Some(fd) = self.unconfigured_fd {
            words.extend([UNCONFIGURED_FD.into(), fd.to_string().into()]);
        }
        if self.shared_pid {
            words.push(SHARED_PID.into());
        }
        words
    }
}

fn text(name: &'static str, value: Option<OsString>) -> Result<String, OptionsError> {
    let value = value.ok_or(OptionsError::Missing(name))?;
    match value.into_string() {
        Ok(text) if !text.is_empty() => Ok(text),
        Ok(text) => Err(invalid(name, text, "must not be empty")),
        Err(value) => Err(invalid(name, value, "must be UTF-8")),
    }
}

fn absolute(name: &'static str, value: Option<OsString>) -> Result<PathBuf, OptionsError> {
    let path = PathBuf::from(value.ok_or(OptionsError::Missing(name))?);
    if path.is_absolute() { Ok(path) } else { Err(invalid(name, path, "must be an absolute path")) }
}

fn descriptor(value: OsString) -> Result<RawFd, OptionsError> {
    let number = value.to_str().and_then(|text| text.parse().ok()).filter(|n| *n > 2);
    number.ok_or_else(|| invalid(UNCONFIGURED_FD, value, "must be a number above 2"))
}

fn invalid(name: &'static str, value: impl AsRef<OsStr>, rule: &'static str) -> OptionsError {
    OptionsError::Invalid { name, value: value.as_ref().to_owned(), rule }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options {
            id: "0123456789abcdef".repeat(4).parse().unwrap(),
            bundle: "/b".into(),
            run: "/r".into(),
            instance: "davit".into(),
            cgroup_parent: "/davit".into(),
            unconfigured_fd: Some(4),
            shared_pid: true,
        }
    }

    #[test]
    fn words_are_read_back() {
        let full = options();
        assert_eq!(Options::parse(full.to_words()).unwrap(), full);
        let bare = Options { unconfigured_fd: None, shared_pid: false, ..full };
        assert_eq!(Options::parse(bare.to_words()).unwrap(), bare);
    }

    #[test]
    fn nonsense_is_named() {
        let parse = |words: &[&str]| Options::parse(words.iter().map(OsString::from)).unwrap_err();
        assert_eq!(parse(&["--what"]), OptionsError::Unknown("--what".into()));
        assert_eq!(parse(&["--id"]), OptionsError::NoValue("--id"));
        assert_eq!(parse(&[]), OptionsError::Missing("--id"));
        let mut words = options().to_words();
        words[11] = "1".into();
        assert!(matches!(
            Options::parse(words),
            Err(OptionsError::Invalid { name: "--unconfigured-fd", .. })
        ));
    }
}
