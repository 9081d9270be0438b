//! `RUN --mount`: what a command has beside its root, and that goes with it.
//!
//! ```text
//! as written ─▶ planned: where files come from ─▶ key of the step
//!                  │
//!                  ▼ the step was not done before
//!               prepared: secrets asked for, caches taken, a workspace filled ─▶ mounts of the container
//! ```
//!
//! | kind | what the container gets |
//! |---|---|
//! | bind of an image or stage | the engine's own mount of an image |
//! | bind of a context | its files, put together in the workspace |
//! | bind that can be written to | an overlay over either, whose upper layer goes with the step |
//! | cache | a folder of [`cache`] |
//! | tmpfs | the engine's own |
//! | secret, script, agent | a file or socket in the workspace's memory |
//!
//! The engine leaves mount points that it made for all this out of the layer.

pub mod cache;
pub mod lay;
mod prepare;
pub mod workspace;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use davit_dockerfile::instruction::{Mount, MountKind};

use crate::engine::Image;
use crate::error::Error;
use crate::gather::{self, Match};
use crate::key::Key;
use crate::tree::{Tree, resolve};

pub use prepare::{Given, Held, Orders, Script, prepare};

/// What mounts are made of, of all builds.
#[derive(Debug, Clone)]
pub struct Workshop {
    /// Caches.
    pub caches: Arc<cache::Caches>,
    /// Workspaces of steps.
    pub places: workspace::Places,
}

impl Workshop {
    /// Opens the folders.
    ///
    /// # Errors
    /// One cannot be made or read.
    pub fn open(builds: &Path, run: &Path) -> Result<Self, Error> {
        let caches = Arc::new(cache::Caches::open(builds)?);
        Ok(Self { caches, places: workspace::Places::open(builds, run)? })
    }
}

/// Where `from` leads: a context, a stage or an image.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Its files.
    pub tree: Arc<dyn Tree>,
    /// The image that they are, where they are one.
    pub image: Option<Image>,
}

/// A mount, and where its files come from.
#[derive(Debug)]
pub struct Planned {
    mount: Mount,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// It has none.
    None,
    /// A part of a tree, and what stands for files whose content nobody has read.
    Tree(Match, String),
    /// A part of an image, by a path in which links were followed.
    Image(Box<Image>, PathBuf),
}

impl Planned {
    /// Finds what a mount shows. `origin` is where its `from` leads.
    ///
    /// # Errors
    /// It is not there.
    pub fn new(mount: Mount, origin: Option<Origin>) -> Result<Self, Error> {
        let source = match (&mount.kind, origin) {
            (MountKind::Bind { source, .. }, Some(Origin { tree, image: Some(image) })) => {
                let failed = || Error::io(format!("find {source:?} in the image"));
                let path = resolve(tree.as_ref(), &crate::tree::clean(source), true).map_err(failed())?;
                if tree.stat(&path).map_err(failed())?.is_none() {
                    return Err(Error::NotFound(source.clone()));
                }
                Source::Image(Box::new(image), path)
            }
            // A cache begins with a copy, wherever its files are.
            (
                MountKind::Bind { source, .. } | MountKind::Cache { source, .. },
                Some(Origin { tree, image }),
            ) => {
                let id = image.map(|image| image.chain()).unwrap_or_default();
                Source::Tree(gather::whole(&tree, source)?, id)
            }
            _ => Source::None,
        };
        Ok(Self { mount, source })
    }

    /// Adds what it is and what it shows to a step's name. What a cache has by now and what a secret is are no part of it.
    pub fn describe(&self, key: &mut Key) {
        key.add(format!("{:?}", self.mount).as_bytes());
        match &self.source {
            Source::None => {}
            Source::Image(image, path) => {
                key.add(image.chain().as_bytes());
                key.add(path.as_os_str().as_encoded_bytes());
            }
            Source::Tree(found, id) => describe(found, id, key),
        }
    }
}

fn describe(found: &Match, chain: &str, key: &mut Key) {
    found.describe(key, &mut |_, _| Ok(chain.to_owned())).expect("no file is read");
}
