//! The points of the shim where a test can make it fail, stop or wait, as [`davit_failpoint`] says.

use std::io;

/// Every point there is, in the order in which a container's life passes them.
pub const ALL: [&str; 6] = [PREPARED, CONFIGURED, BEGUN, ENDED, RECORDED, RENEWED];

/// Namespaces, cgroup and a waiting init are made.
pub const PREPARED: &str = "shim.prepared";
/// Init has its container and waits at the gate.
pub const CONFIGURED: &str = "shim.configured";
/// The journal says that a life begins.
pub const BEGUN: &str = "shim.begun";
/// A life is over, and nobody knows.
pub const ENDED: &str = "shim.ended";
/// Its end stands on disk, and not in the journal.
pub const RECORDED: &str = "shim.recorded";
/// The init of a next life waits at the gate.
pub const RENEWED: &str = "shim.renewed";

/// Reads the variable that sets them, once, at the start of the program.
pub fn load() -> io::Result<()> {
    let set = davit_failpoint::load(ALL, |name| !name.starts_with("shim.")).map_err(io::Error::other)?;
    if let Some(text) = set {
        tracing::warn!(%text, "failpoints are set");
    }
    Ok(())
}

/// Passes a point. All of the shim waits where one is told to wait, as it does for a slow disk.
pub fn pass(name: &'static str) -> io::Result<()> {
    Ok(davit_failpoint::pass(name)?)
}
