//! Processes by descriptor: spawn into namespaces and a cgroup, signal and reap through a pidfd, tell who is who.
//!
//! UNSAFETY: `clone3` with a stack of its own has no wrapper in any crate that we use.

#![expect(unsafe_code, reason = "clone3, and the child's half of it, are raw system calls")]
#![expect(clippy::disallowed_methods, reason = "home of clone, waitid and kill")]

use std::ffi::{CStr, CString};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::process::{PidfdFlags, Signal, WaitId, WaitIdOptions};

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

/// The namespaces that a spawned process gets for its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NewNamespaces(u64);

impl NewNamespaces {
    /// None.
    pub const NONE: Self = Self(0);
    /// Mounts.
    pub const MOUNT: Self = Self(libc::CLONE_NEWNS as u64);
    /// Process ids.
    pub const PID: Self = Self(libc::CLONE_NEWPID as u64);
    /// Network.
    pub const NET: Self = Self(libc::CLONE_NEWNET as u64);
    /// System V IPC and POSIX message queues.
    pub const IPC: Self = Self(libc::CLONE_NEWIPC as u64);
    /// Host name.
    pub const UTS: Self = Self(libc::CLONE_NEWUTS as u64);

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A program to start in a new process. Nothing of the caller is inherited but what is named here.
#[derive(Debug)]
pub struct Spawn<'a> {
    /// Path of the program; `/proc/self/exe` and `/proc/self/fd/N` mean what they mean to the caller.
    pub program: &'a CStr,
    /// Arguments, from `argv[0]` on.
    pub args: &'a [CString],
    /// The whole environment.
    pub env: &'a [CString],
    /// Descriptors the program finds open, each under the given number below [`TARGETS`]; all others are closed by
    /// `execve`.
    pub fds: &'a [(BorrowedFd<'a>, RawFd)],
    /// Namespaces to make for it.
    pub namespaces: NewNamespaces,
    /// A v2 cgroup directory to be born in.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Whether it leads a session of its own.
    pub session: bool,
}

/// A child process, held so that its number cannot be used by another one.
#[derive(Debug)]
pub struct Child {
    /// Its number as the caller's pid namespace counts.
    pub pid: i32,
    /// Its identity.
    pub pidfd: OwnedFd,
}

/// Descriptors are handed over under lower numbers than this one. What the program's path names by number must be
/// higher: the ones handed over have replaced the lower ones when it is looked up.
pub const TARGETS: RawFd = 64;

/// At most so many descriptors can be handed over.
const MAX_FDS: usize = 16;
const STACK: usize = 64 * 1024;

/// What the child needs, made ready beforehand: between `clone3` and `execve` nothing may allocate or lock.
struct Launch<'a> {
    program: *const libc::c_char,
    argv: Vec<*const libc::c_char>,
    envp: Vec<*const libc::c_char>,
    fds: &'a [(BorrowedFd<'a>, RawFd)],
    session: bool,
    mask: libc::sigset_t,
    /// The child's errno, readable afterwards because it shares our memory.
    error: AtomicI32,
}

/// Starts a program; an `execve` that fails is this call's error.
///
/// The child borrows the caller's memory until `execve` (`CLONE_VM | CLONE_VFORK`), so a large caller costs no more
/// than a small one, and threads of the caller are no danger.
pub fn spawn(spawn: &Spawn<'_>) -> io::Result<Child> {
    if spawn.fds.len() > MAX_FDS || spawn.fds.iter().any(|(_, target)| !(0..TARGETS).contains(target)) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "too many descriptors to hand over, or too high ones",
        ));
    }
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let mut launch = Launch {
        program: spawn.program.as_ptr(),
        argv: pointers(spawn.args),
        envp: pointers(spawn.env),
        fds: spawn.fds,
        session: spawn.session,
        mask: block_signals()?,
        error: AtomicI32::new(0),
    };
    let child = clone_into(&mut launch, spawn);
    let restored = restore_signals(&launch.mask);
    let child = child?;
    restored?;
    match launch.error.load(Ordering::Relaxed) {
        0 => Ok(child),
        errno => {
            // It has ended already; without this it would stay a zombie.
            let _ = wait(&child.pidfd);
            Err(io::Error::from_raw_os_error(errno))
        }
    }
}

