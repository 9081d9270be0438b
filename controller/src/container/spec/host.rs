//! Facts of this host that a container's spec depends on, read once, so that building one is pure.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};

use super::capability::{self, Cap};

/// What this host is and may give.
#[derive(Debug, Clone)]
pub struct Host {
    /// Capabilities that the engine has, the most it can pass on.
    pub capabilities: Vec<Cap>,
    /// The engine's own out-of-memory adjustment.
    pub oom_score_adj: i32,
    /// Hard limit of open files.
    pub nofile: u64,
    /// Hard limit of core files.
    pub core: u64,
    /// Host name.
    pub hostname: String,
    /// Platform: "linux/amd64".
    pub platform: String,
    /// Folders that tell a processor's temperature, which a container must not see.
    pub thermal: Vec<PathBuf>,
    /// Processors.
    pub cpus: u32,
    /// Processors that are online: first and last of each row.
    pub online_cpus: Vec<(u16, u16)>,
    /// Memory nodes that are online, in the same form.
    pub online_mems: Vec<(u16, u16)>,
    /// Memory in bytes.
    pub memory: u64,
    /// Memory is limited through cgroup v1.
    pub legacy_memory: bool,
    /// Its message queues are mounted, so that a container can share them.
    pub mqueue: bool,
}

impl Host {
    /// Reads the facts.
    ///
    /// # Errors
    /// When `/proc` or `/sys` cannot be read.
    pub fn read() -> io::Result<Self> {
        let status = fs::read_to_string("/proc/self/status")?;
        let adjustment = fs::read_to_string("/proc/self/oom_score_adj")?;
        let uname = rustix::system::uname();
        Ok(Self {
            capabilities: capability::from_mask(permitted(&status)?),
            oom_score_adj: adjustment.trim().parse().map_err(io::Error::other)?,
            nofile: getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX),
            core: getrlimit(Resource::Core).maximum.unwrap_or(u64::MAX),
            hostname: uname.nodename().to_string_lossy().into_owned(),
            platform: format!("linux/{}", architecture()),
            thermal: thermal(Path::new("/sys/devices/system/cpu")),
            mqueue: Path::new("/dev/mqueue").is_dir(),
            online_cpus: online("/sys/devices/system/cpu/online"),
            online_mems: online("/sys/devices/system/node/online"),
            memory: total(&fs::read_to_string("/proc/meminfo")?),
            legacy_memory: davit_sys::mount::mount_table()?
                .iter()
                .any(|mount| mount.kind == "cgroup" && mount.options.iter().any(|o| o == "memory")),
            cpus: std::thread::available_parallelism()
                .map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
        })
    }

    /// Whether the engine itself has a capability.
    #[must_use]
    pub fn has(&self, cap: Cap) -> bool {
        self.capabilities.contains(&cap)
    }
}

/// This machine's architecture in Go's words, as images and docker say it.
#[must_use]
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        other => other,
    }
}

/// The set that a child of ours can have at most: what is permitted and not taken from the bounding set.
fn permitted(status: &str) -> io::Result<u64> {
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|text| u64::from_str_radix(text.trim(), 16).ok())
            .ok_or_else(|| io::Error::other(format!("/proc/self/status has no {name}")))
    };
    Ok(field("CapPrm:")? & field("CapBnd:")?)
}

/// What the kernel says is online; the first only, where it says nothing.
fn online(path: &str) -> Vec<(u16, u16)> {
    let rows = fs::read_to_string(path).ok().and_then(|text| super::resource::rows(text.trim()));
    rows.unwrap_or_else(|| vec![(0, 0)])
}

fn total(meminfo: &str) -> u64 {
    let kibibytes = meminfo.lines().find_map(|line| {
        line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    });
    kibibytes.unwrap_or(0).saturating_mul(1024)
}

fn thermal(cpus: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(cpus) else { return Vec::new() };
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            let digits = name.to_str().and_then(|name| name.strip_prefix("cpu")).unwrap_or_default();
            !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
        })
        .map(|entry| entry.path().join("thermal_throttle"))
        .filter(|path| path.is_dir())
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_can_be_read() {
        let host = Host::read().unwrap();
        assert!(host.nofile > 0 && host.cpus > 0 && host.platform.starts_with("linux/"));
    }

    #[test]
    fn the_bounding_set_counts() {
        let status = "Name:\tx\nCapPrm:\t000001ffffffffff\nCapBnd:\t0000000000000003\n";
        assert_eq!(permitted(status).unwrap(), 3);
        assert!(permitted("CapPrm:\tzz\n").is_err());
    }
}
