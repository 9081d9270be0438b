//! The verbs of containers, one file each.

pub mod attach;
pub mod cp;
pub mod create;
pub mod diff;
pub mod exec;
pub mod inspect;
pub mod kill;
pub mod logs;
pub mod ls;
mod order;
pub mod pause;
pub mod port;
pub mod prune;
pub mod rename;
pub mod restart;
pub mod rm;
pub mod row;
pub mod run;
mod session;
pub mod start;
pub mod stats;
pub mod stop;
pub mod top;
pub mod update;
pub mod wait;
pub mod why;
