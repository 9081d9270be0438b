//! The Dockerfile language: from text to instructions that a builder can follow.
//!
//! ```text
//! text ─▶ lexer ─▶ lines ─▶ word, json, flag ─▶ instructions ─▶ stages, a graph
//!                             └─▶ expand (variables)  └─▶ change ─▶ an image's config
//! ```
//!
//! Everything here takes values and returns values: no file, no clock, no runtime, no environment. What a text
//! says is bounded ([`limit`]), and whatever it says, the answer is instructions or an [`Error`] with the line, the
//! column and the offending word; never a panic.
//!
//! Three users share it: the image service applies the [`change`]s of a commit, the builder follows whole files,
//! and a fuzz target looks for panics.

#![forbid(unsafe_code)]

pub mod change;
pub mod check;
pub mod error;
pub mod expand;
mod file;
mod flag;
pub mod graph;
pub mod ignore;
pub mod instruction;
mod json;
pub mod lexer;
pub mod limit;
mod nearest;
pub mod pattern;
pub mod position;
pub mod remote;
pub mod scope;
pub mod word;

pub use change::Change;
pub use error::{Error, Problem};
pub use file::{Dockerfile, Stage};
pub use ignore::Ignore;
pub use instruction::Instruction;
pub use position::Position;
pub use remote::{Remote, Repository};
