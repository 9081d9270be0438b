//! `--cache-from` and `--cache-to`: where steps come from and go to, beside this machine.

use super::{Invalid, csv};

/// Where steps may be that are not here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// At a registry.
    Registry(String),
    /// In a folder of this side.
    Folder(String),
}

/// Where steps go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// To a registry.
    Registry(String),
    /// Into a folder of this side.
    Folder(String),
    /// Beside each image that is sent to a registry.
    Inline,
}

/// Where steps go, and which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct To {
    /// Where.
    pub place: Place,
    /// All of them, not only those whose layers the result has.
    pub all: bool,
}

/// Reads a value of `--cache-from`.
pub fn from(text: &str) -> Result<From, Invalid> {
    let flag = "--cache-from";
    let wrong = |rule: &str| Invalid::new(flag, text, rule);
    if text.is_empty() {
        return Err(wrong("must be a reference or type=…"));
    }
    if !text.contains('=') {
        return Ok(From::Registry(text.to_owned()));
    }
    let fields = Fields::read(flag, text, "src")?;
    match fields.kind.as_deref() {
        Some("registry") => fields.reference.map(From::Registry).ok_or_else(|| wrong("ref is missing")),
        Some("local") => fields.folder.map(From::Folder).ok_or_else(|| wrong("src is missing")),
        _ => Err(wrong("type must be registry or local")),
    }
}

/// Reads a value of `--cache-to`.
pub fn to(text: &str) -> Result<To, Invalid> {
    let flag = "--cache-to";
    let wrong = |rule: &str| Invalid::new(flag, text, rule);
    if text.is_empty() {
        return Err(wrong("must be type=…"));
    }
    if !text.contains('=') && text != "inline" {
        return Ok(To { place: Place::Registry(text.to_owned()), all: false });
    }
    let text_of = if text == "inline" { "type=inline" } else { text };
    let fields = Fields::read(flag, text_of, "dest")?;
    let place = match fields.kind.as_deref() {
        Some("registry") => Place::Registry(fields.reference.ok_or_else(|| wrong("ref is missing"))?),
        Some("local") => Place::Folder(fields.folder.ok_or_else(|| wrong("dest is missing"))?),
        Some("inline") => Place::Inline,
        _ => return Err(wrong("type must be registry, local or inline")),
    };
    Ok(To { place, all: fields.all })
}

#[derive(Debug, Default)]
struct Fields {
    kind: Option<String>,
    reference: Option<String>,
    folder: Option<String>,
    all: bool,
}

impl Fields {
    fn read(flag: &str, text: &str, folder: &str) -> Result<Self, Invalid> {
        let mut fields = Self::default();
        for (key, value) in csv::fields(flag, text)? {
            match (key.as_str(), value.as_deref()) {
                ("type", _) => fields.kind = value,
                ("ref", _) => fields.reference = value.filter(|reference| !reference.is_empty()),
                (key, _) if key == folder => fields.folder = value.filter(|folder| !folder.is_empty()),
                ("mode", Some("max")) => fields.all = true,
                ("mode", Some("min")) => fields.all = false,
                // It is so in any case.
                ("oci-mediatypes" | "image-manifest", Some("true")) | ("compression", Some("gzip")) => {}
                _ => {
                    let rule = format!("{key} is not served, or not with this value");
                    return Err(Invalid::new(flag, text, rule));
                }
            }
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read() {
        assert_eq!(from("user/app:cache"), Ok(From::Registry("user/app:cache".into())));
        assert_eq!(from("type=registry,ref=a"), Ok(From::Registry("a".into())));
        assert_eq!(from("type=local,src=d"), Ok(From::Folder("d".into())));
        assert_eq!(
            to("type=registry,ref=a,mode=max"),
            Ok(To { place: Place::Registry("a".into()), all: true })
        );
        assert_eq!(to("type=local,dest=d"), Ok(To { place: Place::Folder("d".into()), all: false }));
        assert_eq!(to("inline"), Ok(To { place: Place::Inline, all: false }));
        for wrong in ["", "type=gha", "type=registry", "type=local", "type=local,src=d,mode=some"] {
            assert!(from(wrong).is_err(), "{wrong}");
            assert!(to(wrong).is_err(), "{wrong}");
        }
    }
}
