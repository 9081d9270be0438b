//! Why a call on the task came to nothing.

use std::io;

use davit_proto::reason;
use davit_proto::status::{Classify, ErrorKind};

use super::state::Denied;
use crate::bundle::BundleError;
use crate::cgroup::CgroupError;
use crate::init::{Failure, FailureKind, InitError};
use crate::stdio::pump::StdioError;

/// Why a call on the task came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// It makes no sense in this state.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// A value of the request makes no sense.
    #[error("invalid {name} {value:?}: {rule}")]
    Invalid {
        /// Of which field.
        name: &'static str,
        /// What was said.
        value: String,
        /// What can be said.
        rule: &'static str,
    },
    /// The shim was prepared with another shape before.
    #[error("the task was prepared with another shape")]
    OtherShape,
    /// Another shim or helper has the container.
    #[error(
        "the container is held by another process: the lock of its bundle was not free within {seconds} s"
    )]
    Busy {
        /// How long we waited.
        seconds: u64,
    },
    /// A step on the way to the container's init failed.
    #[error(transparent)]
    Init(#[from] InitError),
    /// The network namespace could not be looked at.
    #[error("look at the network namespace")]
    Namespace(#[source] io::Error),
    /// A test wants it to fail here.
    #[error(transparent)]
    Failpoint(io::Error),
    /// The command could not be executed: this life is over.
    #[error("{message}")]
    Start {
        /// Why.
        message: String,
        /// What a shell would report: 125, 126, 127.
        exit_code: u32,
    },
    /// A process could not be added.
    #[error("{message}")]
    Exec {
        /// Why.
        message: String,
        /// What a shell would report: 125, 126, 127.
        exit_code: u32,
    },
    /// No exec has this id, or it has been forgotten.
    #[error("no such exec: {0}")]
    NoExec(String),
    /// The exec has ended.
    #[error("exec {0} is not running")]
    ExecEnded(String),
    /// Too many execs at a time.
    #[error("{limit} execs run already in this container")]
    TooManyExecs {
        /// How many may run.
        limit: usize,
    },
    /// A host port is taken.
    #[error("port {port} is taken{}", by(.holder.as_deref()))]
    PortTaken {
        /// Address, number and protocol.
        port: String,
        /// Who has it, where that was found.
        holder: Option<String>,
    },
    /// A host port could not be held.
    #[error("hold port {port}")]
    Port {
        /// Address, number and protocol.
        port: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// More ports than this process may have descriptors.
    #[error("hold {count} ports: each takes a descriptor, and a shim here may have {limit} (RLIMIT_NOFILE)")]
    TooManyPorts {
        /// How many were asked for.
        count: usize,
        /// How many descriptors it may have.
        limit: u64,
    },
    /// Room for descriptors could not be made.
    #[error("make room for the ports' descriptors")]
    Room(#[source] io::Error),
    /// A signal could not be sent.
    #[error("send signal {signal} to init")]
    Signal {
        /// Which.
        signal: i32,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Pipes or terminal of the container could not be made.
    #[error("open the container's streams")]
    Streams(#[source] io::Error),
    /// The resolver's sockets could not be watched.
    #[error("serve the container's resolver")]
    Names(#[source] io::Error),
    /// A life that is not this shim's.
    #[error("the exit of life {asked} is not kept: the last one was life {last}")]
    ForgottenLife {
        /// What was asked for.
        asked: u64,
        /// The one that is kept.
        last: u64,
    },
    /// The cgroup.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The streams of the container.
    #[error(transparent)]
    Stdio(#[from] StdioError),
    /// The shim is about to end.
    #[error("the shim is ending")]
    Ending,
}

fn by(holder: Option<&str>) -> String {
    holder.map(|holder| format!(" by {holder}")).unwrap_or_default()
}

impl Classify for TaskError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Denied(Denied::NoSuchLife) | Self::Invalid { .. } => ErrorKind::InvalidArgument,
            Self::Denied(_) | Self::OtherShape => ErrorKind::FailedPrecondition,
            Self::Busy { .. } | Self::Ending => ErrorKind::Unavailable,
            Self::Init(error) => init_kind(error),
            Self::Start { exit_code: 127, .. } | Self::Exec { exit_code: 127, .. } => ErrorKind::NotFound,
            Self::Start { exit_code: 126, .. } | Self::Exec { exit_code: 126, .. } => {
                ErrorKind::FailedPrecondition
            }
            Self::Start { .. } | Self::Exec { .. } => ErrorKind::Internal,
            Self::NoExec(_) => ErrorKind::NotFound,
            Self::ExecEnded(_) => ErrorKind::FailedPrecondition,
            Self::TooManyExecs { .. } | Self::TooManyPorts { .. } => ErrorKind::ResourceExhausted,
            Self::PortTaken { .. } => ErrorKind::AlreadyExists,
            Self::ForgottenLife { .. } => ErrorKind::OutOfRange,
            Self::Stdio(StdioError::Closed) => ErrorKind::FailedPrecondition,
            Self::Stdio(StdioError::NoTerminal) => ErrorKind::FailedPrecondition,
            Self::Stdio(StdioError::TooMany) => ErrorKind::ResourceExhausted,
            Self::Port { source, .. } => port_kind(source),
            Self::Cgroup(error) => cgroup_kind(error),
            Self::Signal { .. }
            | Self::Room(_)
            | Self::Namespace(_)
            | Self::Failpoint(_)
            | Self::Streams(_)
            | Self::Names(_)
            | Self::Bundle(_)
            | Self::Stdio(_) => ErrorKind::Internal,
        }
    }

    fn reason(&self) -> &str {
        match self {
            Self::Denied(Denied::NotRunning) => reason::CONTAINER_NOT_RUNNING,
            Self::Denied(Denied::StillRunning { .. }) => reason::CONTAINER_RUNNING,
            Self::Denied(Denied::LifeIsOver { .. }) => "LIFE_IS_OVER",
            Self::Denied(Denied::Ended) => "TASK_ENDED",
            Self::Denied(Denied::Paused | Denied::AlreadyPaused) => "CONTAINER_PAUSED",
            Self::Denied(Denied::NotPaused) => "CONTAINER_NOT_PAUSED",
            Self::Denied(_) => "WRONG_STATE",
            Self::Invalid { .. } => "INVALID_VALUE",
            Self::OtherShape => "OTHER_SHAPE",
            Self::Busy { .. } => "CONTAINER_BUSY",
            Self::Init(_) | Self::Namespace(_) => "START_FAILED",
            Self::Start { exit_code: 127, .. } | Self::Exec { exit_code: 127, .. } => {
                reason::COMMAND_NOT_FOUND
            }
            Self::Start { exit_code: 126, .. } | Self::Exec { exit_code: 126, .. } => {
                reason::COMMAND_NOT_EXECUTABLE
            }
            Self::Start { .. } => "START_FAILED",
            Self::Exec { .. } => "EXEC_FAILED",
            Self::NoExec(_) => reason::EXEC_NOT_FOUND,
            Self::ExecEnded(_) => "EXEC_ENDED",
            Self::TooManyExecs { .. } => "TOO_MANY_EXECS",
            Self::PortTaken { .. } => reason::PORT_TAKEN,
            Self::Port { .. } | Self::Room(_) => "PORT_NOT_HELD",
            Self::TooManyPorts { .. } => "TOO_MANY_PORTS",
            Self::Signal { .. } => "SIGNAL_FAILED",
            Self::Streams(_) | Self::Stdio(_) => "STREAMS_FAILED",
            Self::Names(_) => "NAMES_FAILED",
            Self::ForgottenLife { .. } => "LIFE_FORGOTTEN",
            Self::Cgroup(CgroupError::Io { .. } | CgroupError::Timeout(_)) => "CGROUP_FAILED",
            Self::Cgroup(_) => "LIMIT_NOT_SET",
            Self::Bundle(_) => "BUNDLE_FAILED",
            Self::Failpoint(_) => "FAILPOINT",
            Self::Ending => reason::SHIM_ENDING,
        }
    }

    fn values(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Invalid { name, value, .. } => vec![("value", format!("{name}={value}"))],
            Self::PortTaken { port, holder } => {
                let holder = holder.iter().map(|holder| ("holder", holder.clone()));
                std::iter::once(("port", port.clone())).chain(holder).collect()
            }
            Self::Port { port, .. } => vec![("port", port.clone())],
            Self::Denied(Denied::LifeIsOver { life, .. }) => vec![("life", life.to_string())],
            Self::Signal { signal, .. } => vec![("signal", signal.to_string())],
            Self::Start { exit_code, .. } | Self::Exec { exit_code, .. } => {
                vec![("exit_code", exit_code.to_string())]
            }
            _ => Vec::new(),
        }
    }
}

fn cgroup_kind(error: &CgroupError) -> ErrorKind {
    match error {
        CgroupError::Parent(_) => ErrorKind::InvalidArgument,
        CgroupError::Limit { .. } | CgroupError::Unlimited { .. } | CgroupError::InUse { .. } => {
            ErrorKind::FailedPrecondition
        }
        CgroupError::Io { .. } | CgroupError::Timeout(_) => ErrorKind::Internal,
    }
}

fn init_kind(error: &InitError) -> ErrorKind {
    match error {
        InitError::Failure(Failure { kind, .. }) => match kind {
            FailureKind::NotFound => ErrorKind::NotFound,
            FailureKind::NotExecutable => ErrorKind::FailedPrecondition,
            FailureKind::Invalid => ErrorKind::InvalidArgument,
            FailureKind::Refused => ErrorKind::PermissionDenied,
            FailureKind::Kernel => ErrorKind::Internal,
        },
        InitError::Timeout { .. } => ErrorKind::DeadlineExceeded,
        _ => ErrorKind::Internal,
    }
}

fn port_kind(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::AddrNotAvailable => ErrorKind::InvalidArgument,
        io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
        io::ErrorKind::Unsupported => ErrorKind::Unimplemented,
        _ => ErrorKind::Internal,
    }
}
