//! Image service: content, references, layers, registries.

pub mod reference;
