//! A host of a test's own: fresh mount, network and process namespaces below one holder process. When the
//! holder is killed the kernel ends everything in it, so a failed test leaves no process, mount or link.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};

use crate::place::Place;
use crate::wait::until;

/// The namespaces and a folder for what a test writes. Dropping it ends and removes all.
#[derive(Debug)]
pub struct Host {
    unshare: Child,
    /// Process 1 of the namespaces, as this test sees it.
    init: u32,
    folder: tempfile::TempDir,
}

impl Host {
    /// Makes a host with nothing but a loopback link.
    ///
    /// # Errors
    /// When namespaces cannot be made; the tests need root.
    pub fn new() -> Result<Self> {
        let (unshare, init) = namespaces()?;
        // Short: a Unix socket's path has room for 107 bytes and holds a container's id.
        let folder = tempfile::Builder::new().prefix("dvt-").tempdir_in("/tmp")?;
        let host = Self { unshare, init, folder };
        host.settle()?;
        Ok(host)
    }

    /// Ends everything on this host at once, and begins anew in fresh namespaces: only what lies in its folder on the
    /// disk is still there. What was mounted is not.
    ///
    /// # Errors
    /// When namespaces cannot be made.
    pub fn reboot(&mut self) -> Result<()> {
        self.end();
        (self.unshare, self.init) = namespaces()?;
        self.settle()
    }

    fn settle(&self) -> Result<()> {
        until("the namespaces' own /proc", || {
            let seen = self.command("readlink").arg("/proc/self").output().ok()?;
            (seen.status.success() && !seen.stdout.is_empty()).then_some(())
        });
        let up = self.command("ip").args(["link", "set", "lo", "up"]).status()?;
        anyhow::ensure!(up.success(), "bring up the loopback link");
        Ok(())
    }

    /// `kill -9` of every process on this host at one instant. The host itself stays.
    ///
    /// # Errors
    /// When they cannot be killed.
    pub fn kill_all(&self) -> Result<()> {
        let killed = self.command("sh").args(["-c", "kill -9 -1"]).status()?;
        anyhow::ensure!(killed.success(), "kill all processes of a host");
        Ok(())
    }

    fn end(&mut self) {
        if let Err(error) = self.unshare.kill() {
            eprintln!("end a test's host: {error}");
        }
        if let Err(error) = self.unshare.wait() {
            eprintln!("wait for a test's host: {error}");
        }
        self.remove_cgroups();
    }

