//! Image service: content, references, layers, registries.

pub mod content;
pub mod digest;
pub mod document;
pub mod reference;
pub mod registry;
pub mod unpack;
