//! The serving half of the shim, with real processes: launched as the controller launches it, driven over its socket.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod exec;
mod harness;
mod journal;
mod life;
mod pause;
mod restart;
mod socket;
mod streams;
