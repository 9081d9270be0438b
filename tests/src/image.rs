//! Images made for the tests.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

/// A docker-archive of Debian's busybox as `busybox:latest`, made once a test process.
///
/// # Errors
/// When `deploy/busybox-image` fails.
pub fn busybox() -> Result<PathBuf> {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    if let Some(path) = MADE.get() {
        return Ok(path.clone());
    }
    let target = crate::engine::target();
    fs::create_dir_all(&target)?;
    // In the build's folder, which is not swept but overwritten; under a name of its own until it is whole.
    let folder = tempfile::Builder::new().prefix("busybox-").tempdir_in(&target)?;
    let made = folder.path().join("busybox.tar");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/busybox-image");
    let output = Command::new(script).arg("-o").arg(&made).output().context("run deploy/busybox-image")?;
    anyhow::ensure!(output.status.success(), "busybox-image: {}", String::from_utf8_lossy(&output.stderr));
    let path = target.join("busybox.tar");
    fs::rename(&made, &path)?;
    // Two tests may have raced; either image will do.
    Ok(MADE.get_or_init(|| path).clone())
}

/// Compression of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// A bare tar.
    None,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

/// An OCI image layout being written.
#[derive(Debug)]
pub struct Layout {
    folder: PathBuf,
    layers: Vec<(serde_json::Value, String)>,
}

impl Layout {
    /// Begins an empty layout in a folder.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn new(folder: PathBuf) -> Result<Self> {
        fs::create_dir_all(folder.join("blobs/sha256"))?;
        fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
        Ok(Self { folder, layers: Vec::new() })
    }

    /// Folder of the layout.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn blob(&self, bytes: &[u8]) -> Result<(String, usize)> {
        let hex = hex::encode(Sha256::digest(bytes));
        fs::write(self.folder.join("blobs/sha256").join(&hex), bytes)?;
        Ok((format!("sha256:{hex}"), bytes.len()))
    }

    /// Adds a layer from the bytes of a tar.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn layer(&mut self, tar: &[u8], compression: Compression) -> Result<()> {
        let diff_id = format!("sha256:{}", hex::encode(Sha256::digest(tar)));
        let (suffix, bytes) = match compression {
            Compression::None => ("", tar.to_vec()),
            Compression::Gzip => {
                let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                writer.write_all(tar)?;
                ("+gzip", writer.finish()?)
            }
            Compression::Zstd => ("+zstd", zstd::encode_all(tar, 1)?),
        };
        self.push(&bytes, suffix, diff_id)
    }

    /// Adds a layer from compressed bytes, with a diff id of the caller's choice, as hex.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn packed_layer(&mut self, bytes: &[u8], compression: Compression, diff_id: &str) -> Result<()> {
        let suffix = match compression {
            Compression::None => "",
            Compression::Gzip => "+gzip",
            Compression::Zstd => "+zstd",
        };
        self.push(bytes, suffix, format!("sha256:{diff_id}"))
    }

    fn push(&mut self, bytes: &[u8], suffix: &str, diff_id: String) -> Result<()> {
        let (digest, size) = self.blob(bytes)?;
        self.layers.push((
            serde_json::json!({
                "mediaType": format!("application/vnd.oci.image.layer.v1.tar{suffix}"),
                "digest": digest,
                "size": size,
            }),
            diff_id,
        ));
        Ok(())
    }

    /// Writes configuration, manifest and index, and names the image.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn finish(&self, tag: &str, config: &serde_json::Value) -> Result<()> {
        let diff_ids: Vec<&String> = self.layers.iter().map(|(_, diff_id)| diff_id).collect();
        self.finish_with_diff_ids(tag, config, &serde_json::json!(diff_ids))
    }

    /// The same with diff ids of the caller's choice, which may be lies.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn finish_with_diff_ids(
        &self,
        tag: &str,
        config: &serde_json::Value,
        diff_ids: &serde_json::Value,
    ) -> Result<()> {
        let descriptors: Vec<&serde_json::Value> = self.layers.iter().map(|(layer, _)| layer).collect();
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let (config_digest, config_size) = self.blob(&serde_json::to_vec(&serde_json::json!({
            "architecture": architecture,
            "os": "linux",
            "created": "2026-01-01T00:00:00Z",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": vec![serde_json::json!({"created_by": "a test"}); self.layers.len()],
        }))?)?;
        let (digest, size) = self.blob(&serde_json::to_vec(&serde_json::json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": config_digest,
                "size": config_size,
            },
            "layers": descriptors,
        }))?)?;
        let index = serde_json::json!({
            "schemaVersion": 2,
            "manifests": [{
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": digest,
                "size": size,
                "annotations": {"org.opencontainers.image.ref.name": tag},
            }],
        });
        fs::write(self.folder.join("index.json"), serde_json::to_vec(&index)?)?;
        Ok(())
    }
}

