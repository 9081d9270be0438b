//! Flags of the verbs that act on networks.

use clap::Args;

/// `davit network create`.
#[derive(Debug, Default, Args)]
pub struct CreateArgs {
    /// Driver
    #[arg(short, long, default_value = "bridge")]
    pub driver: String,
    /// Address range: 10.5.0.0/16; more than one for more ranges
    #[arg(long, value_name = "CIDR")]
    pub subnet: Vec<String>,
    /// Address of the bridge in its range
    #[arg(long, value_name = "ADDRESS")]
    pub gateway: Vec<String>,
    /// Part of the range to give addresses from
    #[arg(long, value_name = "CIDR")]
    pub ip_range: Vec<String>,
    /// Address that no container is given, and what it is kept for
    #[arg(long, value_name = "NAME=ADDRESS")]
    pub aux_address: Vec<String>,
    /// No way out
    #[arg(long)]
    pub internal: bool,
    /// Accepted and without meaning: every network can be joined by hand
    #[arg(long)]
    pub attachable: bool,
    /// Give IPv6 addresses too
    #[arg(long)]
    pub ipv6: bool,
    /// Set a label
    #[arg(long, value_name = "KEY[=VALUE]")]
    pub label: Vec<String>,
    /// Option of the driver: com.docker.network.driver.mtu=1400, com.docker.network.bridge.enable_icc=false
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub opt: Vec<String>,
    /// Name.
    #[arg(required = true, value_name = "NETWORK")]
    pub network: String,
}

/// `davit network ls`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Show only ids
    #[arg(short, long)]
    pub quiet: bool,
    /// Do not cut ids
    #[arg(long)]
    pub no_trunc: bool,
    /// Show those that match: driver=bridge, name=x, id=x, label=a=b, type=custom, dangling=true
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,
    /// table, table TEMPLATE, json, or a Go template
    #[arg(long)]
    pub format: Option<String>,
}

/// `davit network inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// json, or a Go template
    #[arg(short, long)]
    pub format: Option<String>,
    /// Networks.
    #[arg(required = true, value_name = "NETWORK")]
    pub networks: Vec<String>,
}

/// `davit network connect`.
#[derive(Debug, Args)]
pub struct ConnectArgs {
    /// IPv4 address
    #[arg(long, value_name = "ADDRESS")]
    pub ip: Option<String>,
    /// IPv6 address
    #[arg(long, value_name = "ADDRESS")]
    pub ip6: Option<String>,
    /// Hardware address
    #[arg(long, value_name = "ADDRESS")]
    pub mac_address: Option<String>,
    /// Further name on this network
    #[arg(long, value_name = "NAME")]
    pub alias: Vec<String>,
    /// Link to another container
    #[arg(long, value_name = "CONTAINER[:ALIAS]")]
    pub link: Vec<String>,
    /// Network.
    #[arg(required = true, value_name = "NETWORK")]
    pub network: String,
    /// Container.
    #[arg(required = true, value_name = "CONTAINER")]
    pub container: String,
}

/// `davit network disconnect`.
#[derive(Debug, Args)]
pub struct DisconnectArgs {
    /// A container that is not on the network is no error
    #[arg(short, long)]
    pub force: bool,
    /// Network.
    #[arg(required = true, value_name = "NETWORK")]
    pub network: String,
    /// Container.
    #[arg(required = true, value_name = "CONTAINER")]
    pub container: String,
}

/// `davit network rm`.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// A network that does not exist is no error
    #[arg(short, long)]
    pub force: bool,
    /// Networks.
    #[arg(required = true, value_name = "NETWORK")]
    pub networks: Vec<String>,
}

/// `davit network prune`.
#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
    /// Only those that match: until=24h, label=a=b
    #[arg(long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,
}

/// `davit network exists`.
#[derive(Debug, Args)]
pub struct ExistsArgs {
    /// Network.
    #[arg(required = true, value_name = "NETWORK")]
    pub network: String,
}
