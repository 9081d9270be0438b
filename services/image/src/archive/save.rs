//! Writing archives: the same images always give the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};

use davit_proto::id::Digest;
use serde::Serialize;
use tar::{Builder, EntryType, Header};

use super::error::ArchiveError;
use super::oci::{NAME_ANNOTATION, REF_ANNOTATION};
use super::{DOCKER_MANIFEST, OCI_INDEX_FILE, OCI_LAYOUT_FILE};
use crate::content::{Content, ContentError};
use crate::digest::Hasher;
use crate::document::{Descriptor, Document, DocumentError, MANIFEST_BYTES, Manifest, OCI_INDEX};
use crate::reference::ImageRef;

const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
const BUFFER: usize = 128 << 10;

/// Kinds of archives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// What `docker load` reads, with the OCI layout beside it.
    Docker,
    /// The OCI layout alone.
    Oci,
}

/// An image to be saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedImage {
    /// The names that the archive shall give it. Names by digest are left out.
    pub references: Vec<ImageRef>,
    /// Its manifest.
    pub manifest: Descriptor,
}

/// Writes images as one archive. Blocks. Every blob is verified on its way.
pub fn save(
    images: &[SavedImage],
    content: &Content,
    format: Format,
    out: impl Write,
) -> Result<(), ArchiveError> {
    let mut plan = Plan::default();
    for image in images {
        plan.add(image, content)?;
    }
    let mut tar = Builder::new(out);
    write_file(&mut tar, OCI_LAYOUT_FILE, LAYOUT)?;
    write_file(&mut tar, OCI_INDEX_FILE, &plan.index())?;
    if format == Format::Docker {
        write_file(&mut tar, DOCKER_MANIFEST, &plan.items())?;
    }
    write_folder(&mut tar, "blobs/")?;
    write_folder(&mut tar, "blobs/sha256/")?;
    for (digest, size) in &plan.blobs {
        write_blob(&mut tar, content, digest, *size)?;
    }
    tar.into_inner().and_then(|mut out| out.flush()).map_err(ArchiveError::Write)
}

/// What goes into an archive.
#[derive(Debug, Default)]
struct Plan {
    listed: Vec<Descriptor>,
    items: Vec<Item>,
    blobs: BTreeMap<Digest, u64>,
}

/// An image as `manifest.json` has it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index<'a> {
    schema_version: u32,
    media_type: &'a str,
    manifests: &'a [Descriptor],
}

impl Plan {
    fn add(&mut self, image: &SavedImage, content: &Content) -> Result<(), ArchiveError> {
        let names: BTreeSet<&ImageRef> =
            image.references.iter().filter(|name| name.tag().is_some()).collect();
        let Manifest { config, layers } = manifest(&image.manifest, content)?;
        for part in layers.iter().chain([&config, &image.manifest]) {
            if content.size(&part.digest)?.is_none() {
                return Err(ContentError::Missing(part.digest.clone()).into());
            }
            self.blobs.insert(part.digest.clone(), part.size);
        }
        // Whole names, for podman takes a short one as its own.
        let tags: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        let item = Item {
            config: path(&config.digest),
            repo_tags: (!tags.is_empty()).then_some(tags),
            layers: layers.iter().map(|layer| path(&layer.digest)).collect(),
        };
        // The same image asked for twice, by two names, is one.
        match self.items.iter_mut().find(|known| known.config == item.config && known.layers == item.layers) {
            Some(known) => known.add_tags(item.repo_tags),
            None => self.items.push(item),
        }
        self.list(&image.manifest, &names);
        Ok(())
    }

    fn list(&mut self, manifest: &Descriptor, names: &BTreeSet<&ImageRef>) {
        let plain = Descriptor { annotations: BTreeMap::new(), platform: None, ..manifest.clone() };
        let named: Vec<Descriptor> = names
            .iter()
            .map(|name| {
                let tag = name.tag().unwrap_or_default().to_owned();
                let annotations =
                    [(NAME_ANNOTATION.to_owned(), name.to_string()), (REF_ANNOTATION.to_owned(), tag)];
                Descriptor { annotations: BTreeMap::from(annotations), ..plain.clone() }
            })
            .collect();
        let listed = if named.is_empty() { vec![plain] } else { named };
        for descriptor in listed {
            if !self.listed.contains(&descriptor) {
                self.listed.push(descriptor);
            }
        }
    }

    fn index(&self) -> Vec<u8> {
        json(&Index { schema_version: 2, media_type: OCI_INDEX, manifests: &self.listed })
    }

    fn items(&self) -> Vec<u8> {
        json(&self.items)
    }
}

impl Item {
    fn add_tags(&mut self, more: Option<Vec<String>>) {
        let Some(more) = more else { return };
        let tags = self.repo_tags.get_or_insert_default();
        for tag in more {
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
    }
}

fn manifest(from: &Descriptor, content: &Content) -> Result<Manifest, ArchiveError> {
    let stored = |source| ArchiveError::Stored { digest: from.digest.clone(), source };
    let bytes = content.read(&from.digest, MANIFEST_BYTES)?;
    match Document::parse(&bytes, &from.media_type).map_err(stored)? {
        Document::Manifest(manifest) => Ok(manifest),
        Document::Index(_) => Err(stored(DocumentError::Unsupported(from.media_type.clone()))),
    }
}

fn path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("strings and numbers are valid JSON")
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn write_folder(tar: &mut Builder<impl Write>, name: &str) -> Result<(), ArchiveError> {
    let mut header = header(EntryType::Directory, 0o755, 0);
    tar.append_data(&mut header, name, std::io::empty()).map_err(ArchiveError::Write)
}

fn write_file(tar: &mut Builder<impl Write>, name: &str, bytes: &[u8]) -> Result<(), ArchiveError> {
    let mut header = header(EntryType::Regular, 0o644, bytes.len() as u64);
    tar.append_data(&mut header, name, bytes).map_err(ArchiveError::Write)
}

fn write_blob(
    tar: &mut Builder<impl Write>,
    content: &Content,
    digest: &Digest,
    size: u64,
) -> Result<(), ArchiveError> {
    let mut blob = content.open_blob(digest)?;
    let mut header = header(EntryType::Regular, 0o644, size);
    header.set_path(path(digest)).map_err(ArchiveError::Write)?;
    header.set_cksum();
    tar.get_mut().write_all(header.as_bytes()).map_err(ArchiveError::Write)?;
    let (mut hasher, mut written) = (Hasher::default(), 0_u64);
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = blob.read(&mut buffer).map_err(ContentError::io("read blob", digest))?;
        let Some(piece) = buffer.get(..read).filter(|piece| !piece.is_empty()) else { break };
        written = written.saturating_add(read as u64);
        if written > size {
            break;
        }
        hasher.update(piece);
        tar.get_mut().write_all(piece).map_err(ArchiveError::Write)?;
    }
    if written != size {
        return Err(
            ContentError::WrongSize { digest: digest.clone(), expected: size, actual: written }.into()
        );
    }
    let actual = hasher.finish();
    if actual != *digest {
        return Err(ContentError::WrongDigest { expected: digest.clone(), actual }.into());
    }
    let padding = (512 - size % 512) % 512;
    std::io::copy(&mut std::io::repeat(0).take(padding), tar.get_mut()).map_err(ArchiveError::Write)?;
    Ok(())
}
