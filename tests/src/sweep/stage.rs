//! Where a sweep takes place: an engine with a registry and a canary, and what is there when nothing is left.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::Result;

use super::canary::Canary;
use super::operation::{Operation, Target};
use crate::engine::{Engine, Services};
use crate::left;
use crate::registry::Registry;
use crate::store::Store;
use crate::wait::{DEADLINE, until};

/// Long enough that `strace` comes to a shim before it begins.
const WAITS: &str = "create.launched=delay:700";

/// All of it.
#[derive(Debug)]
pub struct Stage {
    /// The engine.
    pub engine: Engine,
    canary: Canary,
    before: BTreeSet<String>,
    _registry: Registry,
}

impl Stage {
    /// Sets it.
    ///
    /// # Errors
    /// When the engine, the registry or an image cannot be made.
    pub fn set() -> Result<Self> {
        let engine = Engine::start_with(Services::Embedded, &[])?;
        engine.load_busybox()?;
        let registry = Registry::start(engine.host())?;
        Operation::set_stage(&engine, &registry)?;
        let _nothing = left::nothing(&engine);
        let canary = Canary::new(&engine);
        let mut stage = Self { engine, canary, before: BTreeSet::new(), _registry: registry };
        // What the first build makes stays.
        assert_eq!(Operation::Build.ask(&stage.engine).code, 0, "build once");
        Operation::Build.undo(&stage.engine);
        stage.engine.agree(DEADLINE);
        stage.before = until("the stage is quiet", || {
            let once = stage.there();
            (once == stage.there()).then_some(once)
        });
        Ok(stage)
    }

    /// Makes it ready for an operation whose calls are counted or fail.
    ///
    /// # Errors
    /// When the engine does not come up.
    pub fn prepare(&mut self, operation: Operation, target: Target) -> Result<()> {
        operation.make_ready(&self.engine);
        if target == Target::Shim {
            self.engine.end_controller()?;
            self.engine.start_controller_at(WAITS)?;
        }
        Ok(())
    }

    /// Host-wide process ids of shims and inits, the canary's not among them.
    #[must_use]
    pub fn shims(&self) -> Vec<u32> {
        let canary = self.engine.field("canary", "{{.Id}}");
        self.shims_but(&canary)
    }

    /// The same, without asking the engine.
    #[must_use]
    pub fn shims_but(&self, canary: &str) -> Vec<u32> {
        let is_one = |pid: &u32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            line.starts_with("davit-shim") && !line.contains(canary)
        };
        self.engine.host().adopted().into_iter().filter(is_one).collect()
    }

    /// Starts the engine anew.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn restart(&mut self) -> Result<()> {
        self.engine.end_controller()?;
        self.engine.start_controller()
    }

    /// Everybody tells the same, and the canary has not noticed.
    ///
    /// # Panics
    /// When it is not so.
    pub fn agrees(&self) {
        self.engine.agree(DEADLINE);
        self.canary.sings(&self.engine);
    }

    /// The same, and what was there before is there and whole.
    ///
    /// # Panics
    /// When it is not.
    pub fn is_whole(&self, operation: Operation) {
        self.agrees();
        assert_eq!(self.engine.ok(["run", "--rm", "busybox", "echo", "works"]).stdout, "works\n");
        if operation.is_of_images() {
            let image = self.engine.root().join("image");
            Store::at(image).verify().expect("what is kept of images is whole");
        }
    }

    /// Nothing is there that was not there before.
    ///
    /// # Panics
    /// When there is, with what it is.
    pub fn nothing_is_left(&self) {
        let mut last = Vec::new();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until("nothing is left", || {
                last = self.there().symmetric_difference(&self.before).cloned().collect();
                last.is_empty().then_some(())
            });
        }));
        assert!(outcome.is_ok(), "left or lost: {last:#?}\n{}", self.engine.end_of_log());
    }

    /// The canary is heard to its end.
    ///
    /// # Panics
    /// When something of it is wrong.
    pub fn end(self) {
        self.canary.end(&self.engine);
    }

    fn there(&self) -> BTreeSet<String> {
        let mut there = left::of(&self.engine);
        let root = self.engine.root();
        for folder in ["", "containers", "trash", "image", "image/use", "image/ingest", "image/layers"] {
            there.extend(names(&root, folder));
        }
        for folder in ["image/blobs", "image/blobs/sha256", "network", "network/.lease", "volume", "build"] {
            there.extend(names(&root, folder));
        }
        // A download that was cut off is gone on with.
        there.retain(|path| !path.ends_with(".part"));
        for entry in fs::read_dir(root.join("containers")).into_iter().flatten().flatten() {
            there.extend(names(&entry.path(), ""));
        }
        there.extend(names(&self.engine.run_dir(), ""));
        let mounts = fs::read_to_string(self.engine.host().seen_at("/proc/1/mounts")).unwrap_or_default();
        there.extend(mounts.lines().map(|mount| format!("mount {mount}")));
        there
    }
}

fn names(root: &Path, folder: &str) -> Vec<String> {
    let entries = fs::read_dir(root.join(folder)).into_iter().flatten().flatten();
    entries.map(|entry| entry.path().display().to_string()).collect()
}
