//! The API on the wire: one file a service, each call decodes, calls one function and encodes. Only here errors
//! become statuses.

mod actor;
pub mod build;
pub mod container;
pub mod image;
pub mod network;
mod proxy;
pub mod system;
pub mod volume;
