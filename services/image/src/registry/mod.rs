//! Registries: manifests and blobs by the OCI distribution protocol, as Docker's registries speak it.
//!
//! [`Client`] holds what is shared: connections, tokens, what was learned about hosts. [`Client::repository`] gives the
//! handle of one pull; it remembers which mirror answered. Every step is bounded in size and in time without progress
//! ([`Patience`]), a broken connection is resumed at the byte reached, and an error says which registry, which
//! repository and what happened.
//!
//! ```text
//! Repository ── manifest, head ──┐
//!            ├─ BlobStream ──────┤
//!            └─ Upload ──────────┴─ request: known grant → send → 401? answer the challenge, once → send
//!                                              Grants            Wire (redirects, TLS, plain HTTP)
//! ```

mod auth;
mod blob;
mod body;
mod catalog;
mod challenge;
mod credential;
mod endpoint;
mod error;
#[cfg(fuzzing)]
pub mod fuzz;
mod login;
pub mod manifest;
mod payload;
mod repository;
mod retry;
mod transport;
mod upload;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

pub use self::blob::BlobStream;
pub use self::catalog::Found;
pub use self::credential::{Credential, Secret};
pub use self::endpoint::ConfigError;
pub use self::error::{Failure, Message, RegistryError};
pub use self::manifest::{Manifest, ManifestKind};
pub use self::payload::Meter;
pub use self::repository::{Head, Repository};
pub use self::retry::Patience;
pub use self::upload::Outbound;

use self::auth::Grants;
use self::endpoint::Map;
use self::repository::Access;
use self::transport::Wire;
use crate::reference::ImageRef;

/// How registries are reached.
#[derive(Debug, Clone)]
pub struct Config {
    /// Hosts (`host[:port]`) and networks (`10.0.0.0/8`) that may answer without a valid certificate or in clear.
    pub insecure: Vec<String>,
    /// URLs that are asked before a registry, by the registry's name (`docker.io`).
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// Folder of docker's `config.json`; `None` for no stored credentials.
    pub docker_config: Option<PathBuf>,
    /// Folders with certificates of single registries: authorities in `<host[:port]>/*.crt`, and what we show of
    /// ourselves in `*.cert` and `*.key` of the same name.
    pub certificates: Vec<PathBuf>,
    /// How long to wait for what.
    pub patience: Patience,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            insecure: Vec::new(),
            mirrors: BTreeMap::new(),
            docker_config: credential::default_folder(),
            certificates: davit_trust::FOLDERS.map(PathBuf::from).to_vec(),
            patience: Patience::default(),
        }
    }
}

/// A client of all registries. Clones share everything.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    wire: Wire,
    grants: Grants,
    docker_config: Option<PathBuf>,
}

impl Client {
    /// Checks the settings; nothing is connected to.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        let map = Map::new(&config.insecure, &config.mirrors)?;
        let wire = Wire::new(map, config.patience, config.certificates);
        let inner = Shared { wire, grants: Grants::default(), docker_config: config.docker_config };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The repository that a reference names. Without a credential, docker's `config.json` is looked into when the
    /// registry asks who we are.
    pub fn repository(&self, reference: &ImageRef, credential: Option<Credential>) -> Repository {
        Repository::new(Arc::clone(&self.inner), reference.clone(), credential, Access::Pull)
    }

    fn searcher(&self, registry: &ImageRef, credential: Option<Credential>) -> Repository {
        Repository::new(Arc::clone(&self.inner), registry.clone(), credential, Access::Search)
    }

    fn repository_at(&self, registry: &ImageRef, credential: Option<Credential>) -> Repository {
        Repository::new(Arc::clone(&self.inner), registry.clone(), credential, Access::Catalog)
    }

    /// The repository that a reference names, to be written to. Mirrors are passed over.
    pub fn repository_to_push(&self, reference: &ImageRef, credential: Option<Credential>) -> Repository {
        Repository::new(Arc::clone(&self.inner), reference.clone(), credential, Access::Push)
    }
}

#[cfg(test)]
pub(crate) mod tests;
