//! Which variables an instruction has: those of the image, those of ARG, and those that every build has.
//!
//! Arguments before the first FROM name images. A stage has none of them until it says ARG itself; what was given
//! to the build comes before every default. A variable of the image always comes before an argument.

use std::collections::BTreeMap;

use crate::error::Error;
use crate::expand::{self, Lookup};
use crate::instruction::Arg;

/// Arguments that need no ARG, because a host may need them to reach anything. They are in no history and no cache.
pub const PROXIES: [&str; 10] = [
    "ALL_PROXY",
    "FTP_PROXY",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "all_proxy",
    "ftp_proxy",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// A platform as images name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// The system, as `linux`.
    pub os: String,
    /// The processor, as `amd64`.
    pub architecture: String,
    /// Its variant, as `v7`, or empty.
    pub variant: String,
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", self.variant) }
    }
}

/// What a build was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// Arguments by name.
    pub args: BTreeMap<String, String>,
    /// The platform that builds.
    pub build: Platform,
    /// The platform that is built for.
    pub target: Platform,
    /// The stage that is built; empty for the last.
    pub stage: String,
}

impl Given {
    /// The arguments about platforms.
    fn predefined(&self) -> BTreeMap<String, String> {
        let mut args = BTreeMap::new();
        for (prefix, platform) in [("BUILD", &self.build), ("TARGET", &self.target)] {
            args.insert(format!("{prefix}PLATFORM"), platform.to_string());
            args.insert(format!("{prefix}OS"), platform.os.clone());
            args.insert(format!("{prefix}ARCH"), platform.architecture.clone());
            args.insert(format!("{prefix}VARIANT"), platform.variant.clone());
        }
        let stage = if self.stage.is_empty() { "default" } else { &self.stage };
        args.insert("TARGETSTAGE".to_owned(), stage.to_owned());
        args
    }
}

/// The arguments before the first stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Global {
    given: BTreeMap<String, String>,
    predefined: BTreeMap<String, String>,
    declared: BTreeMap<String, String>,
}

impl Global {
    /// Follows the ARGs before the first FROM.
    ///
    /// # Errors
    /// A default that cannot be expanded.
    pub fn new(args: &[Arg], given: &Given) -> Result<Self, Error> {
        let mut global =
            Self { given: given.args.clone(), predefined: given.predefined(), declared: BTreeMap::new() };
        for arg in args {
            let name = expand::word(&arg.name, &|name| global.variable(name))?;
            let default = arg.default.as_ref();
            let default =
                default.map(|word| expand::word(word, &|name| global.variable(name))).transpose()?;
            if let Some(value) = global.given.get(&name).cloned().or(default) {
                global.declared.insert(name, value);
            }
        }
        Ok(global)
    }

    /// A variable of a FROM.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<String> {
        self.declared.get(name).or_else(|| self.predefined.get(name)).cloned()
    }
}

/// The arguments of a stage, as far as it has come. A stage that begins with another has those of that one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Args {
    /// By name; none for one that was declared and has no value.
    declared: BTreeMap<String, Option<String>>,
}

impl Args {
    /// Follows an ARG.
    ///
    /// # Errors
    /// Its default cannot be expanded.
    pub fn declare(&mut self, arg: &Arg, global: &Global, lookup: Lookup<'_>) -> Result<(), Error> {
        let name = expand::word(&arg.name, lookup)?;
        let default = arg.default.as_ref().map(|word| expand::word(word, lookup)).transpose()?;
        let value = global.given.get(&name).cloned().or(default).or_else(|| global.variable(&name));
        // One that has a value already and is said again without one keeps it.
        let value = value.or_else(|| self.declared.get(&name).cloned().flatten());
        self.declared.insert(name, value);
        Ok(())
    }

    /// An argument's value.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<String> {
        self.declared.get(name).cloned().flatten()
    }

    /// What a command has in its environment beside the image's: the arguments that have a value and are no variable
    /// of the image.
    #[must_use]
    pub fn environment(&self, image: Lookup<'_>) -> Vec<(String, String)> {
        let named = self.declared.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?)));
        named.filter(|(name, _)| image(name).is_none()).collect()
    }

    /// Arguments for reaching the network that were given and are no part of any result.
    #[must_use]
    pub fn proxies(global: &Global) -> Vec<(String, String)> {
        let given =
            PROXIES.iter().filter_map(|name| Some(((*name).to_owned(), global.given.get(*name)?.clone())));
        given.collect()
    }
}

#[cfg(test)]
mod tests;
