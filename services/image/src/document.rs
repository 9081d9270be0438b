//! The JSON documents of images: descriptors, indexes, manifests, configurations. Read with limits, and only as far
//! as the engine needs them; the bytes themselves are what is kept.

use std::collections::BTreeMap;

use davit_proto::id::Digest;
use serde::{Deserialize, Serialize};

/// Largest index or manifest that is read, in bytes.
pub const MANIFEST_BYTES: usize = 4 << 20;
/// Largest configuration that is read, in bytes.
pub const CONFIG_BYTES: usize = 2 << 20;
/// Most layers of one image: an overlay takes 500 directories, and one may lie above the layers.
pub const LAYERS: usize = 499;

/// `application/vnd.oci.image.index.v1+json`.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// `application/vnd.oci.image.manifest.v1+json`.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// `application/vnd.oci.image.config.v1+json`.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// `application/vnd.oci.image.layer.v1.tar`.
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// `application/vnd.docker.distribution.manifest.list.v2+json`.
pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// `application/vnd.docker.distribution.manifest.v2+json`.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// `application/vnd.docker.container.image.v1+json`.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// Why a document is refused.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// The bytes are not the JSON that was expected.
    #[error("invalid {what}")]
    Json {
        /// Which document.
        what: &'static str,
        /// Where it went wrong.
        #[source]
        source: serde_json::Error,
    },
    /// The document could be read as an index and as a manifest.
    #[error("document is both index and manifest")]
    Ambiguous,
    /// The document calls itself something else than it was announced as.
    #[error("media type is {actual:?} inside the document and {expected:?} outside")]
    MediaType {
        /// What was announced.
        expected: String,
        /// What the document says.
        actual: String,
    },
    /// The document is of a kind that is not supported.
    #[error("unsupported media type {0:?}")]
    Unsupported(String),
    /// Schema 1 and other relics.
    #[error("unsupported manifest schema version {0}, only 2 is")]
    Schema(u64),
    /// More layers than any overlay could mount.
    #[error("{0} layers, at most {LAYERS} are allowed")]
    Layers(usize),
    /// Manifest and configuration do not agree about the layers.
    #[error("manifest has {layers} layers and its configuration {diff_ids} diff ids")]
    DiffIds {
        /// Layers of the manifest.
        layers: usize,
        /// Diff ids of the configuration.
        diff_ids: usize,
    },
    /// The document is too large.
    #[error("{what} of {size} bytes, at most {limit} are allowed")]
    Large {
        /// Which document.
        what: &'static str,
        /// Its size.
        size: u64,
        /// The limit.
        limit: usize,
    },
}

/// Names some content: what it is, its digest, its size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Media type.
    #[serde(default)]
    pub media_type: String,
    /// Digest of the bytes.
    pub digest: Digest,
    /// Number of bytes.
    pub size: u64,
    /// Platform, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// A plain descriptor.
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self { media_type: media_type.into(), digest, size, platform: None, annotations: BTreeMap::new() }
    }
}

/// What an image runs on, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Platform {
    /// Operating system.
    #[serde(default)]
    pub os: String,
    /// Architecture.
    #[serde(default)]
    pub architecture: String,
    /// Variant of the architecture.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// A list of manifests, one a platform.
#[derive(Debug, Clone, Deserialize)]
pub struct Index {
    /// The manifests.
    pub manifests: Vec<Descriptor>,
}

/// One platform's image: its configuration and its layers.
#[derive(Debug, Clone, Deserialize)]
pub struct Manifest {
    /// The configuration.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
}

/// Either of the two things a reference can name.
#[derive(Debug, Clone)]
pub enum Document {
    /// A list of manifests.
    Index(Index),
    /// One platform's image.
    Manifest(Manifest),
}

