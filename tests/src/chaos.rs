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

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::chance::Chance;
use crate::disk;
use crate::engine::{Engine, Services, binaries};
use crate::host::Host;
use crate::image::{Compression, Layout, append, busybox_layer, many_files};
use crate::left;
use crate::recipe::Recipe;
use crate::registry::Registry;
use client::Client;
use mischief::Mischief;
use verdict::Verdict;
use witness::Witness;

/// Networks that containers are on.
const NETWORKS: [&str; 3] = ["bridge", "one", "two"];
/// The image that is pulled and removed all the time.
const PULLED: &str = "127.0.0.1:5000/chaos:latest";
/// MiB of the engine's disk.
const DISK: u64 = 1024;
/// How often it is looked whether an engine ended.
const TICK: Duration = Duration::from_millis(50);
/// How long what is asked at the end of a storm may take; what hangs is told sooner, by who asked.
const ANSWERS: Duration = Duration::from_secs(300);
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
    /// How many shims of a kind are prepared ahead at most.
    pub pool: usize,
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
    /// Kills of the controller.
    pub kills: usize,
    /// Kills of services.
    pub services: usize,
    /// Kills of shims.
    pub shims: usize,
    /// Times that the disk was full.
    pub fills: usize,
    /// Times that the registry stopped for a moment.
    pub stops: usize,
    /// Times that the registry gave out wrong bytes.
    pub lies: usize,
    /// Ends of the engine at a failpoint.
    pub ends: usize,
    /// Lines of logs that were read.
    pub lines: usize,
    /// Events that were compared.
    pub events: usize,
}

/// The engine, those who ask it, and who works against it.
struct Stage {
    engine: Engine,
    clients: Vec<Client>,
    mischief: Mischief,
    witness: Witness,
    verdict: Verdict,
    counts: Counts,
    /// Digest of what the image that is pulled holds.
    sum: String,
    /// What the engine had before anybody asked for anything.
    before: BTreeSet<String>,
    _log: Option<Kept>,
}

impl Stage {
    fn set(settings: &Settings) -> Result<Self> {
        let host = Host::new()?;
        let root = host.folder().join("root");
        disk::small(&host, DISK, &root)?;
        let mut engine = Engine::start_on(host, settings.services, &[])?;
        let kept = std::env::var_os("DAVIT_TEST_KEEP");
        let _log = kept.map(|to| Kept { log: engine.log("davitd"), to: to.into() });
        engine.load_busybox()?;
        let registry = Registry::start(engine.host())?;
        let sum = publish(&engine, &registry)?;
        let before = left::nothing(&engine);
        set_pool(&mut engine, settings.pool)?;
        for network in &NETWORKS[1..] {
            engine.ok(["network", "create", network]);
        }
        let witness = Witness::new(engine.host())?;
        let clients = (0..settings.clients).map(|number| Client::new(number, settings, &witness)).collect();
        let mischief = Mischief::new(&engine, registry, settings.seed)?;
        let (verdict, counts) = (Verdict::default(), Counts::default());
        Ok(Self { engine, clients, mischief, witness, verdict, counts, sum, before, _log })
    }

    /// Clients ask and mischief is done until the time is over.
    fn storm(&mut self, time: Duration, mut mischief: impl FnMut(&mut Mischief, &mut Engine, &mut Counts)) {
        let davit = Recipe::davit(&self.engine);
        let (over, done) = (AtomicBool::new(false), AtomicUsize::new(0));
        let wanted = self.clients.len();
        std::thread::scope(|scope| {
            for client in &mut self.clients {
                let (davit, over, done) = (davit.clone(), &over, &done);
                scope.spawn(move || {
                    // A client that found a fault must not keep the storm from ending.
                    let _done = Count(done);
                    client.play(&davit, over);
                });
            }
            let begun = Instant::now();
            while begun.elapsed() < time {
                mischief(&mut self.mischief, &mut self.engine, &mut self.counts);
            }
            over.store(true, Ordering::SeqCst);
            // Who waits for an engine needs one, also one that ends once more.
            let begun = Instant::now();
            while done.load(Ordering::SeqCst) < wanted {
                assert!(begun.elapsed() < ANSWERS, "the clients wait for what they asked for");
                self.mischief.mend(&mut self.engine, &mut self.counts);
                std::thread::sleep(TICK);
            }
        });
        for client in &mut self.clients {
            client.count(&mut self.counts);
        }
    }

