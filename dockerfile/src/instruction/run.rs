//! RUN: a command whose changes become a layer.

use super::mount::{self, Mount};
use crate::error::{Error, Problem};
use crate::expand::Lookup;
use crate::flag::Flags;
use crate::json;
use crate::lexer::{Delimiter, Heredoc, Statement};
use crate::word::Word;

/// What runs, and with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// What runs.
    pub program: Program,
    /// What it can reach.
    pub network: Network,
    /// What it may.
    pub security: Security,
    /// The mounts, as written.
    mounts: Vec<Word>,
}

/// What a RUN runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// A program and its arguments.
    Exec(Vec<String>),
    /// A line for the shell, documents included.
    Shell(String),
    /// A document that says itself what reads it, in its first line `#!`.
    Script {
        /// The document's name.
        name: String,
        /// Its text.
        text: String,
    },
}

/// What a command can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// What containers can reach.
    #[default]
    Default,
    /// Nothing.
    None,
    /// What the host can reach, as a part of it.
    Host,
}

/// What a command may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Security {
    /// What containers may.
    #[default]
    Sandbox,
    /// Everything.
    Insecure,
}

impl Run {
    pub(super) fn read(mut flags: Flags, rest: &Word, statement: &Statement) -> Result<Self, Error> {
        let mounts = flags.values("mount")?;
        for mount in &mounts {
            mount::check(mount)?;
        }
        let network = match flags.value("network")? {
            Some(word) => one_of(
                &word,
                "network",
                &[("default", Network::Default), ("none", Network::None), ("host", Network::Host)],
                "it can be default, none or host",
            )?,
            None => Network::Default,
        };
        let security = match flags.value("security")? {
            Some(word) => one_of(
                &word,
                "security",
                &[("sandbox", Security::Sandbox), ("insecure", Security::Insecure)],
                "it can be sandbox or insecure",
            )?,
            None => Security::Sandbox,
        };
        flags.finish(&[])?;
        let program = program(rest, &statement.heredocs)?;
        if program == Program::Exec(Vec::new()) {
            return Err(Error::new(rest.at(), Problem::Missing { instruction: "RUN", what: "a command" }));
        }
        Ok(Self { program, network, security, mounts })
    }

    /// The mounts, with their variables replaced.
    ///
    /// # Errors
    /// A variable cannot be expanded, or a mount does not say what it must.
    pub fn mounts(&self, lookup: Lookup<'_>) -> Result<Vec<Mount>, Error> {
        self.mounts.iter().map(|mount| Mount::read(mount, lookup)).collect()
    }

    /// The stages and images that its mounts are from, which have no variables.
    pub fn sources(&self) -> impl Iterator<Item = Word> {
        self.mounts.iter().filter_map(mount::source)
    }
}

fn one_of<T: Copy>(
    word: &Word,
    what: &'static str,
    known: &[(&str, T)],
    reason: &'static str,
) -> Result<T, Error> {
    let found = known.iter().find(|(name, _)| word.text() == *name).map(|(_, value)| *value);
    found.ok_or_else(|| Error::new(word.at(), Problem::Word { what, word: word.text().to_owned(), reason }))
}

/// What runs, where documents are named or not.
fn program(rest: &Word, documents: &[Heredoc]) -> Result<Program, Error> {
    if let Some(words) = json::list(rest)? {
        return Ok(Program::Exec(words));
    }
    let line = rest.text();
    let Some(first) = documents.first() else { return Ok(Program::Shell(line.to_owned())) };
    // A document alone is the script itself; with anything beside it, it is the shell's own business.
    let alone = documents.len() == 1 && rest.words().len() == 1 && Delimiter::parse(line).is_some();
    if alone {
        let text = first.content().text().to_owned();
        return Ok(if text.starts_with("#!") {
            Program::Script { name: first.name.clone(), text }
        } else {
            Program::Shell(text)
        });
    }
    let mut text = line.to_owned();
    for document in documents {
        text.push('\n');
        text.push_str(document.body.text());
        text.push_str(&document.name);
    }
    Ok(Program::Shell(text))
}
