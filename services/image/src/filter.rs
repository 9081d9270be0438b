//! Conditions of a list, in docker's words.

use std::time::{Duration, SystemTime};

use davit_proto::condition::{Label, truth};

use crate::image::Image;
use crate::list::Summary;
use crate::reference::ImageRef;
use crate::remove::Scope;
use crate::store::{Store, StoreError};

/// One condition as it came.
pub type Condition = (String, String);

/// Conditions that were understood. Those of one key are alternatives, except labels, which all must be there.
#[derive(Debug, Default)]
pub struct Filter {
    patterns: Vec<String>,
    dangling: Option<bool>,
    labels: Vec<Label>,
    without_labels: Vec<Label>,
    after: Option<SystemTime>,
    before: Option<SystemTime>,
}

impl Filter {
    /// Understands the conditions of a list.
    pub fn parse(conditions: &[Condition], store: &Store) -> Result<Self, StoreError> {
        let mut filter = Self::default();
        for (key, value) in conditions {
            match key.as_str() {
                "reference" => filter.patterns.push(value.clone()),
                "dangling" => filter.dangling = Some(holds(key, value)?),
                "since" => filter.later_than(store.find(value)?.image.created()),
                "before" => filter.earlier_than(store.find(value)?.image.created()),
                _ => {
                    filter.common(key, value, "must be reference, dangling, label, since, before or until")?
                }
            }
        }
        Ok(filter)
    }

    /// Understands the conditions of a removal of many.
    pub fn parse_prune(conditions: &[Condition]) -> Result<Self, StoreError> {
        let mut filter = Self::default();
        for (key, value) in conditions {
            match key.as_str() {
                "dangling" => filter.dangling = Some(holds(key, value)?),
                _ => filter.common(key, value, "must be dangling, label, label! or until")?,
            }
        }
        Ok(filter)
    }

    /// Understands the conditions by which images are kept from collection.
    pub fn parse_keep(conditions: &[Condition]) -> Result<Self, StoreError> {
        let mut filter = Self::default();
        for (key, value) in conditions {
            match key.as_str() {
                "reference" if !value.is_empty() => filter.patterns.push(value.clone()),
                "label" if !value.is_empty() => filter.labels.push(Label::parse(value)),
                _ => return Err(invalid(key, value, "must be reference or label")),
            }
        }
        Ok(filter)
    }

    /// What a removal of many takes: named images too when asked for, or by `dangling=false`.
    #[must_use]
    pub fn scope(&self, all: bool) -> Scope {
        if all || self.dangling == Some(false) { Scope::Unused } else { Scope::Dangling }
    }

    fn common(&mut self, key: &str, value: &str, rule: &'static str) -> Result<(), StoreError> {
        match key {
            "label" => self.labels.push(Label::parse(value)),
            "label!" => self.without_labels.push(Label::parse(value)),
            "until" => self.earlier_than(Some(until(value, SystemTime::now()).ok_or_else(|| {
                invalid(
                    key,
                    value,
                    "must be a time such as 2026-01-02T15:04:05Z, a unix time, or an age such as 24h",
                )
            })?)),
            _ => return Err(invalid(key, value, rule)),
        }
        Ok(())
    }

    fn later_than(&mut self, time: Option<SystemTime>) {
        self.after = self.after.max(time);
    }

    fn earlier_than(&mut self, time: Option<SystemTime>) {
        self.before = match (self.before, time) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }

    /// Whether a list shows an image.
    #[must_use]
    pub fn shows(&self, summary: &Summary) -> bool {
        let dangling = summary.listed && summary.references.is_empty();
        let named = || summary.references.iter().chain(&summary.digests).any(|name| self.names(name));
        self.dangling.is_none_or(|wanted| wanted == dangling)
            && (self.patterns.is_empty() || named())
            && self.holds(&summary.image)
    }

    /// Whether the conditions that concern an image alone hold.
    #[must_use]
    pub fn holds(&self, image: &Image) -> bool {
        let labels = &image.config.config.labels;
        let has = |label: &Label| label.is_in(labels);
        let created = image.created().unwrap_or(SystemTime::UNIX_EPOCH);
        self.labels.iter().all(has)
            && !self.without_labels.iter().any(has)
            && self.after.is_none_or(|after| created > after)
            && self.before.is_none_or(|before| created < before)
    }

    /// A pattern is for the short form or the full one, with or without the tag.
    fn names(&self, reference: &str) -> bool {
        let Ok(reference) = reference.parse::<ImageRef>() else { return false };
        let forms =
            [reference.to_string(), reference.name(), reference.familiar(), reference.familiar_name()];
        self.patterns.iter().any(|pattern| forms.iter().any(|form| matches(pattern, form)))
    }
}

fn invalid(key: &str, value: &str, rule: &'static str) -> StoreError {
    StoreError::Filter { key: key.to_owned(), value: value.to_owned(), rule }
}

fn holds(key: &str, value: &str) -> Result<bool, StoreError> {
    truth(value).ok_or_else(|| invalid(key, value, "must be true or false"))
}

