//! `davit-build`: the build service on a socket of its own.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use davit_proto::transport;
use tokio::signal::unix::{SignalKind, signal};
use tonic::service::Routes;
use tracing_subscriber::EnvFilter;

/// The build service of davit: Dockerfiles become images.
#[derive(Debug, Parser)]
#[command(name = "davit-build", version)]
struct Args {
    /// Folder of the engine's lasting state.
    #[arg(long, default_value = "/var/lib/davit")]
    root: PathBuf,
    /// The engine's run directory.
    #[arg(long, default_value = "/run/davit")]
    run: PathBuf,
    /// Socket to serve on.
    #[arg(long, default_value = "unix:///run/davit/build.sock")]
    listen: transport::Address,
    /// Socket of the engine that does the work.
    #[arg(long, default_value = "unix:///run/davit/davitd.sock")]
    engine: transport::Address,
    /// What to log: error, warn, info, debug, trace, or a filter such as `davit_build=debug`.
    #[arg(long, default_value = "info")]
    log_level: EnvFilter,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    tracing_subscriber::fmt().with_env_filter(args.log_level).with_writer(std::io::stderr).init();
    let transport::Address::Unix(socket) = args.listen else {
        anyhow::bail!("only unix:// addresses can be listened on");
    };
    let engine = transport::dial_later(&args.engine);
    let service =
        davit_build::service(davit_build::Config { root: args.root, run: args.run, engine }).await?;
    let routes = transport::with_standard(Routes::new(service), davit_build::SERVICES).await?;
    if let Some(folder) = socket.parent() {
        let mut private = std::fs::DirBuilder::new();
        let made = private.recursive(true).mode(0o700).create(folder);
        made.with_context(|| format!("creating {}", folder.display()))?;
    }
    let listener =
        transport::bind_unix(&socket).with_context(|| format!("listening on {}", socket.display()))?;
    tracing::info!(socket = %socket.display(), "serving builds");
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    };
    transport::serve_unix(listener, routes, stop).await?;
    Ok(())
}
