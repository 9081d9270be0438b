//! `.dockerignore`: what of a context stays behind.
//!
//! A line is a pattern from the context's root, with `**`; a folder that matches stays behind with all that is in
//! it; `!` takes back what lines before it said; the last line that says something of a path holds. Lines that
//! begin with `#` are comments.

use crate::change::joined;
use crate::error::{Error, Problem};
use crate::limit;
use crate::pattern::Pattern;
use crate::position::Position;

/// What stays behind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    pattern: Pattern,
    /// Whether it takes back.
    keep: bool,
}

/// The most lines that say something.
const RULES: usize = 10_000;

impl Ignore {
    /// Reads the file.
    ///
    /// # Errors
    /// A pattern that cannot be read, or too many of them.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > limit::TEXT {
            let problem = Problem::Limit { what: "bytes of the text", limit: limit::TEXT };
            return Err(Error::new(Position::START, problem));
        }
        let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
        let mut rules = Vec::new();
        for (index, line) in text.lines().enumerate() {
            if line.starts_with('#') {
                continue;
            }
            let column = line.chars().take_while(|c| c.is_whitespace()).count() + 1;
            let at = Position { line: index + 1, column };
            rules.extend(rule(line.trim(), at)?);
            if rules.len() > RULES {
                return Err(Error::new(at, Problem::Limit { what: "number of patterns", limit: RULES }));
            }
        }
        Ok(Self { rules })
    }

    /// The patterns of `COPY --exclude`, each of which is one.
    ///
    /// # Errors
    /// As of [`Ignore::parse`]; the place is the pattern's number.
    pub fn of(patterns: &[String]) -> Result<Self, Error> {
        Self::parse(&patterns.join("\n"))
    }

    /// Whether nothing stays behind.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether a path, from the context's root and without a slash at either end, stays behind.
    #[must_use]
    pub fn ignores(&self, path: &str) -> bool {
        let mut ignored = false;
        // What has no say over how it stands already need not be asked.
        for rule in self.rules.iter() {
            if rule.keep == ignored && rule.covers(path) {
                ignored = !rule.keep;
            }
        }
        ignored
    }

    /// Whether a folder that stays behind need not be looked into: nothing in it is taken back.
    #[must_use]
    pub fn ignores_all_below(&self, path: &str) -> bool {
        let taken_back = |rule: &Rule| rule.keep && (rule.pattern.may_match_below(path) || rule.covers(path));
        self.ignores(path) && !self.rules.iter().any(taken_back)
    }
}

impl Rule {
    /// Whether it matches the path or a folder above it.
    fn covers(&self, path: &str) -> bool {
        let above = path.match_indices('/').filter_map(|(at, _)| path.get(..at));
        self.pattern.matches(path) || above.into_iter().any(|folder| self.pattern.matches(folder))
    }
}

fn rule(line: &str, at: Position) -> Result<Option<Rule>, Error> {
    let wrong = |reason| Error::new(at, Problem::Word { what: "pattern", word: line.to_owned(), reason });
    let (keep, text) = match line.strip_prefix('!') {
        Some(rest) => (true, rest.trim()),
        None => (false, line),
    };
    if text.is_empty() {
        return if keep { Err(wrong("nothing stands after the !")) } else { Ok(None) };
    }
    let clean = joined("", text);
    // The root itself never stays behind: a line that says so says nothing.
    let clean = clean.trim_start_matches('/');
    if clean.is_empty() {
        return Ok(None);
    }
    Pattern::parse(clean).map(|pattern| Some(Rule { pattern, keep })).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_what_stays_behind() {
        let text = "# comment\n\n  node_modules\n/target/\n**/*.log\n!keep.log\ndocs/*\n!docs/README.md\n.git\n./a/../b\n";
        let ignore = Ignore::parse(text).unwrap();
        for path in [
            "node_modules",
            "node_modules/a/b",
            "target",
            "target/x",
            "x.log",
            "a/b/x.log",
            "docs/a",
            "docs/b/c",
            ".git/HEAD",
            "b/x",
        ] {
            assert!(ignore.ignores(path), "{path}");
        }
        for path in ["a/node_modules", "keep.log", "docs", "docs/README.md", "src/target", "a", "c"] {
            assert!(!ignore.ignores(path), "{path}");
        }
        assert!(ignore.ignores_all_below("node_modules"));
        assert!(!ignore.ignores_all_below("docs"));
    }

    #[test]
    fn the_last_line_holds_and_folders_are_looked_into_when_something_comes_back() {
        let ignore = Ignore::parse("*\n!src\n!a/**/b\nsrc/secret\n").unwrap();
        for (path, ignored) in [
            ("x", true),
            ("src", false),
            ("src/main.rs", false),
            ("src/secret", true),
            ("src/secret/x", true),
            ("a/b", false),
            ("a/x/b", false),
            ("a/x/c", true),
        ] {
            assert_eq!(ignore.ignores(path), ignored, "{path}");
        }
        assert!(ignore.ignores_all_below("x"));
        assert!(!ignore.ignores_all_below("a"));
        assert!(!ignore.ignores_all_below("a/x"));
        assert!(Ignore::default().is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_told_with_its_place() {
        let refused = |text: &str| Ignore::parse(text).unwrap_err().to_string();
        assert_eq!(refused("a\n [b"), "line 2, column 2: pattern \"[b\": the bracket has no end");
        assert_eq!(refused("!"), "line 1, column 1: pattern \"!\": nothing stands after the !");
        assert!(Ignore::parse(&"a\n".repeat(RULES + 1)).is_err());
        assert!(Ignore::parse("/\n.\n").unwrap().is_empty());
    }
}