impl Document {
    /// Reads an index or a manifest. The media type must be known, and the document must not contradict it.
    pub fn parse(bytes: &[u8], media_type: &str) -> Result<Self, DocumentError> {
        bounded(bytes, "manifest", MANIFEST_BYTES)?;
        let shape: Shape = json(bytes, "manifest")?;
        if let Some(version) = shape.schema_version.filter(|version| *version != 2) {
            return Err(DocumentError::Schema(version));
        }
        if shape.manifests.is_some() && (shape.config.is_some() || shape.layers.is_some()) {
            return Err(DocumentError::Ambiguous);
        }
        if let Some(actual) = shape.media_type.filter(|actual| actual != media_type) {
            return Err(DocumentError::MediaType { expected: media_type.to_owned(), actual });
        }
        match media_type {
            OCI_INDEX | DOCKER_INDEX => Ok(Self::Index(json(bytes, "index")?)),
            OCI_MANIFEST | DOCKER_MANIFEST => {
                let manifest: Manifest = json(bytes, "manifest")?;
                if manifest.layers.len() > LAYERS {
                    return Err(DocumentError::Layers(manifest.layers.len()));
                }
                Ok(Self::Manifest(manifest))
            }
            other => Err(DocumentError::Unsupported(other.to_owned())),
        }
    }
}

/// The fields that tell what a document is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    schema_version: Option<u64>,
    media_type: Option<String>,
    manifests: Option<serde::de::IgnoredAny>,
    config: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
}

/// An image's configuration, as far as the service reads it; what the container needs of it travels as bytes.
#[derive(Debug, Clone, Deserialize)]
pub struct Config {
    /// When it was made, RFC 3339.
    #[serde(default, deserialize_with = "nullable")]
    pub created: String,
    /// What it runs on.
    #[serde(flatten)]
    pub platform: Platform,
    /// The defaults of its containers.
    #[serde(default, deserialize_with = "nullable")]
    pub config: Defaults,
    /// Its layers.
    pub rootfs: RootFs,
    /// How it was made, first step first.
    #[serde(default, deserialize_with = "nullable")]
    pub history: Vec<Step>,
}

impl Config {
    /// Reads a configuration.
    pub fn parse(bytes: &[u8]) -> Result<Self, DocumentError> {
        bounded(bytes, "image configuration", CONFIG_BYTES)?;
        json(bytes, "image configuration")
    }

    /// The diff ids, one for each layer of `manifest`.
    pub fn diff_ids(&self, manifest: &Manifest) -> Result<&[Digest], DocumentError> {
        let (layers, diff_ids) = (manifest.layers.len(), self.rootfs.diff_ids.len());
        if layers != diff_ids {
            return Err(DocumentError::DiffIds { layers, diff_ids });
        }
        Ok(&self.rootfs.diff_ids)
    }
}

/// The part of a configuration that the service itself reads of the container's defaults.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Defaults {
    /// Labels.
    #[serde(rename = "Labels", default, deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
}

/// The layers of an image, unpacked.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct RootFs {
    /// Digests of the uncompressed layers, lowest first.
    #[serde(default, deserialize_with = "nullable")]
    pub diff_ids: Vec<Digest>,
}

/// One step of a history.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Step {
    /// When, RFC 3339.
    #[serde(default, deserialize_with = "nullable")]
    pub created: String,
    /// By which instruction.
    #[serde(default, deserialize_with = "nullable")]
    pub created_by: String,
    /// Comment.
    #[serde(default, deserialize_with = "nullable")]
    pub comment: String,
    /// The step changed no file.
    #[serde(default, deserialize_with = "nullable")]
    pub empty_layer: bool,
}

/// Go writes `null` where a list or map was never made.
fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Whether layers of this media type can be unpacked. How they are compressed is read from their first bytes.
pub fn is_layer(media_type: &str) -> bool {
    let base =
        media_type.strip_suffix("+gzip").or_else(|| media_type.strip_suffix("+zstd")).unwrap_or(media_type);
    matches!(
        base,
        OCI_LAYER
            | "application/vnd.oci.image.layer.nondistributable.v1.tar"
            | "application/vnd.docker.image.rootfs.diff.tar"
            | "application/vnd.docker.image.rootfs.diff.tar.gzip"
            | "application/vnd.docker.image.rootfs.diff.tar.zstd"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    )
}

/// Whether layers of this media type stay with who made them: registries have their addresses, not their bytes.
pub fn is_foreign(media_type: &str) -> bool {
    media_type.starts_with("application/vnd.oci.image.layer.nondistributable.")
        || media_type.starts_with("application/vnd.docker.image.rootfs.foreign.")
}

fn bounded(bytes: &[u8], what: &'static str, limit: usize) -> Result<(), DocumentError> {
    if bytes.len() > limit {
        return Err(DocumentError::Large { what, size: bytes.len() as u64, limit });
    }
    Ok(())
}

