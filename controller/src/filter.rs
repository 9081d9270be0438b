//! Conditions of a list in docker's words: those of one key are alternatives, those of different keys
//! hold together.

use std::collections::HashMap;

use davit_proto::status::{Classify, ErrorKind};
use davit_proto::types::Filter;

/// Most conditions of one call.
const LIMIT: usize = 256;
/// Longest value of a condition.
const VALUE_LIMIT: usize = 1024;

/// A condition that cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid filter {key:?}={value:?}: {rule}")]
pub struct Invalid {
    /// Left of the sign.
    pub key: String,
    /// Right of it.
    pub value: String,
    /// What it would have to be.
    pub rule: String,
}

impl Invalid {
    /// For a value that no such condition can have.
    pub fn new(key: &str, value: &str, rule: impl Into<String>) -> Self {
        let cut = |text: &str| text.chars().take(200).collect();
        Self { key: cut(key), value: cut(value), rule: rule.into() }
    }
}

impl Classify for Invalid {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidArgument
    }
    fn reason(&self) -> &str {
        "INVALID_FILTER"
    }
    fn values(&self) -> Vec<(&'static str, String)> {
        vec![("filter", self.key.clone()), ("value", self.value.clone())]
    }
}

/// Conditions by key.
#[derive(Debug, Clone, Default)]
pub struct Filters(HashMap<String, Vec<String>>);

impl Filters {
    /// Sorts conditions by key. Only the keys named in `known` are conditions of this list.
    ///
    /// # Errors
    /// When a key is not known, or there are too many.
    pub fn new(filters: &[Filter], known: &[&str]) -> Result<Self, Invalid> {
        let mut sorted = HashMap::<String, Vec<String>>::new();
        for Filter { key, value } in filters {
            if !known.contains(&key.as_str()) {
                return Err(Invalid::new(key, value, format!("must be one of {}", known.join(", "))));
            }
            if filters.len() > LIMIT || value.len() > VALUE_LIMIT {
                let rule = format!("at most {LIMIT} filters of {VALUE_LIMIT} bytes");
                return Err(Invalid::new(key, value, rule));
            }
            sorted.entry(key.clone()).or_default().push(value.clone());
        }
        Ok(Self(sorted))
    }

    /// The values of one key.
    #[must_use]
    pub fn values(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// Whether one of the key's alternatives holds, or there is none to hold.
    pub fn any(&self, key: &str, holds: impl FnMut(&str) -> bool) -> bool {
        let values = self.values(key);
        values.is_empty() || values.iter().map(String::as_str).any(holds)
    }

    /// Whether every condition `label=key` or `label=key=value` holds: labels are never alternatives.
    #[must_use]
    pub fn labels(&self, labels: &HashMap<String, String>) -> bool {
        self.values("label").iter().all(|wanted| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
            None => labels.contains_key(wanted),
        })
    }
}

/// Whether a text matches a pattern as docker's name filter takes it: a part of the text, `^` and `$` for
/// its ends, `.` for any one character and `.*` for any.
#[must_use]
pub fn matches(pattern: &str, text: &str) -> bool {
    let (anchored, rest) = match pattern.strip_prefix('^') {
        Some(rest) => (true, rest),
        None => (false, pattern),
    };
    let (ended, body) = match rest.strip_suffix('$') {
        Some(body) => (true, body),
        None => (false, rest),
    };
    let mut glob: Vec<Part> = Vec::new();
    if !anchored {
        glob.push(Part::Many);
    }
    let mut letters = body.chars().peekable();
    while let Some(letter) = letters.next() {
        let part = match letter {
            '\\' => Part::One(letters.next().unwrap_or('\\')),
            '.' => Part::Any,
            other => Part::One(other),
        };
        let repeated = letters.next_if_eq(&'*').is_some();
        match part {
            Part::Any if repeated => glob.push(Part::Many),
            part if repeated => glob.push(Part::Repeat(Box::new(part))),
            part => glob.push(part),
        }
    }
    if !ended {
        glob.push(Part::Many);
    }
    run(&glob, text)
}

/// One step of a pattern.
#[derive(Debug, Clone, PartialEq)]
enum Part {
    /// This character.
    One(char),
    /// Any one character.
    Any,
    /// Any number of any characters.
    Many,
    /// Any number of this one.
    Repeat(Box<Part>),
}

