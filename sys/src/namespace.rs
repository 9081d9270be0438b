//! Namespaces: open, name, enter, leave the shared one.

#![expect(unsafe_code, reason = "unshare(2) of a thread is unsafe by its wrapper's contract")]
#![expect(clippy::disallowed_methods, reason = "home of setns(2) and unshare(2)")]

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, ThreadNameSpaceType, UnshareFlags};

/// The kinds of namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Mounts.
    Mount,
    /// Process ids (of future children).
    Pid,
    /// Network.
    Net,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Host name.
    Uts,
    /// View of the cgroup tree.
    Cgroup,
    /// Users.
    User,
}

impl Kind {
    /// Its name under `/proc/<pid>/ns/`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mount => "mnt",
            Self::Pid => "pid",
            Self::Net => "net",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::Cgroup => "cgroup",
            Self::User => "user",
        }
    }

    fn link(self) -> LinkNameSpaceType {
        match self {
            Self::Mount => LinkNameSpaceType::Mount,
            Self::Pid => LinkNameSpaceType::ProcessID,
            Self::Net => LinkNameSpaceType::Network,
            Self::Ipc => LinkNameSpaceType::InterProcessCommunication,
            Self::Uts => LinkNameSpaceType::HostNameAndNISDomainName,
            Self::Cgroup => LinkNameSpaceType::ControlGroup,
            Self::User => LinkNameSpaceType::User,
        }
    }

    fn of_thread(self) -> ThreadNameSpaceType {
        match self {
            Self::Mount => ThreadNameSpaceType::MOUNT,
            Self::Pid => ThreadNameSpaceType::PROCESS_ID,
            Self::Net => ThreadNameSpaceType::NETWORK,
            Self::Ipc => ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION,
            Self::Uts => ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME,
            Self::Cgroup => ThreadNameSpaceType::CONTROL_GROUP,
            Self::User => ThreadNameSpaceType::USER,
        }
    }

    fn unshare(self) -> UnshareFlags {
        match self {
            Self::Mount => UnshareFlags::NEWNS,
            Self::Pid => UnshareFlags::NEWPID,
            Self::Net => UnshareFlags::NEWNET,
            Self::Ipc => UnshareFlags::NEWIPC,
            Self::Uts => UnshareFlags::NEWUTS,
            Self::Cgroup => UnshareFlags::NEWCGROUP,
            Self::User => UnshareFlags::NEWUSER,
        }
    }
}

/// Opens a namespace by a file that stands for it: `/proc/<pid>/ns/<kind>`, `/proc/<pid>/fd/<n>`, a bound file.
///
/// What was opened is checked to be a namespace: the path may have been exchanged.
pub fn open(path: &Path) -> io::Result<OwnedFd> {
    const NSFS_MAGIC: i64 = 0x6e73_6673;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let fd = rustix::fs::open(path, flags, Mode::empty())?;
    #[expect(clippy::useless_conversion, reason = "the field's type differs between architectures")]
    let magic = i64::from(rustix::fs::fstatfs(&fd)?.f_type);
    if magic != NSFS_MAGIC {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a namespace"));
    }
    Ok(fd)
}

/// Opens a namespace of the calling thread.
pub fn open_own(kind: Kind) -> io::Result<OwnedFd> {
    open(&Path::new("/proc/thread-self/ns").join(kind.name()))
}

/// The number that names a namespace on this host while it lives.
pub fn inode(namespace: impl AsFd) -> io::Result<u64> {
    Ok(rustix::fs::fstat(namespace)?.st_ino)
}

/// Moves the calling thread into a namespace; `kind` must be what the descriptor is.
pub fn enter(namespace: impl AsFd, kind: Kind) -> io::Result<()> {
    Ok(rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(kind.link()))?)
}

