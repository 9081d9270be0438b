//! Dockerfiles that are built and judged: a folder each, below `tests/cases/build`.
//!
//! ```text
//! <name>/context/     Dockerfile and files, as git has them
//! <name>/prepare      a shell script that runs in a copy of the context: what git has no words for
//! <name>/case         flags, and what must come of it:
//!
//!     base golang:1.22                       what the tree is compared with; scratch, for nothing
//!     before base.Dockerfile base:1          another image that is built first
//!     flag --target=x                        of the build
//!     config Cmd ["sh"]                      all that the config says, and nothing else
//!     /etc/x file 644 0:0 "text\n"           what is new or different in the tree, and nothing else
//!     /etc/y file 644 0:0 sha256:…           (the same, of a long file)
//!     /etc folder 755 0:0
//!     /etc/l link 0:0 -> target
//!     /etc/h same 644 0:0 /etc/x             one more name of a file
//!     /etc/n null 600 1:2 c 1 3              another kind of file
//!     /etc/g gone
//!     differs /etc/x: why                    where buildah does something else than docker, and why that is
//!     differs config Env: why
//!     unknown to buildah: why                the whole file
//! ```
//!
//! A path with a space or worse is a JSON string. `@context` behind an entry: it has the time of the context's files.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// What a case says.
#[derive(Debug, Default)]
pub struct Case {
    /// The image whose files are no news.
    pub base: String,
    /// Dockerfiles of the context that are built first, and the names of what comes of them.
    pub before: Vec<(String, String)>,
    /// Flags of the build, understood by everybody.
    pub flags: Vec<String>,
    /// The config's fields that are there.
    pub config: BTreeMap<String, Value>,
    /// Entries by path, as [`crate::tree`] is told here.
    pub tree: BTreeMap<String, String>,
    /// Paths, or `config <field>`, that buildah has otherwise, and why.
    pub differs: BTreeMap<String, String>,
    /// Why buildah cannot judge it at all.
    pub unknown: Option<String>,
}

impl Case {
    /// Reads a case's file.
    ///
    /// # Errors
    /// A line says nothing.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let mut case = Self { base: "busybox".to_owned(), ..Self::default() };
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                case.line(line).with_context(|| format!("{}:{}: {line}", path.display(), number + 1))?;
            }
        }
        Ok(case)
    }

    fn line(&mut self, line: &str) -> Result<()> {
        if line.starts_with(['/', '"']) {
            let (path, rest) = path_of(line)?;
            self.tree.insert(self::path(Path::new(path.trim_start_matches('/'))), rest.to_owned());
            return Ok(());
        }
        let (word, rest) = line.split_once(' ').context("a word alone")?;
        match word {
            "base" => rest.clone_into(&mut self.base),
            "before" => {
                let (file, name) = rest.split_once(' ').context("before FILE NAME")?;
                self.before.push((file.to_owned(), name.to_owned()));
            }
            "flag" => self.flags.push(rest.to_owned()),
            "config" => {
                let (field, value) = rest.split_once(' ').context("config FIELD JSON")?;
                self.config.insert(field.to_owned(), serde_json::from_str(value)?);
            }
            "differs" => {
                let (what, why) = rest.split_once(": ").context("differs WHAT: WHY")?;
                self.differs.insert(what.to_owned(), why.to_owned());
            }
            "unknown" => self.unknown = Some(rest.trim_start_matches("to buildah: ").to_owned()),
            other => bail!("{other:?} says nothing"),
        }
        Ok(())
    }
}

/// The path that a line begins with, and what follows.
fn path_of(line: &str) -> Result<(String, &str)> {
    if line.starts_with('/') {
        let (path, rest) = line.split_once(' ').context("a path alone")?;
        return Ok((path.to_owned(), rest));
    }
    let mut strings = serde_json::Deserializer::from_str(line).into_iter::<String>();
    let path = strings.next().context("a path")??;
    Ok((path, line[strings.byte_offset()..].trim_start()))
}

/// A path as a case names it.
#[must_use]
pub fn path(path: &Path) -> String {
    let text = format!("/{}", path.display());
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        Value::String(text).to_string()
    } else {
        text
    }
}
