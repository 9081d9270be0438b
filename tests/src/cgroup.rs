//! A container's cgroup as the host's files show it, wherever the host keeps limits.

use std::fs;
use std::path::{Path, PathBuf};

use crate::engine::Engine;

/// Where the host keeps limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hierarchy {
    /// In v1 hierarchies, one a controller.
    Legacy,
    /// In the unified one.
    Unified,
}

impl Hierarchy {
    /// What this host has.
    #[must_use]
    pub fn of_this_host() -> Self {
        let unified = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
        if unified.split_whitespace().any(|c| c == "memory") { Self::Unified } else { Self::Legacy }
    }
}

/// One cgroup, in every hierarchy.
#[derive(Debug)]
pub struct Cgroup {
    hierarchy: Hierarchy,
    path: String,
}

impl Cgroup {
    /// The cgroup of a container below the engine's own.
    #[must_use]
    pub fn of(engine: &Engine, container_id: &str) -> Self {
        Self::at(&format!("/{}/{container_id}", engine.host().name()))
    }

    /// The cgroup at a path from the root of each hierarchy.
    #[must_use]
    pub fn at(path: &str) -> Self {
        Self { hierarchy: Hierarchy::of_this_host(), path: path.trim_start_matches('/').to_owned() }
    }

    /// Where its limits are.
    #[must_use]
    pub fn hierarchy(&self) -> Hierarchy {
        self.hierarchy
    }

    /// The controller is the first part of a file's name.
    fn file(&self, name: &str) -> PathBuf {
        let root = Path::new("/sys/fs/cgroup");
        match self.hierarchy {
            Hierarchy::Unified => root.join(&self.path).join(name),
            Hierarchy::Legacy => {
                let controller = name.split('.').next().unwrap_or_default();
                let joint = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.file_name());
                let joint = joint.map(|name| name.to_string_lossy().into_owned());
                let folder = joint.filter(|folder| folder.split(',').any(|c| c == controller)).min();
                root.join(folder.unwrap_or_default()).join(&self.path).join(name)
            }
        }
    }

    /// Whether it has a file.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.file(name).exists()
    }

    /// Whether it is there.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.has("pids.max")
    }

    /// What a file says.
    ///
    /// # Panics
    /// When it cannot be read.
    #[must_use]
    pub fn text(&self, name: &str) -> String {
        let file = self.file(name);
        match fs::read_to_string(&file) {
            Ok(text) => text.trim().to_owned(),
            Err(error) => panic!("read {}: {error}", file.display()),
        }
    }

    /// The number that a file says.
    ///
    /// # Panics
    /// When it says none.
    #[must_use]
    pub fn number(&self, name: &str) -> i64 {
        let text = self.text(name);
        text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text:?}"))
    }

    /// Processor time used so far.
    ///
    /// # Panics
    /// When it is not counted.
    #[must_use]
    pub fn cpu_nanoseconds(&self) -> i64 {
        match self.hierarchy {
            Hierarchy::Legacy => self.number("cpuacct.usage"),
            Hierarchy::Unified => {
                let stat = self.text("cpu.stat");
                let used = stat
                    .lines()
                    .find_map(|line| line.strip_prefix("usage_usec ")?.trim().parse::<i64>().ok());
                used.expect("cpu.stat has usage_usec") * 1000
            }
        }
    }
}
