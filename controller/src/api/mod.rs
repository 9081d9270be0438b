//! The API on the wire: one file a service, each call decodes, calls one function and encodes. Only here errors
//! become statuses.

pub mod container;
