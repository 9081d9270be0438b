//! Image service: content, references, layers, registries.

pub mod archive;
pub mod content;
pub mod digest;
pub mod document;
pub mod filter;
pub mod holder;
pub mod image;
pub mod index;
pub mod lease;
pub mod list;
mod platform;
mod prepare;
pub mod pull;
pub mod reference;
pub mod registry;
pub mod remove;
pub mod snapshot;
pub mod store;
pub mod unpack;
