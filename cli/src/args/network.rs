//! Flags of the verbs that act on networks.

use clap::Args;

/// `davit network create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Driver
    #[arg(short, long, default_value = "bridge")]
    pub driver: String,
    /// Address range: 10.5.0.0/16
    #[arg(long, value_name = "CIDR")]
    pub subnet: Vec<String>,
    /// Address of the bridge in its range
    #[arg(long, value_name = "ADDRESS")]
    pub gateway: Vec<String>,
    /// Part of the range to give addresses from
    #[arg(long, value_name = "CIDR")]
    pub ip_range: Vec<String>,
    /// No way out
    #[arg(long)]
    pub internal: bool,
    /// Give IPv6 addresses too
    #[arg(long)]
    pub ipv6: bool,
    /// Set a label
    #[arg(long, value_name = "KEY[=VALUE]")]
    pub label: Vec<String>,
    /// Option of the driver
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
    /// Show those that match: driver=bridge, name=x, label=a=b
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
