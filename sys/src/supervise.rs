//! What a process that looks after others needs: all its signals in one descriptor, and its ended children one by one.
//!
//! UNSAFETY: `signalfd` and the pid in `waitid`'s answer have no wrapper in any crate that we use.

#![expect(unsafe_code, reason = "signalfd(2) and waitid(2) are called raw")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// The signal of a child that ended.
pub const SIGCHLD: i32 = libc::SIGCHLD;

/// Every signal of this process, readable instead of delivered: nothing that somebody sends by mistake ends it.
#[derive(Debug)]
pub struct SignalFd {
    fd: OwnedFd,
}

impl SignalFd {
    /// Blocks all signals of this thread, and of the threads it will start, and opens the descriptor.
    ///
    /// Programs started by [`crate::process::spawn`] begin with no signal blocked.
    pub fn block_all() -> io::Result<Self> {
        // SAFETY: the set is filled before it is used; the new descriptor is owned by nobody else.
        unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&mut all);
            match libc::pthread_sigmask(libc::SIG_SETMASK, &all, std::ptr::null_mut()) {
                0 => {}
                errno => return Err(io::Error::from_raw_os_error(errno)),
            }
            let fd = libc::signalfd(-1, &all, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(Self { fd: OwnedFd::from_raw_fd(fd) })
        }
    }

    /// The number of the next signal that came; `WouldBlock` when none did.
    pub fn next(&self) -> io::Result<i32> {
        // SAFETY: the structure is plain data of exactly the size that the kernel writes.
        let (read, info) = unsafe {
            let mut info: libc::signalfd_siginfo = std::mem::zeroed();
            let size = size_of::<libc::signalfd_siginfo>();
            (libc::read(self.fd.as_raw_fd(), std::ptr::from_mut(&mut info).cast(), size), info)
        };
        if read < 0 {
            return Err(io::Error::last_os_error());
        }
        i32::try_from(info.ssi_signo).map_err(|_| io::Error::other("signal number out of range"))
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for SignalFd {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// The number of one child that has ended and was not reaped yet; it stays a zombie, so the number stays its own.
pub fn ended_child() -> io::Result<Option<i32>> {
    wait(libc::P_ALL, 0, libc::WNOWAIT)
}

/// Lets go of one ended child that nobody wants to know more of.
pub fn reap_child(pid: i32) -> io::Result<()> {
    let id = libc::id_t::try_from(pid).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    wait(libc::P_PID, id, 0).map(|_| ())
}

fn wait(kind: libc::idtype_t, id: libc::id_t, flag: libc::c_int) -> io::Result<Option<i32>> {
    // SAFETY: the structure is plain data, zeroed because the kernel leaves it alone when nobody has ended; the pid
    // is valid in what waitid writes.
    let (result, pid) = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let result = libc::waitid(kind, id, &mut info, libc::WEXITED | libc::WNOHANG | flag);
        (result, info.si_pid())
    };
    if result == 0 {
        return Ok((pid != 0).then_some(pid));
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::ECHILD) { Ok(None) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{NewNamespaces, Spawn, spawn};

    // In a program of its own would be cleaner, but the mask is this test thread's only and the child is known.
    #[test]
    fn signals_are_read_and_children_found_one_by_one() {
        let signals = SignalFd::block_all().unwrap();
        assert_eq!(signals.next().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        // SAFETY: sent to this thread only.
        unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGTERM) };
        assert_eq!(signals.next().unwrap(), libc::SIGTERM);

        let child = spawn(&Spawn {
            program: c"/bin/true",
            args: &[c"true".to_owned()],
            env: &[],
            fds: &[],
            namespaces: NewNamespaces::NONE,
            cgroup: None,
            session: false,
        })
        .unwrap();
        // Waits for the end without reaping.
        let mut poll = [rustix::event::PollFd::new(&child.pidfd, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut poll, None).unwrap();
        assert!(ended_child().unwrap().is_some());
        assert_eq!(crate::process::try_wait(&child.pidfd).unwrap(), Some(crate::process::Exit::Exited(0)));
        reap_child(child.pid).unwrap();
    }
}
