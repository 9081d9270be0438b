//! ARG: what a build can be told.

use crate::error::{Error, Problem};
use crate::word::Word;

/// One argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arg {
    /// Its name.
    pub name: Word,
    /// Its value when nobody gives one.
    pub default: Option<Word>,
}

impl Arg {
    pub(super) fn read(rest: &Word) -> Result<Vec<Self>, Error> {
        let args = rest.words().into_iter().map(|word| {
            let (name, default) = match word.split_once('=') {
                Some((name, default)) => (name, Some(default)),
                None => (word.clone(), None),
            };
            if name.text().is_empty() {
                let word = word.text().to_owned();
                let problem = Problem::Word { what: "argument", word, reason: "nothing stands before the =" };
                return Err(Error::new(name.at(), problem));
            }
            Ok(Self { name, default })
        });
        args.collect()
    }
}
