//! The resolver of a container: DNS on 127.0.0.11 inside its network namespace, served by its shim, so that names
//! resolve as long as the container lives, whoever else is dead.
//!
//! ```text
//!  program ─▶ 127.0.0.11:53 ─(rule of the network service)─▶ 127.0.0.11:65053: [`serve`]
//!                                                                  │
//!             a name of its networks, links, localhost ◀─ [`known`] ┤ view and zone files, read for each question
//!             anything else: the host's servers        ◀─ [`forward`] asked from the host's namespace
//! ```
//!
//! Init makes the sockets while it prepares the namespace ([`Sockets`]) and hands them out; what is served begins with
//! Configure and outlives restarts by policy. Nothing is held in memory between questions but one task that waits:
//! neither zones nor the host's resolv.conf are kept, so nothing can be out of date. Questions under way are bounded
//! in number, size and time, and after each one everybody else of the shim has a turn, the log above all.
//!
//! Names without a dot that nobody here has go outside like any other, as they do with Docker: many hosts have such
//! names. Names and addresses of the container's own networks never do, nor does anything from a container whose
//! networks are all internal.

mod forward;
mod known;
mod message;
mod serve;
mod servers;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::task::JoinHandle;

use crate::init::Sockets;

pub use servers::parse as parse_server;

/// What a resolver is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The file that tells what the container sees.
    pub view: PathBuf,
    /// Whom to ask for other names; empty for those whom the host asks.
    pub servers: Vec<SocketAddr>,
}

/// A resolver that serves. Dropping it ends it.
#[derive(Debug)]
pub struct Resolver {
    task: Option<JoinHandle<()>>,
}

impl Resolver {
    /// Serves from now on.
    ///
    /// # Errors
    /// When the runtime cannot watch the sockets.
    pub fn start(sockets: Sockets, config: Config) -> io::Result<Self> {
        let task = serve::start(sockets, config)?;
        Ok(Self { task: Some(task) })
    }

    /// Ends, and lets go of the sockets, which keep the namespace alive.
    pub async fn end(mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            // Its end by our word is no failure.
            let _ = task.await;
        }
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}
