//! Chaos: many containers, several clients that do all that people do, and meanwhile the engine, its services and shims are
//! killed, the disk is filled, and the registry stops or gives out wrong bytes. After each storm there is a calm, in which
//! everything is judged.
//!
//! ```text
//! storm: clients ask at random ── what was answered is what they believe
//!        mischief at random
//! calm:  mischief ends, everything settles
//!        verdict: what is there against what is believed, logs, lives, events, network, images
//! ```
//!
//! What is asked and done follows from a seed. What comes of it does not: two runs with one seed are alike, not equal.

mod client;
mod mischief;
mod verdict;
mod witness;

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::chance::Chance;
use crate::disk;
use crate::engine::{Engine, Services};
use crate::host::Host;
use crate::image::{Compression, Layout, append, busybox_layer, many_files};
use crate::left;
use crate::recipe::Recipe;
use crate::registry::Registry;
use crate::wait::until;
use client::Client;
use mischief::Mischief;
use witness::Witness;

/// Networks that containers are on.
const NETWORKS: [&str; 3] = ["bridge", "one", "two"];
/// The image that is pulled and removed all the time.
const PULLED: &str = "127.0.0.1:5000/chaos:latest";
/// MiB of the engine's disk.
const DISK: u64 = 1024;
/// How long everything may take to settle after a storm.
const CALM: Duration = Duration::from_secs(120);

/// How much of it.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// What happens follows from it.
    pub seed: u64,
    /// How many containers there may be.
    pub containers: usize,
    /// How many ask at once.
    pub clients: usize,
    /// At least so many storms.
    pub storms: usize,
    /// No storm begins after this.
    pub time: Duration,
    /// How long a storm is.
    pub storm: Duration,
    /// How the services run.
    pub services: Services,
}

/// What came of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Storms.
    pub storms: usize,
    /// What was asked.
    pub asked: usize,
    /// What of it was granted.
    pub granted: usize,
    /// What of it a kill cut off.
    pub cut: usize,
    /// Kills of processes.
    pub kills: usize,
    /// Times that the disk was full.
    pub fills: usize,
    /// Times that the registry stopped or lied.
    pub lies: usize,
    /// Lines of logs that were read.
    pub lines: usize,
}

/// Runs storms, each with its calm.
///
/// # Errors
/// When the stage cannot be set.
///
/// # Panics
/// When an invariant is broken, with what and where.
pub fn run(settings: Settings) -> Result<Counts> {
    let host = Host::new()?;
    let root = host.folder().join("root");
    disk::small(&host, DISK, &root)?;
    let mut engine = Engine::start_on(host, settings.services, &[])?;
    let _log =
        std::env::var_os("DAVIT_TEST_KEEP").map(|to| Kept { log: engine.log("davitd"), to: to.into() });
    engine.load_busybox()?;
    let registry = Registry::start(engine.host())?;
    let sum = publish(&engine, &registry)?;
    let before = left::nothing(&engine);
    for network in &NETWORKS[1..] {
        engine.ok(["network", "create", network]);
    }
    let witness = Witness::new(engine.host())?;
    let mut clients: Vec<Client> =
        (0..settings.clients).map(|number| Client::new(number, &settings, &witness)).collect();
    let mut mischief = Mischief::new(&engine, registry, settings.seed)?;
    let mut counts = Counts::default();
    let begun = Instant::now();
    while counts.storms < settings.storms || begun.elapsed() < settings.time {
        storm(&mut engine, &mut clients, &mut mischief, &settings, &mut counts);
        mischief.end(&engine);
        engine.agree(CALM);
        verdict::judge(&engine, &mut clients, &witness, &mischief, &mut counts);
        verdict::pulled(&engine, &sum);
        counts.storms += 1;
        eprintln!("storm {}: {counts:?}", counts.storms);
    }
    clear(&engine);
    left::settle(&engine, &before, "chaos");
    Ok(counts)
}

/// Where the engine's log goes when something is wrong: all of it is too much to print.
struct Kept {
    log: PathBuf,
    to: PathBuf,
}

impl Drop for Kept {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Err(error) = fs::copy(&self.log, &self.to)
        {
            eprintln!("keep the engine's log at {}: {error}", self.to.display());
        }
    }
}

/// The image that is pulled: busybox and a file that is known; answers with that file's digest.
fn publish(engine: &Engine, registry: &Registry) -> Result<String> {
    use sha2::{Digest as _, Sha256};
    let folder = engine.host().folder().join("published");
    let mut layout = Layout::new(folder.clone())?;
    layout.layer(&busybox_layer()?, Compression::Gzip)?;
    let known: Vec<u8> = {
        let mut chance = Chance::new(1);
        (0..64 << 10).flat_map(|_| chance.number().to_le_bytes()).collect()
    };
    let mut archive = tar::Builder::new(Vec::new());
    append(&mut archive, "known", tar::EntryType::Regular, 0o644, &known)?;
    layout.layer(&archive.into_inner()?, Compression::Gzip)?;
    layout.layer(&many_files(7, 300, 200_000)?, Compression::Gzip)?;
    layout.finish("latest", &serde_json::json!({"Cmd": ["/bin/busybox", "sha256sum", "/known"]}))?;
    registry.push_layout(engine.host(), &folder, "latest", "chaos:latest")?;
    Ok(hex::encode(Sha256::digest(&known)))
}

/// Clients ask and mischief is done until the time is over.
fn storm(
    engine: &mut Engine,
    clients: &mut [Client],
    mischief: &mut Mischief,
    settings: &Settings,
    counts: &mut Counts,
) {
    let davit = Recipe::davit(engine);
    let (over, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let wanted = clients.len();
    std::thread::scope(|scope| {
        for client in clients.iter_mut() {
            let (davit, over, done) = (davit.clone(), &over, &done);
            scope.spawn(move || {
                // A client that found a fault must not keep the storm from ending.
                let _done = Count(done);
                client.play(&davit, over);
            });
        }
        mischief.choose();
        let begun = Instant::now();
        while begun.elapsed() < settings.storm {
            mischief.once(engine, counts);
        }
        over.store(true, Ordering::SeqCst);
        // Who waits for an engine needs one.
        mischief.end(engine);
        until("the clients have what they asked for", || {
            (done.load(Ordering::SeqCst) == wanted).then_some(())
        });
    });
    for client in clients {
        client.count(counts);
    }
}

/// Counts also what ends by a panic.
struct Count<'a>(&'a AtomicUsize);

impl Drop for Count<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn clear(engine: &Engine) {
    let ids = engine.ok(["ps", "-a", "-q"]).stdout;
    if !ids.trim().is_empty() {
        engine.ok(["rm", "-f", "-v"].into_iter().chain(ids.split_whitespace()));
    }
    engine.ok(["network", "rm", "one", "two"]);
    engine.ok(["volume", "prune", "-a", "-f"]);
    let witnesses = engine.host().folder().join("witness");
    if let Err(error) = fs::remove_dir_all(&witnesses) {
        eprintln!("remove {}: {error}", witnesses.display());
    }
}