/// A point in time, seconds since 1970, or an age in Go's words.
fn until(value: &str, now: SystemTime) -> Option<SystemTime> {
    if let Ok(time) = value.parse::<jiff::Timestamp>() {
        return Some(time.into());
    }
    if let Ok(seconds) = value.parse::<u64>() {
        return SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    }
    now.checked_sub(age(value)?)
}

/// `1h30m`, `10s`, `500ms`.
pub(crate) fn age(mut value: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    if value.is_empty() {
        return None;
    }
    while !value.is_empty() {
        let digits = value.find(|c: char| !c.is_ascii_digit())?;
        let number: u32 = value[..digits].parse().ok()?;
        let rest = &value[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(3600),
            _ => return None,
        };
        total = total.checked_add(unit.checked_mul(number)?)?;
        value = &rest[end..];
    }
    Some(total)
}

/// Go's `path.Match`: `*` and `?` stop at a slash, `[a-z]` is one of these. A pattern that is malformed matches nothing.
fn matches(pattern: &str, text: &str) -> bool {
    let (patterns, texts) = (pattern.split('/'), text.split('/'));
    patterns.clone().count() == texts.clone().count()
        && patterns.zip(texts).all(|(pattern, text)| matches_part(pattern.as_bytes(), text.as_bytes()))
}

/// Without slashes it is enough to go back to the last star, so that no pattern takes long.
fn matches_part(mut pattern: &[u8], mut text: &[u8]) -> bool {
    let mut last_star: Option<(&[u8], &[u8])> = None;
    loop {
        if let [b'*', rest @ ..] = pattern {
            last_star = Some((rest, text));
            pattern = rest;
            continue;
        }
        if pattern.is_empty() && text.is_empty() {
            return true;
        }
        if let Some((&byte, rest)) = text.split_first()
            && let Some(left) = matches_byte(pattern, byte)
        {
            (pattern, text) = (left, rest);
            continue;
        }
        match last_star {
            Some((after, [_, rest @ ..])) => {
                last_star = Some((after, rest));
                (pattern, text) = (after, rest);
            }
            _ => return false,
        }
    }
}

/// What is left of a pattern whose first sign is for this byte.
fn matches_byte(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    match pattern {
        [b'?', rest @ ..] => Some(rest),
        [b'[', rest @ ..] => class(rest, byte).and_then(|(found, rest)| found.then_some(rest)),
        [b'\\', literal, rest @ ..] | [literal, rest @ ..] => (*literal == byte).then_some(rest),
        [] => None,
    }
}

/// Whether a byte is in the class that begins here, and what follows the class.
fn class(pattern: &[u8], byte: u8) -> Option<(bool, &[u8])> {
    let end = pattern.iter().skip(1).position(|&b| b == b']')? + 1;
    let (body, rest) = (&pattern[..end], &pattern[end + 1..]);
    let (negated, body) = match body.strip_prefix(b"^") {
        Some(body) => (true, body),
        None => (false, body),
    };
    let mut found = false;
    let mut at = 0;
    while let Some(&low) = body.get(at) {
        match (body.get(at + 1), body.get(at + 2)) {
            (Some(b'-'), Some(&high)) => {
                found |= (low..=high).contains(&byte);
                at += 3;
            }
            _ => {
                found |= low == byte;
                at += 1;
            }
        }
    }
    Some((found != negated, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_gos_do() {
        let ok = matches;
        for (pattern, text) in [
            ("busy*", "busybox"),
            ("*", "alpine:3"),
            ("a?pine", "alpine"),
            ("localhost:5000/*/x", "localhost:5000/a/x"),
            ("[a-c]lpine", "alpine"),
            ("[^b]lpine", "alpine"),
            ("", ""),
            ("a\\*", "a*"),
            ("*a*b*c", "xxaxxbxbxc"),
        ] {
            assert!(ok(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in
            [("*", "a/b"), ("a?", "a"), ("a?b", "a/b"), ("[b", "b"), ("b", "bb"), ("[^a]b", "ab")]
        {
            assert!(!ok(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn ages_and_times_are_read() {
        assert_eq!(age("1h30m"), Some(Duration::from_secs(5400)));
        assert_eq!(age("500ms"), Some(Duration::from_millis(500)));
        for bad in ["", "1", "h", "1d", "-1h", "1h-"] {
            assert_eq!(age(bad), None, "{bad}");
        }
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(10_000);
        assert_eq!(until("10s", now), Some(now - Duration::from_secs(10)));
        assert_eq!(until("77", now), Some(SystemTime::UNIX_EPOCH + Duration::from_secs(77)));
        assert_eq!(until("1970-01-01T00:00:05Z", now), Some(SystemTime::UNIX_EPOCH + Duration::from_secs(5)));
    }

    proptest::proptest! {
        #[test]
        fn no_pattern_panics(pattern in "[a\\[\\]\\-^*?/\\\\]{0,12}", text in "[ab/]{0,8}") {
            let _ = matches(&pattern, &text);
        }
    }
}
