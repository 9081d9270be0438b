//! Identities as types: nothing that came from outside is a path, a key or a name before it was one of
//! these.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is no identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {what} {value:?}: {rule}")]
pub struct InvalidId {
    /// Which kind of identity was wanted: "container id", "digest".
    pub what: &'static str,
    /// The text, cut to 200 characters.
    pub value: String,
    /// What it would have to be.
    pub rule: &'static str,
}

impl InvalidId {
    fn new(what: &'static str, value: &str, rule: &'static str) -> Self {
        Self { what, value: value.chars().take(200).collect(), rule }
    }
}

fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

macro_rules! text_identity {
    ($name:ident) => {
        impl $name {
            /// The text of it.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

/// A container's id: 64 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId(String);

impl ContainerId {
    /// A new one, from the kernel's random numbers.
    ///
    /// # Errors
    /// When the kernel gives none.
    pub fn generate() -> Result<Self, getrandom::Error> {
        Ok(Self(random_hex()?))
    }

    /// The first 12 digits, as tables show it.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.get(..12).expect("an id has 64 ASCII digits")
    }
}

/// 64 random hex digits.
///
/// # Errors
/// When the kernel gives no random numbers.
pub fn random_hex() -> Result<String, getrandom::Error> {
    use std::fmt::Write as _;
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    }))
}

impl FromStr for ContainerId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        if text.len() == 64 && is_lower_hex(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidId::new("container id", text, "must be 64 lower-case hex digits"))
        }
    }
}
text_identity!(ContainerId);

/// A content digest: `sha256:` and 64 lower-case hex digits. No other algorithm, so it is always safe
/// as part of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// From the 32 bytes of a SHA-256.
    #[must_use]
    pub fn from_sha256(bytes: &[u8; 32]) -> Self {
        use std::fmt::Write as _;
        Self(bytes.iter().fold(String::from("sha256:"), |mut text, byte| {
            write!(text, "{byte:02x}").expect("writing to a string cannot fail");
            text
        }))
    }

    /// The 64 hex digits without the algorithm.
    #[must_use]
    pub fn hex(&self) -> &str {
        self.0.get(7..).expect("a digest begins with sha256:")
    }

    /// The first 12 hex digits, as tables show an image id.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.get(7..19).expect("a digest has 64 ASCII digits")
    }
}

impl FromStr for Digest {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        match text.strip_prefix("sha256:") {
            Some(hex) if hex.len() == 64 && is_lower_hex(hex) => Ok(Self(text.to_owned())),
            _ => Err(InvalidId::new("digest", text, "must be sha256: and 64 lower-case hex digits")),
        }
    }
}
text_identity!(Digest);

/// A name that a person chose for a container, volume or network: `[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl FromStr for Name {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let mut bytes = text.bytes();
        let first = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
        let rest = bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
        if first && rest && text.len() <= 128 {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidId::new("name", text, "only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed, at most 128"))
        }
    }
}
text_identity!(Name);

/// An exec's id, unique in its task: 1–64 of `[a-zA-Z0-9_.-]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ExecId(String);

impl FromStr for ExecId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        match text.parse::<Name>() {
            Ok(name) if text.len() <= 64 => Ok(Self(name.0)),
            _ => {
                Err(InvalidId::new("exec id", text, "only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed, at most 64"))
            }
        }
    }
}
text_identity!(ExecId);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn generated_ids_parse_and_differ() {
        let (a, b) = (ContainerId::generate().unwrap(), ContainerId::generate().unwrap());
        assert_ne!(a, b);
        assert_eq!(a.as_str().parse::<ContainerId>().unwrap(), a);
        assert_eq!(a.short().len(), 12);
    }

    #[test]
    fn digests_are_never_paths() {
        for bad in ["sha256:../../x", "sha512:00", "", "sha256:", &format!("sha256:{}", "A".repeat(64))] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
        assert_eq!(Digest::from_sha256(&[0xab; 32]).hex(), "ab".repeat(32));
    }

    #[test]
    fn names_follow_dockers_rule() {
        for good in ["a", "web-1", "A.b_c", "0x"] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a/b", "ä", "a b", &"x".repeat(129)] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in ".{0,200}") {
            let _ = (text.parse::<ContainerId>(), text.parse::<Digest>(), text.parse::<Name>(), text.parse::<ExecId>());
        }
    }
}
