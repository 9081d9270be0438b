//! Tar archives: the one reader and the one writer, and what goes between them and a tree of files.
//!
//! ```text
//! tree ─▶ pack ─▶ write::Writer ─▶ bytes ─▶ tar::Reader ─▶ extract ─▶ tree
//!                                             └─▶ the image service's own rules for layers
//! ```
//!
//! Neither side trusts the other, nor whoever changes the tree at the same time: names are judged in [`path`], the
//! stream is read strictly in [`tar`], and files are reached by descriptors and single names only. Everything is
//! synchronous and takes a bounded amount of memory, whatever an archive says and however large a tree is.
//!
//! [`changes()`] finds what an overlay's writable layer holds, and [`layer`](layer()) packs that as the layer of an image. How a
//! layer is applied, and its compression and digests, are the image service's.

pub mod attribute;
pub mod changes;
pub mod clone;
pub mod extract;
#[cfg(any(test, feature = "fixture"))]
pub mod fixture;
pub mod layer;
pub mod owner;
pub mod pack;
pub mod path;
mod pax;
mod sparse;
pub mod tar;
pub mod write;

pub use attribute::{is_kept_xattr, set_xattrs};
pub use changes::{Change, Overlay, changes};
pub use clone::{CloneError, Cloned};
pub use extract::{ExtractError, Extracted, extract, extract_with_top};
pub use layer::layer;
pub use owner::{IdRange, Owners};
pub use pack::{PackError, Source, pack};
pub use path::{EntryPath, PathProblem};
