//! New processes: a program in namespaces and a cgroup of its own, a plain fork, a program in this process's place.
//!
//! UNSAFETY: `clone3` with a stack of its own has no wrapper in any crate that we use.

#![expect(unsafe_code, reason = "clone3, and the child's half of it, are raw system calls")]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};

use nix::sys::signal::SigSet;

use super::signal::{block_signals, restore_signals};
use super::{stat_field, wait};

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
    mask: SigSet,
    /// The child's errno, readable afterwards because it shares our memory.
    error: AtomicI32,
}

/// Starts a program; an `execve` that fails is this call's error.
///
/// The child borrows the caller's memory until `execve` (`CLONE_VM | CLONE_VFORK`), so a large caller costs no more
/// than a small one, and threads of the caller are no danger.
pub fn spawn(spawn: &Spawn<'_>) -> io::Result<Child> {
    start(spawn, Relation::Child)
}

/// Starts a program as [`spawn`] does, whose parent is this process's own parent: that one gets its end, and must be
/// given the answer's descriptor.
pub fn spawn_sibling(spawn: &Spawn<'_>) -> io::Result<Child> {
    start(spawn, Relation::Sibling)
}

/// What the new process is to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    Child,
    Sibling,
}

fn start(spawn: &Spawn<'_>, relation: Relation) -> io::Result<Child> {
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
    let child = clone_into(&mut launch, spawn, relation);
    let restored = restore_signals(&launch.mask);
    let child = child?;
    restored?;
    match launch.error.load(Ordering::Relaxed) {
        0 => Ok(child),
        errno => {
            if relation == Relation::Child {
                // It has ended already; without this it would stay a zombie.
                let _ = wait(&child.pidfd);
            }
            Err(io::Error::from_raw_os_error(errno))
        }
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

fn clone_into(launch: &mut Launch<'_>, spawn: &Spawn<'_>, relation: Relation) -> io::Result<Child> {
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
    if relation == Relation::Sibling {
        // It ends with the signal that the caller ends with, so none may be named.
        args.flags |= libc::CLONE_PARENT as u64;
        args.exit_signal = 0;
    }
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

/// Replaces this program; returns only the reason why that failed.
pub fn execute(program: &CStr, args: &[CString], env: &[CString]) -> io::Error {
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
    };
    // SAFETY: both arrays end in a null pointer and their strings outlive the call.
    unsafe { libc::execve(program.as_ptr(), pointers(args).as_ptr(), pointers(env).as_ptr()) };
    io::Error::last_os_error()
}
