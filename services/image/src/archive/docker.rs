//! `docker save`'s own form: `manifest.json` names each image's configuration and its layers by their paths. Layers may
//! be links to each other's files. The archive has no manifests, so an OCI one is written for each image; the
//! configuration, whose digest is the image's id, stays byte for byte.

use std::collections::BTreeMap;

use davit_proto::id::Digest;
use serde::{Deserialize, Serialize};

use super::error::{ArchiveError, shown};
use super::spool::{Span, Spool};
use super::{DOCKER_MANIFEST, Intake, LoadedImage};
use crate::document::{Config, Descriptor, DocumentError, LAYERS, OCI_CONFIG, OCI_LAYER, OCI_MANIFEST};
use crate::reference::ImageRef;

/// Images that one archive may hold.
const IMAGES_MAX: usize = 1000;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

/// An image as `manifest.json` has it, with its configuration read.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) config_digest: Digest,
    pub(super) references: Vec<ImageRef>,
    config: Vec<u8>,
    layers: Vec<String>,
    diff_ids: Vec<Digest>,
}

/// Reads `manifest.json` and what it names, without the layers.
pub(super) fn read(spool: &Spool) -> Result<Vec<Entry>, ArchiveError> {
    let items = items(&spool.document(DOCKER_MANIFEST)?)?;
    items.into_iter().map(|item| entry(spool, item)).collect()
}

fn items(bytes: &[u8]) -> Result<Vec<Item>, ArchiveError> {
    let items: Vec<Item> = serde_json::from_slice(bytes).map_err(|source| ArchiveError::Document {
        entry: DOCKER_MANIFEST.to_owned(),
        source: DocumentError::Json { what: "list of images", source },
    })?;
    match items.len() {
        0 => Err(ArchiveError::Empty),
        1..=IMAGES_MAX => Ok(items),
        _ => Err(ArchiveError::Limit("number of images", IMAGES_MAX as u64)),
    }
}

fn entry(spool: &Spool, item: Item) -> Result<Entry, ArchiveError> {
    let document = |source| ArchiveError::Document { entry: shown(&item.config), source };
    let config = spool.small(&item.config, spool.find(&item.config)?)?;
    let config_digest = crate::digest::digest(&config);
    check_name(&item.config, &config_digest)?;
    let diff_ids = Config::parse(&config).map_err(document)?.rootfs.diff_ids;
    let layers = item.layers.unwrap_or_default();
    if layers.len() != diff_ids.len() {
        return Err(document(DocumentError::DiffIds { layers: layers.len(), diff_ids: diff_ids.len() }));
    }
    if layers.len() > LAYERS {
        return Err(document(DocumentError::Layers(layers.len())));
    }
    let references =
        item.repo_tags.unwrap_or_default().iter().map(|name| reference(name)).collect::<Result<_, _>>()?;
    Ok(Entry { config_digest, references, config, layers, diff_ids })
}

/// A configuration that is named by a digest (`<hex>.json`, `blobs/sha256/<hex>`) must have it.
fn check_name(name: &str, actual: &Digest) -> Result<(), ArchiveError> {
    let stem = name.rsplit('/').next().unwrap_or(name);
    let stem = stem.strip_suffix(".json").unwrap_or(stem);
    match format!("sha256:{stem}").parse::<Digest>() {
        Ok(expected) if expected != *actual => {
            Err(ArchiveError::Corrupt { entry: shown(name), expected, actual: actual.clone() })
        }
        _ => Ok(()),
    }
}

pub(super) fn reference(name: &str) -> Result<ImageRef, ArchiveError> {
    ImageRef::parse(name)
        .map_err(|source| ArchiveError::Reference { name: name.chars().take(200).collect(), source })
}

/// Takes every image of the archive in. Everything is looked at before the first blob is kept.
pub(super) fn load(spool: &Spool, intake: &mut Intake<'_>) -> Result<Vec<LoadedImage>, ArchiveError> {
    let entries = read(spool)?;
    let mut known: BTreeMap<Span, Descriptor> = BTreeMap::new();
    let mut blobs: Vec<(Span, Descriptor)> = Vec::new();
    let mut images = Vec::with_capacity(entries.len());
    for entry in &entries {
        let mut layers = Vec::with_capacity(entry.layers.len());
        for (name, diff_id) in entry.layers.iter().zip(&entry.diff_ids) {
            let span = spool.find(name)?;
            let layer = match known.get(&span) {
                Some(layer) => layer.clone(),
                None => {
                    let layer = describe(spool, span)?;
                    blobs.push((span, layer.clone()));
                    known.entry(span).or_insert(layer).clone()
                }
            };
            if layer.media_type == OCI_LAYER && layer.digest != *diff_id {
                let (expected, actual) = (diff_id.clone(), layer.digest);
                return Err(ArchiveError::Corrupt { entry: shown(name), expected, actual });
            }
            layers.push(layer);
        }
        images.push((entry, layers));
    }
    for (span, blob) in &blobs {
        intake.blob(spool, *span, blob)?;
    }
    images.into_iter().map(|(entry, layers)| keep(intake, entry, layers)).collect()
}

/// What a layer is: its digest, and how it is compressed.
fn describe(spool: &Spool, span: Span) -> Result<Descriptor, ArchiveError> {
    let media_type = match spool.head(span)?.as_slice() {
        [0x1f, 0x8b, ..] => format!("{OCI_LAYER}+gzip"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => format!("{OCI_LAYER}+zstd"),
        _ => OCI_LAYER.to_owned(),
    };
    Ok(Descriptor::new(media_type, spool.digest(span)?, span.size))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WrittenManifest<'a> {
    schema_version: u32,
    media_type: &'a str,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

fn keep(
    intake: &mut Intake<'_>,
    entry: &Entry,
    layers: Vec<Descriptor>,
) -> Result<LoadedImage, ArchiveError> {
    intake.document(&entry.config)?;
    let manifest = WrittenManifest {
        schema_version: 2,
        media_type: OCI_MANIFEST,
        config: Descriptor::new(OCI_CONFIG, entry.config_digest.clone(), entry.config.len() as u64),
        layers,
    };
    let bytes = serde_json::to_vec(&manifest).expect("a manifest of strings and numbers is valid JSON");
    let digest = intake.document(&bytes)?;
    let manifest = Descriptor::new(OCI_MANIFEST, digest, bytes.len() as u64);
    Ok(LoadedImage { manifest, references: entry.references.clone() })
}
