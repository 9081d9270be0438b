//! The files by which containers find each other, over the deaths of whoever wrote them: the network service writes
//! them below the run directory, each shim's resolver reads them for every question.
//!
//! ```text
//! <run>/dns/<network id>.zone      who is on a network: names and addresses, sorted
//! <run>/dns/<container id>.view    what one container sees: its networks, its links, whether other names are asked for
//! ```
//!
//! Both are text of bounded lines, replaced as a whole by a rename. What stands in them are validated identities and
//! addresses, so that nothing needs to be quoted. A zone's lines are sorted by their bytes: a reader finds one by
//! halving, and reads some hundred bytes of a zone of any size.

mod view;
mod zone;

use std::fmt;
use std::io;
use std::str::FromStr;

use crate::id::InvalidId;

pub use view::{Link, View, view_file};
pub use zone::{Entry, Header, Line, Reader, Source, Subnet, parse, render};

/// The folder of the files, below the run directory.
pub const FOLDER: &str = "dns";
/// Addresses that one container may have on one network.
pub const MAX_ADDRESSES: usize = 8;
/// Bytes of the longest line, its newline among them.
pub const MAX_LINE: usize = 512;

/// Why a text is no file of ours.
#[derive(Debug, thiserror::Error)]
pub enum NamesError {
    /// It cannot be read.
    #[error("read names")]
    Read(#[from] io::Error),
    /// It does not begin as such a file of this version does.
    #[error("no {0}: it does not begin with its mark")]
    Mark(&'static str),
    /// A line says nothing that is known, or too much.
    #[error("line {line:?} {rule}")]
    Line {
        /// Its first characters.
        line: String,
        /// What it would have to be.
        rule: &'static str,
    },
}

impl NamesError {
    fn line(line: &[u8], rule: &'static str) -> Self {
        Self::Line { line: String::from_utf8_lossy(line).chars().take(80).collect(), rule }
    }
}

/// A network's id as its zone is named: 64 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ZoneId(String);

impl ZoneId {
    /// Its digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Name of its file.
    #[must_use]
    pub fn file(&self) -> String {
        format!("{self}.zone")
    }
}

impl fmt::Display for ZoneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ZoneId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        // The same digits as a container's.
        text.parse::<crate::id::ContainerId>().map(|id| Self(id.into()))
    }
}
