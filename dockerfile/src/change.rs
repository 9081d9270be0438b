//! Instructions that only change an image's config: what `commit --change` takes, and what a builder does without
//! running anything.
//!
//! ```text
//! text ─parse─▶ Change ─expand(variables)─▶ Setting ─apply─▶ Config, the object "config" of an image
//! ```
//!
//! [`parse`] and [`apply`] are the whole way for those who have a text and a config. A builder goes step by step,
//! for its variables are more than the config's, and its history tells the settings.

mod config;
mod health;
mod port;
mod read;
mod setting;
mod signal;

use serde_json::{Map, Value};

use crate::error::{Error, Problem};
use crate::expand::Lookup;
use crate::lexer::{self, Statement};
use crate::nearest::nearest;
use crate::position::Position;
use crate::word::Word;

pub use config::{Config, joined};
pub use health::Healthcheck;
pub(crate) use read::list;
pub use setting::Setting;

/// The instructions that are changes, in the order in which the reference has them.
pub const NAMES: [&str; 12] = [
    "CMD",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "HEALTHCHECK",
    "LABEL",
    "ONBUILD",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// An instruction as written: its variables are still variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where it begins.
    pub at: Position,
    /// What it changes.
    pub kind: Kind,
}

/// A name and its value.
pub type Pair = (Word, Word);

/// What an instruction changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// What runs by default, or the default arguments of the entry point.
    Cmd(Command),
    /// The program that the image is.
    Entrypoint(Command),
    /// Variables of the environment.
    Env(Vec<Pair>),
    /// Ports that the program listens on.
    Expose(Vec<Word>),
    /// How it is found out whether the program is well.
    Healthcheck(Healthcheck),
    /// Labels.
    Label(Vec<Pair>),
    /// An instruction for whoever builds upon the image.
    OnBuild(Word),
    /// The shell of the shell forms.
    Shell(Vec<String>),
    /// The signal that asks the program to end.
    StopSignal(Word),
    /// Whose the program is.
    User(Word),
    /// Folders that are volumes.
    Volume(Vec<Word>),
    /// Where the program and the instructions after this begin.
    Workdir(Word),
}

/// A command in one of its two forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A line for the shell.
    Shell(String),
    /// A program and its arguments.
    Exec(Vec<String>),
}

/// Reads a text of changes, one a line as in a Dockerfile.
///
/// # Errors
/// An instruction is unknown, is no change, or does not say what it must.
pub fn parse(text: &str) -> Result<Vec<Change>, Error> {
    lexer::lex(text)?.statements.iter().map(Change::read).collect()
}

/// Applies changes in order. Variables are those that the config has before each.
///
/// # Errors
/// A word cannot be expanded or says then what it may not, or the config is not what an image's config looks like.
/// The config may have been changed in part.
pub fn apply(changes: &[Change], config: &mut Map<String, Value>) -> Result<(), Error> {
    let mut target = Config::new(std::mem::take(config));
    let applied = changes.iter().try_for_each(|change| {
        let setting = change.expand(&|name: &str| target.variable(name))?;
        target.apply(&setting).map_err(|problem| Error::new(change.at, problem))
    });
    *config = target.into_map();
    applied
}

impl Change {
    /// Reads a statement that must be a change.
    ///
    /// # Errors
    /// As of [`parse`].
    pub fn read(statement: &Statement) -> Result<Self, Error> {
        let name = statement.name.text().to_ascii_uppercase();
        if let Some(kind) = read::kind(&name, statement)? {
            return Ok(Self { at: statement.name.at(), kind });
        }
        let problem = match ["ADD", "ARG", "COPY", "FROM", "MAINTAINER", "RUN"].iter().find(|n| **n == name) {
            Some(instruction) => {
                Problem::Misplaced { instruction, reason: "is no change of a config and has no place here" }
            }
            None => {
                let word = statement.name.text().to_owned();
                Problem::Instruction { nearest: nearest(&word, NAMES), word }
            }
        };
        Err(Error::new(statement.name.at(), problem))
    }

    /// Reads a statement that may be a change; none when it is another instruction, known or not.
    ///
    /// # Errors
    /// It is a change and does not say what it must.
    pub fn read_if(statement: &Statement) -> Result<Option<Self>, Error> {
        let name = statement.name.text().to_ascii_uppercase();
        Ok(read::kind(&name, statement)?.map(|kind| Self { at: statement.name.at(), kind }))
    }

    /// Its name in capitals.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self.kind {
            Kind::Cmd(_) => "CMD",
            Kind::Entrypoint(_) => "ENTRYPOINT",
            Kind::Env(_) => "ENV",
            Kind::Expose(_) => "EXPOSE",
            Kind::Healthcheck(_) => "HEALTHCHECK",
            Kind::Label(_) => "LABEL",
            Kind::OnBuild(_) => "ONBUILD",
            Kind::Shell(_) => "SHELL",
            Kind::StopSignal(_) => "STOPSIGNAL",
            Kind::User(_) => "USER",
            Kind::Volume(_) => "VOLUME",
            Kind::Workdir(_) => "WORKDIR",
        }
    }

    /// Replaces its variables.
    ///
    /// # Errors
    /// A word cannot be expanded, or says then what it may not.
    pub fn expand(&self, lookup: Lookup<'_>) -> Result<Setting, Error> {
        setting::expand(&self.kind, lookup)
    }
}

#[cfg(test)]
mod tests;
