//! Image references: `registry/repository:tag@digest`, parsed by Docker's rules.
//!
//! A parsed reference is always normalised: the registry is written out (`docker.io` when none was named), official
//! images sit below `library/`, and `latest` is the tag when neither tag nor digest was given. [`ImageRef`]'s
//! `Display` prints that full form, and parsing it again gives the same value; [`ImageRef::familiar`] is the short
//! form people type.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

pub use davit_proto::id::Digest;

/// The registry that is meant when none is named.
pub const DEFAULT_DOMAIN: &str = "docker.io";
/// The tag that is meant when neither tag nor digest is given.
pub const DEFAULT_TAG: &str = "latest";

const LEGACY_DEFAULT_DOMAIN: &str = "index.docker.io";
const OFFICIAL_PREFIX: &str = "library/";
/// Longest registry plus repository, as the registries limit it.
const NAME_MAX: usize = 255;
const TAG_MAX: usize = 128;
/// Longest input looked at: a name, a tag, a digest and their separators.
const INPUT_MAX: usize = NAME_MAX + 1 + TAG_MAX + 1 + "sha256:".len() + 64;

/// Why a text is no image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Nothing was given.
    #[error("invalid reference format: empty")]
    Empty,
    /// The text is longer than any reference can be.
    #[error("invalid reference format: {length} bytes, at most {INPUT_MAX} are allowed")]
    TooLong {
        /// Bytes of the text.
        length: usize,
    },
    /// Registry and repository together are too long.
    #[error("invalid reference format: name of {length} bytes, at most {NAME_MAX} are allowed")]
    NameTooLong {
        /// Bytes of the name.
        length: usize,
    },
    /// The repository has upper-case letters.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    /// The registry is no host name or address with an optional port.
    #[error("invalid reference format: registry {0:?}")]
    Domain(String),
    /// The repository has a character or a separator where none is allowed.
    #[error("invalid reference format: repository {0:?}")]
    Repository(String),
    /// The tag has a character that is not allowed, or is too long.
    #[error("invalid reference format: tag {0:?}")]
    Tag(String),
    /// The part after `@` is no digest.
    #[error("invalid reference format: digest {0:?}, wanted sha256: and 64 lower-case hex digits")]
    Digest(String),
    /// 64 hex digits are an image id, so no repository may be called so.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    Identifier(String),
}

/// A normalised image reference.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageRef {
    domain: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl ImageRef {
    /// Parses and normalises; a reference without tag and digest gets the tag `latest`.
    pub fn parse(input: &str) -> Result<Self, ReferenceError> {
        let mut reference = Self::parse_bare(input)?;
        if reference.tag.is_none() && reference.digest.is_none() {
            reference.tag = Some(DEFAULT_TAG.to_owned());
        }
        Ok(reference)
    }

    /// Parses and normalises the name but adds no tag: for commands where a bare name means the whole repository.
    pub fn parse_bare(input: &str) -> Result<Self, ReferenceError> {
        if input.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if input.len() > INPUT_MAX {
            return Err(ReferenceError::TooLong { length: input.len() });
        }
        if is_identifier(input) {
            return Err(ReferenceError::Identifier(input.to_owned()));
        }
        let (rest, digest) = match input.split_once('@') {
            Some((rest, text)) => {
                let digest = text.parse::<Digest>().map_err(|_| ReferenceError::Digest(text.to_owned()))?;
                (rest, Some(digest))
            }
            None => (input, None),
        };
        let (name, tag) = split_tag(rest)?;
        let (domain, repository) = split_domain(name);
        check_domain(domain)?;
        check_repository(&repository)?;
        let length = domain.len() + 1 + repository.len();
        if length > NAME_MAX {
            return Err(ReferenceError::NameTooLong { length });
        }
        Ok(Self { domain: domain.to_owned(), repository, tag: tag.map(str::to_owned), digest })
    }

    /// A registry alone, without a repository: for what is asked of the registry itself.
    pub fn of_registry(domain: &str) -> Result<Self, ReferenceError> {
        let domain = if domain == LEGACY_DEFAULT_DOMAIN { DEFAULT_DOMAIN } else { domain };
        if domain.len() > NAME_MAX {
            return Err(ReferenceError::NameTooLong { length: domain.len() });
        }
        check_domain(domain)?;
        Ok(Self { domain: domain.to_owned(), repository: String::new(), tag: None, digest: None })
    }

    /// The registry's host, with its port if one was given: `docker.io`, `localhost:5000`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository within the registry: `library/busybox`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if there is one.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if there is one.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Registry and repository without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.repository)
    }

    /// The same name with this tag and no digest.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ReferenceError> {
        check_tag(tag)?;
        Ok(Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// The same name with this digest and no tag.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// The short form of the name: `busybox`, `user/app`, `localhost:5000/x`.
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.name();
        }
        let official = self
            .repository
            .strip_prefix(OFFICIAL_PREFIX)
            .filter(|rest| !rest.contains('/') && !is_identifier(rest));
        let short = official.unwrap_or(&self.repository);
        // `docker.io/localhost/x` and the like would be read back as another registry.
        if split_domain(short) == (DEFAULT_DOMAIN, self.repository.clone()) {
            short.to_owned()
        } else {
            self.name()
        }
    }

    /// The short form of the whole reference: `busybox:latest`.
    pub fn familiar(&self) -> String {
        self.suffixed(self.familiar_name())
    }

    fn suffixed(&self, mut name: String) -> String {
        if let Some(tag) = &self.tag {
            name.push(':');
            name.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            name.push('@');
            name.push_str(digest.as_str());
        }
        name
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.suffixed(self.name()))
    }
}

