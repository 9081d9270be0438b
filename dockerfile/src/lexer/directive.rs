//! Parser directives: the comments at the very top that say how the rest is to be read.

use crate::error::{Error, Problem};
use crate::position::Position;

/// What a text says about its own reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directives {
    /// The character that escapes and continues lines.
    pub escape: char,
    /// The language that it wants to be read as. There is one reader here, so this is told and not followed.
    pub syntax: Option<String>,
    /// What it says about the checks, as in `skip=all;error=true`.
    pub check: Option<String>,
}

/// Reads the directives; they end at the first line that is none.
pub(super) fn read(text: &str) -> Result<Directives, Error> {
    let (mut escape, mut syntax, mut check) = (None, None, None);
    for (index, line) in text.lines().enumerate() {
        let Some((name, value)) = directive(line) else { break };
        let (slot, flag) = match name.to_ascii_lowercase().as_str() {
            "escape" => (&mut escape, "escape"),
            "syntax" => (&mut syntax, "syntax"),
            "check" => (&mut check, "check"),
            _ => break,
        };
        let at = Position { line: index + 1, column: 1 };
        if slot.replace(value.to_owned()).is_some() {
            return Err(Error::new(at, Problem::Repeated { flag }));
        }
        if flag == "escape" && !matches!(value, "\\" | "`") {
            let word = value.to_owned();
            let reason = "it can be a backslash or a backtick";
            return Err(Error::new(at, Problem::Word { what: "escape character", word, reason }));
        }
    }
    let escape = if escape.as_deref() == Some("`") { '`' } else { '\\' };
    Ok(Directives { escape, syntax, check })
}

/// `# name = value`.
fn directive(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.trim_start().strip_prefix('#')?.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    let named = name.starts_with(|c: char| c.is_ascii_alphabetic());
    (named && name.chars().all(|c| c.is_ascii_alphanumeric()) && !value.is_empty()).then_some((name, value))
}
