//! Debian's buildah, which builds the Dockerfiles that we build.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::host::Host;
use crate::tree::{self, Tree};

/// It wants folders below `/run` for itself.
const ALONE: &str = "mount -t tmpfs tmpfs /run && exec \"$@\"";

/// buildah with a storage of its own on a test's host. Layers are plain folders there, each with all files.
#[derive(Debug)]
pub struct Buildah<'a> {
    host: &'a Host,
    folder: PathBuf,
}

impl<'a> Buildah<'a> {
    /// One with no image.
    ///
    /// # Errors
    /// When its folder cannot be made.
    pub fn new(host: &'a Host) -> Result<Self> {
        let folder = host.folder().join("buildah");
        fs::create_dir_all(folder.join("tmp"))?;
        Ok(Self { host, folder })
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.host.command("unshare");
        command.args(["--mount", "--propagation", "private", "--", "sh", "-c", ALONE, "sh", "buildah"]);
        command.arg("--root").arg(self.folder.join("root")).arg("--runroot").arg(self.folder.join("run"));
        command.args(["--storage-driver", "vfs"]).args(words).stdin(Stdio::null());
        command.env("TMPDIR", self.folder.join("tmp"));
        command
    }

    fn ok(&self, words: &[&str]) -> Result<String> {
        let done = self.command(words).output().context("start buildah")?;
        ensure!(done.status.success(), "buildah {words:?}: {}", String::from_utf8_lossy(&done.stderr));
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    }

    /// Takes in an image, in skopeo's words, and gives it a name.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn load(&self, source: &str, names: &[&str]) -> Result<()> {
        let id = self.ok(&["pull", "-q", source])?;
        let names: Vec<String> = names.iter().map(|name| format!("localhost/{name}")).collect();
        let names = names.iter().map(String::as_str);
        self.ok(&["tag", id.trim()].into_iter().chain(names).collect::<Vec<_>>()).map(drop)
    }

    /// Builds a folder.
    ///
    /// # Errors
    /// When it fails, with all it said.
    pub fn build(&self, folder: &Path, name: &str, flags: &[String]) -> Result<()> {
        let folder = folder.display().to_string();
        // The format that can say everything.
        let words = ["bud", "--isolation", "chroot", "--format", "docker", "--pull=false", "-t", name];
        let flags = flags.iter().map(String::as_str);
        let words: Vec<&str> = words.into_iter().chain(flags).chain([folder.as_str()]).collect();
        self.ok(&words).map(drop)
    }

    /// The config of an image.
    ///
    /// # Errors
    /// When there is no such image.
    pub fn config(&self, name: &str) -> Result<Value> {
        let said = self.ok(&["inspect", "--type", "image", name])?;
        let said: Value = serde_json::from_str(&said)?;
        let document = said["Config"].as_str().context("the image's document")?;
        let mut document: Value = serde_json::from_str(document)?;
        Ok(document["config"].take())
    }

    /// The files of an image: where they are, and what they are.
    ///
    /// # Errors
    /// When there is no such image, or a file cannot be read.
    pub fn tree(&self, name: &str) -> Result<(PathBuf, Tree)> {
        let images = fs::read(self.folder.join("root/vfs-images/images.json"))?;
        let images: Value = serde_json::from_slice(&images)?;
        let name = Value::String(format!("localhost/{name}:latest"));
        let mut images = images.as_array().context("a list of images")?.iter();
        let image = images.find(|image| image["names"].as_array().is_some_and(|names| names.contains(&name)));
        let layer = image.and_then(|image| image["layer"].as_str()).context("the image's layer")?;
        let root = self.folder.join("root/vfs/dir").join(layer);
        let tree = tree::read(&root)?;
        Ok((root, tree))
    }
}
