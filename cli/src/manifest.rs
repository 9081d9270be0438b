//! The verbs of manifests, one file each.

mod indent;
pub mod inspect;
