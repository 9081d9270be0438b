//! Looks at the host: files of `/proc`, `/sys` and `/etc`, all of them bounded.

use std::path::{Path, PathBuf};

use davit_sys::file::read_bounded;
use rustix::fs::{Dir, FileType, Mode, OFlags, statfs};

/// Longest file that is read.
const LIMIT: usize = 64 << 10;
/// Where cgroups are mounted.
const CGROUP: &str = "/sys/fs/cgroup";
/// What statfs(2) says of a cgroup2 file system.
const CGROUP2: i64 = 0x6367_7270;
/// Oldest kernel that the engine is made for.
const OLDEST_KERNEL: (u64, u64) = (5, 15);

/// What a look at the host found.
#[derive(Debug, Default)]
pub struct Facts {
    /// File system below the root directory.
    pub backing_filesystem: String,
    /// Whether its folders tell the types of their files.
    pub supports_d_type: bool,
    /// "1" (also for hybrid) or "2".
    pub cgroup_version: &'static str,
    /// Name of the operating system.
    pub operating_system: String,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// The machine's id; empty when it has none.
    pub machine_id: String,
    /// How containers can be confined.
    pub security_options: Vec<String>,
    /// What this host lacks, one sentence each.
    pub warnings: Vec<String>,
}

/// Looks at this host. What cannot be read counts as not there.
pub fn look(root: &Path) -> Facts {
    let text = |path: &str| {
        read_bounded(Path::new(path), LIMIT)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    };
    let unified = statfs(CGROUP).is_ok_and(|found| found.f_type == CGROUP2);
    let mut facts = Facts {
        backing_filesystem: statfs(root)
            .map_or_else(|_| "unknown".to_owned(), |found| filesystem(found.f_type)),
        supports_d_type: tells_types(root).unwrap_or(false),
        cgroup_version: if unified { "2" } else { "1" },
        operating_system: operating_system(&text("/etc/os-release")),
        memory_bytes: memory(&text("/proc/meminfo")),
        machine_id: text("/etc/machine-id").trim().to_owned(),
        ..Facts::default()
    };
    let has_seccomp = Path::new("/proc/sys/kernel/seccomp").exists();
    if has_seccomp {
        facts.security_options.push("name=seccomp,profile=default".to_owned());
    }
    if Path::new("/proc/self/ns/cgroup").exists() {
        facts.security_options.push("name=cgroupns".to_owned());
    }
    let controllers = if unified { text("/sys/fs/cgroup/cgroup.controllers") } else { String::new() };
    facts.warnings = cgroup_warnings(unified, &controllers);
    facts.warnings.extend(kernel_warnings(&text("/proc/sys/kernel/osrelease"), has_seccomp));
    if text("/proc/sys/net/ipv4/ip_forward").trim() == "0" {
        facts.warnings.push("IPv4 forwarding is disabled: containers on a bridge cannot get out".to_owned());
    }
    facts
}

/// Whether a folder tells the types of all that is in it.
fn tells_types(folder: &Path) -> rustix::io::Result<bool> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    for entry in Dir::new(rustix::fs::open(folder, flags, Mode::empty())?)? {
        if entry?.file_type() == FileType::Unknown {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The name of a file system by its number, in docker's words.
fn filesystem(number: i64) -> String {
    match number {
        0xEF53 => "extfs",
        0x5846_5342 => "xfs",
        0x9123_683E => "btrfs",
        0x0102_1994 => "tmpfs",
        0x794C_7630 => "overlayfs",
        0x2FC1_2FC1 => "zfs",
        0xF2F5_2010 => "f2fs",
        0xCA45_1A4E => "bcachefs",
        0x6969 => "nfs",
        other => return format!("0x{other:x}"),
    }
    .to_owned()
}

fn operating_system(os_release: &str) -> String {
    let value = |key: &str| {
        os_release
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
            .map(|text| text.trim_matches(['"', '\'']).to_owned())
    };
    value("PRETTY_NAME").or_else(|| value("NAME")).unwrap_or_else(|| "Linux".to_owned())
}

fn memory(meminfo: &str) -> u64 {
    let kibibytes = meminfo.lines().find_map(|line| {
        line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    });
    kibibytes.unwrap_or(0).saturating_mul(1024)
}

/// What cannot be limited here, by controller or file.
fn cgroup_warnings(unified: bool, controllers: &str) -> Vec<String> {
    let v1 = |path: &str| PathBuf::from(CGROUP).join(path).exists();
    let v2 = |name: &str| controllers.split_whitespace().any(|controller| controller == name);
    let has = |name: &str, file: &str| if unified { v2(name) } else { v1(file) };
    let mut warnings = Vec::new();
    for (there, what) in [
        (has("memory", "memory/memory.limit_in_bytes"), "memory limit"),
        (has("memory", "memory/memory.memsw.limit_in_bytes"), "swap limit"),
        (has("cpu", "cpu/cpu.cfs_quota_us"), "processor limit"),
        (has("cpuset", "cpuset/cpuset.cpus"), "choice of processors"),
        (has("pids", "pids"), "limit of processes"),
        (has("io", "blkio/blkio.throttle.read_bps_device"), "limit of block devices"),
        (unified || v1("devices"), "limit of devices"),
    ] {
        if !there {
            warnings.push(format!("this host has no {what} for cgroups"));
        }
    }
    if !unified && !v1("unified/cgroup.procs") {
        warnings.push("no cgroup2 hierarchy is mounted: each shim mounts one of its own".to_owned());
    }
    warnings
}

fn kernel_warnings(release: &str, has_seccomp: bool) -> Vec<String> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u64>);
    let version = match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Some((major, minor)),
        _ => None,
    };
    let mut warnings = Vec::new();
    if version.is_some_and(|version| version < OLDEST_KERNEL) {
        warnings
            .push(format!("kernel {} is older than 5.15, the oldest that davit is made for", release.trim()));
    }
    if !has_seccomp {
        warnings.push("this kernel has no seccomp: system calls are not filtered".to_owned());
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_can_be_looked_at() {
        let facts = look(Path::new("/"));
        assert!(facts.memory_bytes > 0 && !facts.operating_system.is_empty());
        assert!(["1", "2"].contains(&facts.cgroup_version));
        assert_ne!(facts.backing_filesystem, "unknown");
    }

    #[test]
    fn files_of_the_host_are_understood() {
        assert_eq!(operating_system("NAME=\"X\"\nPRETTY_NAME=\"X 12 (y)\"\n"), "X 12 (y)");
        assert_eq!(operating_system("NAME=X\n"), "X");
        assert_eq!(operating_system(""), "Linux");
        assert_eq!(memory("MemTotal:       2048 kB\nMemFree: 1 kB\n"), 2 << 20);
        assert_eq!(memory("garbage"), 0);
        assert_eq!((filesystem(0xEF53), filesystem(7)), ("extfs".to_owned(), "0x7".to_owned()));
    }

    #[test]
    fn what_is_lacking_is_said() {
        assert_eq!(kernel_warnings("5.10.0-8-amd64\n", false).len(), 2);
        assert!(kernel_warnings("6.18.1", true).is_empty() && kernel_warnings("", true).is_empty());
        let all = "cpuset cpu io memory hugetlb pids rdma misc";
        assert!(cgroup_warnings(true, all).is_empty());
        assert_eq!(cgroup_warnings(true, "cpu").len(), 5);
    }
}
