//! Conditions of lists, in docker's words, as every service reads them.

use std::collections::BTreeMap;

/// Whether a condition is to hold, as `true`, `1`, `t` and their opposites; `None` for any other word.
#[must_use]
pub fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "t" => Some(true),
        "false" | "0" | "f" => Some(false),
        _ => None,
    }
}

/// A label that is asked for, with any value or with this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    name: String,
    value: Option<String>,
}

impl Label {
    /// Reads `NAME` or `NAME=VALUE`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text.split_once('=') {
            Some((name, value)) => Self { name: name.to_owned(), value: Some(value.to_owned()) },
            None => Self { name: text.to_owned(), value: None },
        }
    }

    /// Whether it is among these.
    #[must_use]
    pub fn is_in(&self, labels: &BTreeMap<String, String>) -> bool {
        labels.get(&self.name).is_some_and(|value| self.value.as_ref().is_none_or(|wanted| wanted == value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_asked_for_with_any_value_or_with_one() {
        let labels = [("tier".to_owned(), "db".to_owned()), ("x".to_owned(), String::new())].into();
        for there in ["tier", "tier=db", "x", "x="] {
            assert!(Label::parse(there).is_in(&labels), "{there}");
        }
        for missing in ["tier=", "tier=web", "db", ""] {
            assert!(!Label::parse(missing).is_in(&labels), "{missing}");
        }
    }

    #[test]
    fn words_of_truth() {
        assert_eq!((truth("True"), truth("f"), truth("yes")), (Some(true), Some(false), None));
    }
}
