//! Patterns for paths: `*` and `?` within a name, `**` across names, `[a-z]`, and a backslash before what is meant
//! literally.

/// A pattern for paths whose names are parted by slashes, without one at their beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    tokens: Vec<Token>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// This character.
    Exactly(char),
    /// One character of a name.
    One,
    /// Any characters of a name.
    Many,
    /// Any characters with their slashes, to the end.
    All,
    /// Nothing, or any folders with the slash after the last.
    Folders,
    /// One character of a name that is among these, or is not.
    Among { ranges: Vec<(char, char)>, not: bool },
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// Brackets that have no end or no sense, or a backslash at the end.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let mut tokens = Vec::new();
        let mut rest = text.chars().peekable();
        while let Some(character) = rest.next() {
            tokens.push(match character {
                '*' if rest.next_if_eq(&'*').is_some() => {
                    // More stars say no more.
                    while rest.next_if_eq(&'*').is_some() {}
                    rest.next_if_eq(&'/');
                    if rest.peek().is_none() { Token::All } else { Token::Folders }
                }
                '*' => Token::Many,
                '?' => Token::One,
                '[' => among(&mut rest)?,
                '\\' => Token::Exactly(rest.next().ok_or("nothing stands after the backslash")?),
                other => Token::Exactly(other),
            });
        }
        tokens.dedup_by(|a, b| a == b && matches!(a, Token::Many | Token::All | Token::Folders));
        Ok(Self { text: text.to_owned(), tokens })
    }

    /// As written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it stands for one path alone.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.tokens.iter().all(|token| matches!(token, Token::Exactly(_)))
    }

    /// The path that it stands for when it [is plain](Self::is_plain), without its escapes.
    #[must_use]
    pub fn plain(&self) -> String {
        let characters = self.tokens.iter().filter_map(|token| match token {
            Token::Exactly(character) => Some(*character),
            _ => None,
        });
        characters.collect()
    }

    /// Whether a path matches as a whole.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        self.run(path.chars()).is_some_and(|states| states[self.tokens.len()])
    }

    /// Whether something in the folder `path` could match.
    #[must_use]
    pub fn may_match_below(&self, path: &str) -> bool {
        self.run(path.chars().chain(['/'])).is_some()
    }

    /// Which places of the pattern may follow the characters; none when no place may.
    fn run(&self, characters: impl Iterator<Item = char>) -> Option<Vec<bool>> {
        let mut states = vec![false; self.tokens.len() + 1];
        self.open(&mut states, 0);
        for character in characters {
            let mut next = vec![false; self.tokens.len() + 1];
            for (place, token) in self.tokens.iter().enumerate().filter(|(place, _)| states[*place]) {
                self.step(&mut next, (place, token), character);
            }
            if !next.contains(&true) {
                return None;
            }
            states = next;
        }
        Some(states)
    }

    fn step(&self, next: &mut [bool], (place, token): (usize, &Token), character: char) {
        match token {
            Token::Exactly(wanted) if *wanted == character => self.open(next, place + 1),
            Token::One if character != '/' => self.open(next, place + 1),
            Token::Many if character != '/' => self.open(next, place),
            Token::All => self.open(next, place),
            Token::Folders => {
                // Within a folder's name it is not over: only its slash ends it.
                next[place] = true;
                if character == '/' {
                    self.open(next, place + 1);
                }
            }
            Token::Among { ranges, not } if character != '/' => {
                let among = ranges.iter().any(|(first, last)| (*first..=*last).contains(&character));
                if among != *not {
                    self.open(next, place + 1);
                }
            }
            _ => {}
        }
    }

    /// Marks a place and what may follow it at once, because it may stand for nothing.
    fn open(&self, states: &mut [bool], mut place: usize) {
        states[place] = true;
        while matches!(self.tokens.get(place), Some(Token::Many | Token::All | Token::Folders)) {
            place += 1;
            states[place] = true;
        }
    }
}

/// What stands in brackets, of which the first was read.
fn among(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Token, &'static str> {
    const OPEN: &str = "the bracket has no end";
    let not = rest.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        match rest.next().ok_or(OPEN)? {
            ']' if ranges.is_empty() => return Err("nothing stands in the brackets"),
            ']' => return Ok(Token::Among { ranges, not }),
            '-' => return Err("a range has no beginning"),
            character => {
                let first = if character == '\\' { rest.next().ok_or(OPEN)? } else { character };
                let mut last = first;
                if rest.next_if_eq(&'-').is_some() {
                    last = match rest.next().ok_or(OPEN)? {
                        '\\' => rest.next().ok_or(OPEN)?,
                        ']' => return Err("a range has no end"),
                        other => other,
                    };
                }
                if first > last {
                    return Err("a range ends before it begins");
                }
                ranges.push((first, last));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn patterns_match_paths() {
        for (text, yes, no) in [
            ("a", &["a"][..], &["b", "a/b", "aa", ""][..]),
            ("*", &["a", ".b", ""], &["a/b"]),
            ("*.go", &["a.go", ".go"], &["a/b.go", "a.gox"]),
            ("a?c", &["abc"], &["a/c", "ac"]),
            ("**", &["a", "a/b", ""], &[]),
            ("**/b", &["b", "a/b", "a/c/b"], &["ab", "a/b/c"]),
            ("a/**", &["a/", "a/b", "a/b/c"], &["b", "ab"]),
            ("a/**/b", &["a/b", "a/c/b", "a/c/d/b"], &["a", "ab", "a/cb"]),
            ("**/*.md", &["x.md", "a/b/x.md"], &["x.mdx"]),
            ("**b", &["b", "a/b"], &["ab"]),
            ("[a-c]x", &["ax", "cx"], &["dx", "/x"]),
            ("[^a-c]x", &["dx"], &["ax", "/x"]),
            (r"\*a", &["*a"], &["ba"]),
            (r"[\]]", &["]"], &["\\"]),
            ("ä*ö", &["äxö", "äö"], &["äx"]),
            ("a.b$", &["a.b$"], &["axb$"]),
        ] {
            let pattern = pattern(text);
            yes.iter().for_each(|path| assert!(pattern.matches(path), "{text} {path}"));
            no.iter().for_each(|path| assert!(!pattern.matches(path), "{text} {path}"));
        }
        for wrong in ["[", "[]", "[a", "a\\", "[z-a]", "[a-]", "[-a]", "[^]"] {
            assert!(Pattern::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_folder_may_hold_what_matches() {
        assert!(pattern("a/b/c").may_match_below("a"));
        assert!(pattern("a/b/c").may_match_below("a/b"));
        assert!(!pattern("a/b/c").may_match_below("a/x"));
        assert!(!pattern("a").may_match_below("a"));
        assert!(pattern("**/x").may_match_below("any/thing"));
        assert!(pattern("a*/x").may_match_below("ab"));
    }

    proptest::proptest! {
        #[test]
        fn no_pattern_panics(text in "[a-c*?\\[\\]^/\\\\-]{0,16}", path in "[a-c/]{0,16}") {
            if let Ok(pattern) = Pattern::parse(&text) {
                let _ = pattern.matches(&path);
                let _ = pattern.may_match_below(&path);
            }
        }
    }
}
