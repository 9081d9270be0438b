//! The patterns of substitutions: `*`, `?`, and a backslash before what is meant literally.

use crate::error::Problem;
use crate::limit;

/// What may be spent on the patterns of one word, so that no text buys hours with a line.
#[derive(Debug, Default)]
pub(super) struct Work(usize);

/// Comparisons that one word may cost.
const STEPS: usize = 50_000_000;

impl Work {
    fn spend(&mut self, steps: usize) -> Result<(), Problem> {
        self.0 = self.0.saturating_add(steps);
        if self.0 <= STEPS {
            return Ok(());
        }
        Err(Problem::Limit { what: "comparisons of a pattern", limit: STEPS })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Exactly(char),
    One,
    Many,
}

/// A pattern that was read.
#[derive(Debug)]
pub(super) struct Glob(Vec<Token>);

impl Glob {
    pub(super) fn parse(pattern: &str) -> Result<Self, &'static str> {
        let mut tokens = Vec::new();
        let mut characters = pattern.chars();
        while let Some(character) = characters.next() {
            tokens.push(match character {
                '*' => Token::Many,
                '?' => Token::One,
                '\\' => match characters.next() {
                    Some(escaped @ ('*' | '?' | '\\' | '/' | '}')) => Token::Exactly(escaped),
                    _ => return Err("a pattern can only escape * ? \\ / and }"),
                },
                other => Token::Exactly(other),
            });
        }
        // Neighbouring stars are one star, and cheaper.
        tokens.dedup_by(|a, b| *a == Token::Many && *b == Token::Many);
        Ok(Self(tokens))
    }

    pub(super) fn without_prefix(
        &self,
        value: &str,
        longest: bool,
        work: &mut Work,
    ) -> Result<String, Problem> {
        let taken = prefix(&self.0, value.chars(), longest, work)?.unwrap_or(0);
        Ok(value.chars().skip(taken).collect())
    }

    pub(super) fn without_suffix(
        &self,
        value: &str,
        longest: bool,
        work: &mut Work,
    ) -> Result<String, Problem> {
        let reversed: Vec<Token> = self.0.iter().rev().copied().collect();
        let taken = prefix(&reversed, value.chars().rev(), longest, work)?.unwrap_or(0);
        let left = value.chars().count() - taken;
        Ok(value.chars().take(left).collect())
    }

    /// Puts `text` in the place of the first match or of all of them, each as long as can be.
    pub(super) fn replace(
        &self,
        value: &str,
        text: &str,
        all: bool,
        work: &mut Work,
    ) -> Result<String, Problem> {
        let mut output = String::new();
        let mut rest = value;
        let mut replaced = false;
        while let Some(character) = rest.chars().next() {
            let searching = all || !replaced;
            let found = if searching { prefix(&self.0, rest.chars(), true, work)? } else { None };
            match found {
                Some(taken) if taken > 0 => {
                    output.push_str(text);
                    replaced = true;
                    let bytes = rest.chars().take(taken).map(char::len_utf8).sum();
                    rest = rest.get(bytes..).unwrap_or_default();
                }
                _ => {
                    output.push(character);
                    rest = rest.get(character.len_utf8()..).unwrap_or_default();
                }
            }
            if output.len() > limit::WORD {
                return Err(Problem::Limit {
                    what: "bytes of a word with its variables",
                    limit: limit::WORD,
                });
            }
        }
        Ok(output)
    }
}

/// How many characters the tokens match from the beginning: as many or as few as can be.
fn prefix(
    tokens: &[Token],
    value: impl Iterator<Item = char>,
    longest: bool,
    work: &mut Work,
) -> Result<Option<usize>, Problem> {
    // Which tokens could come next; the last place is the end of the pattern.
    let mut states = vec![false; tokens.len() + 1];
    open(tokens, &mut states, 0);
    let mut found = states[tokens.len()].then_some(0);
    for (index, character) in value.enumerate() {
        if found.is_some() && !longest {
            break;
        }
        work.spend(tokens.len() + 1)?;
        let mut next = vec![false; tokens.len() + 1];
        for (place, token) in tokens.iter().enumerate().filter(|(place, _)| states[*place]) {
            match token {
                Token::Many => open(tokens, &mut next, place),
                Token::One => open(tokens, &mut next, place + 1),
                Token::Exactly(wanted) if *wanted == character => open(tokens, &mut next, place + 1),
                Token::Exactly(_) => {}
            }
        }
        if !next.contains(&true) {
            break;
        }
        states = next;
        if states[tokens.len()] {
            found = Some(index + 1);
        }
    }
    Ok(found)
}

/// Marks a place, and the next one when a star, which may be nothing, is there.
fn open(tokens: &[Token], states: &mut [bool], place: usize) {
    states[place] = true;
    if tokens.get(place) == Some(&Token::Many) {
        states[place + 1] = true;
    }
}
