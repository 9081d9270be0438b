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

/// A repository without its registry: "docker.io/library/alpine" is "library/alpine".
pub fn path(repository: &str) -> &str {
    match repository.split_once('/') {
        Some((registry, path)) if registry.contains(['.', ':']) || registry == "localhost" => path,
        _ => repository,
    }
}

/// The registry of a reference as it was typed: what looks like a host, else Docker Hub.
pub fn registry(typed: &str) -> &str {
    match typed.split_once('/') {
        Some(("index.docker.io", _)) | None => crate::credential::HUB,
        Some((first, _))
            if first == "localhost"
                || first.contains(['.', ':'])
                || first.bytes().any(|byte| byte.is_ascii_uppercase()) =>
        {
            first
        }
        Some(_) => crate::credential::HUB,
    }
}

/// Whether a reference is what `docker images PATTERN` shows: a repository, or repository and tag; `*` stands
/// for anything but a slash.
pub fn matches(pattern: &str, reference: &str) -> bool {
    let name = familiar(reference);
    glob(pattern.as_bytes(), name.as_bytes()) || glob(pattern.as_bytes(), split(name).0.as_bytes())
}

fn glob(pattern: &[u8], text: &[u8]) -> bool {
    // Where to go back to when the rest does not fit: the last star, and what it took.
    let (mut p, mut t, mut back) = (0, 0, None);
    while t < text.len() {
        match (pattern.get(p), text.get(t)) {
            (Some(b'*'), _) => {
                back = Some((p, t));
                p += 1;
                continue;
            }
            (Some(b'?'), Some(c)) if *c != b'/' => {}
            (Some(a), Some(b)) if a == b && *a != b'?' => {}
            _ => match back {
                Some((star, taken)) if text.get(taken) != Some(&b'/') => {
                    back = Some((star, taken + 1));
                    (p, t) = (star + 1, taken + 1);
                    continue;
                }
                _ => return false,
            },
        }
        (p, t) = (p + 1, t + 1);
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|c| *c == b'*'))
}

/// What was typed, with the tag that is meant when none was said.
pub fn with_tag(typed: &str) -> String {
    if typed.contains('@') || !split(typed).1.is_empty() {
        typed.to_owned()
    } else {
        format!("{typed}:latest")
    }
}

/// What was typed, whole: registry, repository and tag.
pub fn full(typed: &str) -> String {
    let tagged = with_tag(typed);
    if registry(typed) != crate::credential::HUB {
        return tagged;
    }
    let short = tagged.strip_prefix("index.").unwrap_or(&tagged);
    let short = short.strip_prefix("docker.io/").unwrap_or(short);
    let library = if short.contains('/') { "" } else { "library/" };
    format!("{}/{library}{short}", crate::credential::HUB)
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
    fn patterns() {
        for (pattern, reference, wanted) in [
            ("alpine", "docker.io/library/alpine:3", true),
            ("alpine:3", "docker.io/library/alpine:3", true),
            ("alpine:4", "docker.io/library/alpine:3", false),
            ("alp*", "docker.io/library/alpine:3", true),
            ("*", "docker.io/library/alpine:3", true),
            ("*", "docker.io/user/app:1", false),
            ("*/*", "docker.io/user/app:1", true),
            ("u*r/a?p", "docker.io/user/app:1", true),
            ("app", "docker.io/user/app:1", false),
            ("*e*e:*", "alpine-edge:3", true),
        ] {
            assert_eq!(matches(pattern, reference), wanted, "{pattern} {reference}");
        }
        assert_eq!(path("docker.io/library/alpine"), "library/alpine");
        assert_eq!(path("localhost:5000/a/b"), "a/b");
        assert_eq!(path("user/app"), "user/app");
        for (typed, wanted) in [
            ("alpine", "docker.io"),
            ("user/app:1", "docker.io"),
            ("docker.io/a", "docker.io"),
            ("index.docker.io/a/b", "docker.io"),
            ("localhost/a", "localhost"),
            ("127.0.0.1:5000/a@sha256:00", "127.0.0.1:5000"),
        ] {
            assert_eq!(registry(typed), wanted, "{typed}");
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
