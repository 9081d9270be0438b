//! The image service: content by digest, references, unpacked layers, registries, and who uses what.
//!
//! ```text
//! <root>/image/                         a valid OCI image layout, readable by other tools in place
//!   index.json oci-layout blobs/sha256/…   references and content            index, content
//!   layers/<diff id>/                      unpacked, shared by all images     snapshot
//!   ingest/                                half-done things, continued        content, snapshot
//!   use/<container id>.json                what containers use                holder
//!   lock                                   one process at a time              store
//! ```
//!
//! [`store::Store`] holds these together; `pull`, `push`, `load`, `commit`, `remove`, `prepare`, `list` are what is done
//! with it.

mod api;
pub mod archive;
pub mod commit;
pub mod content;
pub mod digest;
pub mod document;
pub mod error;
pub mod failpoint;
pub mod filter;
#[cfg(test)]
mod fixture;
#[cfg(fuzzing)]
pub mod fuzz;
pub mod gc;
pub mod holder;
pub mod image;
pub mod index;
pub mod lease;
pub mod list;
pub mod load;
pub mod manifest;
pub mod mounted;
mod platform;
pub mod prepare;
pub mod pull;
pub mod push;
pub mod reference;
pub mod registry;
pub mod remove;
pub mod search;
pub mod snapshot;
pub mod store;
pub mod unpack;
pub mod usage;

use std::collections::BTreeMap;
use std::path::PathBuf;

use davit_proto::image::images_server::ImagesServer;
use tonic::service::Routes;

pub use error::Error;

/// What the service needs to know.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The engine's root folder, `/var/lib/davit`; the service keeps to `image/` below it.
    pub root: PathBuf,
    /// Hosts (`host[:port]`) and networks (`10.0.0.0/8`) whose registries may answer in clear.
    pub insecure_registries: Vec<String>,
    /// URLs that are asked before a registry, by the registry's name (`docker.io`).
    pub registry_mirrors: BTreeMap<String, Vec<String>>,
    /// What is collected by itself.
    pub gc: gc::policy::Settings,
}

/// Full names of the gRPC services that [`routes`] serves.
pub const SERVICES: &[&str] = &["davit.image.v1.Images"];

/// Opens the images below the root and answers with the service over them.
///
/// # Errors
/// When a setting makes no sense, the folder cannot be made or read, or another process serves it.
pub async fn routes(config: Config) -> Result<Routes, Error> {
    let registries = registry::Client::new(registry::Config {
        insecure: config.insecure_registries,
        mirrors: config.registry_mirrors,
        ..registry::Config::default()
    })?;
    let policy = gc::policy::Policy::new(&config.gc)?;
    let store = api::blocking(move || Ok(store::Store::open(&config.root)?)).await?;
    let collector = gc::Collector::new(store.clone(), policy);
    collector.start();
    Ok(Routes::new(ImagesServer::new(api::Api::new(store, registries, collector))))
}
