//! The build service: a Dockerfile and a folder of files become an image.
//!
//! ```text
//! cli ── context ─▶ context: files by digest        Dockerfile ─▶ davit-dockerfile: stages, a graph
//!                      │                                              │
//!                      ▼                                              ▼
//!                   gather ─▶ layer: a tar ──────────────▶ stage: one step after the other
//!                                                             │ key: was it done before?
//!                                                             ▼
//!                                        engine: Containers.Create … Commit, Images.Commit
//! ```
//!
//! It stands above the engine and uses its public calls like any client: a RUN is a container of the state before it
//! and a commit of its layer, COPY is a layer without any container, and what only changes the config goes into the
//! next commit. Every step that made a layer leaves an image behind, named after all that went into it
//! ([`key`]): that is the cache, it needs no book of its own, survives whatever kills a build, and goes as images go.
//!
//! Files of images are read where the engine says that their layers lie ([`view`]); nothing is mounted.

#![forbid(unsafe_code)]

mod api;
mod build;
mod cache;
mod client;
mod compression;
mod context;
mod document;
mod engine;
mod entitlement;
mod epoch;
mod error;
mod fetch;
#[cfg(fuzzing)]
pub mod fuzz;
mod gather;
mod git;
mod key;
mod layer;
mod layout;
mod limit;
mod lint;
mod memo;
mod mount;
mod named;
mod output;
mod owner;
mod platform;
mod progress;
mod receive;
mod run;
mod running;
mod stage;
mod steps;
mod transfer;
mod tree;
mod unpack;
mod view;
mod walk;

use std::path::PathBuf;

use davit_proto::build::builds_server::BuildsServer;
use tonic::transport::Channel;

pub use api::Api;
pub use error::Error;

/// Full names of the gRPC services that [`service`] serves.
pub const SERVICES: &[&str] = &["davit.build.v1.Builds"];

/// What the service needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// The engine's root folder, `/var/lib/davit`; the service keeps to `build/` below it.
    pub root: PathBuf,
    /// The engine's run directory, `/run/davit`; the service keeps to `build/` below it.
    pub run: PathBuf,
    /// The engine.
    pub engine: Channel,
}

/// Opens what earlier builds left, and answers with the service.
///
/// # Errors
/// When the folder cannot be made or read.
pub async fn service(config: Config) -> Result<BuildsServer<Api>, Error> {
    let (folder, run) = (config.root.join("build"), config.run);
    let opened = tokio::task::spawn_blocking(move || {
        let store = context::Store::open(&folder)?;
        store.sweep()?;
        store.forget_old()?;
        Ok::<_, Error>((store, mount::Workshop::open(&folder, &run)?))
    });
    let (store, workshop) = opened.await.map_err(|_| Error::Lost)??;
    let engine = engine::Engine::new(config.engine);
    let alone = store.alone().await;
    tokio::spawn(left(engine.clone(), workshop.places.clone(), alone));
    Ok(BuildsServer::new(Api::new(store, engine, workshop))
        .max_decoding_message_size(davit_proto::transport::MESSAGE_LIMIT))
}

/// Removes the containers of steps that a dead engine left, for nobody waits for them any more, and then what was
/// mounted into them. Builds wait until then.
async fn left(engine: engine::Engine, places: mount::workspace::Places, alone: context::Alone) {
    while let Err(error) = engine.remove_left().await {
        if !error.is_absence() {
            tracing::warn!(%error, "could not remove what builds left before");
            break;
        }
        // It starts beside this service, or anew.
        tokio::time::sleep(engine::PAUSE).await;
    }
    let swept = tokio::task::spawn_blocking(move || {
        let _alone = alone;
        places.sweep()
    });
    if let Ok(Err(error)) = swept.await {
        tracing::warn!(%error, "could not remove what builds had mounted before");
    }
}
