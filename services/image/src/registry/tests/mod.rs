//! The client against servers that misbehave, and against a real registry.

mod authorization;
mod hostile;
pub(crate) mod real;
pub(crate) mod server;
mod tls;

use std::collections::BTreeMap;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::*;
use crate::reference::Digest;

const IMAGE_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const MANIFEST: &str = r#"{"schemaVersion":2,"config":{},"layers":[]}"#;

fn digest(bytes: &[u8]) -> Digest {
    Digest::from_sha256(&Sha256::digest(bytes).into())
}

/// Short enough for tests, long enough for a busy machine.
fn impatient() -> Patience {
    Patience {
        connect: Duration::from_secs(2),
        probe: Duration::from_secs(2),
        answer: Duration::from_millis(700),
        idle: Duration::from_millis(700),
        progress: Duration::from_secs(3),
        progress_bytes: 1024,
        attempts: 4,
        backoff: Duration::from_millis(10),
    }
}

pub(crate) fn config() -> Config {
    Config {
        insecure: Vec::new(),
        mirrors: BTreeMap::new(),
        docker_config: None,
        certificates: Vec::new(),
        patience: impatient(),
    }
}

fn repository(config: Config, reference: &str) -> Repository {
    Client::new(config).unwrap().repository(&ImageRef::parse(reference).unwrap(), None)
}

async fn collect(mut blob: BlobStream) -> Result<Vec<u8>, RegistryError> {
    let mut bytes = Vec::new();
    while let Some(piece) = blob.next().await? {
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}
