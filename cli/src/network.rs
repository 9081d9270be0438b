//! The verbs of networks, one file each.

pub mod connect;
pub mod create;
pub mod disconnect;
pub mod exists;
pub mod inspect;
pub mod ls;
pub mod prune;
mod range;
pub mod rm;
