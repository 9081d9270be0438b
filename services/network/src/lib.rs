//! The network service: bridges, addresses, published ports.
//!
//! It wires the network namespaces that shims make, and keeps nothing of them open. What it makes in the kernel:
//! a bridge a network, a veth pair a lease (which goes with the container's namespace), one nftables table an
//! engine. Kill it: containers stay connected and their ports published.
//!
//! | module | is about |
//! |---|---|
//! | [`books`], `store`, `holding` | what is given to whom, on disk |
//! | [`lease`], `ipam` | what to give next |
//! | `linger`, `lost` | what came free and may still answer, and what nobody gave back |
//! | [`ground`] | bridges and the firewall table |
//! | `names`, `redirect`, `resolve` | by which names containers are found, and by which way |
//! | [`attach`], [`detach`], [`publish`], [`release`], [`create`] | the verbs |
//! | `wire`, `pair`, `count` | a container's links |
//! | `link`, `conntrack`, `firewall`, `netlink` | the kernel |

mod ahead;
mod api;
mod attach;
mod books;
mod conntrack;
mod count;
mod create;
mod detach;
mod error;
pub mod failpoint;
mod filter;
mod firewall;
mod flow;
#[cfg(fuzzing)]
pub mod fuzz;
mod ground;
mod hash;
mod holding;
mod ipam;
mod lease;
mod linger;
mod link;
mod lost;
mod mac;
mod names;
mod netlink;
mod netns;
mod network;
mod networks;
mod pair;
mod port;
mod publish;
mod redirect;
mod release;
mod resolve;
mod store;
mod sweep;
mod sysctl;
mod tend;
mod wire;

use std::path::PathBuf;

use davit_proto::id::Name;
use davit_proto::network::networks_server::NetworksServer;
use ipnet::Ipv4Net;
use tonic::service::Routes;

pub use error::Error;
pub use firewall::{FirewallError, LoadError};
pub use network::{InvalidLinkName, LinkName};

/// The instance that an engine is when nobody says otherwise.
pub const INSTANCE: &str = "davit";
/// The default network's bridge when nobody says otherwise.
pub const BRIDGE: &str = "davit0";

/// What the service needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// The engine's root folder, `/var/lib/davit`; the service keeps to `network/` below it.
    pub root: PathBuf,
    /// The engine's run folder, `/run/davit`; the service keeps to `dns/` below it. Gone after a reboot.
    pub run: PathBuf,
    /// Tells this engine from others on the host; names in the kernel derive from it.
    pub instance: Name,
    /// Name of the default network's bridge.
    pub bridge: LinkName,
    /// Range of the default network; an address within it is the bridge's. None for 172.17.0.0/16, or the next
    /// free one where that is taken.
    pub bridge_subnet: Option<Ipv4Net>,
}

/// Full names of the gRPC services that [`routes`] serves.
pub const SERVICES: &[&str] = &["davit.network.v1.Networks"];

/// Opens the networks below the root, restores what containers use, and answers with the service over them.
///
/// # Errors
/// When the folder cannot be made or read, or another process serves it.
pub async fn routes(config: Config) -> Result<Routes, Error> {
    let networks = api::blocking(move || networks::Networks::open(&config)).await?;
    tend::start(&networks);
    sweep::start(&networks);
    Ok(Routes::new(NetworksServer::new(api::Api::new(networks))))
}
