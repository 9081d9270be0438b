//! `RUN --mount=…`: what is there while a command runs, and in no layer.

use crate::error::{Error, Problem};
use crate::expand::{self, Lookup};
use crate::nearest::nearest;
use crate::word::Word;

/// A mount whose variables have their values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// What is there.
    pub kind: Kind,
    /// Where; relative to the working folder. Empty for a secret that is only a variable.
    pub target: String,
    /// Whether the command may not write.
    pub readonly: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A part of the context, of a stage or of an image. What is written into it is lost.
    Bind {
        /// The stage or image; none for the context.
        from: Option<String>,
        /// The path in it.
        source: String,
    },
    /// A folder that outlives the build.
    Cache {
        /// Its name.
        id: String,
        /// What it begins with: a stage or an image.
        from: Option<String>,
        /// The path in that.
        source: String,
        /// Who may use it at the same time.
        sharing: Sharing,
        /// Whose it is.
        owner: Owner,
    },
    /// Memory.
    Tmpfs {
        /// The most bytes; none for the kernel's default.
        size: Option<u64>,
    },
    /// A file that only this command sees.
    Secret {
        /// Its name.
        id: String,
        /// Whether the build cannot go on without it.
        required: bool,
        /// A variable that has its content.
        variable: Option<String>,
        /// Whose it is.
        owner: Owner,
    },
    /// The agent that holds keys.
    Ssh {
        /// Its name.
        id: String,
        /// Whether the build cannot go on without it.
        required: bool,
        /// Whose the socket is.
        owner: Owner,
    },
}

/// Who may use a cache at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sharing {
    /// All.
    #[default]
    Shared,
    /// Each its own.
    Private,
    /// One after the other.
    Locked,
}

/// Whose a mounted thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// Permissions.
    pub mode: u32,
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// What can be said, each with its other names.
const KEYS: [(&str, &[&str]); 13] = [
    ("type", &[]),
    ("target", &["dst", "destination"]),
    ("source", &["src"]),
    ("from", &[]),
    ("readonly", &["ro"]),
    ("readwrite", &["rw"]),
    ("id", &[]),
    ("sharing", &[]),
    ("required", &[]),
    ("env", &[]),
    ("mode", &[]),
    ("uid", &[]),
    ("gid", &[]),
];

/// What has a value of its own kind only in memory.
const SIZE: &str = "size";

/// Judges a mount as far as it can be without values.
pub(super) fn check(word: &Word) -> Result<(), Error> {
    if !word.text().contains('$') {
        return Mount::read(word, &|_| None).map(|_| ());
    }
    for field in fields(word)? {
        if field.key == "from" && field.value.as_ref().is_some_and(|value| value.text().contains('$')) {
            let word = field.word.text().to_owned();
            let reason =
                "a variable cannot name a stage here: give the stage a name of its own with FROM … AS";
            return Err(Error::new(field.word.at(), Problem::Word { what: "mount", word, reason }));
        }
    }
    Ok(())
}

/// The stage or image that a mount is from.
pub(super) fn source(word: &Word) -> Option<Word> {
    fields(word).ok()?.into_iter().rev().find(|field| field.key == "from")?.value
}

struct Field {
    key: &'static str,
    value: Option<Word>,
    word: Word,
}

/// The fields of a mount, parted by commas outside of double quotes.
fn fields(word: &Word) -> Result<Vec<Field>, Error> {
    let mut fields = Vec::new();
    let (mut begin, mut quoted) = (0, false);
    let ends = word.text().char_indices().chain([(word.text().len(), ',')]);
    for (at, character) in ends {
        match character {
            '"' => quoted = !quoted,
            ',' if !quoted || at == word.text().len() => {
                fields.push(field(&word.part(begin, at))?);
                begin = at + 1;
            }
            _ => {}
        }
    }
    Ok(fields)
}

