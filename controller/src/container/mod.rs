//! Containers: one verb a file.
//!
//! ```text
//!             create                     start                      its init ends
//! (nothing) ─────────▶ CREATING ──▶ CREATED ─────▶ RUNNING ⇄ PAUSED ──────────────▶ EXITED
//!                          │ fails      │            │                         start │  │
//!                          ▼            │ remove     │ remove --force             ◀──┘  │ remove, --rm
//!                       REMOVING ◀──────┴────────────┴─────────────────────────────────┘
//!                          │ release: shim, bundle, network, volumes, image, record
//!                          ▼
//!                      (nothing)
//! ```
//!
//! The store keeps the phase; the shim is the truth about what runs. `UNKNOWN` is never stored: it is what is
//! reported of a container that runs by its record and whose shim does not answer.
//!
//! Whoever makes, starts, renames or removes a container holds its *turn* (`Engine::turn`). Signals, waits and reads
//! need none, and neither does the record of an exit: it is a fact, and comes from the shim's side at any time.

pub mod assemble;
pub mod attach;
pub mod backlog;
pub mod bundle;
pub mod cgroup;
pub mod commit;
pub mod connect;
pub mod content;
pub mod converge;
pub mod copy;
pub mod create;
pub mod disconnect;
pub mod exec;
pub mod freeze;
#[cfg(fuzzing)]
pub mod fuzz;
pub mod hosts;
pub mod inspect;
pub mod join;
pub mod journal;
pub mod kill;
pub mod launch;
pub mod links;
pub mod list;
pub mod live;
pub mod logs;
pub mod mount;
pub mod network;
pub mod pause;
pub mod port;
pub mod prune;
pub mod publish;
pub mod release;
pub mod remove;
pub mod rename;
pub mod restart;
pub mod resume;
pub mod run;
pub mod session;
pub mod shape;
pub mod signal;
pub mod size;
pub mod spec;
pub mod start;
pub mod stats;
pub mod stop;
pub mod top;
pub mod update;
pub mod userns;
mod validate;
pub mod volumes_from;
pub mod wait;
pub mod want;
pub mod why;
pub mod wire;
