//! The serving half of the shim, with real processes: launched as the controller launches it, driven over its socket.

mod harness;
mod life;
mod socket;
mod streams;
