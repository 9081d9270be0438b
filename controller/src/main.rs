//! davitd: reads its settings, opens the engine, serves the API. Containers do not notice when it ends.

use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use davit_controller::config::{Config, Flags};
use davit_controller::{failpoint, notify, pool, rest, serve};
use davit_proto::transport::{self, Peers};
use davit_sys::resident;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// How long calls may take to end once the engine stops.
const GRACE: Duration = Duration::from_secs(3);
/// Heaps for all threads: more would be faster only for who does nothing else than to allocate.
const HEAPS: i32 = 2;

fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    if flags.list_failpoints {
        for name in failpoint::all() {
            use std::io::Write as _;
            writeln!(std::io::stdout(), "{name}")?;
        }
        return Ok(());
    }
    let config = Config::load(flags)?;
    anyhow::ensure!(
        rustix::process::geteuid().is_root(),
        "davitd must run as root: it makes namespaces, mounts and bridges"
    );
    let filter = EnvFilter::try_new(&config.log_level).context("invalid --log-level")?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    failpoint::load()?;
    resident::limit_heaps(HEAPS);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(config))?;
    // What still works on files may take a moment; what it does is found again at the next start.
    runtime.shutdown_timeout(Duration::from_secs(2));
    Ok(())
}

async fn run(config: Config) -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (socket, instance) = (config.listen.clone(), config.instance.clone());
    let peers = if config.group.is_some() { Peers::WhoeverConnects } else { Peers::OurUser };
    let opened = serve::open(config).await?;
    let routes = transport::with_standard(serve::with_builds(&opened.engine).await?, serve::SERVICES).await?;
    tokio::spawn(rest::rest());
    tracing::info!(socket = %socket.display(), instance, "serving");
    // The socket listens: whoever calls from now on is answered.
    if let Err(error) = notify::ready() {
        tracing::warn!(%error, "systemd could not be told that the engine is ready");
    }
    let (stopping, mut stopped) = tokio::sync::watch::channel(());
    let stop = async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        tracing::info!("stopping; containers run on");
        drop(stopping);
    };
    // Streams that follow something never end by themselves; whoever reads them dials again and resumes.
    let overdue = async {
        while stopped.changed().await.is_ok() {}
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        served = transport::serve_unix_to(peers, opened.listener, routes, stop) => served?,
        () = overdue => {}
    }
    if tokio::time::timeout(GRACE, pool::close(&opened.engine)).await.is_err() {
        tracing::warn!(
            "prepared shims did not end in time; what is left of them is cleared at the next start"
        );
    }
    if let Err(error) = opened.engine.store.sync().await {
        tracing::error!(%error, "the store was not synced at the end");
    }
    Ok(())
}
