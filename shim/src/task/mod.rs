//! The one task of a shim.
//!
//! ```text
//!  api ── Request{reply} ──▶ driver ── prepare, reserve, configure, start, kill, pause, resume, stop, delete
//!   ▲                          │  ▲
//!   │                          │  └── signals (SIGCHLD → reap), timers of stop and restart, the controller's pipe
//!   └──── Published{generation}┘
//! ```
//!
//! The states and their rules are in [`state`]. **One task, the driver, owns the state**: it does one thing after the
//! other, everything in it is decided by [`state::admit`] and moved by [`state::Task::apply`]. Calls send it requests
//! and read or watch the copy that it publishes; a copy has a generation that only grows. Nobody else holds the state,
//! so there is no lock on it. The output of the container is not its business but that of [`crate::stdio`].
//!
//! The order at the end of a life is: reap, ask the cgroup about memory, read the last output into the log, write the
//! exit record, note it in the journal, publish, tell the attached clients, let go of namespaces and cgroup. What a
//! caller is told is on disk. Where the policy wants another life (`policy`), that follows in this shim, with the same
//! namespaces, cgroup, ports and log (`restart`); who is attached stays so, and is told of the last end only.

mod configure;
mod delete;
pub mod driver;
mod end;
pub mod error;
pub mod exec;
pub mod execs;
pub mod health;
mod holder;
mod joining;
pub mod judgement;
mod kill;
mod note;
mod oom;
mod pause;
mod policy;
mod prepare;
mod relay;
pub mod reserve;
mod restart;
mod resume;
mod start;
pub mod state;
mod stats;
mod stop;
mod top;
mod unreserve;
mod update;
pub mod wait;
pub mod watch;

pub use configure::{Options, Orders};
pub use driver::Handle;
pub use end::teardown;
pub use error::TaskError;
pub use kill::Kill;
pub use start::Start;
pub use stop::Stop;
pub use update::Update;
