//! `davit-network`: the network service on a socket of its own.

use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use davit_network::{BRIDGE, Config, INSTANCE, LinkName};
use davit_proto::id::Name;
use davit_proto::transport;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// The network service of davit: bridges, addresses, published ports.
#[derive(Debug, Parser)]
#[command(name = "davit-network", version)]
struct Args {
    /// Folder of the engine's lasting state.
    #[arg(long, default_value = "/var/lib/davit")]
    root: PathBuf,
    /// Folder of what does not outlive the host's uptime.
    #[arg(long, default_value = "/run/davit")]
    run: PathBuf,
    /// Socket to serve on.
    #[arg(long, default_value = "unix:///run/davit/network.sock")]
    listen: transport::Address,
    /// What to log: error, warn, info, debug, trace, or a filter such as `davit_network=debug`.
    #[arg(long, default_value = "info")]
    log_level: EnvFilter,
    /// Print the names of all failpoints and end.
    #[arg(long)]
    list_failpoints: bool,
    /// Tells this engine from others on the host.
    #[arg(long, default_value = INSTANCE)]
    instance: Name,
    /// Bridge of the default network.
    #[arg(long, default_value = BRIDGE)]
    bridge: LinkName,
    /// Range of the default network [default: 172.17.0.0/16, or the next free one].
    #[arg(long)]
    bridge_subnet: Option<ipnet::Ipv4Net>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if args.list_failpoints {
        for name in davit_network::failpoint::ALL {
            writeln!(std::io::stdout(), "{name}")?;
        }
        return Ok(());
    }
    tracing_subscriber::fmt().with_env_filter(args.log_level).with_writer(std::io::stderr).init();
    if let Some(text) =
        davit_failpoint::load(davit_network::failpoint::ALL, |name| !name.starts_with("network."))?
    {
        tracing::warn!(%text, "failpoints are set");
    }
    let transport::Address::Unix(socket) = args.listen else {
        anyhow::bail!("only unix:// addresses can be listened on");
    };
    let config = Config {
        root: args.root,
        run: args.run,
        instance: args.instance,
        bridge: args.bridge,
        bridge_subnet: args.bridge_subnet,
    };
    let routes = davit_network::routes(config).await?;
    let routes = transport::with_standard(routes, davit_network::SERVICES).await?;
    if let Some(folder) = socket.parent() {
        let mut private = std::fs::DirBuilder::new();
        let made = private.recursive(true).mode(0o700).create(folder);
        made.with_context(|| format!("creating {}", folder.display()))?;
    }
    let listener =
        transport::bind_unix(&socket).with_context(|| format!("listening on {}", socket.display()))?;
    tracing::info!(socket = %socket.display(), "serving networks");
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    };
    transport::serve_unix(listener, routes, stop).await?;
    Ok(())
}
