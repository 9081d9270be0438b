//! Whether what an engine keeps of its images is whole, judged by its files and by nothing of the engine's.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::tree::{self, Tree};

/// An image store on the disk: the folder `image` of an engine's root.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// The store in this folder.
    #[must_use]
    pub fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Reads every blob and every layer: each blob is what its name says; each image that the index names has all its
    /// blobs; its layers hold exactly what their archives do.
    ///
    /// # Errors
    /// With the first thing that is not whole.
    pub fn verify(&self) -> Result<()> {
        for digest in self.blobs()? {
            let actual = hex::encode(Sha256::digest(fs::read(self.blob(&digest))?));
            ensure!(actual == digest, "blob {digest} has digest {actual}");
        }
        let mut seen = BTreeSet::new();
        for manifest in self.manifests()? {
            let manifest = self.json(&manifest)?;
            let config = self.json(hex_of(&manifest["config"])?)?;
            let diff_ids = config["rootfs"]["diff_ids"].as_array().context("diff ids")?;
            let layers = manifest["layers"].as_array().context("layers")?;
            ensure!(diff_ids.len() == layers.len(), "{manifest} and {config}");
            for (layer, diff_id) in layers.iter().zip(diff_ids) {
                let diff_id = diff_id.as_str().unwrap_or_default().trim_start_matches("sha256:");
                if seen.insert(diff_id.to_owned()) {
                    self.verify_layer(hex_of(layer)?, diff_id).with_context(|| format!("layer {diff_id}"))?;
                }
            }
        }
        Ok(())
    }

    fn verify_layer(&self, blob: &str, diff_id: &str) -> Result<()> {
        let tar = inflate(&fs::read(self.blob(blob)).with_context(|| format!("blob {blob}"))?)?;
        let actual = hex::encode(Sha256::digest(&tar));
        ensure!(actual == diff_id, "the blob has diff id {actual}");
        let folder = tempfile::Builder::new().prefix("dvt-layer-").tempdir()?;
        let archive = folder.path().join("layer.tar");
        let fresh = folder.path().join("fs");
        fs::write(&archive, tar)?;
        fs::create_dir(&fresh)?;
        let flags = [
            "--delay-directory-restore",
            "--xattrs",
            "--xattrs-include=*",
            "--same-owner",
            "--numeric-owner",
            "-pxf",
        ];
        let unpacked = Command::new("tar").arg("-C").arg(&fresh).args(flags).arg(&archive).output()?;
        ensure!(unpacked.status.success(), "tar: {}", String::from_utf8_lossy(&unpacked.stderr));
        let kept = self.folder.join("layers").join(diff_id).join("fs");
        let mut kept = tree::read(&kept).context("the unpacked layer")?;
        let fresh = with_whiteouts(tree::read(&fresh)?, &mut kept)?;
        let differences = tree::differences(&fresh, &kept);
        ensure!(differences.is_empty(), "is not what its archive holds: {differences:#?}");
        Ok(())
    }

    /// Digests of all blobs, as hex.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn blobs(&self) -> Result<BTreeSet<String>> {
        names(&self.folder.join("blobs/sha256"))
    }

    /// Diff ids of all layers, as hex. Beside them lie folders of another use.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn layers(&self) -> Result<BTreeSet<String>> {
        let mut layers = names(&self.folder.join("layers"))?;
        layers.retain(|name| name.len() == 64);
        Ok(layers)
    }

    /// What is on its way in or out: names in `ingest`.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn under_way(&self) -> Result<BTreeSet<String>> {
        names(&self.folder.join("ingest"))
    }

    fn manifests(&self) -> Result<BTreeSet<String>> {
        let path = self.folder.join("index.json");
        if !path.exists() {
            return Ok(BTreeSet::new());
        }
        let index: Value = serde_json::from_slice(&fs::read(path)?).context("index.json")?;
        let entries = index["manifests"].as_array().context("entries of index.json")?;
        entries.iter().map(|entry| Ok(hex_of(entry)?.to_owned())).collect()
    }

    fn blob(&self, digest: &str) -> PathBuf {
        self.folder.join("blobs/sha256").join(digest)
    }

    fn json(&self, digest: &str) -> Result<Value> {
        let bytes = fs::read(self.blob(digest)).with_context(|| format!("blob {digest}"))?;
        serde_json::from_slice(&bytes).with_context(|| format!("blob {digest}"))
    }
}

/// What an archive says with names, an overlay says with devices and attributes.
fn with_whiteouts(archive: Tree, kept: &mut Tree) -> Result<Tree> {
    let mut tree = archive.clone();
    for path in archive.keys() {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(hidden) = name.strip_prefix(".wh.") else { continue };
        tree.remove(path);
        if hidden == ".wh..opq" {
            let folder =
                path.parent().and_then(|parent| tree.get_mut(parent)).context("a folder that hides")?;
            folder.attributes.insert("trusted.overlay.opaque".to_owned(), b"y".to_vec());
            continue;
        }
        let hides = kept.remove(&path.with_file_name(hidden)).map(|node| node.content);
        ensure!(hides.as_deref() == Some("character device 0"), "{} is {hides:?}", path.display());
    }
    Ok(tree)
}

fn hex_of(descriptor: &Value) -> Result<&str> {
    descriptor["digest"].as_str().and_then(|digest| digest.strip_prefix("sha256:")).context("a digest")
}

fn names(folder: &Path) -> Result<BTreeSet<String>> {
    let listed = fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
    listed.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

/// A layer as a bare tar, however it came.
///
/// # Errors
/// When its stream is broken.
pub fn inflate(blob: &[u8]) -> Result<Vec<u8>> {
    let mut tar = Vec::new();
    match blob {
        [0x1f, 0x8b, ..] => flate2::read::MultiGzDecoder::new(blob).read_to_end(&mut tar)?,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => zstd::Decoder::new(blob)?.read_to_end(&mut tar)?,
        bare => {
            tar.extend_from_slice(bare);
            tar.len()
        }
    };
    Ok(tar)
}

/// Bytes that the files and folders below a path occupy. What goes away meanwhile counts nothing.
#[must_use]
pub fn occupied(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(meta) = fs::symlink_metadata(path) else { return 0 };
    let below = if meta.is_dir() { fs::read_dir(path).ok() } else { None };
    let below: u64 = below.into_iter().flatten().flatten().map(|entry| occupied(&entry.path())).sum();
    meta.blocks() * 512 + below
}
