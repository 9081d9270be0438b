//! Why an operation on a container was not done: one sentence each, with its kind and its stable reason.

use std::io;

use davit_proto::copy::FailureKind;
use davit_proto::id::{ContainerId, InvalidId};
use davit_proto::reason;
use davit_proto::status::{Classify, ErrorKind, RemoteError};

use crate::container::spec;
use crate::filter;
use crate::store::{Conflict, SyncError, TooOld, Unresolved};

/// Why an operation was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The wish is wrong, or does not fit image or host.
    #[error(transparent)]
    Spec(#[from] spec::Error),
    /// A condition of a list is wrong.
    #[error(transparent)]
    Filter(#[from] filter::Invalid),
    /// A text names no container, or several.
    #[error(transparent)]
    Unresolved(#[from] Unresolved),
    /// The store did not take a record.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// The store is not durable.
    #[error(transparent)]
    Sync(#[from] SyncError),
    /// A watcher asked for changes that are no longer known.
    #[error(transparent)]
    TooOld(#[from] TooOld),
    /// A peer refused or failed, or cannot be reached.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// A peer refused or failed while a larger operation was on its way.
    #[error("{doing}")]
    Peer {
        /// What was asked of it: "prepare the image".
        doing: String,
        /// What it said.
        source: RemoteError,
    },
    /// The file system refused.
    #[error("{doing}")]
    Io {
        /// What was tried, on what.
        doing: String,
        /// Why not.
        source: io::Error,
    },
    /// A text is no identity.
    #[error(transparent)]
    Id(#[from] InvalidId),
    /// A value of a request is wrong.
    #[error("invalid {what} {value:?}: {rule}")]
    Invalid {
        /// Which value.
        what: &'static str,
        /// The value.
        value: String,
        /// What it would have to be.
        rule: String,
    },
    /// A port of the host is published by another container.
    #[error("port {port} is published by container {container:?}")]
    PortTaken {
        /// Address, number and protocol.
        port: String,
        /// Its name.
        container: String,
    },
    /// The container runs, and must not for this.
    #[error("cannot {verb} container {container:?}: container is running: {advice}")]
    Running {
        /// What was asked for.
        verb: &'static str,
        /// Its name.
        container: String,
        /// What to do instead.
        advice: &'static str,
    },
    /// The container has no health check, and its health is asked for.
    #[error("cannot wait for the health of container: {container}: it has no health check")]
    NoHealthCheck {
        /// Its name.
        container: String,
    },
    /// The container does not run, and must for this.
    #[error("cannot {verb} container: {container}: container {id} is not running")]
    NotRunning {
        /// What was asked for.
        verb: &'static str,
        /// How it was named.
        container: String,
        /// Its id.
        id: ContainerId,
    },
    /// The container is in a phase that forbids the call.
    #[error("cannot {verb} container {container:?}: it is {phase}")]
    Phase {
        /// What was asked for.
        verb: &'static str,
        /// Its name.
        container: String,
        /// What it is doing: "being removed".
        phase: &'static str,
    },
    /// The container changed since the caller looked at it.
    #[error("container {container:?} is at revision {present}, not at {expected} any more")]
    Outdated {
        /// Its name.
        container: String,
        /// The revision that the caller saw.
        expected: u64,
        /// Its revision now.
        present: u64,
    },
    /// The container is on the network already.
    #[error("endpoint with name {container} already exists in network {network}")]
    Connected {
        /// Its name.
        container: String,
        /// The network's.
        network: String,
    },
    /// The container is not on the network.
    #[error("container {container} is not connected to network {network}")]
    NotConnected {
        /// Its id.
        container: ContainerId,
        /// The network's name.
        network: String,
    },
    /// Containers are on a network that was to go.
    #[error("error while removing network: network {network} has active endpoints ({holders})")]
    NetworkInUse {
        /// The network.
        network: String,
        /// Names and ids, as docker says them.
        holders: String,
    },
    /// A shim could not be launched.
    #[error("launch the shim of container {id}: {why}")]
    Launch {
        /// Of which container.
        id: ContainerId,
        /// What the shim left as its last words.
        why: String,
    },
    /// A shim lives, or may live, and does not answer.
    #[error("the shim of container {id} does not answer: {why}")]
    Unreachable {
        /// Of which container.
        id: ContainerId,
        /// How it shows.
        why: String,
    },
    /// The connection to a container's streams broke, and the container goes on.
    #[error("the connection to the streams of container {id} broke: attach again")]
    Broken {
        /// Which container.
        id: ContainerId,
    },
    /// A call took longer than it may.
    #[error("{doing} took longer than {seconds} s")]
    TimedOut {
        /// Which call.
        doing: String,
        /// Its limit.
        seconds: u64,
    },
    /// Files of a container were not copied, or not all.
    #[error("{message}")]
    Copy {
        /// The class.
        kind: FailureKind,
        /// The helper's sentence.
        message: String,
    },
    /// A task of ours panicked, which is a bug.
    #[error("{doing}: {why}")]
    Task {
        /// What it did.
        doing: &'static str,
        /// Its last words.
        why: String,
    },
    /// A named failpoint was set to fail.
    #[error("failpoint {0} was told to fail")]
    Failpoint(&'static str),
}

impl Error {
    /// What the file system said, and about what.
    pub fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }

    /// What a peer said, and when.
    pub fn peer<E: Into<RemoteError>>(doing: impl Into<String>) -> impl FnOnce(E) -> Self {
        let doing = doing.into();
        move |source| Self::Peer { doing, source: source.into() }
    }

    /// Whether the error says that there is no such container (any more).
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.kind() == ErrorKind::NotFound && self.reason() == reason::CONTAINER_NOT_FOUND
    }
}

/// The kind of a failure of the file system, as far as a caller can do something about it.
fn io_kind(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::OutOfMemory => {
            ErrorKind::ResourceExhausted
        }
        // EMFILE, ENFILE.
        _ if matches!(error.raw_os_error(), Some(23 | 24)) => ErrorKind::ResourceExhausted,
        _ => ErrorKind::Internal,
    }
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Spec(error) => error.kind(),
            Self::Filter(error) => error.kind(),
            Self::Unresolved(error) => error.kind(),
            Self::Conflict(error) => error.kind(),
            Self::Sync(error) => error.kind(),
            Self::TooOld(error) => error.kind(),
            Self::Remote(error) | Self::Peer { source: error, .. } => error.kind(),
            Self::Io { source, .. } => io_kind(source),
            Self::Id(_) | Self::Invalid { .. } => ErrorKind::InvalidArgument,
            Self::PortTaken { .. } => ErrorKind::AlreadyExists,
            Self::Running { .. }
            | Self::NotRunning { .. }
            | Self::NoHealthCheck { .. }
            | Self::Phase { .. } => ErrorKind::FailedPrecondition,
            Self::Outdated { .. } => ErrorKind::Aborted,
            Self::Connected { .. } => ErrorKind::AlreadyExists,
            Self::NotConnected { .. } | Self::NetworkInUse { .. } => ErrorKind::FailedPrecondition,
            Self::Launch { .. } | Self::Task { .. } | Self::Failpoint(_) => ErrorKind::Internal,
            Self::Unreachable { .. } | Self::Broken { .. } => ErrorKind::Unavailable,
            Self::TimedOut { .. } => ErrorKind::DeadlineExceeded,
            Self::Copy { kind, .. } => match kind {
                FailureKind::Missing => ErrorKind::NotFound,
                FailureKind::Invalid => ErrorKind::InvalidArgument,
                FailureKind::Refused | FailureKind::Busy => ErrorKind::FailedPrecondition,
                FailureKind::Full => ErrorKind::ResourceExhausted,
                FailureKind::Internal => ErrorKind::Internal,
            },
        }
    }

    fn reason(&self) -> &str {
        match self {
            Self::Spec(error) => error.reason(),
            Self::Filter(error) => error.reason(),
            Self::Unresolved(error) => error.reason(),
            Self::Conflict(error) => error.reason(),
            Self::Sync(error) => error.reason(),
            Self::TooOld(error) => error.reason(),
            Self::Remote(error) | Self::Peer { source: error, .. } => error.reason(),
            Self::Io { .. } => "IO_FAILED",
            Self::Id(_) | Self::Invalid { .. } => "INVALID_VALUE",
            Self::Running { .. } => reason::CONTAINER_RUNNING,
            Self::NotRunning { .. } => reason::CONTAINER_NOT_RUNNING,
            Self::NoHealthCheck { .. } => "NO_HEALTH_CHECK",
            Self::Phase { .. } => "CONTAINER_PHASE",
            Self::Outdated { .. } => "REVISION_OUTDATED",
            Self::Connected { .. } => "NETWORK_CONNECTED",
            Self::NotConnected { .. } => reason::NETWORK_NOT_CONNECTED,
            Self::NetworkInUse { .. } => reason::NETWORK_IN_USE,
            Self::Launch { .. } => "SHIM_NOT_LAUNCHED",
            Self::Unreachable { .. } => reason::SHIM_UNREACHABLE,
            Self::PortTaken { .. } => reason::PORT_TAKEN,
            Self::Broken { .. } => reason::ATTACH_BROKEN,
            Self::TimedOut { .. } => "TIMED_OUT",
            Self::Copy { kind, .. } => match kind {
                FailureKind::Missing => reason::PATH_NOT_FOUND,
                FailureKind::Invalid => "COPY_INVALID",
                FailureKind::Refused => "COPY_REFUSED",
                FailureKind::Busy => "CONTAINER_BUSY",
                FailureKind::Full => "NO_SPACE",
                FailureKind::Internal => "COPY_FAILED",
            },
            Self::Task { .. } => "TASK_FAILED",
            Self::Failpoint(_) => "FAILPOINT",
        }
    }

    fn values(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Spec(error) => error.values(),
            Self::Filter(error) => error.values(),
            Self::Unresolved(error) => error.values(),
            Self::Conflict(error) => error.values(),
            Self::Sync(error) => error.values(),
            Self::TooOld(error) => error.values(),
            Self::Remote(error) | Self::Peer { source: error, .. } => error.values(),
            Self::Io { .. } | Self::TimedOut { .. } | Self::Task { .. } | Self::Copy { .. } => Vec::new(),
            Self::Id(error) => vec![(error.what, error.value.clone())],
            Self::Invalid { what, value, .. } => vec![(what, value.clone())],
            Self::Running { container, .. }
            | Self::NotRunning { container, .. }
            | Self::NoHealthCheck { container }
            | Self::Phase { container, .. } => vec![("container", container.clone())],
            Self::Connected { network, .. }
            | Self::NotConnected { network, .. }
            | Self::NetworkInUse { network, .. } => vec![("network", network.clone())],
            Self::Outdated { present, .. } => vec![("revision", present.to_string())],
            Self::Launch { id, .. } | Self::Unreachable { id, .. } | Self::Broken { id } => {
                vec![("container", id.to_string())]
            }
            Self::PortTaken { port, container } => {
                vec![("port", port.clone()), ("container", container.clone())]
            }
            Self::Failpoint(name) => vec![("failpoint", (*name).to_owned())],
        }
    }
}
