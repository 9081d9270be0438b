//! davitd, the controller: the public API, the store of what is wanted, and the order of things. It only ever
//! holds clients of the services and of the shims.

#![forbid(unsafe_code)]

pub mod actor;
pub mod api;
pub mod config;
pub mod container;
pub mod engine;
pub mod error;
pub mod events;
pub mod failpoint;
pub mod filter;
pub mod info;
pub mod name;
pub mod notify;
pub mod pool;
pub mod recover;
pub mod reserve;
pub mod rest;
pub mod revive;
pub mod serve;
pub mod shim;
pub mod store;
pub mod supervise;
pub mod usage;
