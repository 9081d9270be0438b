//! A scene for hostile images and requests: an engine, beside it a canary, a file of the host that must not change,
//! which holds a secret that must not be seen inside.

use std::cell::Cell;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::engine::{Answer, Engine};
use crate::image::{Compression, Layout, append, busybox_layer};

/// What the canary holds, and nobody inside may see.
pub const SECRET: &str = "never-to-be-seen-inside-4711";

/// An engine with a canary and a secret beside it.
#[derive(Debug)]
pub struct Scene {
    /// The engine.
    pub engine: Engine,
    number: Cell<u32>,
}

/// One entry of an image's last layer.
#[derive(Debug, Clone, Copy)]
pub enum Entry<'a> {
    /// A link and where it leads.
    Link(&'a str, &'a str),
    /// A program and its text.
    File(&'a str, &'a str),
    /// A folder.
    Folder(&'a str),
    /// A pipe with a name.
    Fifo(&'a str),
}

impl Entry<'_> {
    fn append(self, tar: &mut tar::Builder<Vec<u8>>) -> Result<()> {
        match self {
            Entry::File(path, text) => append(tar, path, tar::EntryType::Regular, 0o755, text.as_bytes()),
            Entry::Folder(path) => append(tar, path, tar::EntryType::Directory, 0o755, b""),
            Entry::Fifo(path) => append(tar, path, tar::EntryType::Fifo, 0o666, b""),
            Entry::Link(path, target) => {
                // A folder of the layer below is not replaced by a link of the same name, but after a whiteout.
                let (parent, leaf) = path.rsplit_once('/').unwrap_or(("", path));
                let whiteout = format!("{parent}/.wh.{leaf}");
                append(tar, whiteout.trim_start_matches('/'), tar::EntryType::Regular, 0o644, b"")?;
                let mut header = tar::Header::new_gnu();
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_size(0);
                header.set_mode(0o777);
                Ok(tar.append_link(&mut header, path, target)?)
            }
        }
    }
}

impl Scene {
    /// Sets it.
    ///
    /// # Panics
    /// When the engine does not come up.
    #[must_use]
    pub fn new() -> Self {
        let engine = Engine::start().expect("start an engine");
        let scene = Self { engine, number: Cell::new(0) };
        let outside = scene.engine.host().folder().join("outside");
        fs::create_dir(outside).expect("make the canary's folder");
        fs::write(scene.canary(), SECRET).expect("write the canary");
        scene
    }

    /// The file that must not change. It is alone in its folder.
    #[must_use]
    pub fn canary(&self) -> PathBuf {
        self.engine.host().folder().join("outside/canary")
    }

    /// Loads an image of busybox with more in it; answers with its name.
    ///
    /// # Panics
    /// When it cannot be made or loaded.
    pub fn image(&self, config: &Value, entries: &[Entry<'_>]) -> String {
        self.number.set(self.number.get() + 1);
        let name = format!("hostile:{}", self.number.get());
        self.load(&name, config, entries).expect("make a hostile image");
        name
    }

    fn load(&self, name: &str, config: &Value, entries: &[Entry<'_>]) -> Result<()> {
        let folder = self.engine.host().folder().join(format!("layout{}", self.number.get()));
        let mut layout = Layout::new(folder.clone())?;
        layout.layer(&busybox_layer()?, Compression::None)?;
        let mut tar = tar::Builder::new(Vec::new());
        for entry in entries {
            entry.append(&mut tar)?;
        }
        layout.layer(&tar.into_inner()?, Compression::None)?;
        layout.finish(name, config)?;
        let archive = self.engine.host().folder().join("image.tar");
        let packed = Command::new("tar").arg("-C").arg(&folder).arg("-cf").arg(&archive).arg(".").status();
        anyhow::ensure!(packed.context("start tar")?.success(), "pack {}", folder.display());
        self.engine.ok(["load", "-q", "-i", &archive.display().to_string()]);
        Ok(())
    }

    /// Runs a container to its end and looks after canary and secret.
    ///
    /// # Panics
    /// When the one changed or the other was seen.
    pub fn run(&self, words: &[&str]) -> Answer {
        let answer = self.engine.davit(["run", "--rm"].iter().chain(words).copied());
        assert!(!answer.stdout.contains(SECRET), "the secret was seen: {words:?} {answer:?}");
        let canary = fs::read_to_string(self.canary()).expect("read the canary");
        assert_eq!(canary, SECRET, "the canary changed: {words:?}");
        answer
    }

    /// It must be the engine that refuses, with one clear sentence.
    ///
    /// # Panics
    /// When it does not, or leaves something.
    pub fn refused(&self, words: &[&str], with: &str) {
        let answer = self.run(words);
        assert_eq!(answer.code, 125, "{words:?}: {answer:?}");
        assert!(answer.stderr.contains(with), "{words:?}: {with:?} in {answer:?}");
        let left = self.engine.ok(["ps", "-a"]).stdout;
        assert_eq!(left.lines().count(), 1, "{words:?} left something: {left}\n{}", self.engine.end_of_log());
    }
}

impl Default for Scene {
    fn default() -> Self {
        Self::new()
    }
}
