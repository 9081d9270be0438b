//! A whole Dockerfile: arguments before the first stage, then the stages.

use crate::check::{self, Warning};
use crate::error::{Error, Problem};
use crate::instruction::{Arg, From, Instruction, Kind};
use crate::lexer::{self, Directives};
use crate::position::Position;

/// What a text says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// What it says about its own reading.
    pub directives: Directives,
    /// Arguments before the first stage, which name images and are no variables of the stages.
    pub args: Vec<Arg>,
    /// The stages in order.
    pub stages: Vec<Stage>,
    /// What is allowed and probably not meant.
    pub warnings: Vec<Warning>,
}

/// What begins with a FROM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Its FROM.
    pub from: From,
    /// Where that is.
    pub at: Position,
    /// The FROM as written.
    pub text: String,
    /// What follows, in order.
    pub instructions: Vec<Instruction>,
}

impl Stage {
    /// Its name in lower case, when it has one.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        self.from.name.as_ref().map(|name| name.text().to_ascii_lowercase())
    }
}

impl Dockerfile {
    /// Reads a text.
    ///
    /// # Errors
    /// The first thing in it that is wrong.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let lexed = lexer::lex(text)?;
        let mut file =
            Self { directives: lexed.directives, args: Vec::new(), stages: Vec::new(), warnings: Vec::new() };
        for statement in &lexed.statements {
            file.add(Instruction::read(statement)?)?;
        }
        if file.stages.is_empty() {
            let at = lexed.statements.last().map_or(Position::START, |statement| statement.name.at());
            return Err(Error::new(at, Problem::Text("there is no FROM: nothing is to be built")));
        }
        file.warnings = check::check(&file, &lexed.statements)?;
        Ok(file)
    }

    /// Reads bytes, which must be UTF-8.
    ///
    /// # Errors
    /// They are no text, or as of [`Dockerfile::parse`].
    pub fn parse_bytes(bytes: &[u8]) -> Result<Self, Error> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::parse(text),
            Err(error) => {
                let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
                let before = String::from_utf8_lossy(valid);
                let line = before.matches('\n').count() + 1;
                let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
                Err(Error::new(Position { line, column }, Problem::Text("these bytes are no UTF-8 text")))
            }
        }
    }

    fn add(&mut self, instruction: Instruction) -> Result<(), Error> {
        let name = instruction.name();
        let Instruction { at, text, .. } = &instruction;
        let (at, text) = (*at, text.clone());
        match (instruction.kind, self.stages.last_mut()) {
            (Kind::From(from), _) => {
                self.stages.push(Stage { from, at, text, instructions: Vec::new() });
                Ok(())
            }
            (Kind::Arg(args), None) => {
                self.args.extend(args);
                Ok(())
            }
            (kind, Some(stage)) => {
                stage.instructions.push(Instruction { kind, ..instruction });
                Ok(())
            }
            (_, None) => {
                let reason = "has no stage yet: only ARG may stand before the first FROM";
                Err(Error::new(at, Problem::Misplaced { instruction: name, reason }))
            }
        }
    }
}

#[cfg(test)]
mod malformed;
#[cfg(test)]
mod tests;