impl Part {
    fn takes(&self, letter: char) -> bool {
        match self {
            Self::One(wanted) => *wanted == letter,
            Self::Any | Self::Many => true,
            Self::Repeat(part) => part.takes(letter),
        }
    }

    fn may_be_nothing(&self) -> bool {
        matches!(self, Self::Many | Self::Repeat(_))
    }
}

/// Follows all ways through a pattern at once, so that no pattern takes longer than its length times the
/// text's.
fn run(parts: &[Part], text: &str) -> bool {
    let mut at = vec![false; parts.len() + 1];
    if let Some(first) = at.first_mut() {
        *first = true;
    }
    skip(parts, &mut at);
    for letter in text.chars() {
        let mut next = vec![false; parts.len() + 1];
        for (index, part) in parts.iter().enumerate().filter(|(index, _)| at.get(*index) == Some(&true)) {
            if part.takes(letter) {
                let target = if part.may_be_nothing() { index } else { index + 1 };
                if let Some(reached) = next.get_mut(target) {
                    *reached = true;
                }
            }
        }
        skip(parts, &mut next);
        at = next;
    }
    at.last() == Some(&true)
}

/// What may be nothing can be stepped over.
fn skip(parts: &[Part], at: &mut [bool]) {
    for (index, part) in parts.iter().enumerate() {
        if at.get(index) == Some(&true)
            && part.may_be_nothing()
            && let Some(behind) = at.get_mut(index + 1)
        {
            *behind = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filters(list: &[(&str, &str)]) -> Vec<Filter> {
        list.iter().map(|(key, value)| Filter { key: (*key).into(), value: (*value).into() }).collect()
    }

    #[test]
    fn one_key_is_or_and_labels_are_and() {
        let made = Filters::new(
            &filters(&[("name", "a"), ("name", "b"), ("label", "x"), ("label", "y=1")]),
            &["name", "label"],
        )
        .unwrap();
        assert!(made.any("name", |value| value == "b") && !made.any("name", |value| value == "c"));
        assert!(made.any("id", |_| false), "no condition holds for all");
        let labels = |list: &[(&str, &str)]| {
            list.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        assert!(made.labels(&labels(&[("x", ""), ("y", "1"), ("z", "")])));
        assert!(!made.labels(&labels(&[("x", ""), ("y", "2")])));
        assert!(!made.labels(&labels(&[("y", "1")])));
    }

    #[test]
    fn unknown_keys_and_floods_are_refused() {
        let error = Filters::new(&filters(&[("nmae", "a")]), &["id", "name"]).unwrap_err();
        assert_eq!(error.to_string(), "invalid filter \"nmae\"=\"a\": must be one of id, name");
        assert!(Filters::new(&filters(&[("id", "x"); 257]), &["id"]).is_err());
        assert!(Filters::new(&filters(&[("id", &"x".repeat(2000))]), &["id"]).is_err());
    }

    #[test]
    fn names_match_by_part_and_by_dockers_signs() {
        for (pattern, text, wanted) in [
            ("web", "my-web-1", true),
            ("^web", "my-web", false),
            ("^web$", "web", true),
            ("web$", "my-web", true),
            ("w.b", "web", true),
            ("^w.*1$", "web-1", true),
            ("^w.*2$", "web-1", false),
            ("we*b", "wb", true),
            ("we*b", "weeeb", true),
            ("a\\.b", "a.b", true),
            ("a\\.b", "axb", false),
            ("", "anything", true),
            ("^$", "", true),
            ("^$", "x", false),
        ] {
            assert_eq!(matches(pattern, text), wanted, "{pattern} on {text}");
        }
    }

    proptest! {
        #[test]
        fn a_plain_pattern_is_a_part(pattern in "[a-c]{0,4}", text in "[a-c]{0,8}") {
            prop_assert_eq!(matches(&pattern, &text), text.contains(&pattern));
            let anchored = format!("^{pattern}");
            let ended = format!("{pattern}$");
            prop_assert_eq!(matches(&anchored, &text), text.starts_with(&pattern));
            prop_assert_eq!(matches(&ended, &text), text.ends_with(&pattern));
        }

        #[test]
        fn no_pattern_makes_it_panic(pattern in ".{0,40}", text in ".{0,40}") {
            let _ = matches(&pattern, &text);
        }
    }
}
