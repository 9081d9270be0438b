//! What a Dockerfile may be at most. A text from outside must not cost more memory than it is worth.

/// Bytes of a whole text.
pub const TEXT: usize = 4 << 20;

/// Instructions of a text, those of ONBUILD included.
pub const INSTRUCTIONS: usize = 10_000;

/// Bytes of a word after its variables were expanded. An argument of a program can be 128 KiB on Linux; what is
/// longer than this is a text that doubles itself.
pub const WORD: usize = 1 << 20;

/// Substitutions within substitutions, as in `${a:-${b:-${c}}}`.
pub const NESTING: usize = 32;

/// Ports that one EXPOSE may name, ranges counted out.
pub const PORTS: usize = 65_536;
