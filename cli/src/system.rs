//! The verbs of the engine as a whole, one file each.

pub mod completion;
pub mod df;
pub mod drain;
pub mod events;
pub mod info;
pub mod inspect;
pub mod login;
pub mod logout;
pub mod man;
pub mod prune;
pub mod version;
