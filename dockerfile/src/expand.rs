//! Variables in a word, and the end of its quotes and escapes.
//!
//! `$name`, `${name}`, `${name:-word}`, `-`, `:+`, `+`, `:?`, `?`, `${name#pattern}`, `##`, `%`, `%%`,
//! `${name/pattern/text}` and `//`. Single quotes keep everything, double quotes keep all but variables, the escape
//! character keeps the next one. A variable that is not there is nothing.

mod pattern;

use crate::error::{Error, Problem};
use crate::limit;
use crate::word::Word;
use pattern::{Glob, Work};

/// Answers what a variable's value is; none when there is no such variable.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The word with its variables replaced and its quotes gone.
///
/// # Errors
/// A substitution or a quote without end, an unknown modifier, a required variable that is not there, or a word
/// that grows beyond [`limit::WORD`].
pub fn word(word: &Word, lookup: Lookup<'_>) -> Result<String, Error> {
    Expander::new(word, lookup, Quotes::Removed).all().map(|output| output.whole)
}

/// As [`word`], parted at white space that was neither quoted nor escaped, also at that in values.
///
/// # Errors
/// As of [`word`].
pub fn words(word: &Word, lookup: Lookup<'_>) -> Result<Vec<String>, Error> {
    Expander::new(word, lookup, Quotes::Removed).all().map(Output::into_words)
}

/// A document: variables are replaced and escapes end, while quotes are characters like any other.
///
/// # Errors
/// As of [`word`].
pub fn document(text: &Word, lookup: Lookup<'_>) -> Result<String, Error> {
    Expander::new(text, lookup, Quotes::Kept).all().map(|output| output.whole)
}

/// Whether quotes mean something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quotes {
    Removed,
    Kept,
}

/// What comes out, as a whole and in words.
#[derive(Debug, Default)]
struct Output {
    whole: String,
    words: Vec<String>,
    open: String,
}

impl Output {
    /// Appends what may part words.
    fn plain(&mut self, text: &str) {
        self.whole.push_str(text);
        for character in text.chars() {
            if !character.is_whitespace() {
                self.open.push(character);
            } else if !self.open.is_empty() {
                self.words.push(std::mem::take(&mut self.open));
            }
        }
    }

    /// Appends what holds together.
    fn quoted(&mut self, text: &str) {
        self.whole.push_str(text);
        self.open.push_str(text);
    }

    fn into_words(mut self) -> Vec<String> {
        if !self.open.is_empty() {
            self.words.push(self.open);
        }
        self.words
    }
}

struct Expander<'a> {
    word: &'a Word,
    lookup: Lookup<'a>,
    quotes: Quotes,
    escape: char,
    /// The byte that is read next.
    next: usize,
    depth: usize,
    work: Work,
}

impl<'a> Expander<'a> {
    fn new(word: &'a Word, lookup: Lookup<'a>, quotes: Quotes) -> Self {
        Self { word, lookup, quotes, escape: word.escape(), next: 0, depth: 0, work: Work::default() }
    }

    fn all(mut self) -> Result<Output, Error> {
        self.until(None, false)
    }

    fn peek(&self) -> Option<char> {
        self.word.text().get(self.next..)?.chars().next()
    }

    fn read(&mut self) -> Option<char> {
        let character = self.peek()?;
        self.next += character.len_utf8();
        Some(character)
    }

    /// An error about the part of the word that begins at `from`.
    fn wrong(&self, from: usize, reason: &'static str) -> Error {
        let word = self.word.text().get(from..).unwrap_or_default().to_owned();
        Error::new(self.word.position(from), Problem::Substitution { word, reason })
    }

    fn bounded(&self, length: usize) -> Result<(), Error> {
        if length <= limit::WORD {
            return Ok(());
        }
        let problem = Problem::Limit { what: "bytes of a word with its variables", limit: limit::WORD };
        Err(Error::new(self.word.at(), problem))
    }

    /// Reads up to `stop`, which is taken away, or to the end. With `raw`, escapes stay where they are: the word is
    /// a pattern.
    fn until(&mut self, stop: Option<char>, raw: bool) -> Result<Output, Error> {
        let begin = self.next;
        let mut output = Output::default();
        while let Some(character) = self.peek() {
            let at = self.next;
            if Some(character) == stop {
                self.read();
                return Ok(output);
            }
            match character {
                '$' => {
                    let value = self.dollar()?;
                    output.plain(&value);
                }
                '\'' if self.quotes == Quotes::Removed => {
                    let text = self.single(at)?;
                    output.quoted(text);
                }
                '"' if self.quotes == Quotes::Removed => {
                    let text = self.double(at, raw)?;
                    output.quoted(&text);
                }
                _ => self.plain(raw, &mut output),
            }
            self.bounded(output.whole.len())?;
        }
        match stop {
            None => Ok(output),
            Some('/') => Err(self.wrong(begin, "the pattern has no / after it")),
            Some(_) => Err(self.wrong(begin, "the substitution has no } after it")),
        }
    }

    /// One character outside of quotes, with what it escapes.
    fn plain(&mut self, raw: bool, output: &mut Output) {
        let mut bytes = [0; 4];
        let Some(character) = self.read() else { return };
        if character != self.escape {
            output.plain(character.encode_utf8(&mut bytes));
            return;
        }
        if raw {
            output.quoted(character.encode_utf8(&mut bytes));
        }
        if let Some(escaped) = self.read() {
            output.quoted(escaped.encode_utf8(&mut bytes));
        }
    }