/// A handler of ours that ran in the child would run in our memory with the child's descriptors.
fn block_signals() -> io::Result<libc::sigset_t> {
    // SAFETY: both sets are plain data, filled by the calls before they are read.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        match libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before) {
            0 => Ok(before),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

fn restore_signals(mask: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: `mask` was filled by `block_signals`.
    match unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask, std::ptr::null_mut()) } {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// As linux/sched.h has it; the C libraries differ in how much of it they declare.
#[repr(C, align(8))]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const CLONE_CLEAR_SIGHAND: u64 = 1 << 32;
const CLONE_INTO_CGROUP: u64 = 1 << 33;

fn clone_into(launch: &mut Launch<'_>, spawn: &Spawn<'_>) -> io::Result<Child> {
    let mut stack = vec![0u128; STACK / 16];
    let mut pidfd: RawFd = -1;
    let basic = (libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD) as u64;
    let mut args = CloneArgs {
        flags: basic | CLONE_CLEAR_SIGHAND | spawn.namespaces.0,
        pidfd: std::ptr::from_mut(&mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        stack: stack.as_mut_ptr() as u64,
        stack_size: STACK as u64,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = spawn.cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::try_from(cgroup.as_raw_fd()).unwrap_or(u64::MAX);
    }
    // SAFETY: `args` describes a stack that outlives the child's use of it, because CLONE_VFORK suspends us until the
    // child has executed or ended; `launch` is valid for as long; `child` keeps to async-signal-safe calls and
    // never returns.
    let pid = unsafe { clone3(&args, child, std::ptr::from_mut(launch).cast()) };
    if pid < 0 {
        return Err(io::Error::from_raw_os_error(i32::try_from(-pid).unwrap_or(libc::EINVAL)));
    }
    // SAFETY: on success the kernel stored a new descriptor that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Child { pid: i32::try_from(pid).unwrap_or(0), pidfd })
}

/// `clone3`; the child starts on its own stack in `entry(argument)`.
///
/// # Safety
/// `args` must name a stack that nobody else uses while the child runs on it, and `entry` must not return.
#[cfg(target_arch = "x86_64")]
unsafe fn clone3(
    args: &CloneArgs,
    entry: extern "C" fn(*mut libc::c_void) -> !,
    argument: *mut libc::c_void,
) -> isize {
    let mut result = libc::SYS_clone3 as isize;
    // SAFETY: the parent returns with every register but rax, rcx and r11 as it was; the child finds the same in
    // its registers and an aligned stack, and leaves for `entry` at once.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r13",
            "call r12",
            "ud2",
            "2:",
            inout("rax") result,
            in("rdi") std::ptr::from_ref(args),
            in("rsi") size_of::<CloneArgs>(),
            in("r12") entry,
            in("r13") argument,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}

/// `clone3`; the child starts on its own stack in `entry(argument)`.
///
/// # Safety
/// `args` must name a stack that nobody else uses while the child runs on it, and `entry` must not return.
#[cfg(target_arch = "aarch64")]
unsafe fn clone3(
    args: &CloneArgs,
    entry: extern "C" fn(*mut libc::c_void) -> !,
    argument: *mut libc::c_void,
) -> isize {
    let result: isize;
    // SAFETY: the parent returns with every register but x0 as it was; the child finds the same in its registers
    // and an aligned stack, and leaves for `entry` at once.
    unsafe {
        std::arch::asm!(
            "svc #0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x21",
            "blr x20",
            "brk #1",
            "2:",
            inlateout("x0") std::ptr::from_ref(args) => result,
            in("x1") size_of::<CloneArgs>(),
            in("x8") libc::SYS_clone3,
            in("x20") entry,
            in("x21") argument,
        );
    }
    result
}

/// The child: borrows the parent's memory, so it neither allocates, locks, unwinds nor returns.
extern "C" fn child(launch: *mut libc::c_void) -> ! {
    // SAFETY: `clone_into` passes a `Launch` that lives until the child has executed or ended.
    let launch = unsafe { &*launch.cast::<Launch<'_>>() };
    // SAFETY: only async-signal-safe calls on data made ready by the parent.
    unsafe {
        if let Err(errno) = child_setup(launch) {
            launch.error.store(errno, Ordering::Relaxed);
            libc::_exit(127);
        }
        libc::execve(launch.program, launch.argv.as_ptr(), launch.envp.as_ptr());
        launch.error.store(errno(), Ordering::Relaxed);
        libc::_exit(127)
    }
}

fn errno() -> i32 {
    // SAFETY: the location is this thread's own; the parent that shares it is suspended.
    unsafe { *libc::__errno_location() }
}

/// # Safety
/// Must run in the child of `clone3` only.
unsafe fn child_setup(launch: &Launch<'_>) -> Result<(), i32> {
    let check = |result: libc::c_long| if result < 0 { Err(errno()) } else { Ok(result) };
    // SAFETY: async-signal-safe calls; the arrays are large enough because `spawn` checked the count.
    unsafe {
        if launch.session {
            check(libc::setsid().into())?;
        }
        // First out of the way of every target number, then each to its own.
        let above = launch.fds.iter().map(|(_, target)| *target).max().unwrap_or(2).max(2) + 1;
        let mut safe = [-1; MAX_FDS];
        for (slot, (source, _)) in safe.iter_mut().zip(launch.fds) {
            let copy = libc::fcntl(source.as_raw_fd(), libc::F_DUPFD_CLOEXEC, above);
            *slot = check(copy.into())? as RawFd;
        }
        // CLOSE_RANGE_CLOEXEC on everything: `dup2` clears the mark on what the program shall have.
        check(libc::syscall(libc::SYS_close_range, 0, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC))?;
        for (slot, (_, target)) in safe.iter().zip(launch.fds) {
            check(libc::dup2(*slot, *target).into())?;
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        check(libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut()).into())?;
    }
    Ok(())
}

/// Which side of a [`fork`] one is on.
#[derive(Debug)]
pub enum Fork {
    /// The new process.
    Child,
    /// The old one, with the new one's number.
    Parent(i32),
}

/// Forks a process that has one thread; refused where there are more, for a lock held by another thread would
/// stay held in the child.
pub fn fork() -> io::Result<Fork> {
    if thread_count()? != 1 {
        return Err(io::Error::other("fork in a process with several threads"));
    }
    // SAFETY: this is the only thread, so the child's memory is consistent.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid)),
    }
}

fn thread_count() -> io::Result<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    stat_field(&stat, 20).ok_or_else(|| io::Error::other("unreadable /proc/self/stat"))
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
    // SAFETY: the set is filled before it is read.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        restore_signals(&none)
    }
}

/// Blocks all signals and waits for the next one: for a process that does nothing but forward them.
#[derive(Debug)]
pub struct SignalWait {
    set: libc::sigset_t,
}

impl SignalWait {
    /// Blocks all signals of this thread from now on.
    pub fn block_all() -> io::Result<Self> {
        block_signals()?;
        // SAFETY: the set is filled before it is read.
        let set = unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&mut all);
            all
        };
        Ok(Self { set })
    }

    /// The next signal.
    pub fn next(&self) -> io::Result<i32> {
        loop {
            // SAFETY: the set is valid, no information is asked for.
            let signal = unsafe { libc::sigwaitinfo(&self.set, std::ptr::null_mut()) };
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

/// Replaces this program; returns only the reason why that failed.
pub fn execute(program: &CStr, args: &[CString], env: &[CString]) -> io::Error {
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
    };
    // SAFETY: both arrays end in a null pointer and their strings outlive the call.
    unsafe { libc::execve(program.as_ptr(), pointers(args).as_ptr(), pointers(env).as_ptr()) };
    io::Error::last_os_error()
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

#[cfg(test)]
mod tests;
