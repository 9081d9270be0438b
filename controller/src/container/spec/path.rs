//! Paths inside a container as text. Cleaning them serves comparing and showing only; what keeps a
//! container's paths inside its root is the way they are opened.

use super::Error;

/// Longest path that is taken.
const LIMIT: usize = 4096;

/// An absolute path without empty parts, `.` and `..`; `..` at the root stays at the root.
///
/// # Errors
/// When it is not absolute, too long, or holds a control character.
pub fn clean(field: &'static str, text: &str) -> Result<String, Error> {
    if !text.starts_with('/') {
        return Err(Error::invalid(field, text, "must be an absolute path"));
    }
    if text.len() >= LIMIT {
        return Err(Error::invalid(field, text, format!("must be shorter than {LIMIT} bytes")));
    }
    if text.chars().any(char::is_control) {
        return Err(Error::invalid(field, text, "must not hold control characters"));
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    if parts.iter().any(|part| part.len() > 255) {
        return Err(Error::invalid(field, text, "has a part of more than 255 bytes"));
    }
    Ok(format!("/{}", parts.join("/")))
}

/// Whether a clean path is another one or lies below it.
#[must_use]
pub fn is_below(path: &str, above: &str) -> bool {
    above == "/" || path == above || path.strip_prefix(above).is_some_and(|rest| rest.starts_with('/'))
}

/// How many parts a clean path has.
#[must_use]
pub fn depth(path: &str) -> usize {
    path.split('/').filter(|part| !part.is_empty()).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn below_is_by_parts() {
        assert!(is_below("/a/b", "/a") && is_below("/a", "/a") && is_below("/a", "/"));
        assert!(!is_below("/ab", "/a"));
        assert_eq!((depth("/"), depth("/a/b")), (0, 2));
    }

    proptest! {
        #[test]
        fn clean_paths_have_no_dots_and_stay_clean(text in "/?([a-c.]{0,3}/){0,6}") {
            if let Ok(path) = clean("target", &text) {
                prop_assert!(path.split('/').all(|part| part != "." && part != ".."));
                prop_assert!(!path.contains("//"));
                prop_assert_eq!(clean("target", &path).unwrap(), path);
            }
        }
    }
}
