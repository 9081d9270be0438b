//! Other people's programs that read what we wrote, and write what we read: skopeo, umoci and podman. Where one of the
//! last two is missing, who asks for it is told so and passes over.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::host::Host;
use crate::tree::{self, Tree};

/// podman wants folders below `/run` for itself, and its crun no v2 hierarchy beside v1's.
const ALONE: &str =
    "mount -t tmpfs tmpfs /run && { umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$@\"; }";

/// Whether a program is on this machine; says so when it is not.
#[must_use]
pub fn is_there(program: &str) -> bool {
    let there = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .any(|folder| folder.join(program).exists());
    if !there {
        eprintln!("skipped: there is no {program} on this machine");
    }
    there
}

/// Copies an image with skopeo, both in its words.
///
/// # Errors
/// When it fails.
pub fn copy(host: &Host, from: &str, to: &str) -> Result<()> {
    let flags = ["--insecure-policy", "copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false"];
    output(host.command("skopeo").args(flags).args([from, to])).map(drop)
}

/// What skopeo says of an image.
///
/// # Errors
/// When it cannot read it.
pub fn inspect(host: &Host, image: &str) -> Result<serde_json::Value> {
    let said = output(host.command("skopeo").args(["inspect", "--tls-verify=false", image]))?;
    serde_json::from_str(&said).context("what skopeo says")
}

/// Unpacks an image of a layout with umoci, and reads a folder of it.
///
/// # Errors
/// When umoci fails.
pub fn unpacked(host: &Host, layout: &Path, tag: &str, folder: &str) -> Result<Tree> {
    let bundle = tempfile::Builder::new().prefix("bundle-").tempdir_in(host.folder())?;
    let into = bundle.path().join("bundle");
    output(
        host.command("umoci")
            .args(["--log", "error", "unpack", "--image"])
            .arg(format!("{}:{tag}", layout.display()))
            .arg(&into),
    )?;
    tree::read(&into.join("rootfs").join(folder))
}

/// podman with a storage of its own on a test's host.
#[derive(Debug)]
pub struct Podman<'a> {
    host: &'a Host,
    folder: PathBuf,
}

impl<'a> Podman<'a> {
    /// One with no image.
    ///
    /// # Errors
    /// When its folder cannot be made.
    pub fn new(host: &'a Host) -> Result<Self> {
        let folder = host.folder().join("podman");
        fs::create_dir(&folder)?;
        Ok(Self { host, folder })
    }

    /// A podman command.
    #[must_use]
    pub fn command(&self, words: &[&str]) -> Command {
        let flag =
            |name: &str, folder: &str| [format!("--{name}"), self.folder.join(folder).display().to_string()];
        let mut command = self.host.command("unshare");
        command.args(["--mount", "--propagation", "private", "--", "sh", "-c", ALONE, "sh", "podman"]);
        command.args(flag("root", "root")).args(flag("runroot", "run")).args(flag("tmpdir", "tmp"));
        command.args(flag("network-config-dir", "networks"));
        command.args(["--cgroup-manager", "cgroupfs", "--runtime", "crun", "--events-backend", "none"]);
        command.args(words).stdin(Stdio::null());
        command
    }

    /// Runs one, which must succeed; what it printed.
    ///
    /// # Errors
    /// When it fails.
    pub fn ok(&self, words: &[&str]) -> Result<String> {
        output(&mut self.command(words))
    }

    /// What a container of an image prints.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn run(&self, image: &str, words: &[&str]) -> Result<String> {
        self.ok(&[&["run", "--rm", "--network", "none", "--cgroups", "disabled", image], words].concat())
    }

    /// Removes all of its storage: the next one begins with nothing.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn end(self) -> Result<()> {
        self.ok(&["rm", "-f", "-a"])?;
        self.ok(&["rmi", "-f", "-a"])?;
        Ok(fs::remove_dir_all(self.folder)?)
    }

    /// A folder of an image.
    ///
    /// # Errors
    /// When it cannot be mounted or read.
    pub fn tree(&self, image: &str, folder: &str) -> Result<Tree> {
        // The mount lives as long as the namespace that it is made in.
        let hold = "\"$@\" && exec sleep 1000";
        let mount = self.command(&["image", "mount", image]);
        let mut words: Vec<_> = mount.get_args().collect();
        let at = words.iter().position(|word| *word == "podman").context("the program")?;
        words.splice(at..at, ["sh".as_ref(), "-c".as_ref(), hold.as_ref(), "sh".as_ref()]);
        let mut child = Command::new(mount.get_program())
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut path = String::new();
        let mut said = BufReader::new(child.stdout.take().context("its output")?);
        said.read_line(&mut path)?;
        let seen = format!("/proc/{}/root{}", Host::inner_pid(&child), path.trim_end());
        let tree =
            tree::read(&Path::new(&seen).join(folder)).with_context(|| format!("podman's mount {path:?}"));
        child.kill()?;
        child.wait()?;
        tree
    }
}

fn output(command: &mut Command) -> Result<String> {
    let done = command.output().with_context(|| format!("start {command:?}"))?;
    ensure!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}
