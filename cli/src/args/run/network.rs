//! Flags of a container's network.

use clap::Args;

/// What a container joins and publishes.
#[derive(Debug, Args)]
pub struct NetworkArgs {
    /// Network to join: bridge, host, none, container:NAME or a network's name
    #[arg(long, visible_alias = "net", value_name = "NETWORK")]
    pub network: Vec<String>,
    /// Further name on the network
    #[arg(long, alias = "net-alias", value_name = "NAME")]
    pub network_alias: Vec<String>,
    /// Publish a port
    #[arg(short, long, value_name = "[[IP:]PORT:]PORT[/PROTOCOL]")]
    pub publish: Vec<String>,
    /// Publish all exposed ports
    #[arg(short = 'P', long)]
    pub publish_all: bool,
    /// Note a port as exposed
    #[arg(long, value_name = "PORT[/PROTOCOL]")]
    pub expose: Vec<String>,
    /// IPv4 address
    #[arg(long, value_name = "ADDRESS")]
    pub ip: Option<String>,
    /// IPv6 address
    #[arg(long, value_name = "ADDRESS")]
    pub ip6: Option<String>,
    /// Hardware address
    #[arg(long, value_name = "ADDRESS")]
    pub mac_address: Option<String>,
    /// Host name
    #[arg(short = 'h', long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// Domain name
    #[arg(long, value_name = "NAME")]
    pub domainname: Option<String>,
    /// Name server
    #[arg(long, value_name = "ADDRESS")]
    pub dns: Vec<String>,
    /// Search domain
    #[arg(long, value_name = "DOMAIN")]
    pub dns_search: Vec<String>,
    /// Option of resolv.conf
    #[arg(long, alias = "dns-opt", value_name = "OPTION")]
    pub dns_option: Vec<String>,
    /// Line for the hosts file
    #[arg(long, value_name = "NAME:ADDRESS")]
    pub add_host: Vec<String>,
    /// Link to another container
    #[arg(long, value_name = "CONTAINER[:ALIAS]")]
    pub link: Vec<String>,
}
