//! A change whose variables have their values.

use std::fmt;

use super::{Command, Healthcheck, Kind, Pair, port, signal};
use crate::error::{Error, Problem};
use crate::expand::{self, Lookup};
use crate::word::Word;

/// What is to be set. Prints as the instruction that says so, without quotes that it does not need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting {
    /// The default command.
    Cmd(Command),
    /// The entry point.
    Entrypoint(Command),
    /// Variables.
    Env(Vec<(String, String)>),
    /// Ports as `80/tcp`, ranges counted out.
    Expose(Vec<String>),
    /// The health check.
    Healthcheck(Healthcheck),
    /// Labels.
    Label(Vec<(String, String)>),
    /// An instruction for later.
    OnBuild(String),
    /// The shell.
    Shell(Vec<String>),
    /// A signal that exists.
    StopSignal(String),
    /// The user.
    User(String),
    /// Paths.
    Volume(Vec<String>),
    /// A path, relative to the one before.
    Workdir(String),
}

/// Replaces the variables of a change.
pub(super) fn expand(kind: &Kind, lookup: Lookup<'_>) -> Result<Setting, Error> {
    let one = |word: &Word| expand::word(word, lookup);
    Ok(match kind {
        // These words are for the container's own shell, which has its own variables.
        Kind::Cmd(command) => Setting::Cmd(command.clone()),
        Kind::Entrypoint(command) => Setting::Entrypoint(command.clone()),
        Kind::Healthcheck(health) => Setting::Healthcheck(health.clone()),
        Kind::Shell(words) => Setting::Shell(words.clone()),
        Kind::OnBuild(text) => Setting::OnBuild(text.text().to_owned()),
        Kind::Env(pairs) => Setting::Env(expand_pairs(pairs, lookup)?),
        Kind::Label(pairs) => Setting::Label(expand_pairs(pairs, lookup)?),
        Kind::Expose(words) => Setting::Expose(expand_ports(words, lookup)?),
        Kind::User(word) => Setting::User(one(word)?),
        Kind::Workdir(word) => {
            let path = one(word)?;
            if path.is_empty() {
                return Err(wrong(word, "path", "it is empty"));
            }
            Setting::Workdir(path)
        }
        Kind::StopSignal(word) => {
            let name = one(word)?;
            if !signal::is_signal(&name) {
                return Err(Error::new(
                    word.at(),
                    Problem::Word { what: "signal", word: name, reason: "there is no such signal" },
                ));
            }
            Setting::StopSignal(name)
        }
        Kind::Volume(words) => {
            let paths: Vec<String> = words.iter().map(one).collect::<Result<_, _>>()?;
            if let Some(at) = paths.iter().position(|path| path.trim().is_empty()) {
                return Err(wrong(&words[at], "path of a volume", "it is empty"));
            }
            Setting::Volume(paths)
        }
    })
}

fn wrong(word: &Word, what: &'static str, reason: &'static str) -> Error {
    Error::new(word.at(), Problem::Word { what, word: word.text().to_owned(), reason })
}

fn expand_pairs(pairs: &[Pair], lookup: Lookup<'_>) -> Result<Vec<(String, String)>, Error> {
    let expanded = pairs.iter().map(|(name, value)| {
        let key = expand::word(name, lookup)?;
        if key.is_empty() {
            return Err(wrong(name, "name", "it is empty"));
        }
        Ok((key, expand::word(value, lookup)?))
    });
    expanded.collect()
}

fn expand_ports(words: &[Word], lookup: Lookup<'_>) -> Result<Vec<String>, Error> {
    let mut ports = Vec::new();
    for word in words {
        let found = port::all(&expand::words(word, lookup)?).map_err(|(port, reason)| {
            Error::new(word.at(), Problem::Word { what: "port", word: port, reason })
        })?;
        ports.extend(found);
        if ports.len() > crate::limit::PORTS {
            let problem = Problem::Limit { what: "number of ports", limit: crate::limit::PORTS };
            return Err(Error::new(word.at(), problem));
        }
    }
    Ok(ports)
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cmd(command) => write!(f, "CMD {command}"),
            Self::Entrypoint(command) => write!(f, "ENTRYPOINT {command}"),
            Self::Env(pairs) => write_pairs(f, "ENV", pairs),
            Self::Label(pairs) => write_pairs(f, "LABEL", pairs),
            Self::Expose(ports) => write!(f, "EXPOSE {}", ports.join(" ")),
            Self::Healthcheck(health) => match &health.command {
                Some(command) => write!(f, "HEALTHCHECK CMD {command}"),
                None => f.write_str("HEALTHCHECK NONE"),
            },
            Self::OnBuild(text) => write!(f, "ONBUILD {}", text.lines().next().unwrap_or_default()),
            Self::Shell(words) => write!(f, "SHELL {}", Command::Exec(words.clone())),
            Self::StopSignal(name) => write!(f, "STOPSIGNAL {name}"),
            Self::User(user) => write!(f, "USER {user}"),
            Self::Volume(paths) => write!(f, "VOLUME {}", Command::Exec(paths.clone())),
            Self::Workdir(path) => write!(f, "WORKDIR {path}"),
        }
    }
}

fn write_pairs(f: &mut fmt::Formatter<'_>, name: &str, pairs: &[(String, String)]) -> fmt::Result {
    f.write_str(name)?;
    pairs.iter().try_for_each(|(key, value)| write!(f, " {key}={value}"))
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shell(line) => f.write_str(line),
            Self::Exec(words) => write!(f, "{}", serde_json::Value::from(words.clone())),
        }
    }
}
