//! Here-documents: `<<EOF`, `<<-EOF` and `<<"EOF"`, whose text follows the instruction's line.

use super::Lines;
use crate::error::{Error, Problem};
use crate::json;
use crate::position::{Line, Position};
use crate::word::Word;

/// A document between the lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The word that ends it, which is the name of the file that it becomes.
    pub name: String,
    /// Whether variables in it mean anything: not when its word was quoted.
    pub expand: bool,
    /// Whether tabulators at the beginning of its lines are no part of it.
    pub chomp: bool,
    /// Its lines, each with its end.
    pub body: Word,
}

impl Heredoc {
    /// The text as it is meant: without the tabulators that `<<-` takes away.
    #[must_use]
    pub fn content(&self) -> Word {
        if !self.chomp {
            return self.body.clone();
        }
        let mut line = Line::new(self.body.escape());
        let mut passed = 0;
        for text in self.body.text().split_inclusive('\n') {
            let tabs = text.len() - text.trim_start_matches('\t').len();
            line.push(&text[tabs..], self.body.position(passed + tabs));
            passed += text.len();
        }
        Word::whole(line)
    }
}

/// What a word says about a document that follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delimiter {
    /// The line that ends it.
    pub name: String,
    /// Whether variables mean anything.
    pub expand: bool,
    /// Whether tabulators at the beginning of lines go.
    pub chomp: bool,
}

impl Delimiter {
    /// Reads a word; none when it names no document.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        let after = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
        let (chomp, rest) = match after.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, after),
        };
        let mut name = String::new();
        let (mut quote, mut quoted) = (None, false);
        let mut characters = rest.chars();
        while let Some(character) = characters.next() {
            match (character, quote) {
                ('<', None) => return None,
                // What a shell takes for the end of the word.
                ('>' | '|' | '&' | ';' | '(' | ')', None) => break,
                ('\'' | '"', None) => (quote, quoted) = (Some(character), true),
                (character, Some(open)) if character == open => quote = None,
                ('\\', None) => {
                    quoted = true;
                    name.extend(characters.next());
                }
                (character, _) => name.push(character),
            }
        }
        (quote.is_none() && !name.is_empty()).then_some(Self { name, expand: !quoted, chomp })
    }
}

/// Reads the documents that a statement names, from the lines after it.
pub(super) fn read(name: &Word, rest: &Word, lines: &mut Lines<'_>) -> Result<Vec<Heredoc>, Error> {
    let Some(arguments) = arguments(name.text(), rest) else { return Ok(Vec::new()) };
    if !arguments.text().contains("<<") || json::list(&arguments).is_ok_and(|list| list.is_some()) {
        return Ok(Vec::new());
    }
    let named = arguments.words().into_iter().filter_map(|word| Some((Delimiter::parse(word.text())?, word)));
    named.map(|(delimiter, word)| body(&word, delimiter, lines)).collect()
}

/// What may name documents: arguments of ADD, COPY and RUN, also behind ONBUILD, without their flags.
fn arguments(name: &str, rest: &Word) -> Option<Word> {
    let (mut name, mut rest) = (name.to_ascii_uppercase(), rest.clone());
    if name == "ONBUILD" {
        let (inner, after) = rest.first()?;
        (name, rest) = (inner.text().to_ascii_uppercase(), after);
    }
    if !matches!(name.as_str(), "ADD" | "COPY" | "RUN") {
        return None;
    }
    while let Some((_, after)) = rest.first().filter(|(first, _)| first.text().starts_with("--")) {
        rest = after;
    }
    Some(rest)
}

fn body(word: &Word, delimiter: Delimiter, lines: &mut Lines<'_>) -> Result<Heredoc, Error> {
    let Delimiter { name, expand, chomp } = delimiter;
    let mut line = Line::new(word.escape());
    for physical in lines.by_ref() {
        let text = physical.text();
        if name == if chomp { text.trim_start_matches('\t') } else { text } {
            let body = Word::whole(line);
            return Ok(Heredoc { name, expand, chomp, body });
        }
        line.push(physical.raw, Position { line: physical.number, column: 1 });
    }
    Err(Error::new(word.at(), Problem::Heredoc { name }))
}
