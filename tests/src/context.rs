//! A folder that is built, below an engine's own.

use std::fs;
use std::path::{Path, PathBuf};

use crate::engine::{Answer, Engine};

/// A folder with a Dockerfile and what goes with it.
#[derive(Debug)]
pub struct Context<'a> {
    /// Whose it is.
    pub engine: &'a Engine,
    /// Where it is.
    pub path: PathBuf,
}

impl<'a> Context<'a> {
    /// Makes an empty one.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn new(engine: &'a Engine, name: &str) -> Self {
        let path = engine.host().folder().join(name);
        fs::create_dir_all(&path).expect("make a folder to build");
        Self { engine, path }
    }

    /// Writes a file, and makes the folders above it.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> &Self {
        let path = self.path.join(name);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).expect("make a folder");
        fs::write(path, text).expect("write a file of a context");
        self
    }

    /// `davit build flags folder`, which tells line by line, as nobody looks at a terminal.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn build(&self, flags: &[&str]) -> Answer {
        let path = self.path.display().to_string();
        self.engine.davit(["build"].into_iter().chain(flags.iter().copied()).chain([path.as_str()]))
    }

    /// The same, which must succeed.
    ///
    /// # Panics
    /// When it fails, with all it said.
    pub fn built(&self, flags: &[&str]) -> Answer {
        let answer = self.build(flags);
        assert_eq!(answer.code, 0, "{answer:?}\n{}", self.engine.end_of_log());
        answer
    }
}

/// How many steps a build says were done before.
#[must_use]
pub fn cached(answer: &Answer) -> usize {
    answer.stderr.lines().filter(|line| line.ends_with(" CACHED")).count()
}
