//! FROM: a stage begins.

use crate::error::{Error, Problem};
use crate::flag::Flags;
use crate::word::Word;

/// What a stage begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct From {
    /// An image, a stage before this one, or `scratch` for nothing. May have variables.
    pub base: Word,
    /// The stage's name, in lower case.
    pub name: Option<Word>,
    /// The platform that is wanted of the image. May have variables.
    pub platform: Option<Word>,
    /// The word AS as written, for those who look at style.
    pub keyword: Option<Word>,
}

impl From {
    pub(super) fn read(mut flags: Flags, rest: &Word) -> Result<Self, Error> {
        let platform = flags.value("platform")?;
        flags.finish(&[])?;
        let words = rest.fields();
        let what = "an image, or an image, AS and a name";
        let surplus = |word: &Word| {
            let problem = Problem::Surplus { instruction: "FROM", what, word: word.text().to_owned() };
            Error::new(word.at(), problem)
        };
        let mut words = words.into_iter();
        let Some(base) = words.next() else {
            return Err(Error::new(rest.at(), Problem::Missing { instruction: "FROM", what }));
        };
        let Some(keyword) = words.next() else {
            return Ok(Self { base, name: None, platform, keyword: None });
        };
        if !keyword.text().eq_ignore_ascii_case("as") {
            return Err(surplus(&keyword));
        }
        let Some(name) = words.next() else {
            let problem = Problem::Missing { instruction: "FROM", what: "a name after AS" };
            return Err(Error::new(keyword.at(), problem));
        };
        if let Some(word) = words.next() {
            return Err(surplus(&word));
        }
        check_name(&name)?;
        Ok(Self { base, name: Some(name), platform, keyword: Some(keyword) })
    }
}

fn check_name(name: &Word) -> Result<(), Error> {
    let lower = name.text().to_ascii_lowercase();
    let first = lower.starts_with(|c: char| c.is_ascii_lowercase());
    if first && lower.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')) {
        return Ok(());
    }
    let reason = "it begins with a letter, and letters, digits, - _ and . follow";
    let problem = Problem::Word { what: "name of a stage", word: name.text().to_owned(), reason };
    Err(Error::new(name.at(), problem))
}
