//! What can go wrong with networks, and how it is told over the wire.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

use davit_proto::id::InvalidId;
use davit_proto::reason;
use davit_proto::status::{Classify, ErrorKind};

use crate::firewall::FirewallError;
use crate::network::InvalidLinkName;

/// The process behind a path below `/proc` ended while it was looked at.
const ESRCH: i32 = rustix::io::Errno::SRCH.raw_os_error();

/// A failure of the network service.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name or id that can be none.
    #[error(transparent)]
    Id(#[from] InvalidId),
    /// A name of a link that can be none.
    #[error(transparent)]
    Link(#[from] InvalidLinkName),
    /// A field that can never be right.
    #[error("invalid {field} {value:?}: {rule}")]
    Invalid {
        /// Which field of the request.
        field: &'static str,
        /// What it held.
        value: String,
        /// What it would have to be.
        rule: String,
    },
    /// Right, and not served yet.
    #[error("{what} {value:?} is not served by this version of davit")]
    Unserved {
        /// What was asked for.
        what: &'static str,
        /// Its value.
        value: String,
    },
    /// No network has this name or id.
    #[error("network {0} not found")]
    NotFound(String),
    /// Several ids begin so.
    #[error("several networks have an id that begins with {0:?}")]
    Ambiguous(String),
    /// The name is taken.
    #[error("network with name {0} already exists")]
    Exists(String),
    /// Every engine has it.
    #[error("{0} is a pre-defined network and cannot be removed")]
    BuiltIn(String),
    /// Containers are on it.
    #[error("network {name:?} is in use by {}", holders.join(", "))]
    InUse {
        /// The network.
        name: String,
        /// Ids of the containers.
        holders: Vec<String>,
    },
    /// The address belongs to a container.
    #[error("address {address} on network {network:?} is held by container {holder}")]
    AddressTaken {
        /// The address.
        address: String,
        /// The network.
        network: String,
        /// Id of the container.
        holder: String,
    },
    /// Nothing is left to give.
    #[error("network {0:?} has no free address left")]
    Exhausted(String),
    /// Its bridge has as many ports as a bridge can have.
    #[error("network {0:?} is full: a bridge has room for 1023 containers")]
    Full(String),
    /// The port belongs to a container.
    #[error("port {port} is published by container {holder}")]
    PortTaken {
        /// The port.
        port: String,
        /// Id of the container.
        holder: String,
    },
    /// The host uses the range, or the pool is used up.
    #[error("address range {range} of network {network:?} is in use on this host by {by}")]
    RangeTaken {
        /// The range.
        range: String,
        /// The network.
        network: String,
        /// Who has it.
        by: String,
    },
    /// A link of that name is there and is not our bridge.
    #[error("link {link} is not the bridge of network {network:?}: {why}")]
    BridgeTaken {
        /// The link.
        link: String,
        /// The network.
        network: String,
        /// What is wrong with it.
        why: String,
    },
    /// The container has the network with another address.
    #[error("container {container_id} has address {has} on network {network:?}, not {wanted}")]
    OtherAddress {
        /// The container.
        container_id: String,
        /// The network.
        network: String,
        /// What it has.
        has: String,
        /// What was asked for.
        wanted: String,
    },
    /// The name of the link is taken inside the container.
    #[error("container {container_id} has another link {interface}")]
    InterfaceTaken {
        /// The container.
        container_id: String,
        /// The link.
        interface: String,
    },
    /// The namespace could not be opened.
    #[error("open the network namespace that process {pid} holds as descriptor {fd}")]
    Netns {
        /// The process.
        pid: u32,
        /// Its descriptor.
        fd: u32,
        /// Why not.
        source: io::Error,
    },
    /// The descriptor is another namespace.
    #[error("the network namespace has inode {found} and not {wanted}")]
    OtherNetns {
        /// What was asked for.
        wanted: u64,
        /// What was found.
        found: u64,
    },
    /// The kernel refused a link, an address or a route.
    #[error("{what}")]
    Kernel {
        /// What was asked for.
        what: String,
        /// Why not.
        source: io::Error,
    },
    /// The firewall.
    #[error(transparent)]
    Firewall(#[from] FirewallError),
    /// Another process serves the same folder.
    #[error("{} is served by another process", .0.display())]
    Locked(PathBuf),
    /// A record on disk that is none.
    #[error("read {}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A record that was left out because it could not be read.
    #[error("{} cannot be read and is not replaced; repair or remove it", .0.display())]
    Unreadable(PathBuf),
    /// The file system refused.
    #[error("{what} {}", path.display())]
    File {
        /// What was tried: "create", "read".
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The kernel gave no random numbers for an id.
    #[error("choose an id: {0}")]
    Random(String),
    /// A call of ours ended without an answer.
    #[error("a call ended without an answer; this is a fault of davit")]
    Lost,
}

impl Error {
    /// Adds to an I/O error what was tried on what.
    pub(crate) fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { what, path, source }
    }

    /// Adds to the kernel's refusal what was asked for.
    pub(crate) fn kernel(what: impl Display) -> impl FnOnce(io::Error) -> Self {
        let what = what.to_string();
        move |source| Self::Kernel { what, source }
    }

    /// Whether it says that the namespace, or its holder, is no more.
    pub(crate) fn says_gone(&self) -> bool {
        match self {
            Self::OtherNetns { .. } => true,
            Self::Netns { source, .. } => {
                source.kind() == io::ErrorKind::NotFound || source.raw_os_error() == Some(ESRCH)
            }
            _ => false,
        }
    }

    /// A field that can never be right.
    pub(crate) fn invalid(field: &'static str, value: impl Display, rule: impl Display) -> Self {
        let value = value.to_string().chars().take(200).collect();
        Self::Invalid { field, value, rule: rule.to_string() }
    }
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Id(_) | Self::Link(_) | Self::Invalid { .. } | Self::Ambiguous(_) => {
                ErrorKind::InvalidArgument
            }
            Self::Unserved { .. } => ErrorKind::Unimplemented,
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::Exists(_) | Self::AddressTaken { .. } | Self::PortTaken { .. } => ErrorKind::AlreadyExists,
            Self::BuiltIn(_)
            | Self::InUse { .. }
            | Self::RangeTaken { .. }
            | Self::BridgeTaken { .. }
            | Self::OtherAddress { .. }
            | Self::InterfaceTaken { .. }
            | Self::Netns { .. }
            | Self::OtherNetns { .. }
            | Self::Locked(_) => ErrorKind::FailedPrecondition,
            Self::Exhausted(_) | Self::Full(_) => ErrorKind::ResourceExhausted,
            Self::Record { .. } | Self::Unreadable(_) => ErrorKind::DataLoss,
            Self::File { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::ResourceExhausted,
                _ => ErrorKind::Internal,
            },
            Self::Kernel { .. } | Self::Firewall(_) | Self::Random(_) | Self::Lost => ErrorKind::Internal,
        }
    }

    fn reason(&self) -> &str {
        match self {
            Self::Id(_) | Self::Link(_) => "INVALID_NAME",
            Self::Invalid { .. } => "INVALID_FIELD",
            Self::Unserved { .. } => reason::NOT_IMPLEMENTED,
            Self::NotFound(_) => reason::NETWORK_NOT_FOUND,
            Self::Ambiguous(_) => "NETWORK_AMBIGUOUS",
            Self::Exists(_) => "NETWORK_EXISTS",
            Self::BuiltIn(_) => "NETWORK_BUILT_IN",
            Self::InUse { .. } => "NETWORK_IN_USE",
            Self::AddressTaken { .. } => "ADDRESS_TAKEN",
            Self::Exhausted(_) => "ADDRESSES_EXHAUSTED",
            Self::Full(_) => "BRIDGE_FULL",
            Self::PortTaken { .. } => reason::PORT_TAKEN,
            Self::RangeTaken { .. } => "RANGE_TAKEN",
            Self::BridgeTaken { .. } => "BRIDGE_TAKEN",
            Self::OtherAddress { .. } => "ADDRESS_DIFFERS",
            Self::InterfaceTaken { .. } => "INTERFACE_TAKEN",
            Self::Netns { .. } | Self::OtherNetns { .. } => "NETNS_GONE",
            Self::Kernel { .. } => "KERNEL_REFUSED",
            Self::Firewall(_) => "FIREWALL",
            Self::Locked(_) => "ROOT_IN_USE",
            Self::Record { .. } | Self::Unreadable(_) => "NETWORK_RECORD_BROKEN",
            Self::File { .. } => "NETWORK_IO",
            Self::Random(_) | Self::Lost => "INTERNAL",
        }
    }

    fn values(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Id(invalid) => vec![("name", invalid.value.clone())],
            Self::Invalid { field, value, .. } => vec![("field", (*field).into()), ("value", value.clone())],
            Self::Unserved { value, .. } => vec![("value", value.clone())],
            Self::NotFound(name)
            | Self::Ambiguous(name)
            | Self::Exists(name)
            | Self::BuiltIn(name)
            | Self::Exhausted(name)
            | Self::Full(name) => vec![("name", name.clone())],
            Self::InUse { name, holders } => {
                vec![("name", name.clone()), ("containers", holders.join(","))]
            }
            Self::AddressTaken { address, holder, .. } => {
                vec![("address", address.clone()), ("container", holder.clone())]
            }
            Self::PortTaken { port, holder } => vec![("port", port.clone()), ("container", holder.clone())],
            Self::RangeTaken { range, network, .. } => {
                vec![("range", range.clone()), ("name", network.clone())]
            }
            Self::BridgeTaken { link, network, .. } => {
                vec![("link", link.clone()), ("name", network.clone())]
            }
            Self::OtherAddress { container_id, .. } | Self::InterfaceTaken { container_id, .. } => {
                vec![("container", container_id.clone())]
            }
            Self::Locked(path)
            | Self::Unreadable(path)
            | Self::Record { path, .. }
            | Self::File { path, .. } => {
                vec![("path", path.display().to_string())]
            }
            _ => Vec::new(),
        }
    }
}
