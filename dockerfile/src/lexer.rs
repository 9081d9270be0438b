//! From text to statements: directives, comments, continued lines and here-documents.
//!
//! A statement is a line that begins with an instruction's name, with all lines that continue it. Comments and empty
//! lines among those are left out. The documents of a line follow it, in the order in which it names them.

mod directive;
mod heredoc;

use crate::error::{Error, Problem};
use crate::limit;
use crate::position::{Line, Position};
use crate::word::Word;

pub use directive::Directives;
pub use heredoc::{Delimiter, Heredoc};

/// One instruction as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The instruction's name, in the text's own case.
    pub name: Word,
    /// What follows the name, without white space around it.
    pub rest: Word,
    /// The documents that the line names, in order.
    pub heredocs: Vec<Heredoc>,
    /// The last line that belongs to it.
    pub last_line: usize,
    /// An empty line among those that continue it, which is most probably a mistake.
    pub gap: Option<Position>,
}

impl Statement {
    /// The instruction as one line, without its documents.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{} {}", self.name.text(), self.rest.text()).trim_end().to_owned()
    }
}

/// A text that was parted into statements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lexed {
    /// What the comments at its top say about how it is to be read.
    pub directives: Directives,
    /// The instructions in order.
    pub statements: Vec<Statement>,
}

/// Parts a text into statements.
///
/// # Errors
/// It is too long, a directive is wrong or repeated, or a document has no end.
pub fn lex(text: &str) -> Result<Lexed, Error> {
    if text.len() > limit::TEXT {
        let problem = Problem::Limit { what: "bytes of the text", limit: limit::TEXT };
        return Err(Error::new(Position::START, problem));
    }
    if let Some(at) = text.find('\0') {
        let line = text[..at].matches('\n').count() + 1;
        let column = text[..at].chars().rev().take_while(|c| *c != '\n').count() + 1;
        return Err(Error::new(Position { line, column }, Problem::Text("a NUL byte is no text")));
    }
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
    let mut lines = Lines { rest: text, line: 0 };
    let directives = directive::read(text)?;
    let mut statements = Vec::new();
    while let Some(first) = lines.next() {
        if let Some(statement) = statement(&mut lines, first, directives.escape)? {
            if statements.len() == limit::INSTRUCTIONS {
                let problem = Problem::Limit { what: "number of instructions", limit: limit::INSTRUCTIONS };
                return Err(Error::new(statement.name.at(), problem));
            }
            statements.push(statement);
        }
    }
    Ok(Lexed { directives, statements })
}

/// A line of the source.
#[derive(Debug, Clone, Copy)]
struct Physical<'a> {
    /// With its line's end.
    raw: &'a str,
    number: usize,
}

impl<'a> Physical<'a> {
    /// Without its line's end.
    fn text(&self) -> &'a str {
        self.raw.trim_end_matches(['\r', '\n'])
    }

    fn is_comment(&self) -> bool {
        self.text().trim_start().starts_with('#')
    }
}

struct Lines<'a> {
    rest: &'a str,
    /// Lines that were read.
    line: usize,
}

impl<'a> Iterator for Lines<'a> {
    type Item = Physical<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let length = self.rest.find('\n').map_or(self.rest.len(), |at| at + 1);
        let (raw, rest) = self.rest.split_at(length);
        self.rest = rest;
        self.line += 1;
        Some(Physical { raw, number: self.line })
    }
}

/// The statement that begins with a line; none when the line is empty or a comment.
fn statement(lines: &mut Lines<'_>, first: Physical<'_>, escape: char) -> Result<Option<Statement>, Error> {
    if first.is_comment() {
        return Ok(None);
    }
    let indent = first.text().len() - first.text().trim_start().len();
    let mut line = Line::new(escape);
    let mut gap = None;
    let (piece, mut goes_on) = continued(first.text().trim_start(), escape);
    line.push(piece, Position { line: first.number, column: first.text()[..indent].chars().count() + 1 });
    while goes_on {
        let Some(next) = lines.next() else { break };
        let at = Position { line: next.number, column: 1 };
        if next.is_comment() {
            continue;
        }
        if next.text().trim().is_empty() {
            gap.get_or_insert(at);
            continue;
        }
        let (piece, more) = continued(next.text(), escape);
        line.push(piece, at);
        goes_on = more;
    }
    if line.text().trim().is_empty() {
        return Ok(None);
    }
    let whole = Word::whole(line).trim();
    let name_ends = whole.text().find(char::is_whitespace).unwrap_or(whole.text().len());
    let name = whole.part(0, name_ends);
    let rest = whole.part(name_ends, whole.text().len()).trim();
    let heredocs = heredoc::read(&name, &rest, lines)?;
    Ok(Some(Statement { name, rest, heredocs, last_line: lines.line, gap }))
}

/// A line without the character that continues it, and whether it was there. Two of them are one that is meant.
fn continued(text: &str, escape: char) -> (&str, bool) {
    let Some(before) = text.trim_end_matches([' ', '\t']).strip_suffix(escape) else { return (text, false) };
    if before.ends_with(escape) { (text, false) } else { (before, true) }
}

#[cfg(test)]
mod tests;