/// The busybox of this machine with its applets, as a tar, to be the first layer of an image.
///
/// # Errors
/// When `/bin/busybox` is missing.
pub fn busybox_layer() -> Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for folder in ["bin", "dev", "etc", "proc", "sys", "tmp", "root"] {
        append(&mut tar, folder, tar::EntryType::Directory, 0o755, b"")?;
    }
    append(&mut tar, "bin/busybox", tar::EntryType::Regular, 0o755, &fs::read("/bin/busybox")?)?;
    for applet in ["sh", "cat", "echo", "ls", "find", "wc", "sleep", "true", "false", "id", "stat", "md5sum"]
    {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        tar.append_link(&mut header, format!("bin/{applet}"), "busybox")?;
    }
    append(&mut tar, "etc/passwd", tar::EntryType::Regular, 0o644, b"root:x:0:0:root:/root:/bin/sh\n")?;
    append(&mut tar, "etc/group", tar::EntryType::Regular, 0o644, b"root:x:0:\n")?;
    Ok(tar.into_inner()?)
}

/// Adds one entry to a tar.
///
/// # Errors
/// When it cannot be written.
pub fn append(
    tar: &mut tar::Builder<Vec<u8>>,
    path: &str,
    kind: tar::EntryType,
    mode: u32,
    bytes: &[u8],
) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(bytes.len() as u64);
    header.set_mode(mode);
    header.set_mtime(1_767_225_600);
    tar.append_data(&mut header, path, bytes)?;
    Ok(())
}

/// A layer of `files` small files with `bytes` in all, half of it incompressible. `seed` makes layers
/// differ.
///
/// # Errors
/// When the tar cannot be written.
pub fn many_files(seed: u64, files: usize, bytes: usize) -> Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::with_capacity(bytes + files * 1024));
    let each = bytes / files.max(1);
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut content = vec![b'x'; each];
    append(&mut tar, &format!("data{seed}"), tar::EntryType::Directory, 0o755, b"")?;
    for file in 0..files {
        if file % 100 == 0 {
            append(&mut tar, &format!("data{seed}/{}", file / 100), tar::EntryType::Directory, 0o755, b"")?;
        }
        for chunk in content.chunks_mut(16).take(each / 32 + 1) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let word = state.to_le_bytes();
            let taken = chunk.len().min(8);
            chunk[..taken].copy_from_slice(&word[..taken]);
        }
        append(
            &mut tar,
            &format!("data{seed}/{}/{file}", file / 100),
            tar::EntryType::Regular,
            0o644,
            &content,
        )?;
    }
    Ok(tar.into_inner()?)
}

/// An image with a real bash of this machine beside busybox, under the given reference, as an oci-archive in a folder.
///
/// # Errors
/// When there is no bash, or the archive cannot be made.
pub fn with_bash(folder: &Path, reference: &str) -> Result<PathBuf> {
    let mut layout = Layout::new(folder.join("layout"))?;
    layout.layer(&busybox_layer()?, Compression::Gzip)?;
    let mut tar = tar::Builder::new(Vec::new());
    let bash = Path::new("/bin/bash");
    let listed = Command::new("ldd").arg(bash).output().context("run ldd")?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let libraries = listed.split_whitespace().filter(|word| word.starts_with('/')).map(Path::new);
    for file in std::iter::once(bash).chain(libraries) {
        let inside = file.strip_prefix("/").unwrap_or(file).display().to_string();
        let bytes = fs::read(file).with_context(|| format!("read {}", file.display()))?;
        append(&mut tar, &inside, tar::EntryType::Regular, 0o755, &bytes)?;
    }
    layout.layer(&tar.into_inner()?, Compression::Gzip)?;
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    layout.finish(reference, &serde_json::json!({"Cmd": ["bash"], "Env": [path, "PS1=inside# "]}))?;
    let archive = folder.join("bash.tar");
    let packed =
        Command::new("tar").arg("-C").arg(layout.folder()).arg("-cf").arg(&archive).arg(".").status()?;
    anyhow::ensure!(packed.success(), "tar the layout");
    Ok(archive)
}
