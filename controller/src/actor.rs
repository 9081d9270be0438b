//! Who asks for a change: told to the shim for its journal, and kept with what the controller changes itself.

/// Whoever asked for a change, as a fragment of a sentence: `kill by uid 0, pid 4242`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Actor(String);

/// The process at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its user.
    pub uid: u32,
    /// Its process id as this process sees it; none across process namespaces.
    pub pid: Option<i32>,
}

impl Actor {
    /// A client's call.
    #[must_use]
    pub fn client(call: &str, peer: Option<Peer>) -> Self {
        match peer {
            None => Self(call.to_owned()),
            Some(Peer { uid, pid: Some(pid) }) if pid > 0 => Self(format!("{call} by uid {uid}, pid {pid}")),
            Some(Peer { uid, .. }) => Self(format!("{call} by uid {uid}")),
        }
    }

    /// The engine itself, and for what reason.
    #[must_use]
    pub fn engine(reason: &str) -> Self {
        Self(reason.to_owned())
    }

    /// The fragment.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Actor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_left_out() {
        let peer = |pid| Some(Peer { uid: 7, pid });
        assert_eq!(Actor::client("kill", peer(Some(42))).text(), "kill by uid 7, pid 42");
        assert_eq!(Actor::client("kill", peer(Some(0))).text(), "kill by uid 7");
        assert_eq!(Actor::client("kill", peer(None)).text(), "kill by uid 7");
        assert_eq!(Actor::client("kill", None).text(), "kill");
    }
}
