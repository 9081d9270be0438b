//! What a process may do: capabilities, identity, limits, and the small switches around them.

#![expect(unsafe_code, reason = "keyctl(2) and a few prctls have no wrapper")]

use std::io;

use rustix::process::{Gid, Resource, Rlimit, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

/// A set of capabilities as a bit mask, bit n being capability n.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities(pub u64);

/// Names by number; the kernel adds to the end only.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

impl Capabilities {
    /// The right to nearly everything, without which most of this module does nothing.
    pub const SYS_ADMIN: Self = Self(1 << 21);

    /// One capability by name, with or without `CAP_`, in any case.
    pub fn named(name: &str) -> Option<Self> {
        let name = name.to_ascii_uppercase();
        let name = name.strip_prefix("CAP_").unwrap_or(&name);
        NAMES.iter().position(|known| *known == name).map(|bit| Self(1 << bit))
    }

    /// Both sets together.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The names, as the kernel's headers have them.
    pub fn names(self) -> Vec<String> {
        let set = |bit: usize| self.0 & (1 << bit) != 0;
        NAMES.iter().enumerate().filter(|(bit, _)| set(*bit)).map(|(_, n)| format!("CAP_{n}")).collect()
    }
}

/// The capabilities that this process may use now.
pub fn permitted() -> io::Result<Capabilities> {
    Ok(Capabilities(rustix::thread::capabilities(None)?.permitted.bits()))
}

/// Sets the three sets of the calling thread.
pub fn set_capabilities(
    effective: Capabilities,
    permitted: Capabilities,
    inheritable: Capabilities,
) -> io::Result<()> {
    let set = |c: Capabilities| CapabilitySet::from_bits_retain(c.0);
    let sets = CapabilitySets {
        effective: set(effective),
        permitted: set(permitted),
        inheritable: set(inheritable),
    };
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

/// Drops everything but `keep` from the bounding set, whose end is where the kernel knows no more capabilities.
pub fn limit_bounding(keep: Capabilities) -> io::Result<()> {
    for bit in 0..64u32 {
        // SAFETY: plain prctl calls with integer arguments.
        let held = unsafe { libc::prctl(libc::PR_CAPBSET_READ, bit, 0, 0, 0) };
        if held < 0 {
            return Ok(());
        }
        if held == 0 || keep.0 & (1 << bit) != 0 {
            continue;
        }
        // SAFETY: as above.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, bit, 0, 0, 0) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Empties the ambient set.
pub fn clear_ambient() -> io::Result<()> {
    Ok(rustix::thread::clear_ambient_capability_set()?)
}

/// Keeps the permitted set over the change to a user that is not root.
pub fn keep_capabilities(keep: bool) -> io::Result<()> {
    Ok(rustix::thread::set_keep_capabilities(keep)?)
}

/// From now on no `execve` gives more than this process has.
pub fn set_no_new_privileges() -> io::Result<()> {
    Ok(rustix::thread::set_no_new_privs(true)?)
}

/// Replaces groups, group and user of the calling thread, in that order.
pub fn set_identity(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    if uid == u32::MAX || gid == u32::MAX || groups.contains(&u32::MAX) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "identity out of range"));
    }
    let groups: Vec<Gid> = groups.iter().map(|g| Gid::from_raw(*g)).collect();
    rustix::thread::set_thread_groups(&groups)?;
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    Ok(())
}

/// Makes files as another user and group while `f` runs, with all rights that this process has. For a thread that ends
/// afterwards: what fails half-way is not taken back.
pub fn with_file_identity<T>(uid: u32, gid: u32, f: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    use nix::unistd::{Gid, Uid, setfsgid, setfsuid};
    let own = rustix::thread::capabilities(None)?;
    let dumpable = nix::sys::prctl::get_dumpable()?;
    setfsgid(Gid::from_raw(gid));
    setfsuid(Uid::from_raw(uid));
    // It took the rights to files away.
    rustix::thread::set_capabilities(None, own)?;
    // And hid the whole process, with all its threads, from its own user.
    set_dumpable(dumpable)?;
    // These calls do not say whether they worked; to set what is no id answers what is.
    if setfsuid(Uid::from_raw(u32::MAX)) != Uid::from_raw(uid)
        || setfsgid(Gid::from_raw(u32::MAX)) != Gid::from_raw(gid)
    {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    f()
}

/// Whether other processes of the same user may look into this one.
pub fn set_dumpable(dumpable: bool) -> io::Result<()> {
    Ok(nix::sys::prctl::set_dumpable(dumpable)?)
}

/// Gives the process a session keyring of its own, so that it does not hold its starter's keys.
pub fn new_session_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    let result = unsafe {
        libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>())
    };
    match result {
        0.. => Ok(()),
        _ => match io::Error::last_os_error() {
            // A kernel without keyrings has nothing to hand on.
            e if e.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
            e => Err(e),
        },
    }
}

/// Sets the umask.
pub fn set_umask(mask: u32) {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask));
}

