//! Debian's `docker-registry` on a test's own host, filled by `skopeo`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Context as _, Result};

use crate::host::Host;
use crate::wait::until_true;

/// A registry at [`Registry::address`] on the host's loopback.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    folder: PathBuf,
}

/// What a registry may have beyond the usual.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settings<'a> {
    /// Lines of a file of users and passwords; empty for a registry that asks nobody.
    pub users: &'a str,
    /// What stands below `tls:`, in braces; empty for plain HTTP.
    pub tls: &'a str,
}

impl Registry {
    /// Starts one that asks nobody and speaks plain HTTP. It ends with the host.
    ///
    /// # Errors
    /// When `docker-registry` cannot be started.
    pub fn start(host: &Host) -> Result<Self> {
        Self::start_with(host, &Settings::default())
    }

    /// Starts one. It ends with the host.
    ///
    /// # Errors
    /// When `docker-registry` cannot be started.
    pub fn start_with(host: &Host, settings: &Settings<'_>) -> Result<Self> {
        let folder = host.folder().join("registry");
        fs::create_dir_all(&folder)?;
        let config = folder.join("config.yml");
        let mut text = format!(
            "version: 0.1\nlog: {{level: warn, accesslog: {{disabled: false}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n\
             http:\n  addr: \"127.0.0.1:5000\"\n",
            folder.join("data").display()
        );
        if !settings.tls.is_empty() {
            text.push_str(&format!("  tls: {{{}}}\n", settings.tls));
        }
        if !settings.users.is_empty() {
            let users = folder.join("users");
            fs::write(&users, settings.users)?;
            text.push_str(&format!("auth: {{htpasswd: {{realm: here, path: {}}}}}\n", users.display()));
        }
        fs::write(&config, text)?;
        let log = fs::File::create(folder.join("log"))?;
        let child = host
            .command("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("start docker-registry")?;
        let registry = Self { child, folder };
        until_true("the registry answers", || {
            // Whatever it says: only that nobody listens is this number.
            let asked = host.command("curl").args(["-s", "http://127.0.0.1:5000/v2/"]).output();
            asked.is_ok_and(|answer| answer.status.code() != Some(7))
        });
        Ok(registry)
    }

    /// `host:port` as references name it.
    #[must_use]
    pub fn address(&self) -> &'static str {
        "127.0.0.1:5000"
    }

    /// Where it keeps its blobs.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.join("data/docker/registry/v2")
    }

    /// File of one blob.
    #[must_use]
    pub fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        self.data().join("blobs/sha256").join(hex.get(..2).unwrap_or_default()).join(hex).join("data")
    }

    /// How many requests changed something so far: uploads begun, chunks, blobs and manifests.
    #[must_use]
    pub fn writes(&self) -> usize {
        let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        ["\"POST /v2/", "\"PATCH /v2/", "\"PUT /v2/"].iter().map(|verb| log.matches(verb).count()).sum()
    }

    /// The registry's process id, as this test sees it.
    #[must_use]
    pub fn pid(&self) -> u32 {
        Host::inner_pid(&self.child)
    }

    /// Copies an image into the registry: `source` in skopeo's words, `name` as `repository:tag`.
    ///
    /// # Errors
    /// When skopeo fails.
    pub fn push(&self, host: &Host, source: &str, name: &str) -> Result<()> {
        let target = format!("docker://{}/{name}", self.address());
        let copied = host
            .command("skopeo")
            .args([
                "--insecure-policy",
                "copy",
                "--preserve-digests",
                "--dest-tls-verify=false",
                source,
                &target,
            ])
            .output()?;
        if copied.status.success() {
            return Ok(());
        }
        // A docker-archive has no digests to preserve.
        let copied = host
            .command("skopeo")
            .args(["--insecure-policy", "copy", "--dest-tls-verify=false", source, &target])
            .output()?;
        anyhow::ensure!(copied.status.success(), "skopeo: {}", String::from_utf8_lossy(&copied.stderr));
        Ok(())
    }

    /// Copies an OCI layout into the registry.
    ///
    /// # Errors
    /// When skopeo fails.
    pub fn push_layout(&self, host: &Host, layout: &Path, tag: &str, name: &str) -> Result<()> {
        self.push(host, &format!("oci:{}:{tag}", layout.display()), name)
    }
}