fn field(word: &Word) -> Result<Field, Error> {
    let (key, value) = match word.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (word.clone(), None),
    };
    let lower = key.text().trim_matches('"').to_ascii_lowercase();
    let known = KEYS.iter().find(|(name, others)| *name == lower || others.contains(&lower.as_str()));
    let key = match known {
        Some((name, _)) => name,
        None if lower == SIZE => SIZE,
        None => {
            let flag = key.text().to_owned();
            let names = KEYS.iter().map(|(name, _)| *name).chain([SIZE]);
            let problem = Problem::Flag { instruction: "a mount", nearest: nearest(&flag, names), flag };
            return Err(Error::new(key.at(), problem));
        }
    };
    let alone = matches!(key, "readonly" | "readwrite" | "required");
    if value.is_none() && !alone {
        let problem =
            Problem::Word { what: "mount", word: word.text().to_owned(), reason: "it must be key=value" };
        return Err(Error::new(word.at(), problem));
    }
    Ok(Field { key, value, word: word.clone() })
}

/// What was said, with values.
struct Said<'a> {
    word: &'a Word,
    fields: Vec<(&'static str, String, Word)>,
}

impl Mount {
    pub(super) fn read(word: &Word, lookup: Lookup<'_>) -> Result<Self, Error> {
        let mut said = Said { word, fields: Vec::new() };
        for field in fields(word)? {
            let value = match &field.value {
                Some(value) => expand::word(value, lookup)?,
                None => "true".to_owned(),
            };
            said.fields.push((field.key, value, field.word));
        }
        let form = said.take("type").unwrap_or_else(|| "bind".to_owned()).to_ascii_lowercase();
        let mount = match form.as_str() {
            "bind" => said.bind()?,
            "cache" => said.cache()?,
            "tmpfs" => said.tmpfs()?,
            "secret" => said.secret()?,
            "ssh" => said.ssh()?,
            _ => {
                let reason = "it can be bind, cache, tmpfs, secret or ssh";
                return Err(Error::new(
                    word.at(),
                    Problem::Word { what: "type of a mount", word: form, reason },
                ));
            }
        };
        said.finish()?;
        Ok(mount)
    }
}