/// Finds a resource by its name in OCI specs (`RLIMIT_NOFILE`).
fn resource(name: &str) -> Option<Resource> {
    Some(match name.strip_prefix("RLIMIT_").unwrap_or(name) {
        "CPU" => Resource::Cpu,
        "FSIZE" => Resource::Fsize,
        "DATA" => Resource::Data,
        "STACK" => Resource::Stack,
        "CORE" => Resource::Core,
        "RSS" => Resource::Rss,
        "NPROC" => Resource::Nproc,
        "NOFILE" => Resource::Nofile,
        "MEMLOCK" => Resource::Memlock,
        "AS" => Resource::As,
        "LOCKS" => Resource::Locks,
        "SIGPENDING" => Resource::Sigpending,
        "MSGQUEUE" => Resource::Msgqueue,
        "NICE" => Resource::Nice,
        "RTPRIO" => Resource::Rtprio,
        "RTTIME" => Resource::Rttime,
        _ => return None,
    })
}

/// What became of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limited {
    /// As asked.
    Exactly,
    /// The hard limit cannot be raised here; the highest allowed one was set.
    Clamped {
        /// The hard limit that holds.
        hard: u64,
    },
}

/// Sets a limit of this process; `u64::MAX` is unlimited. A hard limit that this process may not raise is clamped.
pub fn set_limit(name: &str, soft: u64, hard: u64) -> io::Result<Limited> {
    let unknown = || io::Error::new(io::ErrorKind::InvalidInput, "unknown resource");
    let resource = resource(name).ok_or_else(unknown)?;
    let value = |n: u64| (n != u64::MAX).then_some(n);
    let wanted = Rlimit { current: value(soft), maximum: value(hard) };
    match rustix::process::setrlimit(resource, wanted) {
        Ok(()) => Ok(Limited::Exactly),
        Err(rustix::io::Errno::PERM) => {
            let highest = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
            let (soft, hard) = (soft.min(highest), hard.min(highest));
            rustix::process::setrlimit(resource, Rlimit { current: value(soft), maximum: value(hard) })?;
            Ok(Limited::Clamped { hard })
        }
        Err(e) => Err(e.into()),
    }
}

/// Raises a hard limit of a child to `hard` where it is lower; its soft limit stays. The child must have the limits
/// of this process still.
pub fn raise_limit_of(pid: i32, name: &str, hard: u64) -> io::Result<()> {
    let invalid = |why| io::Error::new(io::ErrorKind::InvalidInput, why);
    let resource = resource(name).ok_or_else(|| invalid("unknown resource"))?;
    let pid = rustix::process::Pid::from_raw(pid).ok_or_else(|| invalid("pid out of range"))?;
    let own = rustix::process::getrlimit(resource);
    let lower = own.maximum.is_some_and(|highest| highest < hard);
    if lower {
        let wanted = Rlimit { current: own.current, maximum: (hard != u64::MAX).then_some(hard) };
        rustix::process::prlimit(Some(pid), resource, wanted)?;
    }
    Ok(())
}

/// Whether a hard limit could be set as asked, without setting it.
pub fn allowed_limit(name: &str, hard: u64) -> io::Result<Limited> {
    let unknown = || io::Error::new(io::ErrorKind::InvalidInput, "unknown resource");
    let highest = rustix::process::getrlimit(resource(name).ok_or_else(unknown)?).maximum.unwrap_or(u64::MAX);
    let raise = Capabilities::named("SYS_RESOURCE").unwrap_or_default();
    let may = permitted()?.intersection(raise) == raise;
    Ok(if may || hard <= highest { Limited::Exactly } else { Limited::Clamped { hard: highest } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_agree_with_the_kernel() {
        assert_eq!(Capabilities::named("cap_sys_admin"), Some(Capabilities::SYS_ADMIN));
        assert_eq!(Capabilities::named("MKNOD").unwrap().0, CapabilitySet::MKNOD.bits());
        let last = Capabilities::named("CHECKPOINT_RESTORE").unwrap();
        assert_eq!(last.0, CapabilitySet::CHECKPOINT_RESTORE.bits());
        assert_eq!(Capabilities::named("CAP_NOPE"), None);
        assert_eq!(Capabilities(0b11).names(), ["CAP_CHOWN", "CAP_DAC_OVERRIDE"]);
    }

    #[test]
    fn privileged_dropping_is_for_good() {
        std::thread::spawn(|| {
            let keep = Capabilities::named("CHOWN").unwrap();
            limit_bounding(keep).unwrap();
            clear_ambient().unwrap();
            set_capabilities(keep, keep, Capabilities(0)).unwrap();
            assert_eq!(permitted().unwrap(), keep);
            let more = keep.with(Capabilities::SYS_ADMIN);
            assert!(set_capabilities(more, more, Capabilities(0)).is_err());
        })
        .join()
        .unwrap();
    }

    #[test]
    fn privileged_identity_is_exact() {
        std::thread::spawn(|| {
            set_identity(1234, 5678, &[9, 10]).unwrap();
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            assert!(status.contains("Uid:\t1234\t1234\t1234\t1234"), "{status}");
            assert!(status.contains("Gid:\t5678\t5678\t5678\t5678"), "{status}");
            assert!(status.contains("Groups:\t9 10 \n"), "{status}");
        })
        .join()
        .unwrap();
        assert!(set_identity(u32::MAX, 0, &[]).is_err());
    }

    #[test]
    fn limits() {
        assert_eq!(set_limit("RLIMIT_CORE", 0, 0).unwrap(), Limited::Exactly);
        assert!(set_limit("RLIMIT_NOPE", 0, 0).is_err());
        assert!(set_limit("RLIMIT_CORE", 5, 2).is_err());
    }
}