    /// Folder of this host, on the disk.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A name that no other host has: for cgroups and links.
    #[must_use]
    pub fn name(&self) -> String {
        self.folder.path().file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Its network namespace.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn place(&self) -> Result<Place> {
        Place::open(Path::new(&format!("/proc/{}/ns/net", self.init)))
    }

    /// A file as this host sees it, by a path of this test.
    #[must_use]
    pub fn seen_at(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.init))
    }

    /// Joins this host and another one by a cable: a link `name` here, with this address and prefix, and one there.
    ///
    /// # Errors
    /// When the link cannot be made.
    pub fn cable(&self, name: &str, address: &str, there: &Self, their_address: &str) -> Result<()> {
        let (here, peer) = (self.init.to_string(), there.init.to_string());
        let words =
            ["link", "add", name, "netns", &here, "type", "veth", "peer", "name", name, "netns", &peer];
        let made = Command::new("ip").args(words).output()?;
        anyhow::ensure!(made.status.success(), "make a cable: {}", String::from_utf8_lossy(&made.stderr));
        for (host, address) in [(self, address), (there, their_address)] {
            let place = host.place()?;
            place.run(&format!("ip addr add {address} dev {name}"));
            place.run(&format!("ip link set {name} up"));
        }
        Ok(())
    }

    /// A command that will run on this host.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.init)).args(["--mount", "--net", "--pid", "--"]).arg(program);
        command
    }

    /// A command on a neighbour of this host: another network namespace, 10.99.0.2, joined by a link to
    /// 10.99.0.1 here.
    ///
    /// # Errors
    /// When the link cannot be made.
    pub fn neighbour(&self) -> Result<Neighbour<'_>> {
        let script = "set -e; ip netns add neighbour; ip link add lan0 type veth peer name eth0 netns neighbour; \
            ip addr add 10.99.0.1/24 dev lan0; ip link set lan0 up; \
            ip -n neighbour addr add 10.99.0.2/24 dev eth0; ip -n neighbour link set eth0 up; \
            ip -n neighbour link set lo up; ip -n neighbour route add default via 10.99.0.1";
        let made = self.command("sh").args(["-c", &format!("mount -t tmpfs none /run/netns 2>/dev/null || {{ mkdir -p /run/netns && mount -t tmpfs none /run/netns; }}; {script}")]).output()?;
        anyhow::ensure!(made.status.success(), "make a neighbour: {}", String::from_utf8_lossy(&made.stderr));
        Ok(Neighbour { host: self })
    }

    /// Process ids, as this test sees them, of everything on this host that nobody else is the parent of, shims among
    /// it, and of all that these have started.
    #[must_use]
    pub fn adopted(&self) -> Vec<u32> {
        let mut found = children(self.init);
        let mut at = 0;
        while let Some(&pid) = found.get(at) {
            found.extend(children(pid));
            at += 1;
        }
        found
    }

    /// The process id, as this test sees it, of the one child of an `nsenter` that was spawned by
    /// [`Host::command`].
    ///
    /// # Panics
    /// When the child never appears.
    #[must_use]
    pub fn inner_pid(nsenter: &Child) -> u32 {
        until("a process on the host", || first_child(nsenter.id()))
    }

    fn remove_cgroups(&self) {
        let Ok(hierarchies) = fs::read_dir("/sys/fs/cgroup") else { return };
        let roots = hierarchies.flatten().map(|entry| entry.path()).chain([PathBuf::from("/sys/fs/cgroup")]);
        for root in roots {
            remove_cgroup(&root.join(self.name()));
        }
    }
}

/// Removes a cgroup and those below it, as far as they are empty.
fn remove_cgroup(cgroup: &Path) {
    let Ok(entries) = fs::read_dir(cgroup) else { return };
    for entry in entries.flatten() {
        if entry.path().is_dir() {
            remove_cgroup(&entry.path());
        }
    }
    // A group whose processes are still dying is busy for a moment.
    for _ in 0..100 {
        if fs::remove_dir(cgroup).is_ok() || !cgroup.exists() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    eprintln!("cgroup {} could not be removed", cgroup.display());
}

pub(crate) fn first_child(pid: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

/// Children of all threads of a process.
fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let listed = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let parsed =
        |text: String| text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>();
    listed.flat_map(parsed).collect()
}

/// Starts the process that holds the namespaces, and tells the id of their first one.
fn namespaces() -> Result<(Child, u32)> {
    // The shell reaps whatever is adopted by it, as a host's init does.
    let unshare = Command::new("unshare")
        .args(["--fork", "--pid", "--mount-proc", "--net", "--mount", "--kill-child=KILL", "--"])
        .args(["sh", "-c", "exec 2>/dev/null; while :; do sleep 3600 & wait $!; done"])
        .stdin(Stdio::null())
        .spawn()
        .context("start unshare")?;
    let init = until("the namespaces' first process", || first_child(unshare.id()));
    Ok((unshare, init))
}

impl Drop for Host {
    fn drop(&mut self) {
        self.end();
    }
}

/// Another host on the same link.
#[derive(Debug)]
pub struct Neighbour<'a> {
    host: &'a Host,
}

impl Neighbour<'_> {
    /// Its network namespace.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn place(&self) -> Result<Place> {
        Place::open(&self.host.seen_at("/run/netns/neighbour"))
    }

    /// A command that will run there.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.host.command("ip");
        command.args(["netns", "exec", "neighbour"]).arg(program);
        command
    }
}
