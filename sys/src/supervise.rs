//! What a process that looks after others needs: all its signals in one descriptor, and its ended children one by one.
//!
//! UNSAFETY: the pid in `waitid`'s answer is lost by every wrapper when the child ended by a real-time signal.

#![expect(unsafe_code, reason = "waitid(2) is called raw")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use nix::sys::signal::SigSet;
use nix::sys::signalfd::{self, SfdFlags};

/// The signal of a child that ended.
pub const SIGCHLD: i32 = libc::SIGCHLD;

/// Every signal of this process, readable instead of delivered: nothing that somebody sends by mistake ends it.
#[derive(Debug)]
pub struct SignalFd {
    fd: signalfd::SignalFd,
}

impl SignalFd {
    /// Blocks all signals of this thread, and of the threads it will start, and opens the descriptor.
    ///
    /// Programs started by [`crate::process::spawn`] begin with no signal blocked.
    pub fn block_all() -> io::Result<Self> {
        let all = SigSet::all();
        all.thread_set_mask()?;
        Ok(Self { fd: signalfd::SignalFd::with_flags(&all, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)? })
    }

    /// The number of the next signal that came; `WouldBlock` when none did.
    pub fn next(&self) -> io::Result<i32> {
        let info = self.fd.read_signal()?.ok_or(io::ErrorKind::WouldBlock)?;
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
