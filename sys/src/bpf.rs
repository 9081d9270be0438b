//! Device filters of v2 cgroups: a few rules as an eBPF program, loaded and attached.

#![expect(unsafe_code, reason = "bpf(2) has no wrapper")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// One rule of a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterRule {
    /// Whether it allows or denies.
    pub allow: bool,
    /// `c`, `b`, or both.
    pub kind: Option<char>,
    /// Major number, or all.
    pub major: Option<u32>,
    /// Minor number, or all.
    pub minor: Option<u32>,
    /// Some of `rwm`: reading, writing, making nodes.
    pub access: String,
}

impl FilterRule {
    /// Whether it fits every device.
    pub fn is_everything(&self) -> bool {
        self.kind.is_none() && self.major.is_none() && self.minor.is_none()
    }

    fn access_bits(&self) -> i32 {
        let bit = |c| match c {
            'm' => 1,
            'r' => 2,
            'w' => 4,
            _ => 0,
        };
        self.access.chars().fold(0, |bits, c| bits | bit(c))
    }
}

/// A compiled filter: the last rule that fits decides, and nothing fits by default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceFilter {
    instructions: Vec<u64>,
}

// Registers: r0 scratch and result, r1 context, r2 type, r3 access, r4 major, r5 minor.
const LOAD_WORD: u8 = 0x61;
const MOVE_IMMEDIATE: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const SHIFT_RIGHT: u8 = 0x77;
const AND: u8 = 0x57;
const JUMP_EQUAL: u8 = 0x15;
const JUMP_NOT_EQUAL: u8 = 0x55;
const EXIT: u8 = 0x95;

/// Code, destination and source register, jump offset, immediate, packed as the kernel wants them.
fn pack(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> u64 {
    u64::from(code)
        | u64::from(destination | source << 4) << 8
        | u64::from(offset as u16) << 16
        | u64::from(immediate as u32) << 32
}

impl DeviceFilter {
    /// Compiles rules.
    pub fn new(rules: &[FilterRule]) -> Self {
        let mut instructions = vec![
            pack(LOAD_WORD, 2, 1, 0, 0),
            pack(MOVE_REGISTER, 3, 2, 0, 0),
            pack(SHIFT_RIGHT, 3, 0, 0, 16),
            pack(AND, 2, 0, 0, 0xffff),
            pack(LOAD_WORD, 4, 1, 4, 0),
            pack(LOAD_WORD, 5, 1, 8, 0),
        ];
        for rule in rules.iter().rev() {
            instructions.extend(compile(rule));
        }
        instructions.extend([pack(MOVE_IMMEDIATE, 0, 0, 0, 0), pack(EXIT, 0, 0, 0, 0)]);
        Self { instructions }
    }

    /// Attaches the filter to a cgroup, beside those that are there.
    pub fn attach(&self, cgroup: impl AsFd) -> io::Result<()> {
        #[repr(C)]
        struct Attach {
            target: u32,
            program: u32,
            kind: u32,
            flags: u32,
        }
        const BPF_PROG_ATTACH: libc::c_int = 8;
        const BPF_CGROUP_DEVICE: u32 = 6;
        const BPF_F_ALLOW_MULTI: u32 = 2;
        let program = self.load()?;
        let number = |fd: i32| u32::try_from(fd).map_err(io::Error::other);
        let attach = Attach {
            target: number(cgroup.as_fd().as_raw_fd())?,
            program: number(program.as_raw_fd())?,
            kind: BPF_CGROUP_DEVICE,
            flags: BPF_F_ALLOW_MULTI,
        };
        // SAFETY: the structure is as long as said, and both descriptors live until the call returns.
        unsafe { bpf(BPF_PROG_ATTACH, &attach) }.map(drop)
    }

    fn load(&self) -> io::Result<OwnedFd> {
        #[repr(C)]
        struct Load {
            kind: u32,
            count: u32,
            instructions: u64,
            license: u64,
            log_level: u32,
            log_size: u32,
            log: u64,
        }
        const BPF_PROG_LOAD: libc::c_int = 5;
        const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
        let load = Load {
            kind: BPF_PROG_TYPE_CGROUP_DEVICE,
            count: u32::try_from(self.instructions.len()).unwrap_or(u32::MAX),
            instructions: self.instructions.as_ptr() as u64,
            license: c"Apache-2.0".as_ptr() as u64,
            log_level: 0,
            log_size: 0,
            log: 0,
        };
        // SAFETY: the pointers name memory that lives until the call returns; a result is a new descriptor.
        unsafe {
            let fd = bpf(BPF_PROG_LOAD, &load)?;
            Ok(OwnedFd::from_raw_fd(fd))
        }
    }
}

/// # Safety
/// `attributes` must be what `command` expects.
unsafe fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<i32> {
    // SAFETY: by this function's contract.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(result).map_err(io::Error::other)
}

fn compile(rule: &FilterRule) -> Vec<u64> {
    // Each test that fails jumps behind the rule; the offsets are filled in below.
    let mut tests: Vec<(u8, u8, i32)> = Vec::new();
    if let Some(kind) = rule.kind {
        tests.push((JUMP_NOT_EQUAL, 2, if kind == 'b' { 1 } else { 2 }));
    }
    for (register, number) in [(4, rule.major), (5, rule.minor)] {
        if let Some(number) = number {
            tests.push((JUMP_NOT_EQUAL, register, number as i32));
        }
    }
    // Allowed is what asks for nothing else; denied is what asks for any of it.
    let (mask, miss) = match rule.allow {
        true => (!rule.access_bits(), JUMP_NOT_EQUAL),
        false => (rule.access_bits(), JUMP_EQUAL),
    };
    let end = tests.len() + 5;
    let behind = |at: usize| i16::try_from(end - at - 1).unwrap_or(i16::MAX);
    let mut code: Vec<u64> = Vec::with_capacity(end);
    for (jump, register, value) in tests {
        code.push(pack(jump, register, 0, behind(code.len()), value));
    }
    code.push(pack(MOVE_REGISTER, 0, 3, 0, 0));
    code.push(pack(AND, 0, 0, 0, mask));
    code.push(pack(miss, 0, 0, behind(code.len()), 0));
    code.push(pack(MOVE_IMMEDIATE, 0, 0, 0, i32::from(rule.allow)));
    code.push(pack(EXIT, 0, 0, 0, 0));
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn privileged_the_verifier_takes_every_kind_of_rule() {
        let rule = |allow, kind, major, minor, access: &str| FilterRule {
            allow,
            kind,
            major,
            minor,
            access: access.to_owned(),
        };
        let rules = [
            rule(true, Some('c'), None, None, "m"),
            rule(true, Some('b'), Some(8), Some(0), "r"),
            rule(false, None, Some(1), None, "w"),
            rule(false, Some('c'), Some(136), Some(3), "rwm"),
        ];
        DeviceFilter::new(&rules).load().unwrap();
        DeviceFilter::new(&[]).load().unwrap();
    }
}
