//! What can be wrong with a text: where, which word, and what would be right.

use std::fmt;

use crate::position::Position;

/// A refusal, with its place. Prints as `line 3, column 5: unknown instruction "RNU": did you mean RUN?`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Error {
    /// Where the offending word begins.
    pub at: Position,
    /// What is wrong with it.
    pub problem: Problem,
}

impl Error {
    /// A problem at a place.
    #[must_use]
    pub fn new(at: Position, problem: Problem) -> Self {
        Self { at, problem }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.problem)
    }
}

/// What is wrong. Words from the text are printed escaped and shortened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The text is longer than [`crate::limit::TEXT`] or is no text.
    #[error("{0}")]
    Text(&'static str),
    /// A number that a bound forbids.
    #[error("{what} exceeds its limit of {limit}")]
    Limit {
        /// What is too much.
        what: &'static str,
        /// How much there may be.
        limit: usize,
    },
    /// The first word of a line is no instruction.
    #[error("unknown instruction {}{}", Quoted(word), Hint(*nearest))]
    Instruction {
        /// The word.
        word: String,
        /// What was probably meant.
        nearest: Option<&'static str>,
    },
    /// An instruction that has no place here.
    #[error("{instruction} {reason}")]
    Misplaced {
        /// Its name.
        instruction: &'static str,
        /// Why not.
        reason: &'static str,
    },
    /// An instruction lacks what it needs.
    #[error("{instruction} needs {what}")]
    Missing {
        /// Its name.
        instruction: &'static str,
        /// What.
        what: &'static str,
    },
    /// An instruction has more than it takes.
    #[error("{instruction} takes {what}, and here is {} more", Quoted(word))]
    Surplus {
        /// Its name.
        instruction: &'static str,
        /// What it takes.
        what: &'static str,
        /// The first word too many.
        word: String,
    },
    /// A word that does not say what it should.
    #[error("{what} {}: {reason}", Quoted(word))]
    Word {
        /// What the word should be.
        what: &'static str,
        /// The word.
        word: String,
        /// Why it is not.
        reason: &'static str,
    },
    /// A flag that the instruction does not have.
    #[error("{instruction} has no flag {}{}", Quoted(flag), Hint(*nearest))]
    Flag {
        /// The instruction's name.
        instruction: &'static str,
        /// The flag.
        flag: String,
        /// What was probably meant.
        nearest: Option<&'static str>,
    },
    /// A flag given twice that may be given once.
    #[error("flag {flag} is given twice")]
    Repeated {
        /// The flag.
        flag: &'static str,
    },
    /// A substitution that cannot be read.
    #[error("variable {}: {reason}", Quoted(word))]
    Substitution {
        /// The word that it is in.
        word: String,
        /// Why not.
        reason: &'static str,
    },
    /// `${name:?message}` of a variable that is not there.
    #[error("variable {}: {}", Quoted(name), Plain(message))]
    Required {
        /// The variable.
        name: String,
        /// What the text says about it.
        message: String,
    },
    /// A document between the lines whose end is not there.
    #[error("here-document {} has no end", Quoted(name))]
    Heredoc {
        /// Its delimiter.
        name: String,
    },
    /// A check that the text itself made a rule.
    #[error("{check}: {}", Plain(text))]
    Check {
        /// Its name.
        check: &'static str,
        /// What it found.
        text: String,
    },
    /// A stage that is not there.
    #[error("there is no stage {}{}", Quoted(word), Guess(nearest.as_deref()))]
    Stage {
        /// Its name or number.
        word: String,
        /// What was probably meant.
        nearest: Option<String>,
    },
    /// Stages that need each other.
    #[error("stages need each other: {}", Plain(path))]
    Cycle {
        /// Their names, with arrows.
        path: String,
    },
    /// The config that a change goes into is not what an image's config looks like.
    #[error("{field} of the image's config is not {wanted}")]
    Config {
        /// The field.
        field: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
}

/// A word from outside: escaped, and shortened when it is long.
struct Quoted<'a>(&'a str);

/// The longest piece of a text that a message repeats, in characters.
const SHOWN: usize = 80;

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", Plain(self.0))
    }
}

struct Plain<'a>(&'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars().take(SHOWN) {
            if character.is_control() {
                write!(f, "{}", character.escape_default())?;
            } else {
                write!(f, "{character}")?;
            }
        }
        if self.0.chars().nth(SHOWN).is_some() {
            f.write_str("…")?;
        }
        Ok(())
    }
}

struct Hint(Option<&'static str>);

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(word) => write!(f, ": did you mean {word}?"),
            None => Ok(()),
        }
    }
}

struct Guess<'a>(Option<&'a str>);

impl fmt::Display for Guess<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(word) => write!(f, ": did you mean {}?", Plain(word)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_bounded_and_escaped() {
        let word = format!("RUN\u{1b}[2J{}", "x".repeat(10_000));
        let problem = Problem::Instruction { word, nearest: Some("RUN") };
        let text = Error::new(Position { line: 3, column: 5 }, problem).to_string();
        assert!(text.starts_with("line 3, column 5: unknown instruction \"RUN\\u{1b}[2Jxx"), "{text}");
        assert!(text.ends_with("…\": did you mean RUN?"), "{text}");
        assert!(text.len() < 200);
    }
}
