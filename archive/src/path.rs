//! What a name in an archive may be: pure, before anything touches the disk.

/// Longest path or link target of an entry, as the kernel has it.
pub const PATH_BYTES: usize = 4096;
/// Longest single name.
pub const NAME_BYTES: usize = 255;

/// Why a name is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathProblem {
    /// Nothing is named.
    #[error("name is empty")]
    Empty,
    /// The name starts at the root of the file system.
    #[error("name is absolute")]
    Absolute,
    /// The name goes up.
    #[error("name holds \"..\"")]
    Up,
    /// The name holds a NUL byte.
    #[error("name holds a NUL byte")]
    Nul,
    /// The name is longer than the kernel takes.
    #[error("name is longer than {PATH_BYTES} bytes")]
    Long,
    /// A part of the name is longer than the kernel takes.
    #[error("part of the name is longer than {NAME_BYTES} bytes")]
    LongPart,
}

/// A path below where an archive is extracted: components joined by single slashes, none of them `.` or `..`; empty for
/// the place itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryPath(Vec<u8>);

impl EntryPath {
    /// Takes a name as an archive has it.
    ///
    /// # Errors
    /// When it is no path below the place that is extracted to.
    pub fn parse(raw: &[u8]) -> Result<Self, PathProblem> {
        if raw.is_empty() {
            return Err(PathProblem::Empty);
        }
        if raw.contains(&0) {
            return Err(PathProblem::Nul);
        }
        if raw.len() >= PATH_BYTES {
            return Err(PathProblem::Long);
        }
        if raw.starts_with(b"/") {
            return Err(PathProblem::Absolute);
        }
        let mut path = Vec::with_capacity(raw.len());
        for part in raw.split(|&b| b == b'/') {
            match part {
                b"" | b"." => continue,
                b".." => return Err(PathProblem::Up),
                _ if part.len() > NAME_BYTES => return Err(PathProblem::LongPart),
                _ => {}
            }
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(part);
        }
        Ok(Self(path))
    }

    /// The whole path; empty for the place itself.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether this is the place that an archive is extracted to.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The directory that holds this, and the name in it; `None` for the place itself.
    #[must_use]
    pub fn split(&self) -> Option<(&[u8], &[u8])> {
        if self.0.is_empty() {
            return None;
        }
        match self.0.iter().rposition(|&b| b == b'/') {
            Some(slash) => Some((&self.0[..slash], &self.0[slash + 1..])),
            None => Some((&[], &self.0)),
        }
    }

    /// Another name in the same directory.
    #[must_use]
    pub fn sibling(&self, name: &[u8]) -> Self {
        let mut path = self.split().map_or(Vec::new(), |(parent, _)| parent.to_vec());
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        Self(path)
    }

    /// The directory that holds this; the place itself is its own.
    #[must_use]
    pub fn parent(&self) -> Self {
        Self(self.split().map_or(Vec::new(), |(parent, _)| parent.to_vec()))
    }
}

/// Whether a link may say this; where it leads is not looked at.
///
/// # Errors
/// When it is empty, holds a NUL byte, or is longer than the kernel takes.
pub fn check_target(target: &[u8]) -> Result<(), PathProblem> {
    match target {
        b"" => Err(PathProblem::Empty),
        _ if target.contains(&0) => Err(PathProblem::Nul),
        _ if target.len() >= PATH_BYTES => Err(PathProblem::Long),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(raw: &str) -> Result<String, PathProblem> {
        EntryPath::parse(raw.as_bytes()).map(|p| String::from_utf8(p.0).unwrap())
    }

    #[test]
    fn paths_are_normalised_or_refused() {
        assert_eq!(make("./a//b/./c/").unwrap(), "a/b/c");
        assert_eq!(make("./").unwrap(), "");
        assert_eq!(make("..a/b..").unwrap(), "..a/b..");
        assert_eq!(make(""), Err(PathProblem::Empty));
        assert_eq!(make("/a"), Err(PathProblem::Absolute));
        assert_eq!(make("a/../b"), Err(PathProblem::Up));
        assert_eq!(make("a/.."), Err(PathProblem::Up));
        assert_eq!(make("a\0b"), Err(PathProblem::Nul));
        assert_eq!(make(&"a".repeat(256)), Err(PathProblem::LongPart));
        assert_eq!(make(&"a/".repeat(2048)), Err(PathProblem::Long));
    }
}