    fn single(&mut self, at: usize) -> Result<&'a str, Error> {
        let rest = self.word.text().get(at + 1..).unwrap_or_default();
        let Some(length) = rest.find('\'') else { return Err(self.wrong(at, "the single quote has no end")) };
        self.next = at + 1 + length + 1;
        Ok(&rest[..length])
    }

    fn double(&mut self, at: usize, raw: bool) -> Result<String, Error> {
        self.read();
        let mut text = String::new();
        loop {
            match self.peek() {
                None => return Err(self.wrong(at, "the double quote has no end")),
                Some('"') => {
                    self.read();
                    return Ok(text);
                }
                Some('$') => text.push_str(&self.dollar()?),
                Some(character) if character == self.escape => {
                    self.read();
                    if raw {
                        text.push(character);
                    }
                    match self.peek() {
                        // Nothing else can be escaped here: the escape is a character of its own then.
                        Some(next) if next == '"' || next == '$' || next == self.escape => {
                            self.read();
                            text.push(next);
                        }
                        Some(_) if !raw => text.push(character),
                        _ => {}
                    }
                }
                Some(character) => {
                    self.read();
                    text.push(character);
                }
            }
            self.bounded(text.len())?;
        }
    }

    /// What stands for a dollar sign and what follows it.
    fn dollar(&mut self) -> Result<String, Error> {
        let at = self.next;
        self.read();
        if self.peek() != Some('{') {
            let name = self.name();
            return Ok(if name.is_empty() {
                "$".to_owned()
            } else {
                (self.lookup)(&name).unwrap_or_default()
            });
        }
        self.read();
        self.depth += 1;
        if self.depth > limit::NESTING {
            let problem = Problem::Limit { what: "nesting of substitutions", limit: limit::NESTING };
            return Err(Error::new(self.word.position(at), problem));
        }
        let value = self.braced(at)?;
        self.depth -= 1;
        Ok(value)
    }

    /// A name: letters, digits and underscores, digits alone, or one special character.
    fn name(&mut self) -> String {
        let rest = self.word.text().get(self.next..).unwrap_or_default();
        let first = rest.chars().next();
        let taken = match first {
            Some(digit) if digit.is_ascii_digit() => rest.find(|c: char| !c.is_ascii_digit()),
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => Some(1),
            _ => rest.find(|c: char| !c.is_alphanumeric() && c != '_'),
        };
        let name = &rest[..taken.unwrap_or(rest.len())];
        self.next += name.len();
        name.to_owned()
    }

    /// What stands for `${…}`, of which the opening has been read.
    fn braced(&mut self, at: usize) -> Result<String, Error> {
        let name = self.name();
        if name.is_empty() {
            return Err(self.wrong(at, "a name must follow ${"));
        }
        let value = (self.lookup)(&name);
        match self.read() {
            Some('}') => Ok(value.unwrap_or_default()),
            Some(':') => {
                let modifier = self.read();
                let value = value.filter(|value| !value.is_empty());
                self.fallback(&name, modifier, value, "is not allowed to be empty", at)
            }
            Some(modifier @ ('-' | '+' | '?')) => {
                self.fallback(&name, Some(modifier), value, "is not allowed to be unset", at)
            }
            Some(side @ ('#' | '%')) => self.trimmed(side, &value.unwrap_or_default(), at),
            Some('/') => self.replaced(&value.unwrap_or_default(), at),
            Some(_) => Err(self.wrong(at, "no such modifier")),
            None => Err(self.wrong(at, "the substitution has no } after it")),
        }
    }

    /// `-`, `+` and `?`, where a value that counts as none has become none.
    fn fallback(
        &mut self,
        name: &str,
        modifier: Option<char>,
        value: Option<String>,
        refusal: &str,
        at: usize,
    ) -> Result<String, Error> {
        if !matches!(modifier, Some('-' | '+' | '?')) {
            return Err(self.wrong(at, "no such modifier"));
        }
        let word = self.until(Some('}'), false)?.whole;
        match (modifier, value) {
            (Some('-'), None) | (Some('+'), Some(_)) => Ok(word),
            (Some('+'), None) => Ok(String::new()),
            (_, Some(value)) => Ok(value),
            (_, None) => {
                let message = if word.is_empty() { refusal.to_owned() } else { word };
                let problem = Problem::Required { name: name.to_owned(), message };
                Err(Error::new(self.word.position(at), problem))
            }
        }
    }

    /// `#`, `##`, `%` and `%%`.
    fn trimmed(&mut self, side: char, value: &str, at: usize) -> Result<String, Error> {
        let longest = self.peek() == Some(side);
        if longest {
            self.read();
        }
        let pattern = self.until(Some('}'), true)?.whole;
        let glob = Glob::parse(&pattern).map_err(|reason| self.wrong(at, reason))?;
        let rest = match side {
            '#' => glob.without_prefix(value, longest, &mut self.work),
            _ => glob.without_suffix(value, longest, &mut self.work),
        };
        rest.map_err(|problem| Error::new(self.word.position(at), problem))
    }

    /// `/` and `//`.
    fn replaced(&mut self, value: &str, at: usize) -> Result<String, Error> {
        let all = self.peek() == Some('/');
        if all {
            self.read();
        }
        let pattern = self.until(Some('/'), true)?.whole;
        let text = self.until(Some('}'), true)?.whole;
        let glob = Glob::parse(&pattern).map_err(|reason| self.wrong(at, reason))?;
        let replaced = glob.replace(value, &text, all, &mut self.work);
        replaced.map_err(|problem| Error::new(self.word.position(at), problem))
    }
}

#[cfg(test)]
mod tests;
