//! Words of a line: parted by white space, where quotes and escapes hold together what belongs together.
//!
//! Quotes and escapes stay in the words; only [`expand`](crate::expand) takes them away, for they decide there what
//! is a variable.

use std::sync::Arc;

use crate::position::{Line, Position};

/// A piece of a line as written, which knows its place. Parts of it share its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    line: Arc<Line>,
    begin: usize,
    end: usize,
}

impl Word {
    /// A whole line.
    #[must_use]
    pub fn whole(line: Line) -> Self {
        Self { begin: 0, end: line.text().len(), line: Arc::new(line) }
    }

    /// A text that stands for what is at a place, as an item of a JSON list does.
    #[must_use]
    pub fn made(text: &str, at: Position, escape: char) -> Self {
        let mut line = Line::new(escape);
        line.push(text, at);
        Self::whole(line)
    }

    /// As written.
    #[must_use]
    pub fn text(&self) -> &str {
        self.line.text().get(self.begin..self.end).unwrap_or_default()
    }

    /// The character that escapes in this text.
    #[must_use]
    pub fn escape(&self) -> char {
        self.line.escape()
    }

    /// Where it begins.
    #[must_use]
    pub fn at(&self) -> Position {
        self.position(0)
    }

    /// Where the byte `offset` of it is.
    #[must_use]
    pub fn position(&self, offset: usize) -> Position {
        self.line.position(self.begin + offset)
    }

    /// The part from the byte `from` to the byte `to`, both of which lie between two characters.
    #[must_use]
    pub fn part(&self, from: usize, to: usize) -> Self {
        let end = (self.begin + to).min(self.end);
        Self { line: Arc::clone(&self.line), begin: (self.begin + from).min(end), end }
    }

    /// Parts it at the first `separator`.
    #[must_use]
    pub fn split_once(&self, separator: char) -> Option<(Self, Self)> {
        let at = self.text().find(separator)?;
        Some((self.part(0, at), self.part(at + separator.len_utf8(), self.text().len())))
    }

    /// Without white space around it.
    #[must_use]
    pub fn trim(&self) -> Self {
        let begin = self.text().len() - self.text().trim_start().len();
        let end = self.text().trim_end().len();
        self.part(begin, end.max(begin))
    }

    /// The words within, parted by white space alone: quotes mean nothing.
    #[must_use]
    pub fn fields(&self) -> Vec<Self> {
        let mut fields = Vec::new();
        let mut begin = None;
        for (at, character) in self.text().char_indices() {
            match (character.is_whitespace(), begin) {
                (true, Some(from)) => {
                    fields.push(self.part(from, at));
                    begin = None;
                }
                (false, None) => begin = Some(at),
                _ => {}
            }
        }
        fields.extend(begin.map(|from| self.part(from, self.text().len())));
        fields
    }

    /// The first word, parted by white space outside of quotes, and what follows it without white space around.
    #[must_use]
    pub fn first(&self) -> Option<(Self, Self)> {
        let trimmed = self.trim();
        let mut splitter = Splitter { escape: self.escape(), quote: None, escaped: false };
        let end = trimmed.text().char_indices().find(|(_, character)| splitter.parts(*character));
        let end = end.map_or(trimmed.text().len(), |(at, _)| at);
        (end > 0).then(|| (trimmed.part(0, end), trimmed.part(end, trimmed.text().len()).trim()))
    }

    /// The words within, parted by white space outside of quotes.
    #[must_use]
    pub fn words(&self) -> Vec<Self> {
        let mut words = Vec::new();
        let mut splitter = Splitter { escape: self.escape(), quote: None, escaped: false };
        let mut begin = None;
        for (at, character) in self.text().char_indices() {
            let parts = splitter.parts(character);
            match (parts, begin) {
                (true, Some(from)) => {
                    words.push(self.part(from, at));
                    begin = None;
                }
                (false, None) => begin = Some(at),
                _ => {}
            }
        }
        words.extend(begin.map(|from| self.part(from, self.text().len())));
        words
    }
}

/// What is open while characters pass.
struct Splitter {
    escape: char,
    quote: Option<char>,
    escaped: bool,
}

impl Splitter {
    /// Whether this character parts two words.
    fn parts(&mut self, character: char) -> bool {
        if std::mem::take(&mut self.escaped) {
            return false;
        }
        match self.quote {
            // Nothing can be escaped within single quotes.
            Some(quote) if character == self.escape && quote != '\'' => self.escaped = true,
            Some(quote) if character == quote => self.quote = None,
            Some(_) => {}
            None if character == self.escape => self.escaped = true,
            None if character == '"' || character == '\'' => self.quote = Some(character),
            None => return character.is_whitespace(),
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &str) -> Word {
        Word::made(text, Position::START, '\\')
    }

    fn texts(words: &[Word]) -> Vec<&str> {
        words.iter().map(Word::text).collect()
    }

    #[test]
    fn quotes_and_escapes_hold_words_together() {
        assert_eq!(texts(&word("a b\tc").words()), ["a", "b", "c"]);
        assert_eq!(texts(&word(" a=\"b c\" d='e  f' ").words()), ["a=\"b c\"", "d='e  f'"]);
        assert_eq!(texts(&word(r"a\ b c").words()), [r"a\ b", "c"]);
        assert_eq!(texts(&word(r#"a="x\" y" b"#).words()), [r#"a="x\" y""#, "b"]);
        assert_eq!(texts(&word(r"a='x\' b").words()), [r"a='x\'", "b"]);
        assert_eq!(texts(&word("'' \"\"").words()), ["''", "\"\""]);
        assert_eq!(texts(&word("a=\"b c").words()), ["a=\"b c"]);
        assert_eq!(texts(&word("  ").words()), [""; 0]);
        assert_eq!(texts(&word("a \"b c\"").fields()), ["a", "\"b", "c\""]);
    }

    #[test]
    fn words_know_their_place() {
        let words = word("ä=1  b=2");
        let words = words.words();
        assert_eq!(words[1].at(), Position { line: 1, column: 6 });
        let (key, value) = words[1].split_once('=').unwrap();
        assert_eq!((key.text(), value.text()), ("b", "2"));
        assert_eq!(value.at(), Position { line: 1, column: 8 });
        assert_eq!(word("  x ").trim().at(), Position { line: 1, column: 3 });
        assert_eq!(word("   ").trim().text(), "");
    }
}
