//! `WWW-Authenticate`: the ways in that a registry offers.

/// Longest header looked at.
const HEADER_MAX: usize = 8 * 1024;

/// One way in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A token from the service at `realm`.
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
    /// Name and password with each request.
    Basic,
}

/// The best of the challenges in these headers: a token before a password.
pub(super) fn best<'a>(headers: impl IntoIterator<Item = &'a str>) -> Option<Challenge> {
    let mut basic = false;
    for header in headers {
        if header.len() > HEADER_MAX {
            continue;
        }
        for (scheme, parameters) in split(header) {
            if scheme.eq_ignore_ascii_case("bearer") {
                let get = |name: &str| {
                    parameters
                        .iter()
                        .find(|(key, _)| key.eq_ignore_ascii_case(name))
                        .map(|(_, value)| value.clone())
                };
                if let Some(realm) = get("realm") {
                    return Some(Challenge::Bearer { realm, service: get("service"), scope: get("scope") });
                }
            }
            basic |= scheme.eq_ignore_ascii_case("basic");
        }
    }
    basic.then_some(Challenge::Basic)
}

type Parameters = Vec<(String, String)>;

/// Splits `Scheme a="b", c=d, Other e="f"`: a word without `=` behind it starts the next scheme.
fn split(header: &str) -> Vec<(String, Parameters)> {
    let mut challenges: Vec<(String, Parameters)> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        if end == 0 {
            // The end, or a stray `=`: nothing that follows can be understood.
            return challenges;
        }
        let (word, after) = rest.split_at(end);
        match after.trim_start().strip_prefix('=') {
            Some(value) => {
                let (value, after) = take_value(value.trim_start());
                if let Some((_, parameters)) = challenges.last_mut() {
                    parameters.push((word.to_owned(), value));
                }
                rest = after;
            }
            None => {
                challenges.push((word.to_owned(), Vec::new()));
                rest = after;
            }
        }
    }
}

/// A quoted string with its escapes, or a bare token.
fn take_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((_, char)) = chars.next() {
        match char {
            '"' => return (value, chars.as_str()),
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            _ => value.push(char),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        })
    }

    #[test]
    fn reads_what_registries_send() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/busybox:pull""#;
        assert_eq!(
            best([hub]),
            bearer(
                "https://auth.docker.io/token",
                Some("registry.docker.io"),
                Some("repository:library/busybox:pull")
            )
        );
        assert_eq!(best([r#"Basic realm="Registry Realm""#]), Some(Challenge::Basic));
        assert_eq!(best(["BASIC"]), Some(Challenge::Basic));
        assert_eq!(best([r#"Basic realm="x", bearer REALM = "y", Scope=z"#]), bearer("y", None, Some("z")));
        assert_eq!(best(["Basic", r#"Bearer realm="y""#]), bearer("y", None, None));
        assert_eq!(
            best([r#"Bearer realm="a\"b,c",scope="r:x:pull,push""#]),
            bearer("a\"b,c", None, Some("r:x:pull,push"))
        );
        assert_eq!(best([r#"Bearer service="no realm""#]), None);
        assert_eq!(best(["Negotiate abc=", ""]), None);
    }

    proptest! {
        #[test]
        fn never_panics(header in "\\PC{0,200}") {
            best([header.as_str()]);
        }

        #[test]
        fn near_headers_never_panic(header in "(Bearer|Basic|realm|=|\"|\\\\| |,|x){0,30}") {
            best([header.as_str()]);
        }
    }
}
