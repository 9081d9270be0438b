//! What a name in an archive may be, and what it asks for: pure, before anything touches the disk.

use super::limit::{NAME_BYTES, PATH_BYTES};
use super::tar::Kind;

const WHITEOUT: &[u8] = b".wh.";
const METADATA: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

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
    /// A whiteout names nothing that could be hidden.
    #[error("whiteout names nothing")]
    Whiteout,
    /// A whiteout is something else than a marker file.
    #[error("whiteout is no plain file")]
    WhiteoutKind,
    /// A whiteout is used as a directory.
    #[error("entry below a whiteout")]
    BelowWhiteout,
    /// The root of the layer can only be a directory.
    #[error("root of the layer is no directory")]
    Root,
}

/// A path below the layer's root: components joined by single slashes, none of them `.` or `..`; empty for the root.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LayerPath(Vec<u8>);

impl LayerPath {
    /// Takes a name as an archive has it.
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

    /// The whole path; empty for the root.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether this is the layer's root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The directory that holds this, and the name in it; `None` for the root.
    pub fn split(&self) -> Option<(&[u8], &[u8])> {
        if self.0.is_empty() {
            return None;
        }
        match self.0.iter().rposition(|&b| b == b'/') {
            Some(slash) => Some((&self.0[..slash], &self.0[slash + 1..])),
            None => Some((&[], &self.0)),
        }
    }

    fn sibling(&self, name: &[u8]) -> Self {
        let mut path = self.split().map_or(Vec::new(), |(parent, _)| parent.to_vec());
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        Self(path)
    }

    fn parent(&self) -> Self {
        Self(self.split().map_or(Vec::new(), |(parent, _)| parent.to_vec()))
    }
}

/// What an entry asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Make what the entry describes.
    Make(LayerPath),
    /// Set the metadata of the layer's root.
    Root,
    /// Hide this path of the layers below.
    Hide(LayerPath),
    /// Hide everything the layers below have in this directory.
    HideAll(LayerPath),
    /// Bookkeeping of an old storage driver that means nothing here.
    Ignore,
}

/// Decides what an entry of this name and kind asks for.
pub fn action(raw: &[u8], kind: Kind) -> Result<Action, PathProblem> {
    let path = LayerPath::parse(raw)?;
    let Some((parent, name)) = path.split() else {
        return if kind == Kind::Directory { Ok(Action::Root) } else { Err(PathProblem::Root) };
    };
    for part in parent.split(|&b| b == b'/') {
        if part.starts_with(METADATA) && part != OPAQUE {
            return Ok(Action::Ignore);
        }
        if part.starts_with(WHITEOUT) {
            return Err(PathProblem::BelowWhiteout);
        }
    }
    let Some(hidden) = name.strip_prefix(WHITEOUT) else { return Ok(Action::Make(path)) };
    if name.starts_with(METADATA) && name != OPAQUE {
        return Ok(Action::Ignore);
    }
    // Old storage drivers made whiteouts as links to one file.
    if !matches!(kind, Kind::File | Kind::Hardlink) {
        return Err(PathProblem::WhiteoutKind);
    }
    match hidden {
        _ if name == OPAQUE => Ok(Action::HideAll(path.parent())),
        b"" | b"." | b".." => Err(PathProblem::Whiteout),
        _ => Ok(Action::Hide(path.sibling(hidden))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(raw: &str) -> Result<String, PathProblem> {
        LayerPath::parse(raw.as_bytes()).map(|p| String::from_utf8(p.0).unwrap())
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

    #[test]
    fn whiteouts_hide_names_beside_them_only() {
        let path = |raw: &str| LayerPath::parse(raw.as_bytes()).unwrap();
        let of = |raw: &str| action(raw.as_bytes(), Kind::File);
        assert_eq!(of("a/.wh.b"), Ok(Action::Hide(path("a/b"))));
        assert_eq!(of(".wh.b"), Ok(Action::Hide(path("b"))));
        assert_eq!(of("a/.wh..wh..opq"), Ok(Action::HideAll(path("a"))));
        assert_eq!(of(".wh..wh..opq"), Ok(Action::HideAll(path("."))));
        assert_eq!(of(".wh..wh.plnk"), Ok(Action::Ignore));
        assert_eq!(of(".wh..wh.plnk/12.34"), Ok(Action::Ignore));
        assert_eq!(of("a/.whb"), Ok(Action::Make(path("a/.whb"))));
        for bad in [".wh.", ".wh..", "a/.wh...", ".wh.a/b", ".wh..wh..opq/x"] {
            assert!(of(bad).is_err(), "{bad:?} was accepted");
        }
        assert_eq!(action(b".wh..wh..opq", Kind::Directory), Err(PathProblem::WhiteoutKind));
        assert_eq!(action(b".wh.x", Kind::Symlink), Err(PathProblem::WhiteoutKind));
        assert_eq!(action(b"./", Kind::Directory), Ok(Action::Root));
        assert_eq!(action(b"./", Kind::Symlink), Err(PathProblem::Root));
    }
}
