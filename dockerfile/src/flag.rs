//! Flags of an instruction: `--name=value` and `--name`, between its name and its arguments.

use crate::error::{Error, Problem};
use crate::nearest::nearest;
use crate::word::Word;

/// The most flags that an instruction may have.
const FLAGS: usize = 256;

/// The flags of one instruction, of which each is taken once.
#[derive(Debug)]
pub(crate) struct Flags {
    instruction: &'static str,
    flags: Vec<Flag>,
    /// The names that were asked for.
    asked: Vec<&'static str>,
}

/// One flag.
#[derive(Debug, Clone)]
pub(crate) struct Flag {
    name: String,
    /// The whole, which knows its place.
    word: Word,
    /// What follows the `=`, without quotes.
    value: Option<Word>,
}

impl Flags {
    /// Reads the flags at the beginning of `rest` and answers what follows them. `--` alone ends them.
    pub(crate) fn read(instruction: &'static str, rest: &Word) -> Result<(Self, Word), Error> {
        let (mut rest, mut flags) = (rest.trim(), Vec::new());
        while let Some((word, after)) = rest.first().filter(|(word, _)| word.text().starts_with("--")) {
            rest = after;
            if word.text() == "--" {
                break;
            }
            if flags.len() == FLAGS {
                let problem = Problem::Limit { what: "number of flags", limit: FLAGS };
                return Err(Error::new(word.at(), problem));
            }
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, Some(unquoted(&value))),
                None => (word.clone(), None),
            };
            flags.push(Flag { name: name.text()[2..].to_owned(), word, value });
        }
        Ok((Self { instruction, flags, asked: Vec::new() }, rest))
    }

    /// The value of a flag that may be there once.
    pub(crate) fn value(&mut self, name: &'static str) -> Result<Option<Word>, Error> {
        let mut values = self.values(name)?;
        match values.len() {
            0 | 1 => Ok(values.pop()),
            _ => Err(Error::new(values[1].at(), Problem::Repeated { flag: name })),
        }
    }

    /// The values of a flag that may be there several times.
    pub(crate) fn values(&mut self, name: &'static str) -> Result<Vec<Word>, Error> {
        let values = self.take(name).into_iter().map(|flag| match flag.value {
            Some(value) => Ok(value),
            None => {
                let word = flag.word.text().to_owned();
                let problem =
                    Problem::Word { what: "flag", word, reason: "it needs a value, as in --name=value" };
                Err(Error::new(flag.word.at(), problem))
            }
        });
        values.collect()
    }

    /// A flag that is there or not, or says so by `=true` and `=false`.
    pub(crate) fn switch(&mut self, name: &'static str) -> Result<bool, Error> {
        let flags = self.take(name);
        if let Some(second) = flags.get(1) {
            return Err(Error::new(second.word.at(), Problem::Repeated { flag: name }));
        }
        let Some(flag) = flags.first() else { return Ok(false) };
        match flag.value.as_ref().map(|value| value.text().to_ascii_lowercase()).as_deref() {
            None | Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(_) => {
                let word = flag.word.text().to_owned();
                let problem = Problem::Word { what: "flag", word, reason: "it can be true or false" };
                Err(Error::new(flag.word.at(), problem))
            }
        }
    }

    /// Whether a flag is there and was not taken.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.flags.iter().any(|flag| flag.name == name)
    }

    /// Refuses what nobody asked for.
    pub(crate) fn finish(self, others: &[&'static str]) -> Result<(), Error> {
        let Some(flag) = self.flags.into_iter().next() else { return Ok(()) };
        let known = self.asked.iter().chain(others).copied();
        let problem = Problem::Flag {
            instruction: self.instruction,
            nearest: nearest(&flag.name, known),
            flag: format!("--{}", flag.name),
        };
        Err(Error::new(flag.word.at(), problem))
    }

    fn take(&mut self, name: &'static str) -> Vec<Flag> {
        self.asked.push(name);
        self.flags.extract_if(.., |flag| flag.name == name).collect()
    }
}

/// Without quotes and escapes; variables stay what they are.
fn unquoted(word: &Word) -> Word {
    let mut text = String::new();
    let mut quote = None;
    let mut characters = word.text().chars();
    while let Some(character) = characters.next() {
        match (character, quote) {
            (character, Some(open)) if character == open => quote = None,
            ('"' | '\'', None) => quote = Some(character),
            (character, open) if character == word.escape() && open != Some('\'') => {
                text.extend(characters.next());
            }
            _ => text.push(character),
        }
    }
    Word::made(&text, word.at(), word.escape())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Position;

    fn read(text: &str) -> (Flags, String) {
        let (flags, rest) = Flags::read("RUN", &Word::made(text, Position::START, '\\')).unwrap();
        (flags, rest.text().to_owned())
    }

    #[test]
    fn flags_end_where_the_arguments_begin() {
        let (mut flags, rest) = read("--mount=type=bind,target=\"/a b\" --link --x='1' a --not");
        assert_eq!(rest, "a --not");
        assert_eq!(flags.values("mount").unwrap()[0].text(), "type=bind,target=/a b");
        assert!(flags.switch("link").unwrap());
        assert_eq!(flags.value("x").unwrap().unwrap().at(), Position { line: 1, column: 44 });
        assert!(flags.value("y").unwrap().is_none());
        flags.finish(&[]).unwrap();
        assert_eq!(read("-- --a").1, "--a");
        assert_eq!(read("-a --b").1, "-a --b");
    }

    #[test]
    fn what_is_unknown_repeated_or_empty_is_refused() {
        let (mut flags, _) = read("--chwon=1 a");
        flags.value("chown").unwrap();
        let error = flags.finish(&[]).unwrap_err().to_string();
        assert_eq!(error, "line 1, column 1: RUN has no flag \"--chwon\": did you mean chown?");
        assert!(read("--a=1 --a=2").0.value("a").is_err());
        assert!(read("--a --a").0.switch("a").is_err());
        assert!(read("--a").0.value("a").is_err());
        assert!(read("--a=yes").0.switch("a").is_err());
        assert!(!read("--a=False").0.switch("a").unwrap());
    }
}
