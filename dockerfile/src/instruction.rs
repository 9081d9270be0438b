//! Instructions: what a statement says once its flags and arguments were read.

mod arg;
mod from;
mod mount;
mod run;
mod transfer;

use crate::change::{self, Change};
use crate::error::{Error, Problem};
use crate::flag::Flags;
use crate::lexer::{self, Statement};
use crate::nearest::nearest;
use crate::position::Position;
use crate::word::Word;

pub use arg::Arg;
pub use from::From;
pub use mount::{Kind as MountKind, Mount, Owner, Sharing};
pub use run::{Network, Program, Run, Security};
pub use transfer::{Source, Transfer, TransferStep};

/// The instructions that are no [`change`].
const OTHERS: [&str; 6] = ["ADD", "ARG", "COPY", "FROM", "MAINTAINER", "RUN"];

/// One instruction and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// Where it begins.
    pub at: Position,
    /// Its last line, that of its documents included.
    pub last_line: usize,
    /// As written, in one line and without its documents.
    pub text: String,
    /// What it says.
    pub kind: Kind,
}

/// What an instruction says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A stage begins.
    From(From),
    /// Arguments of the build.
    Arg(Vec<Arg>),
    /// A command runs.
    Run(Run),
    /// COPY and ADD.
    Transfer(Transfer),
    /// The author, as it was said before labels.
    Maintainer(Word),
    /// Only the config changes.
    Change(Change),
}

impl Instruction {
    /// Reads a statement.
    ///
    /// # Errors
    /// The instruction is unknown or does not say what it must.
    pub fn read(statement: &Statement) -> Result<Self, Error> {
        Ok(Self {
            at: statement.name.at(),
            last_line: statement.last_line,
            text: statement.text(),
            kind: kind(statement)?,
        })
    }

    /// Its name in capitals.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match &self.kind {
            Kind::From(_) => "FROM",
            Kind::Arg(_) => "ARG",
            Kind::Run(_) => "RUN",
            Kind::Transfer(transfer) => transfer.name(),
            Kind::Maintainer(_) => "MAINTAINER",
            Kind::Change(change) => change.name(),
        }
    }
}

/// Reads the instructions that an image holds for whoever builds upon it.
///
/// # Errors
/// One of them is none that may wait: the place is that within its own text.
pub fn triggers(texts: &[String]) -> Result<Vec<Instruction>, Error> {
    let mut instructions = Vec::new();
    for text in texts {
        let lexed = lexer::lex(text)?;
        for statement in &lexed.statements {
            let instruction = Instruction::read(statement)?;
            if let name @ ("FROM" | "ONBUILD" | "MAINTAINER") = instruction.name() {
                let reason = "cannot wait in an image for whoever builds upon it";
                return Err(Error::new(instruction.at, Problem::Misplaced { instruction: name, reason }));
            }
            instructions.push(instruction);
        }
        if instructions.len() > crate::limit::INSTRUCTIONS {
            let limit = crate::limit::INSTRUCTIONS;
            return Err(Error::new(
                Position::START,
                Problem::Limit { what: "number of instructions", limit },
            ));
        }
    }
    Ok(instructions)
}

fn kind(statement: &Statement) -> Result<Kind, Error> {
    if let Some(change) = Change::read_if(statement)? {
        return Ok(Kind::Change(change));
    }
    let word = statement.name.text();
    let name = word.to_ascii_uppercase();
    let Some(name) = OTHERS.into_iter().find(|known| *known == name) else {
        let nearest = nearest(word, change::NAMES.into_iter().chain(OTHERS));
        return Err(Error::new(statement.name.at(), Problem::Instruction { nearest, word: word.to_owned() }));
    };
    let (flags, rest) = Flags::read(name, &statement.rest)?;
    if rest.text().is_empty() {
        let what = match name {
            "ADD" | "COPY" => "at least one source and a destination",
            "ARG" => "a name, or name=value",
            "FROM" => "an image or a stage",
            "MAINTAINER" => "a name",
            _ => "a command",
        };
        return Err(Error::new(statement.name.at(), Problem::Missing { instruction: name, what }));
    }
    match name {
        "ADD" | "COPY" => Transfer::read(name, flags, &rest, statement).map(Kind::Transfer),
        "RUN" => Run::read(flags, &rest, statement).map(Kind::Run),
        "FROM" => From::read(flags, &rest).map(Kind::From),
        "ARG" => flags.finish(&[]).and_then(|()| Arg::read(&rest)).map(Kind::Arg),
        _ => flags.finish(&[]).map(|()| Kind::Maintainer(rest)),
    }
}

#[cfg(test)]
mod tests;