    /// Everything settles, and is judged.
    fn calm(&mut self) {
        self.engine.wait_until_it_answers();
        self.engine.agree(CALM);
        self.verdict.judge(&self.engine, &mut self.clients, &self.witness, &self.mischief, &mut self.counts);
        verdict::pulled(&self.engine, &self.sum);
        verdict::kept(&self.engine, CALM);
        self.counts.storms += 1;
        eprintln!("storm {}: {:?}", self.counts.storms, self.counts);
    }

    /// Everything is removed, and nothing stays.
    fn clear(mut self) -> Result<Counts> {
        set_pool(&mut self.engine, 0)?;
        let Self { engine, before, counts, .. } = &self;
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
        left::settle(engine, before, "chaos");
        verdict::no_images(engine);
        Ok(*counts)
    }
}

/// From here on an engine prepares so many shims of a kind at most.
fn set_pool(engine: &mut Engine, most: usize) -> Result<()> {
    engine.set_pool(most);
    engine.end_controller()?;
    engine.start_controller()
}

/// Runs storms, each with its calm.
///
/// # Errors
/// When the stage cannot be set.
///
/// # Panics
/// When an invariant is broken, with what and where.
pub fn run(settings: Settings) -> Result<Counts> {
    let mut stage = Stage::set(&settings)?;
    let begun = Instant::now();
    while stage.counts.storms < settings.storms || begun.elapsed() < settings.time {
        stage.mischief.choose();
        stage.storm(settings.storm, Mischief::once);
        stage.calm();
    }
    stage.clear()
}

/// Runs a storm for each of these settings of failpoints, such as `create.intent=abort`, in which nothing else goes wrong.
///
/// # Errors
/// When the stage cannot be set.
///
/// # Panics
/// When an invariant is broken, with what and where.
pub fn sweep(settings: Settings, failpoints: &[String]) -> Result<Counts> {
    let mut stage = Stage::set(&settings)?;
    for failpoint in failpoints {
        eprintln!("a storm of {failpoint}");
        stage.mischief.set(&mut stage.engine, failpoint)?;
        stage.storm(settings.storm, |mischief, engine, counts| {
            std::thread::sleep(TICK);
            mischief.mend(engine, counts);
        });
        stage.mischief.unset(&mut stage.engine)?;
        stage.calm();
    }
    stage.clear()
}

/// Every failpoint that the programs list, with all that it can do.
///
/// # Errors
/// When a program cannot be asked.
pub fn failpoints(seed: u64) -> Result<Vec<String>> {
    let mut chance = Chance::new(seed);
    let mut all = Vec::new();
    for program in ["davitd", "davit-shim"] {
        let listed = Command::new(binaries().join(program)).arg("--list-failpoints").output()?;
        anyhow::ensure!(listed.status.success(), "{program} --list-failpoints: {listed:?}");
        for name in String::from_utf8_lossy(&listed.stdout).lines() {
            // A shim passes most of its points once, an engine each of its own again and again.
            let which = if program == "davitd" { format!("@{}", 1 + chance.below(3)) } else { String::new() };
            all.push(format!("{name}=error{which}"));
            all.push(format!("{name}=abort{which}"));
            all.push(format!("{name}=delay:{}", 100 + chance.below(400)));
        }
    }
    Ok(all)
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

/// Counts also what ends by a panic.
struct Count<'a>(&'a AtomicUsize);

impl Drop for Count<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}