/// Moves the calling thread into several namespaces of a process at once: all of them or none. Children are made in
/// its process ids, where those are among them; the thread itself stays where it is.
pub fn enter_all(pidfd: impl AsFd, kinds: &[Kind]) -> io::Result<()> {
    let all = kinds.iter().fold(ThreadNameSpaceType::empty(), |all, kind| all | kind.of_thread());
    Ok(rustix::thread::move_into_thread_name_spaces(pidfd.as_fd(), all)?)
}

/// Gives the calling thread a new namespace of its own.
pub fn leave(kind: Kind) -> io::Result<()> {
    // SAFETY: none of these flags parts the thread from a descriptor table or memory that Rust code relies on.
    unsafe { Ok(rustix::thread::unshare_unsafe(kind.unshare())?) }
}

/// Gives a new user namespace its ids: 0 and the `count` - 1 after it inside are `uid`, `gid` and those after them
/// outside. `pid` is a process in it, as the mounted `/proc` counts; it can be done once.
pub fn map_ids(pid: u32, uid: u32, gid: u32, count: u32) -> io::Result<()> {
    for (file, first) in [("uid_map", uid), ("gid_map", gid)] {
        // One write: the kernel takes the whole map at once.
        std::fs::write(format!("/proc/{pid}/{file}"), format!("0 {first} {count}\n"))?;
    }
    Ok(())
}

/// Names the host of the calling thread's UTS namespace.
pub fn set_host_name(name: &str) -> io::Result<()> {
    Ok(rustix::system::sethostname(name.as_bytes())?)
}

/// Names the NIS domain of the calling thread's UTS namespace.
pub fn set_domain_name(name: &str) -> io::Result<()> {
    Ok(rustix::system::setdomainname(name.as_bytes())?)
}

/// Brings up the loopback link of the calling thread's network namespace.
pub fn loopback_up() -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType};
    let socket =
        rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: `ifreq` is plain data; the kernel reads the name and the flags from it.
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as libc::c_char;
        request.ifr_name[1] = b'o' as libc::c_char;
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        let fd = std::os::fd::AsRawFd::as_raw_fd(&socket);
        if libc::ioctl(fd, libc::SIOCSIFFLAGS as _, &request) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Namespaces belong to threads, so each test throws one away.
    fn on_a_thread<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
        std::thread::spawn(f).join().unwrap()
    }

    #[test]
    fn privileged_leave_and_come_back() {
        on_a_thread(|| {
            let home = open_own(Kind::Net).unwrap();
            leave(Kind::Net).unwrap();
            let away = open_own(Kind::Net).unwrap();
            assert_ne!(inode(&home).unwrap(), inode(&away).unwrap());
            loopback_up().unwrap();
            std::net::UdpSocket::bind("127.0.0.1:9").unwrap().connect("127.0.0.1:10").unwrap();
            enter(&home, Kind::Net).unwrap();
            assert_eq!(inode(open_own(Kind::Net).unwrap()).unwrap(), inode(&home).unwrap());
            assert!(enter(&away, Kind::Uts).is_err());
        });
    }

    #[test]
    fn privileged_host_names_are_local() {
        on_a_thread(|| {
            leave(Kind::Uts).unwrap();
            set_host_name("elsewhere").unwrap();
            assert_eq!(rustix::system::uname().nodename(), c"elsewhere");
        });
        assert_ne!(rustix::system::uname().nodename(), c"elsewhere");
    }

    #[test]
    fn privileged_namespaces_of_a_process_are_entered_together() {
        on_a_thread(|| {
            leave(Kind::Uts).unwrap();
            let pidfd = crate::process::own_pidfd().unwrap();
            let main = open(Path::new("/proc/self/ns/uts")).unwrap();
            enter_all(&pidfd, &[Kind::Uts, Kind::Ipc]).unwrap();
            assert_eq!(inode(open_own(Kind::Uts).unwrap()).unwrap(), inode(&main).unwrap());
        });
    }

    #[test]
    fn a_plain_file_is_no_namespace() {
        assert!(open(Path::new("/etc/passwd")).is_err());
        assert!(open(Path::new("/dev/zero")).is_err());
    }
}
