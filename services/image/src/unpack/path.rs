//! What a name in a layer asks for: pure, before anything touches the disk.

use davit_archive::tar::Kind;

/// A path below the layer's root.
pub use davit_archive::EntryPath as LayerPath;

const WHITEOUT: &[u8] = b".wh.";
const METADATA: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Why a name is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathProblem {
    /// It is no name in an archive.
    #[error(transparent)]
    Name(#[from] davit_archive::PathProblem),
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
