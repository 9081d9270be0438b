//! Signals of this process: names, defaults, and waiting for them.

#![expect(unsafe_code, reason = "dispositions and waits that know all signals are raw")]

use std::io;

use nix::sys::signal::{SigSet, SigmaskHow};
use rustix::process::Signal;

/// A handler of ours that ran in the child would run in our memory with the child's descriptors.
pub(super) fn block_signals() -> io::Result<SigSet> {
    Ok(SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?)
}

pub(super) fn restore_signals(mask: &SigSet) -> io::Result<()> {
    Ok(mask.thread_set_mask()?)
}

/// All signals to their default action, none blocked: what a program expects to find.
pub fn reset_signals() -> io::Result<()> {
    for number in 1..=libc::SIGRTMAX() {
        if matches!(number, libc::SIGKILL | libc::SIGSTOP) {
            continue;
        }
        // SAFETY: SIG_DFL is a valid disposition; the numbers that the C library keeps for itself are refused
        // by it, which is why the result is not looked at.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    restore_signals(&SigSet::empty())
}

/// Blocks all signals and waits for the next one: for a process that does nothing but forward them.
#[derive(Debug)]
pub struct SignalWait {
    set: SigSet,
}

impl SignalWait {
    /// Blocks all signals of this thread from now on.
    pub fn block_all() -> io::Result<Self> {
        block_signals()?;
        Ok(Self { set: SigSet::all() })
    }

    /// The next signal.
    pub fn next(&self) -> io::Result<i32> {
        loop {
            // SAFETY: the set is valid, no information is asked for.
            let signal = unsafe { libc::sigwaitinfo(self.set.as_ref(), std::ptr::null_mut()) };
            if signal > 0 {
                return Ok(signal);
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }
}

/// The number of a signal by its name, with or without `SIG`, or by its digits.
pub fn signal_number(name: &str) -> Option<i32> {
    if let Ok(number) = name.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let name = name.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    match name {
        "POLL" => return Some(libc::SIGIO),
        "CLD" => return Some(libc::SIGCHLD),
        "IOT" => return Some(libc::SIGABRT),
        _ => {}
    }
    let realtime = |base: i32, rest: &str, sign: i32| match rest {
        "" => Some(base),
        digits => digits.trim_start_matches(['+', '-']).parse::<i32>().ok().map(|n| base + sign * n),
    };
    if let Some(rest) = name.strip_prefix("RTMIN") {
        return realtime(34, rest, 1).filter(|n| (34..=64).contains(n));
    }
    if let Some(rest) = name.strip_prefix("RTMAX") {
        return realtime(64, rest, -1).filter(|n| (34..=64).contains(n));
    }
    SIGNALS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

const SIGNALS: &[(&str, i32)] = &[
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("STKFLT", libc::SIGSTKFLT),
    ("CHLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("PWR", libc::SIGPWR),
    ("SYS", libc::SIGSYS),
];

/// What a parent gets when a child ends.
pub const SIGCHLD: i32 = Signal::CHILD.as_raw();

/// The signal that cannot be refused.
pub const SIGKILL: i32 = Signal::KILL.as_raw();
