//! System call filters: a typed profile, compiled to the kernel's classic BPF by ourselves, installed.
//!
//! ```text
//!   Profile ── compile ─▶ Program ── install ─▶ seccomp(2)
//!      rules by name         per ABI: number → verdict, equal neighbours merged into ranges,
//!                            a binary tree of comparisons over the ranges, shared returns
//! ```
//!
//! The first rule of a call whose conditions all hold decides; a call without such a rule gets the default.

#![expect(unsafe_code, reason = "seccomp(2) with a filter has no wrapper")]

mod assemble;
mod compile;
mod table;

use std::io;

pub use compile::compile;

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// It runs.
    Allow,
    /// It fails with this errno.
    Errno(u16),
    /// It raises SIGSYS.
    Trap,
    /// A tracer decides, who sees this number.
    Trace(u16),
    /// It runs and is logged.
    Log,
    /// The thread dies.
    KillThread,
    /// The process dies.
    KillProcess,
}

impl Action {
    fn value(self) -> u32 {
        match self {
            Self::Allow => libc::SECCOMP_RET_ALLOW,
            Self::Errno(errno) => libc::SECCOMP_RET_ERRNO | u32::from(errno),
            Self::Trap => libc::SECCOMP_RET_TRAP,
            Self::Trace(data) => libc::SECCOMP_RET_TRACE | u32::from(data),
            Self::Log => libc::SECCOMP_RET_LOG,
            Self::KillThread => libc::SECCOMP_RET_KILL_THREAD,
            Self::KillProcess => libc::SECCOMP_RET_KILL_PROCESS,
        }
    }
}

/// How an argument is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compare {
    /// Equal.
    Equal(u64),
    /// Not equal.
    NotEqual(u64),
    /// Less.
    Less(u64),
    /// Less or equal.
    LessOrEqual(u64),
    /// Greater.
    Greater(u64),
    /// Greater or equal.
    GreaterOrEqual(u64),
    /// Equal under a mask.
    Masked {
        /// The bits that are looked at.
        mask: u64,
        /// What they must be.
        value: u64,
    },
}

/// How much of an argument the kernel itself looks at: what it throws away must not decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Width {
    /// An `int`: the upper half is ignored, by the kernel and by the comparison.
    Low32,
    /// All of it.
    Full64,
}

/// A condition on one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Condition {
    /// Which argument, from 0.
    pub argument: u8,
    /// How wide it is.
    pub width: Width,
    /// What must hold.
    pub compare: Compare,
}

/// What happens to some calls, when all conditions hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule<'a> {
    /// Names of system calls; those that an ABI does not have are skipped there.
    pub names: Vec<&'a str>,
    /// What happens.
    pub action: Action,
    /// All must hold.
    pub conditions: Vec<Condition>,
}

/// An application binary interface: a way to call the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Abi {
    /// 64-bit x86.
    X86_64,
    /// 32-bit x86.
    I386,
    /// 64-bit x86 with 32-bit pointers.
    X32,
    /// 64-bit arm.
    Aarch64,
    /// 32-bit arm.
    Arm,
}

impl Abi {
    /// Those that this machine's kernel may accept, the native one first.
    pub fn of_this_machine() -> &'static [Self] {
        if cfg!(target_arch = "x86_64") {
            &[Self::X86_64, Self::I386, Self::X32]
        } else if cfg!(target_arch = "aarch64") {
            &[Self::Aarch64, Self::Arm]
        } else {
            &[]
        }
    }
}

/// A filter as people think of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile<'a> {
    /// What happens to a call without a fitting rule.
    pub default: Action,
    /// What happens to a call that is newer than this program's tables.
    pub unknown: Action,
    /// Earlier ones win.
    pub rules: Vec<Rule<'a>>,
    /// The ABIs that may be used; calls by another one end the process.
    pub abis: Vec<Abi>,
}

/// One instruction, packed: code, jump if true, jump if false, operand.
pub type Instruction = u64;

/// A compiled filter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Program(pub Vec<Instruction>);

/// Why a profile cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// The compiled filter is longer than the kernel takes.
    #[error("seccomp filter has {0} instructions, the kernel takes 4096")]
    TooLong(usize),
    /// A call has six arguments.
    #[error("seccomp condition on argument {0}, a call has arguments 0 to 5")]
    Argument(u8),
    /// Nothing could ever run.
    #[error("seccomp profile names no architecture of this machine")]
    NoAbi,
}

/// Whether any ABI knows a call of this name.
pub fn is_known(name: &str) -> bool {
    table::SYSCALLS.binary_search_by_key(&name, |(known, _)| known).is_ok()
}

/// How a filter is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(pub u32);

impl Flags {
    /// Everything but what is allowed goes to the audit log.
    pub const LOG: Self = Self(libc::SECCOMP_FILTER_FLAG_LOG as u32);
    /// Speculative store bypass stays on.
    pub const SPEC_ALLOW: Self = Self(libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32);
}

/// Installs a filter for the calling thread and what it becomes or makes; there is no way back.
///
/// Needs `CAP_SYS_ADMIN` or no-new-privileges.
pub fn install(program: &Program, flags: Flags) -> io::Result<()> {
    let instructions: Vec<libc::sock_filter> = program.0.iter().map(|i| assemble::unpack(*i)).collect();
    let length = u16::try_from(instructions.len())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "filter is too long"))?;
    let filter = libc::sock_fprog { len: length, filter: instructions.as_ptr().cast_mut() };
    // SAFETY: the kernel reads `length` instructions, which live until the call returns, and writes nothing.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags.0, std::ptr::from_ref(&filter))
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
