//! `davit-volume-loop`: a driver of volumes, and an example of one. Each volume is a file with a file system in it, so
//! that its size is a hard limit on any host; it is mounted through a loop device while somebody holds it.
//!
//! ```text
//! <root>/
//!   .lock                 held while the driver runs
//!   .new-<hex>  .trash-<hex>  half made, half removed: swept at start
//!   <name>/volume.json    the record
//!   <name>/image          the file system
//!   <name>/holders/<engine>.<id>  who holds it; the file is the hold
//!   <name>/data/          where it is mounted
//! ```
//!
//! The kernel takes a loop device apart with its last user, and the mount table says what is mounted: so a kill at any
//! moment leaves nothing that the next call or the next start does not find.

mod api;
mod error;
mod image;
mod make;
mod store;

use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use davit_proto::transport;
use davit_proto::volume_driver::driver_server::DriverServer;
use tokio::signal::unix::{SignalKind, signal};
use tonic::service::Routes;
use tracing_subscriber::EnvFilter;

/// A driver of volumes for davit: each volume is an image file with ext4 or xfs, whose size is a hard limit.
#[derive(Debug, Parser)]
#[command(name = "davit-volume-loop", version)]
struct Args {
    /// Folder of the images
    #[arg(long, default_value = "/var/lib/davit-volume-loop")]
    root: PathBuf,
    /// Socket to serve on
    #[arg(long, default_value = "unix:///run/davit-volume-loop/driver.sock")]
    listen: transport::Address,
    /// What to log: error, warn, info, debug, trace, or a filter
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
    let store = store::Store::open(&args.root)?;
    let routes = Routes::new(DriverServer::new(api::Api::new(store)));
    let routes = transport::with_standard(routes, &["davit.volume.driver.v1.Driver"]).await?;
    if let Some(folder) = socket.parent() {
        let mut private = std::fs::DirBuilder::new();
        let made = private.recursive(true).mode(0o700).create(folder);
        made.with_context(|| format!("creating {}", folder.display()))?;
    }
    let listener = transport::bind_unix(&socket);
    let listener = listener.with_context(|| format!("listening on {}", socket.display()))?;
    tracing::info!(socket = %socket.display(), root = %args.root.display(), "serving volumes in image files");
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    };
    transport::serve_unix(listener, routes, stop).await?;
    Ok(())
}
