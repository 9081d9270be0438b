//! Addresses of what is not in any context: files on web servers, and repositories.
//!
//! ```text
//! http://…  https://…                                     a file
//! git://…  ssh://…  git@host:path  http(s)://….git        a repository
//! github.com/owner/name                                    a repository, as people paste it
//!    …#ref:folder                                          of it: a branch, tag or commit; and a folder
//! ```

/// What an address means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remote {
    /// A file on a web server.
    Web(String),
    /// A repository.
    Git(Repository),
}

/// A repository, and what of it is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// As git takes it.
    pub address: String,
    /// Branch, tag or commit; empty for what the repository itself names first.
    pub reference: String,
    /// The folder that is meant; empty for all of it.
    pub folder: String,
}

/// The longest address that is one.
const LONGEST: usize = 8192;

impl Remote {
    /// Reads an address; none when it is a path.
    ///
    /// # Errors
    /// It looks like one and cannot be one.
    pub fn parse(text: &str) -> Result<Option<Self>, &'static str> {
        let (address, fragment) = text.split_once('#').unwrap_or((text, ""));
        let web = address.strip_prefix("https://").or_else(|| address.strip_prefix("http://"));
        let other = address.strip_prefix("ssh://").or_else(|| address.strip_prefix("git://"));
        let pasted = address.starts_with("github.com/");
        let scp = address.strip_prefix("git@");
        if web.is_none() && other.is_none() && scp.is_none() && !pasted {
            return Ok(None);
        }
        if text.len() > LONGEST {
            return Err("it is too long");
        }
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err("it has a blank or a control character in it");
        }
        if let Some(rest) = web {
            let path = rest.split('?').next().unwrap_or_default();
            if host(rest).is_empty() {
                return Err("it names no host");
            }
            if !path.trim_end_matches('/').ends_with(".git") {
                return Ok(Some(Self::Web(text.to_owned())));
            }
        }
        match (other, scp) {
            (Some(rest), _) if host(rest).is_empty() => return Err("it names no host"),
            // Whoever hands it on takes it for a flag.
            (Some(rest), _) if host(rest).starts_with('-') => return Err("its host begins with a dash"),
            (_, Some(rest)) => match rest.split_once(':') {
                Some((host, path)) if !host.is_empty() && !path.is_empty() => {
                    if host.starts_with('-') || path.starts_with('-') {
                        return Err("its host or path begins with a dash");
                    }
                }
                _ => return Err("it must be like git@host:path"),
            },
            _ => {}
        }
        let address = if pasted { format!("https://{address}") } else { address.to_owned() };
        Repository::of(address, fragment).map(|repository| Some(Self::Git(repository)))
    }
}

/// The host of an address without its scheme, who logs in there left out.
fn host(rest: &str) -> &str {
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    authority.rsplit('@').next().unwrap_or_default()
}

impl Repository {
    fn of(address: String, fragment: &str) -> Result<Self, &'static str> {
        let (reference, folder) = fragment.split_once(':').unwrap_or((fragment, ""));
        let doubtful = |c: char| matches!(c, '~' | '^' | ':' | '?' | '*' | '[' | '\\');
        if reference.starts_with('-') || reference.contains("..") || reference.contains(doubtful) {
            return Err("what stands after # is no branch, tag or commit");
        }
        if folder.split('/').any(|name| name == "..") {
            return Err("its folder leads out of the repository");
        }
        let folder = folder.trim_matches('/').to_owned();
        Ok(Self { address, reference: reference.to_owned(), folder })
    }

    /// Whether a commit is named by its whole digest, which needs no question to be answered.
    #[must_use]
    pub fn commit(&self) -> Option<&str> {
        is_commit(&self.reference).then_some(self.reference.as_str())
    }
}

/// Whether a text is the whole digest of a commit.
#[must_use]
pub fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64)
        && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// An address without who logs in there, for messages and for what is kept.
#[must_use]
pub fn without_credentials(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    format!("{scheme}://{}{path}", authority.rsplit('@').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(text: &str) -> (String, String, String) {
        match Remote::parse(text) {
            Ok(Some(Remote::Git(Repository { address, reference, folder }))) => (address, reference, folder),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn addresses_are_told_from_paths() {
        for path in
            ["a", "./https://x", "dir/git@x:y", "ftp://x/y", "github.com", "-", "C:/x", "git.example/x"]
        {
            assert_eq!(Remote::parse(path), Ok(None), "{path}");
        }
        for web in ["http://h/x", "https://u:p@h:1/x.tar.gz?x=.git", "https://h/x.git/y", "https://h"] {
            assert_eq!(Remote::parse(web), Ok(Some(Remote::Web(web.to_owned()))), "{web}");
        }
        let of = |address: &str, reference: &str, folder: &str| {
            (address.to_owned(), reference.to_owned(), folder.to_owned())
        };
        assert_eq!(git("https://h/x.git"), of("https://h/x.git", "", ""));
        assert_eq!(git("https://h/x.git#v1:a/b/"), of("https://h/x.git", "v1", "a/b"));
        assert_eq!(git("git://h/x#:sub"), of("git://h/x", "", "sub"));
        assert_eq!(git("git@h:o/x.git#feature/y"), of("git@h:o/x.git", "feature/y", ""));
        assert_eq!(git("ssh://git@h:22/x"), of("ssh://git@h:22/x", "", ""));
        assert_eq!(git("github.com/o/x"), of("https://github.com/o/x", "", ""));
    }

    #[test]
    fn what_could_be_taken_for_something_else_is_refused() {
        for wrong in [
            "https://",
            "git@h",
            "git@-oProxyCommand=x:y",
            "git@h:-x",
            "ssh://-oProxyCommand=x/y",
            "ssh://u@-x/y",
            "https://h/x.git#--upload-pack=x",
            "https://h/x.git#a..b",
            "https://h/x.git#HEAD^",
            "https://h/x.git#:../x",
            "https://h/x y",
            "http://h/\u{1b}",
        ] {
            assert!(Remote::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn credentials_are_no_part_of_a_message() {
        assert_eq!(without_credentials("https://u:p@h:1/x@y?z"), "https://h:1/x@y?z");
        assert_eq!(without_credentials("git@h:x"), "git@h:x");
        assert!(is_commit(&"a".repeat(40)) && !is_commit(&"A".repeat(40)) && !is_commit("abc"));
    }
}
