//! `--chown` and `--chmod`: whose files will be, and what may be done with them.

use std::io::Read as _;
use std::path::Path;

use crate::error::Error;
use crate::tree::{Kind, Tree, resolve};

/// The most bytes of an image's user database that are read.
const DATABASE: u64 = 1 << 20;
/// The highest number of a user or group.
const HIGHEST: u32 = i32::MAX.cast_unsigned();

/// Reads `user[:group]`, names by the databases of the image. A name without a group brings the group that the image
/// gives it, a number itself.
///
/// # Errors
/// A name is not in the image, or a number is none.
pub fn owner(text: &str, base: Option<&dyn Tree>) -> Result<(u32, u32), Error> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (text, None),
    };
    let (uid, own) = match group {
        // A group alone: root's files of that group.
        Some(_) if user.is_empty() => (0, 0),
        _ => ids(user, "user", "etc/passwd", base)?,
    };
    Ok((uid, group.map_or(Ok(own), |group| ids(group, "group", "etc/group", base).map(|(gid, _)| gid))?))
}

/// The number of a name, and the one behind it: a user's group.
fn ids(text: &str, what: &str, database: &str, base: Option<&dyn Tree>) -> Result<(u32, u32), Error> {
    let number = |text: &str| text.parse().ok().filter(|number: &u32| *number <= HIGHEST);
    // Digits are a number, whatever a database says.
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        let number = number(text).map(|number| (number, number));
        return number.ok_or_else(|| Error::Invalid(format!("invalid {what} {text:?}: no such number")));
    }
    let lines = base.map(|base| read(base, database)).transpose()?.unwrap_or_default();
    let found = lines.lines().find_map(|line| {
        let mut fields = line.split(':');
        let own = (fields.next() == Some(text)).then(|| fields.nth(1)).flatten().and_then(number)?;
        Some((own, fields.next().and_then(number).unwrap_or(own)))
    });
    found.ok_or_else(|| Error::Invalid(format!("no {what} {text:?} in the image's /{database}")))
}

fn read(base: &dyn Tree, path: &str) -> Result<String, Error> {
    let failed = || Error::io(format!("read the image's /{path}"));
    let path = resolve(base, Path::new(path), true).map_err(failed())?;
    match base.stat(&path).map_err(failed())?.map(|node| node.kind) {
        Some(Kind::File { .. }) => {}
        _ => return Ok(String::new()),
    }
    let mut bytes = Vec::new();
    base.open(&path).map_err(failed())?.take(DATABASE).read_to_end(&mut bytes).map_err(failed())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Permissions that are to be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// These.
    Exactly(u32),
    /// What chmod(1) makes of those that are there.
    Symbolic(Vec<Clause>),
}

/// `u+x`: whom, how, what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clause {
    who: u32,
    how: char,
    bits: u32,
    /// X: execution, where it is a folder or somebody may execute already.
    conditional: bool,
}

impl Mode {
    /// Reads what chmod(1) reads.
    ///
    /// # Errors
    /// It is no mode.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let wrong =
            || Error::Invalid(format!("invalid mode {text:?}: must be octal, as 0755, or as u+x,go-w"));
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            let number = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
            return number.map(Self::Exactly).ok_or_else(wrong);
        }
        let clauses = text.split(',').map(|clause| Clause::parse(clause).ok_or_else(wrong));
        clauses.collect::<Result<_, _>>().map(Self::Symbolic)
    }

    /// What becomes of a mode.
    pub fn apply(&self, mode: u32, folder: bool) -> u32 {
        match self {
            Self::Exactly(wanted) => *wanted,
            Self::Symbolic(clauses) => clauses.iter().fold(mode, |mode, clause| clause.apply(mode, folder)),
        }
    }
}

impl Clause {
    fn parse(text: &str) -> Option<Self> {
        let at = text.find(['+', '-', '='])?;
        let (whom, rest) = text.split_at(at);
        let mut who = 0;
        for letter in whom.chars() {
            who |= match letter {
                'u' => 0o4700,
                'g' => 0o2070,
                'o' => 0o1007,
                'a' => 0o7777,
                _ => return None,
            };
        }
        let mut letters = rest.chars();
        let how = letters.next()?;
        let (mut bits, mut conditional) = (0, false);
        for letter in letters {
            match letter {
                'r' => bits |= 0o444,
                'w' => bits |= 0o222,
                'x' => bits |= 0o111,
                's' => bits |= 0o6000,
                't' => bits |= 0o1000,
                'X' => conditional = true,
                _ => return None,
            }
        }
        Some(Self { who: if who == 0 { 0o7777 } else { who }, how, bits, conditional })
    }

    fn apply(self, mode: u32, folder: bool) -> u32 {
        let execute = self.conditional && (folder || mode & 0o111 != 0);
        let bits = (self.bits | if execute { 0o111 } else { 0 }) & self.who;
        match self.how {
            '+' => mode | bits,
            '-' => mode & !bits,
            _ => (mode & !(self.who & 0o777)) | bits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_read_as_chmod_reads_them() {
        for (text, before, folder, after) in [
            ("0644", 0o755, false, 0o644),
            ("755", 0o600, true, 0o755),
            ("u+x", 0o644, false, 0o744),
            ("+x", 0o644, false, 0o755),
            ("a-w,u+w", 0o666, false, 0o644),
            ("go=", 0o777, false, 0o700),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("+t", 0o777, true, 0o1777),
            ("u+s", 0o755, false, 0o4755),
        ] {
            assert_eq!(Mode::parse(text).unwrap().apply(before, folder), after, "{text}");
        }
        for wrong in ["8", "77777", "x", "u?x", "z+x", "u+q", ""] {
            assert!(Mode::parse(wrong).is_err() || wrong.is_empty(), "{wrong}");
        }
    }

    #[test]
    fn numbers_need_no_database() {
        assert_eq!(owner("1000", None).unwrap(), (1000, 1000));
        assert_eq!(owner("1000:5", None).unwrap(), (1000, 5));
        assert_eq!(owner(":5", None).unwrap(), (0, 5));
        assert!(owner("", None).is_err() && owner(":", None).is_err());
        assert!(owner("bin", None).is_err());
        assert!(owner("4294967295", None).is_err());
    }
}
