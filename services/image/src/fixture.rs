//! Images for tests, and a registry that serves them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use davit_proto::id::Digest;

use crate::digest::digest;
use crate::document::{Descriptor, OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, Platform};
use crate::reference::ImageRef;
use crate::registry::tests::server::{Seen, Server, Step, answer, partial};
use crate::store::Store;
use davit_archive::fixture::Archive;

/// An image made in memory.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    pub manifest: Descriptor,
    pub id: Digest,
    pub layers: Vec<Descriptor>,
    pub diff_ids: Vec<Digest>,
    pub blobs: HashMap<Digest, Vec<u8>>,
}

/// What may be said about an image besides its layers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Says<'a> {
    pub created: &'a str,
    pub labels: &'a [(&'a str, &'a str)],
    pub history: &'a str,
    pub architecture: &'a str,
}

impl Made {
    pub fn of(archives: impl IntoIterator<Item = Archive>) -> Self {
        Self::saying(archives, &Says::default())
    }

    pub fn saying(archives: impl IntoIterator<Item = Archive>, says: &Says<'_>) -> Self {
        let layers = archives.into_iter().map(|archive| {
            let tar = archive.end();
            (gzip(&tar), digest(&tar))
        });
        Self::from_layers(layers.collect(), says)
    }

    /// From compressed layers and what the configuration shall say of them.
    pub fn from_layers(layers: Vec<(Vec<u8>, Digest)>, says: &Says<'_>) -> Self {
        let mut blobs = HashMap::new();
        let mut put = |media_type: &str, bytes: Vec<u8>| {
            let descriptor = Descriptor::new(media_type, digest(&bytes), bytes.len() as u64);
            blobs.insert(descriptor.digest.clone(), bytes);
            descriptor
        };
        let diff_ids: Vec<Digest> = layers.iter().map(|(_, diff_id)| diff_id.clone()).collect();
        let layers: Vec<Descriptor> =
            layers.into_iter().map(|(bytes, _)| put(&format!("{OCI_LAYER}+gzip"), bytes)).collect();
        let host = Platform::host().architecture;
        let labels: HashMap<_, _> = says.labels.iter().copied().collect();
        let config = serde_json::json!({
            "architecture": if says.architecture.is_empty() { &host } else { says.architecture },
            "os": "linux",
            "created": says.created,
            "config": { "Labels": labels, "Cmd": ["/bin/true"] },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
            "history": serde_json::from_str::<serde_json::Value>(says.history).unwrap_or_default(),
        });
        let config = put(OCI_CONFIG, serde_json::to_vec(&config).unwrap());
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers,
        });
        let manifest = put(OCI_MANIFEST, serde_json::to_vec(&manifest).unwrap());
        Self { manifest, id: config.digest, layers, diff_ids, blobs }
    }

    /// Puts the image into a store as a pull would.
    pub fn put(&self, store: &Store, names: &[&str]) {
        for bytes in self.blobs.values() {
            store.content().write(bytes).unwrap();
        }
        for (layer, diff_id) in self.layers.iter().zip(&self.diff_ids) {
            store.add_layer(layer, diff_id).unwrap();
        }
        for name in names {
            let reference: ImageRef = name.parse().unwrap();
            let source = reference.with_digest(self.manifest.digest.clone());
            store.name(&self.manifest, Some(reference), Some(source)).unwrap();
        }
    }
}

type Answer = dyn Fn(&Seen, &[u8]) -> Option<Vec<Step>> + Send + Sync;

/// Documents by tag or digest, each with its media type.
type Documents = Arc<Mutex<HashMap<String, (String, Vec<u8>)>>>;

/// A registry with images in one repository, by tag and by digest.
pub(crate) struct Registry {
    pub server: Server,
    documents: Documents,
}

impl Registry {
    pub async fn start() -> Self {
        Self::with(|_, _| None).await
    }

    /// `first` may answer a request for a blob in its own way.
    pub async fn with(first: impl Fn(&Seen, &[u8]) -> Option<Vec<Step>> + Send + Sync + 'static) -> Self {
        let documents = Documents::default();
        let (served, first): (_, Box<Answer>) = (Arc::clone(&documents), Box::new(first));
        let server = Server::start(move |seen, _| {
            if seen.path == "/v2/" {
                return answer(200, &[], b"");
            }
            let name = seen.path.rsplit('/').next().unwrap_or_default();
            let Some((media_type, bytes)) = served.lock().unwrap().get(name).cloned() else {
                return answer(404, &[], b"{}");
            };
            if seen.path.contains("/blobs/")
                && let Some(steps) = first(seen, &bytes)
            {
                return steps;
            }
            blob(seen, &media_type, &bytes)
        })
        .await;
        Self { server, documents }
    }

    pub fn add(&self, tag: &str, made: &Made) {
        let mut documents = self.documents.lock().unwrap();
        for (digest, bytes) in &made.blobs {
            documents.insert(digest.to_string(), (OCI_MANIFEST.to_owned(), bytes.clone()));
        }
        let manifest = made.blobs[&made.manifest.digest].clone();
        documents.insert(tag.to_owned(), (OCI_MANIFEST.to_owned(), manifest));
    }

    /// Adds an index over images; answers with its digest.
    pub fn add_index(&self, tag: &str, images: &[(&Made, &str)]) -> Digest {
        let manifests: Vec<Descriptor> = images
            .iter()
            .map(|(made, architecture)| {
                self.add(made.manifest.digest.as_str(), made);
                let platform = Platform {
                    os: "linux".to_owned(),
                    architecture: (*architecture).to_owned(),
                    variant: String::new(),
                };
                Descriptor { platform: Some(platform), ..made.manifest.clone() }
            })
            .collect();
        let index = serde_json::json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests });
        let bytes = serde_json::to_vec(&index).unwrap();
        self.documents.lock().unwrap().insert(tag.to_owned(), (OCI_INDEX.to_owned(), bytes.clone()));
        digest(&bytes)
    }

    pub fn reference(&self, tag: &str) -> ImageRef {
        format!("{}/repo:{tag}", self.server.address).parse().unwrap()
    }

    /// Requests for one blob.
    pub fn asked(&self, blob: &Digest) -> Vec<Seen> {
        self.server.seen().into_iter().filter(|seen| seen.path.ends_with(blob.as_str())).collect()
    }
}

/// The whole of a document, or what a range asks for.
fn blob(seen: &Seen, media_type: &str, bytes: &[u8]) -> Vec<Step> {
    match seen.offset().filter(|offset| *offset < bytes.len()) {
        Some(from) => {
            let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
            answer(206, &[("Content-Range", &range)], &bytes[from..])
        }
        None => answer(200, &[("Content-Type", media_type)], bytes),
    }
}

/// Some of a document, and then the connection breaks.
pub(crate) fn broken(bytes: &[u8], at: usize) -> Vec<Step> {
    partial(200, &[], bytes.len(), &bytes[..at])
}

/// Compresses.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}
