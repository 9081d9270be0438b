//! `davit-image`: the image service on a socket of its own.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use davit_proto::transport;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// The image service of davit: content, references, layers, registries.
#[derive(Debug, Parser)]
#[command(name = "davit-image", version)]
struct Args {
    /// Folder of the engine's lasting state.
    #[arg(long, default_value = "/var/lib/davit")]
    root: PathBuf,
    /// Socket to serve on.
    #[arg(long, default_value = "unix:///run/davit/image.sock")]
    listen: transport::Address,
    /// Registry (`host[:port]`) or network (`10.0.0.0/8`) that may answer without a valid certificate or in clear.
    #[arg(long, value_name = "REGISTRY")]
    insecure_registry: Vec<String>,
    /// URL that is asked before Docker Hub.
    #[arg(long, value_name = "URL")]
    registry_mirror: Vec<String>,
    /// What is collected by itself.
    #[command(flatten)]
    gc: davit_image::gc::policy::Settings,
    /// What to log: error, warn, info, debug, trace, or a filter such as `davit_image=debug`.
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
        for name in davit_image::failpoint::ALL {
            writeln!(std::io::stdout(), "{name}")?;
        }
        return Ok(());
    }
    tracing_subscriber::fmt().with_env_filter(args.log_level).with_writer(std::io::stderr).init();
    if let Some(text) =
        davit_failpoint::load(davit_image::failpoint::ALL, |name| !name.starts_with("image."))?
    {
        tracing::warn!(%text, "failpoints are set");
    }
    let transport::Address::Unix(socket) = args.listen else {
        anyhow::bail!("only unix:// addresses can be listened on");
    };
    let hub = davit_image::reference::DEFAULT_DOMAIN.to_owned();
    let routes = davit_image::routes(davit_image::Config {
        root: args.root,
        insecure_registries: args.insecure_registry,
        registry_mirrors: BTreeMap::from([(hub, args.registry_mirror)]),
        gc: args.gc,
    });
    let routes = transport::with_standard(routes.await?, davit_image::SERVICES).await?;
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
    tracing::info!(socket = %socket.display(), "serving images");
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    };
    transport::serve_unix(listener, routes, stop).await?;
    Ok(())
}
