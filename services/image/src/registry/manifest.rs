//! Manifests and indexes as documents: which of both one is, and that it is only one.

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::document::{DOCKER_INDEX, DOCKER_MANIFEST, MANIFEST_BYTES, OCI_INDEX, OCI_MANIFEST};
use crate::reference::Digest;

/// What we can read, for the `Accept` header.
pub(super) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";

const SCHEMA1_PREFIX: &str = "application/vnd.docker.distribution.manifest.v1+";

/// What a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ManifestKind {
    /// A list of manifests, one a platform.
    Index,
    /// One platform's configuration and layers.
    Image,
}

/// A manifest or index, byte for byte, with its digest verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The document.
    pub bytes: Bytes,
    /// Its media type.
    pub media_type: String,
    /// What it is.
    pub kind: ManifestKind,
    /// The digest of the bytes.
    pub digest: Digest,
}

/// Why a document is not taken as a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It is over [`MANIFEST_BYTES`].
    #[error("manifest of {0} bytes is larger than the limit of {MANIFEST_BYTES} bytes")]
    TooLarge(u64),
    /// It is no JSON object with the fields of a manifest.
    #[error("manifest is not valid JSON: {0}")]
    Json(String),
    /// It has the fields of both kinds, so two readers could understand two things.
    #[error("manifest is both an index and an image")]
    Ambiguous,
    /// It has the fields of neither.
    #[error("manifest is neither an index nor an image")]
    Neither,
    /// It says of itself something else than its fields, or the registry says something else of it.
    #[error("manifest's media type {0:?} does not fit its content")]
    MediaType(String),
    /// It has the form of before 2016.
    #[error("manifest has the outdated schema 1 format, which is not supported")]
    Schema1,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    schema_version: Option<u32>,
    media_type: Option<String>,
    manifests: Option<IgnoredAny>,
    config: Option<IgnoredAny>,
    layers: Option<IgnoredAny>,
    #[serde(rename = "fsLayers")]
    fs_layers: Option<IgnoredAny>,
}

/// Tells what a document is and its media type. `announced` is what the registry or a descriptor calls it, if
/// anything.
pub fn classify(bytes: &[u8], announced: Option<&str>) -> Result<(ManifestKind, String), ManifestError> {
    if bytes.len() > MANIFEST_BYTES {
        return Err(ManifestError::TooLarge(bytes.len() as u64));
    }
    let announced = announced.map(|text| text.split(';').next().unwrap_or_default().trim());
    let announced = announced.filter(|text| is_specific(text));
    if announced.is_some_and(|text| text.starts_with(SCHEMA1_PREFIX)) {
        return Err(ManifestError::Schema1);
    }
    let shape: Shape =
        serde_json::from_slice(bytes).map_err(|error| ManifestError::Json(error.to_string()))?;
    if shape.schema_version == Some(1) || shape.fs_layers.is_some() {
        return Err(ManifestError::Schema1);
    }
    let is_index = shape.manifests.is_some();
    let is_image = shape.config.is_some() || shape.layers.is_some();
    let (kind, types) = match (is_index, is_image) {
        (true, true) => return Err(ManifestError::Ambiguous),
        (false, false) => return Err(ManifestError::Neither),
        (true, false) => (ManifestKind::Index, [OCI_INDEX, DOCKER_INDEX]),
        (false, true) => (ManifestKind::Image, [OCI_MANIFEST, DOCKER_MANIFEST]),
    };
    let own = shape.media_type.as_deref().filter(|text| !text.is_empty());
    for claim in own.into_iter().chain(announced) {
        if !types.contains(&claim) || own.is_some_and(|own| own != claim) {
            return Err(ManifestError::MediaType(claim.chars().take(100).collect()));
        }
    }
    let media_type = own.or(announced).unwrap_or(types[0]);
    Ok((kind, media_type.to_owned()))
}

/// Some servers call every document JSON or bytes, which says nothing.
fn is_specific(media_type: &str) -> bool {
    !matches!(media_type, "" | "application/json" | "application/octet-stream" | "text/plain")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_index_from_image() {
        let index = br#"{"schemaVersion":2,"manifests":[]}"#;
        let image = br#"{"schemaVersion":2,"config":{},"layers":[]}"#;
        assert_eq!(classify(index, None), Ok((ManifestKind::Index, OCI_INDEX.into())));
        assert_eq!(classify(index, Some(DOCKER_INDEX)), Ok((ManifestKind::Index, DOCKER_INDEX.into())));
        assert_eq!(classify(image, Some("application/json")), Ok((ManifestKind::Image, OCI_MANIFEST.into())));
        let announced = format!("{DOCKER_MANIFEST}; charset=utf-8");
        assert_eq!(classify(image, Some(&announced)), Ok((ManifestKind::Image, DOCKER_MANIFEST.into())));
    }

    #[test]
    fn refuses_what_could_be_read_in_two_ways() {
        let both = br#"{"schemaVersion":2,"manifests":[],"config":{},"layers":[]}"#;
        assert_eq!(classify(both, None), Err(ManifestError::Ambiguous));
        let lying = format!(r#"{{"mediaType":"{OCI_INDEX}","config":{{}},"layers":[]}}"#);
        assert_eq!(classify(lying.as_bytes(), None), Err(ManifestError::MediaType(OCI_INDEX.into())));
        let image = format!(r#"{{"mediaType":"{OCI_MANIFEST}","config":{{}},"layers":[]}}"#);
        assert!(matches!(classify(image.as_bytes(), Some(OCI_INDEX)), Err(ManifestError::MediaType(_))));
        assert!(matches!(
            classify(image.as_bytes(), Some(DOCKER_MANIFEST)),
            Err(ManifestError::MediaType(_))
        ));
        let twice = br#"{"manifests":[],"manifests":[]}"#;
        assert!(matches!(classify(twice, None), Err(ManifestError::Json(_))));
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        assert_eq!(classify(b"{}", None), Err(ManifestError::Neither));
        assert!(matches!(classify(b"<html>", None), Err(ManifestError::Json(_))));
        assert_eq!(classify(br#"{"schemaVersion":1,"fsLayers":[]}"#, None), Err(ManifestError::Schema1));
        assert!(matches!(classify(&vec![b' '; MANIFEST_BYTES + 1], None), Err(ManifestError::TooLarge(_))));
        let deep = "[".repeat(100_000);
        assert!(matches!(classify(deep.as_bytes(), None), Err(ManifestError::Json(_))));
    }
}
