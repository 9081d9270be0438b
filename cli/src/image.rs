//! The verbs of images, one file each.

pub mod archive;
pub mod exists;
pub mod hint;
pub mod history;
pub mod import;
pub mod inspect;
pub mod load;
pub mod ls;
mod platform;
pub mod progress;
pub mod prune;
pub mod pull;
pub mod push;
pub mod rm;
pub mod save;
pub mod search;
pub mod tag;