impl FromStr for ImageRef {
    type Err = ReferenceError;

    fn from_str(input: &str) -> Result<Self, ReferenceError> {
        Self::parse(input)
    }
}

/// The tag is what follows the last colon, unless that colon belongs to the registry's port.
fn split_tag(rest: &str) -> Result<(&str, Option<&str>), ReferenceError> {
    match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => {
            check_tag(tag)?;
            Ok((name, Some(tag)))
        }
        _ => Ok((rest, None)),
    }
}

/// The first part is a registry only if it looks like a host: it has a dot or a colon, is `localhost`, or could not be
/// a repository because it has upper-case letters.
fn split_domain(name: &str) -> (&str, String) {
    let (domain, repository) = match name.split_once('/') {
        Some((first, rest)) if looks_like_host(first) => (first, rest),
        _ => (DEFAULT_DOMAIN, name),
    };
    let domain = if domain == LEGACY_DEFAULT_DOMAIN { DEFAULT_DOMAIN } else { domain };
    if domain == DEFAULT_DOMAIN && !repository.contains('/') {
        return (domain, format!("{OFFICIAL_PREFIX}{repository}"));
    }
    (domain, repository.to_owned())
}

fn looks_like_host(part: &str) -> bool {
    part == "localhost" || part.contains(['.', ':']) || part.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn is_identifier(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn check_tag(tag: &str) -> Result<(), ReferenceError> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let mut bytes = tag.bytes();
    let valid = bytes.next().is_some_and(word)
        && bytes.all(|byte| word(byte) || byte == b'.' || byte == b'-')
        && tag.len() <= TAG_MAX;
    if valid { Ok(()) } else { Err(ReferenceError::Tag(tag.to_owned())) }
}

fn check_domain(domain: &str) -> Result<(), ReferenceError> {
    let valid = match domain.strip_prefix('[') {
        Some(rest) => rest.split_once(']').is_some_and(|(address, port)| {
            address.parse::<Ipv6Addr>().is_ok()
                && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
        }),
        None => match domain.split_once(':') {
            Some((host, port)) => is_host(host) && is_port(port),
            None => is_host(domain),
        },
    };
    if valid { Ok(()) } else { Err(ReferenceError::Domain(domain.to_owned())) }
}

fn is_port(port: &str) -> bool {
    port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|number| number > 0)
}

fn is_host(host: &str) -> bool {
    host.split('.').all(|label| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    })
}

fn check_repository(repository: &str) -> Result<(), ReferenceError> {
    if repository.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(ReferenceError::Uppercase(repository.to_owned()));
    }
    if repository.split('/').all(is_path_component) {
        Ok(())
    } else {
        Err(ReferenceError::Repository(repository.to_owned()))
    }
}

/// Letters and digits, with `.`, `_`, `__` or any number of `-` between them.
fn is_path_component(component: &str) -> bool {
    let alphanumeric = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit();
    let mut separators = component.split(alphanumeric).filter(|part| !part.is_empty());
    component.starts_with(alphanumeric)
        && component.ends_with(alphanumeric)
        && separators.all(|part| matches!(part, "." | "_" | "__") || part.bytes().all(|byte| byte == b'-'))
}

#[cfg(test)]
mod tests;