impl Said<'_> {
    /// The last value of a key, for what is said twice is said again.
    fn take(&mut self, key: &str) -> Option<String> {
        self.fields.extract_if(.., |field| field.0 == key).last().map(|field| field.1)
    }

    fn wrong(&self, key: &'static str, value: &str, reason: &'static str) -> Error {
        Error::new(self.word.at(), Problem::Word { what: key, word: value.to_owned(), reason })
    }

    fn switch(&mut self, key: &'static str) -> Result<Option<bool>, Error> {
        let Some(value) = self.take(key) else { return Ok(None) };
        match value.to_ascii_lowercase().as_str() {
            "1" | "t" | "true" => Ok(Some(true)),
            "0" | "f" | "false" => Ok(Some(false)),
            _ => Err(self.wrong(key, &value, "it can be true or false")),
        }
    }

    fn readonly(&mut self, default: bool) -> Result<bool, Error> {
        let readwrite = self.switch("readwrite")?.map(|write| !write);
        Ok(self.switch("readonly")?.or(readwrite).unwrap_or(default))
    }

    fn target(&mut self) -> Result<String, Error> {
        let target = self.take("target").filter(|target| !target.is_empty());
        let problem = Problem::Missing { instruction: "a mount", what: "target=PATH" };
        target.ok_or_else(|| Error::new(self.word.at(), problem))
    }

    fn owner(&mut self, mode: u32) -> Result<Owner, Error> {
        let mode = match self.take("mode") {
            Some(value) => {
                let number = u32::from_str_radix(value.trim_start_matches("0o"), 8).ok();
                let mode = number.filter(|mode| *mode <= 0o7777);
                mode.ok_or_else(|| self.wrong("mode", &value, "it must be an octal number up to 7777"))?
            }
            None => mode,
        };
        Ok(Owner { mode, uid: self.id("uid")?, gid: self.id("gid")? })
    }

    fn id(&mut self, key: &'static str) -> Result<u32, Error> {
        let Some(value) = self.take(key) else { return Ok(0) };
        // The highest number means nobody to the kernel.
        let number = value.parse::<u32>().ok().filter(|number| i32::try_from(*number).is_ok());
        number.ok_or_else(|| self.wrong(key, &value, "it must be a number up to 2147483647"))
    }

    fn bind(&mut self) -> Result<Mount, Error> {
        let kind = Kind::Bind { from: self.take("from"), source: self.take("source").unwrap_or_default() };
        Ok(Mount { kind, target: self.target()?, readonly: self.readonly(true)? })
    }

    fn cache(&mut self) -> Result<Mount, Error> {
        let target = self.target()?;
        let sharing = match self.take("sharing").map(|value| value.to_ascii_lowercase()) {
            None => Sharing::Shared,
            Some(value) => match value.as_str() {
                "shared" => Sharing::Shared,
                "private" => Sharing::Private,
                "locked" => Sharing::Locked,
                _ => return Err(self.wrong("sharing", &value, "it can be shared, private or locked")),
            },
        };
        let kind = Kind::Cache {
            id: self.take("id").unwrap_or_else(|| target.clone()),
            from: self.take("from"),
            source: self.take("source").unwrap_or_default(),
            sharing,
            owner: self.owner(0o755)?,
        };
        Ok(Mount { kind, target, readonly: self.readonly(false)? })
    }

    fn tmpfs(&mut self) -> Result<Mount, Error> {
        let size = match self.take(SIZE) {
            Some(value) => {
                let reason = "it must be a number of bytes, with k, m or g";
                Some(bytes(&value).ok_or_else(|| self.wrong(SIZE, &value, reason))?)
            }
            None => None,
        };
        Ok(Mount { kind: Kind::Tmpfs { size }, target: self.target()?, readonly: self.readonly(false)? })
    }

    fn secret(&mut self) -> Result<Mount, Error> {
        let target = self.take("target").unwrap_or_default();
        let variable = self.take("env").filter(|name| !name.is_empty());
        let id = match (self.take("id"), self.take("source")) {
            (Some(_), Some(source)) => {
                return Err(self.wrong("source", &source, "a secret has an id or a source, and not both"));
            }
            (Some(id), None) | (None, Some(id)) => id,
            (None, None) => target.rsplit('/').next().unwrap_or_default().to_owned(),
        };
        if id.is_empty() {
            let problem = Problem::Missing { instruction: "a secret", what: "id=NAME" };
            return Err(Error::new(self.word.at(), problem));
        }
        let required = self.switch("required")?.unwrap_or(false);
        let owner = self.owner(0o400)?;
        let target = match (target.is_empty(), &variable) {
            (true, None) => format!("/run/secrets/{id}"),
            _ => target,
        };
        let readonly = self.readonly(true)?;
        Ok(Mount { kind: Kind::Secret { id, required, variable, owner }, target, readonly })
    }

    fn ssh(&mut self) -> Result<Mount, Error> {
        let id = self.take("id").or_else(|| self.take("source")).filter(|id| !id.is_empty());
        let kind = Kind::Ssh {
            id: id.unwrap_or_else(|| "default".to_owned()),
            required: self.switch("required")?.unwrap_or(false),
            owner: self.owner(0o600)?,
        };
        let target = self.take("target").unwrap_or_default();
        Ok(Mount { kind, target, readonly: self.readonly(true)? })
    }

    /// What is left was said of a mount that does not have it.
    fn finish(self) -> Result<(), Error> {
        let Some((key, _, word)) = self.fields.into_iter().next() else { return Ok(()) };
        let reason = "a mount of this type does not have it";
        Err(Error::new(word.at(), Problem::Word { what: key, word: word.text().to_owned(), reason }))
    }
}

/// A number of bytes as `64m`.
fn bytes(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.find(|c: char| !c.is_ascii_digit()).unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let factor: u64 = match unit.strip_suffix('b').unwrap_or(unit).trim_end_matches('i') {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}
