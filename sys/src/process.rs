//! Processes by descriptor: spawn into namespaces and a cgroup, signal and reap through a pidfd, tell who is who.
//!
//! UNSAFETY: `pidfd_send_signal`, `waitpid` and `kill` are called raw: their wrappers lack what is needed here.

#![expect(unsafe_code, reason = "signals by descriptor and waiting for any child are raw system calls")]
#![expect(clippy::disallowed_methods, reason = "home of clone, waitid and kill")]

mod signal;
mod spawn;

use std::ffi::CStr;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::process::{PidfdFlags, WaitId, WaitIdOptions};

pub use signal::{SIGCHLD, SIGKILL, SignalWait, reset_signals, signal_number};
pub use spawn::{Child, Fork, NewNamespaces, Spawn, TARGETS, execute, fork, spawn, spawn_sibling};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exit {
    /// It called `exit` with this code.
    Exited(u8),
    /// This signal killed it.
    Signaled(u8),
}

impl Exit {
    /// The number that a shell would report.
    pub fn code(self) -> u8 {
        match self {
            Self::Exited(code) => code,
            Self::Signaled(signal) => signal.saturating_add(128),
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exit code {code}"),
            Self::Signaled(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// A process's identity by number; the number must not be free for reuse meanwhile.
pub fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    let pid = rustix::process::Pid::from_raw(pid)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "pid out of range"))?;
    Ok(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)
}

/// This process's own identity.
pub fn own_pidfd() -> io::Result<OwnedFd> {
    Ok(rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())?)
}

/// Sends a signal to the process that a pidfd stands for.
pub fn signal(pidfd: impl AsFd, signal: i32) -> io::Result<()> {
    // SAFETY: plain system call; the descriptor is borrowed for its duration.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_fd().as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Kills the process that a pidfd stands for; one that has ended already is as dead as it can be.
pub fn kill(pidfd: impl AsFd) -> io::Result<()> {
    match signal(pidfd, SIGKILL) {
        Err(e) if e.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        other => other,
    }
}

/// Sends a signal to a child by number, where no descriptor is at hand (the reaper of `--init`), and says whether it
/// is still there.
pub fn signal_pid(pid: i32, signal: i32) -> io::Result<bool> {
    // SAFETY: plain system call.
    if unsafe { libc::kill(pid, signal) } == 0 {
        return Ok(true);
    }
    match io::Error::last_os_error() {
        e if e.raw_os_error() == Some(libc::ESRCH) => Ok(false),
        e => Err(e),
    }
}

/// Reaps the child if it has ended, and says `None` if not.
pub fn try_wait(pidfd: impl AsFd) -> io::Result<Option<Exit>> {
    wait_with(pidfd.as_fd(), WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
}

/// Waits for the child's end and reaps it.
pub fn wait(pidfd: impl AsFd) -> io::Result<Exit> {
    wait_with(pidfd.as_fd(), WaitIdOptions::EXITED)?
        .ok_or_else(|| io::Error::other("waitid returned without a status"))
}

fn wait_with(pidfd: BorrowedFd<'_>, options: WaitIdOptions) -> io::Result<Option<Exit>> {
    loop {
        match rustix::process::waitid(WaitId::PidFd(pidfd), options) {
            Ok(None) => return Ok(None),
            Ok(Some(status)) => {
                let low = |n: Option<i32>| n.map(|n| (n & 0xff) as u8);
                let exit = low(status.exit_status()).map(Exit::Exited);
                return Ok(exit.or(low(status.terminating_signal()).map(Exit::Signaled)));
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Reaps one ended child, whichever: only for a process whose one work is reaping.
pub fn try_wait_any() -> io::Result<Option<(i32, Exit)>> {
    loop {
        let mut status = 0;
        // SAFETY: `status` is a plain integer.
        let pid = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) };
        if pid == 0 {
            return Ok(None);
        }
        if pid < 0 {
            match io::Error::last_os_error() {
                e if e.kind() == io::ErrorKind::Interrupted => continue,
                e if e.raw_os_error() == Some(libc::ECHILD) => return Ok(None),
                e => return Err(e),
            }
        }
        if libc::WIFEXITED(status) {
            return Ok(Some((pid, Exit::Exited((libc::WEXITSTATUS(status) & 0xff) as u8))));
        }
        if libc::WIFSIGNALED(status) {
            return Ok(Some((pid, Exit::Signaled((libc::WTERMSIG(status) & 0xff) as u8))));
        }
    }
}

/// The process's number as the mounted `/proc` counts: for a shim, the host's.
pub fn host_pid(pidfd: impl AsFd) -> io::Result<u32> {
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_fd().as_raw_fd());
    let info = std::fs::read_to_string(path)?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:")).map(str::trim);
    pid.and_then(|pid| pid.parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "process has ended"))
}

/// This process's own number as the mounted `/proc` counts.
pub fn own_host_pid() -> io::Result<u32> {
    let link = std::fs::read_link("/proc/self")?;
    link.to_str().and_then(|pid| pid.parse().ok()).ok_or_else(|| io::Error::other("unreadable /proc/self"))
}

/// When a process started, in clock ticks since boot: with pid and boot id an identity that is never reused.
pub fn start_time(pid: u32) -> io::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    stat_field(&stat, 22).ok_or_else(|| io::Error::other("unreadable process stat"))
}

/// The identity of this boot of the host.
pub fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// The n-th field of a stat line, counted from 1; the second one may hold anything, also blanks and brackets.
fn stat_field(stat: &str, n: usize) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(n.checked_sub(3)?)?.parse().ok()
}

/// Names this thread, as process lists show it.
pub fn set_name(name: &CStr) -> io::Result<()> {
    Ok(rustix::thread::set_name(name)?)
}

/// Leads a new session, without a terminal.
pub fn set_session() -> io::Result<()> {
    rustix::process::setsid()?;
    Ok(())
}

#[cfg(test)]
mod tests;
