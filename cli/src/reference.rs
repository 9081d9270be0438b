//! Names of images as people know them.

/// The short form of a full reference: "docker.io/library/alpine:3" is "alpine:3".
pub fn familiar(reference: &str) -> &str {
    let short = reference.strip_prefix("docker.io/").unwrap_or(reference);
    match short.strip_prefix("library/") {
        Some(name) if short.len() != reference.len() && !name.contains('/') => name,
        _ => short,
    }
}

/// Repository and tag of a reference by tag; a digest is no tag.
pub fn split(reference: &str) -> (&str, &str) {
    let name = reference.split_once('@').map_or(reference, |(name, _)| name);
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (name, ""),
    }
}

/// What was typed, with the tag that is meant when none was said.
pub fn with_tag(typed: &str) -> String {
    if typed.contains('@') || !split(typed).1.is_empty() {
        typed.to_owned()
    } else {
        format!("{typed}:latest")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_forms() {
        for (full, short) in [
            ("docker.io/library/alpine:latest", "alpine:latest"),
            ("docker.io/user/app:1", "user/app:1"),
            ("localhost:5000/a/b:1", "localhost:5000/a/b:1"),
            ("library/x", "library/x"),
            ("docker.io/library/a@sha256:00", "a@sha256:00"),
        ] {
            assert_eq!(familiar(full), short);
        }
    }

    #[test]
    fn tags() {
        assert_eq!(split("alpine:3"), ("alpine", "3"));
        assert_eq!(split("localhost:5000/a"), ("localhost:5000/a", ""));
        assert_eq!(split("localhost:5000/a:1"), ("localhost:5000/a", "1"));
        assert_eq!(split("a:1@sha256:00"), ("a", "1"));
        assert_eq!(with_tag("alpine"), "alpine:latest");
        assert_eq!(with_tag("localhost:5000/a"), "localhost:5000/a:latest");
        assert_eq!(with_tag("alpine:3"), "alpine:3");
        assert_eq!(with_tag("a@sha256:00"), "a@sha256:00");
    }
}