fn json<'a, T: Deserialize<'a>>(bytes: &'a [u8], what: &'static str) -> Result<T, DocumentError> {
    let failed = |source| DocumentError::Json { what, source };
    // What nobody asks for here is passed over by its brackets alone; whoever makes a new document of this one will read it.
    serde_json::from_slice::<serde_json::Value>(bytes).map_err(failed)?;
    serde_json::from_slice(bytes).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_asks_for_is_text_too() {
        let config = |extra: &str| {
            format!(
                r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":[]}},"x":{extra}}}"#
            )
        };
        assert!(Config::parse(config(r#""plain""#).as_bytes()).is_ok());
        for wrong in [
            r#""\ud800""#.to_owned(),
            "\"\u{1}\"".to_owned(),
            format!("{}1{}", "[".repeat(200), "]".repeat(200)),
        ] {
            assert!(Config::parse(config(&wrong).as_bytes()).is_err(), "{wrong}");
        }
    }

    const D: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    fn parse(body: &str, media_type: &str) -> Result<Document, DocumentError> {
        Document::parse(body.as_bytes(), media_type)
    }

    #[test]
    fn index_and_manifest_are_told_apart() {
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{{"digest":"{D}","size":1}},"layers":[{{"mediaType":"x","digest":"{D}","size":2}}]}}"#
        );
        assert!(matches!(parse(&manifest, OCI_MANIFEST), Ok(Document::Manifest(m)) if m.layers[0].size == 2));
        assert!(parse(&manifest, OCI_INDEX).is_err());
        let index = format!(
            r#"{{"schemaVersion":2,"mediaType":"{DOCKER_INDEX}","manifests":[{{"mediaType":"x","digest":"{D}","size":1,
                "platform":{{"os":"linux","architecture":"arm","variant":"v7"}}}}]}}"#
        );
        assert!(matches!(parse(&index, DOCKER_INDEX), Ok(Document::Index(i)) if i.manifests.len() == 1));
        assert!(matches!(parse(&index, OCI_INDEX), Err(DocumentError::MediaType { .. })));
        let both = r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#;
        assert!(matches!(parse(both, OCI_INDEX), Err(DocumentError::Ambiguous)));
        assert!(matches!(parse(r#"{"schemaVersion":1}"#, OCI_MANIFEST), Err(DocumentError::Schema(1))));
        assert!(matches!(parse(r#"{"schemaVersion":2}"#, "text/html"), Err(DocumentError::Unsupported(_))));
    }

    #[test]
    fn a_digest_that_is_a_path_is_refused() {
        let body = r#"{"schemaVersion":2,"config":{"digest":"sha256:../../x","size":1},"layers":[]}"#;
        assert!(matches!(parse(body, OCI_MANIFEST), Err(DocumentError::Json { .. })));
    }

    #[test]
    fn deep_json_is_refused() {
        let deep = format!(r#"{{"schemaVersion":2,"x":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert!(matches!(parse(&deep, OCI_MANIFEST), Err(DocumentError::Json { .. })));
    }

    #[test]
    fn configurations_of_go_and_of_others_are_read() {
        let body = format!(
            r#"{{"architecture":"amd64","os":"linux","created":null,"history":null,
                "config":{{"Labels":null,"Env":["A=b"]}},"rootfs":{{"type":"layers","diff_ids":["{D}"]}}}}"#
        );
        let config = Config::parse(body.as_bytes()).unwrap();
        assert_eq!(config.platform.architecture, "amd64");
        assert_eq!(config.rootfs.diff_ids.len(), 1);
        let manifest =
            Manifest { config: Descriptor::new("", config.rootfs.diff_ids[0].clone(), 1), layers: vec![] };
        assert!(matches!(config.diff_ids(&manifest), Err(DocumentError::DiffIds { layers: 0, diff_ids: 1 })));
    }

    #[test]
    fn only_tar_layers_are_layers() {
        assert!(is_layer("application/vnd.oci.image.layer.v1.tar+zstd"));
        assert!(is_layer("application/vnd.docker.image.rootfs.diff.tar.gzip"));
        assert!(!is_layer("application/vnd.oci.image.layer.v1.tar+gzip+encrypted"));
        assert!(!is_layer("application/vnd.in-toto+json"));
    }
}
