//! `davit-volume`: the volume service on a socket of its own.

use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use davit_proto::transport;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// The volume service of davit: named directories that outlive containers.
#[derive(Debug, Parser)]
#[command(name = "davit-volume", version)]
struct Args {
    /// Folder of the engine's lasting state.
    #[arg(long, default_value = "/var/lib/davit")]
    root: PathBuf,
    /// Socket to serve on.
    #[arg(long, default_value = "unix:///run/davit/volume.sock")]
    listen: transport::Address,
    /// Driver of volumes beside the local one (may be repeated)
    #[arg(long, value_name = "NAME=ADDRESS")]
    volume_driver: Vec<davit_volume::DriverAddress>,
    /// What to log: error, warn, info, debug, trace, or a filter such as `davit_volume=debug`.
    #[arg(long, default_value = "info")]
    log_level: EnvFilter,
    /// Print the names of all failpoints and end.
    #[arg(long)]
    list_failpoints: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if args.list_failpoints {
        for name in davit_volume::failpoint::ALL {
            writeln!(std::io::stdout(), "{name}")?;
        }
        return Ok(());
    }
    tracing_subscriber::fmt().with_env_filter(args.log_level).with_writer(std::io::stderr).init();
    if let Some(text) =
        davit_failpoint::load(davit_volume::failpoint::ALL, |name| !name.starts_with("volume."))?
    {
        tracing::warn!(%text, "failpoints are set");
    }
    let transport::Address::Unix(socket) = args.listen else {
        anyhow::bail!("only unix:// addresses can be listened on");
    };
    let routes =
        davit_volume::routes(davit_volume::Config { root: args.root, drivers: args.volume_driver }).await?;
    let routes = transport::with_standard(routes, davit_volume::SERVICES).await?;
    if let Some(folder) = socket.parent() {
        let mut private = std::fs::DirBuilder::new();
        private
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .with_context(|| format!("creating {}", folder.display()))?;
    }
    let listener =
        transport::bind_unix(&socket).with_context(|| format!("listening on {}", socket.display()))?;
    tracing::info!(socket = %socket.display(), "serving volumes");
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    };
    transport::serve_unix(listener, routes, stop).await?;
    Ok(())
}
