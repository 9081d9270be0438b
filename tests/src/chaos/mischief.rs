//! What goes wrong during a storm.

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use rustix::fs::{FallocateFlags, fallocate};

use super::Counts;
use crate::chance::Chance;
use crate::engine::Engine;
use crate::registry::Registry;

/// A kind of mischief.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The controller, or one of the services, is killed and started again.
    Engine,
    /// A shim is killed, and with it its container.
    Shim,
    /// The engine's disk is full for a moment.
    Disk,
    /// The registry stops for a moment.
    Registry,
    /// The registry gives out wrong bytes for a moment.
    Lie,
}

/// Who does it.
#[derive(Debug)]
pub struct Mischief {
    chance: Chance,
    registry: Registry,
    /// Processes that may be killed and are started again.
    victims: Vec<&'static str>,
    /// What this storm has.
    kinds: Vec<Kind>,
    /// Whether the disk was ever full.
    filled: bool,
    /// Whether shims were killed in this storm.
    shims: bool,
}

impl Mischief {
    /// Against this engine.
    ///
    /// # Errors
    /// When the registry has no blobs.
    pub fn new(engine: &Engine, registry: Registry, seed: u64) -> Result<Self> {
        let mut victims = vec!["davitd"];
        victims.extend(engine.service_names());
        anyhow::ensure!(!blobs(&registry).is_empty(), "the registry has no blobs");
        Ok(Self {
            chance: Chance::new(!seed),
            registry,
            victims,
            kinds: Vec::new(),
            filled: false,
            shims: false,
        })
    }

    /// What the next storm has: kills of the engine, and two more kinds.
    pub fn choose(&mut self) {
        let kinds = [Kind::Shim, Kind::Disk, Kind::Registry, Kind::Lie, Kind::Engine];
        self.kinds = vec![Kind::Engine, self.chance.of(&kinds), self.chance.of(&kinds)];
        self.shims = false;
        eprintln!("a storm of {:?}", self.kinds);
    }

    /// Whether shims were killed in the storm that was.
    #[must_use]
    pub fn killed_shims(&self) -> bool {
        self.shims
    }

    /// Whether the disk was ever full.
    #[must_use]
    pub fn filled(&self) -> bool {
        self.filled
    }

    /// Something goes wrong, and is right again at the end of it.
    ///
    /// # Panics
    /// When it cannot be done or undone.
    pub fn once(&mut self, engine: &mut Engine, counts: &mut Counts) {
        std::thread::sleep(self.chance.millis(1500));
        let kind = self.chance.of(&self.kinds);
        match kind {
            Kind::Engine => {
                let victim = self.chance.of(&self.victims);
                engine.kill(victim).expect("kill a process of the engine");
                std::thread::sleep(self.chance.millis(300));
                engine.start_process(victim).expect("start a process of the engine");
                *(if victim == "davitd" { &mut counts.kills } else { &mut counts.services }) += 1;
            }
            Kind::Shim => {
                let shims = engine.processes_with("davit-shim serve");
                if !shims.is_empty() {
                    self.shims = true;
                    // It may have ended by itself.
                    let _ = engine.kill_on_host(&self.chance.of(&shims).to_string());
                    counts.shims += 1;
                }
            }
            Kind::Disk => {
                self.fill(engine);
                counts.fills += 1;
            }
            Kind::Registry => {
                let pid = self.registry.pid().to_string();
                signal("STOP", &pid);
                std::thread::sleep(self.chance.millis(2000));
                signal("CONT", &pid);
                counts.stops += 1;
            }
            Kind::Lie => {
                self.lie();
                counts.lies += 1;
            }
        }
    }

    /// Starts the engine anew with a failpoint set.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn set(&mut self, engine: &mut Engine, failpoint: &str) -> Result<()> {
        // A shim that fails takes its container along.
        self.shims = failpoint.starts_with("shim.");
        // What a shim says of an end is then missing as it is on a full disk.
        self.filled |= self.shims;
        engine.kill_controller()?;
        engine.start_controller_at(failpoint)
    }

    /// Starts the engine anew without one.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn unset(&mut self, engine: &mut Engine) -> Result<()> {
        engine.end_controller()?;
        engine.start_controller()
    }

    /// Starts the engine again, when it ended by itself, with nothing set.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn mend(&mut self, engine: &mut Engine, counts: &mut Counts) {
        if engine.has_ended("davitd") {
            self.unset(engine).expect("start the engine");
            counts.ends += 1;
        }
    }

    /// Takes all the room that the engine's disk has, for a moment.
    fn fill(&mut self, engine: &Engine) {
        let ballast = engine.seen_root().join("ballast");
        let file = File::create(&ballast).expect("make the ballast");
        let mut taken = 0;
        // Until there is no room even for little.
        for piece in [64 << 20, 1 << 20, 4096] {
            while fallocate(&file, FallocateFlags::empty(), taken, piece).is_ok() {
                taken += piece;
            }
        }
        std::thread::sleep(Duration::from_millis(500) + self.chance.millis(1500));
        drop(file);
        fs::remove_file(&ballast).expect("remove the ballast");
        self.filled = true;
    }

    /// One blob has other bytes for a moment.
    fn lie(&mut self) {
        let blob = self.chance.of(&blobs(&self.registry));
        let right = fs::read(&blob).expect("read a blob");
        let mut wrong = right.clone();
        let at = usize::try_from(self.chance.below(wrong.len() as u64)).unwrap_or_default();
        wrong[at] ^= 0x55;
        fs::write(&blob, wrong).expect("spoil a blob");
        std::thread::sleep(self.chance.millis(2000));
        fs::write(&blob, right).expect("mend a blob");
    }
}

fn signal(signal: &str, pid: &str) {
    let sent = std::process::Command::new("kill").args([&format!("-{signal}"), pid]).status();
    assert!(sent.is_ok_and(|status| status.success()), "kill -{signal} {pid}");
}

/// Files of the registry's blobs.
fn blobs(registry: &Registry) -> Vec<PathBuf> {
    let entries = |folder: PathBuf| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let prefixes = entries(registry.data().join("blobs/sha256"));
    let mut blobs: Vec<PathBuf> =
        prefixes.into_iter().flat_map(entries).map(|blob| blob.join("data")).collect();
    blobs.sort();
    blobs
}
