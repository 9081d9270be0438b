//! The compiler against a naive reading of the profile, by an interpreter; and a filter in a real thread.

use super::*;

/// What the kernel hands to a filter.
#[derive(Debug, Clone, Copy, Default)]
struct Call {
    number: u32,
    audit: u32,
    arguments: [u64; 6],
}

/// Runs a program as the kernel would, and checks that it cannot run astray.
fn interpret(program: &Program, call: &Call) -> u32 {
    let word = |offset: u32| match offset {
        0 => call.number,
        4 => call.audit,
        16..64 => {
            let argument = call.arguments[(offset as usize - 16) / 8];
            if offset.is_multiple_of(8) { argument as u32 } else { (argument >> 32) as u32 }
        }
        _ => panic!("load of {offset}"),
    };
    let (mut at, mut accumulator) = (0, 0u32);
    loop {
        let i = assemble::unpack(program.0[at]);
        let taken = match u32::from(i.code) & 0xff {
            0x20 => {
                accumulator = word(i.k);
                at += 1;
                continue;
            }
            0x54 => {
                accumulator &= i.k;
                at += 1;
                continue;
            }
            0x05 => {
                at += 1 + i.k as usize;
                continue;
            }
            0x06 => return i.k,
            0x15 => accumulator == i.k,
            0x25 => accumulator > i.k,
            0x35 => accumulator >= i.k,
            code => panic!("code {code:#x}"),
        };
        at += 1 + usize::from(if taken { i.jt } else { i.jf });
    }
}

fn holds(condition: &Condition, call: &Call) -> bool {
    let keep = |n: u64| if condition.width == Width::Low32 { n & 0xffff_ffff } else { n };
    let argument = keep(call.arguments[usize::from(condition.argument)]);
    match condition.compare {
        Compare::Equal(v) => argument == keep(v),
        Compare::NotEqual(v) => argument != keep(v),
        Compare::Less(v) => argument < keep(v),
        Compare::LessOrEqual(v) => argument <= keep(v),
        Compare::Greater(v) => argument > keep(v),
        Compare::GreaterOrEqual(v) => argument >= keep(v),
        Compare::Masked { mask, value } => argument & keep(mask) == keep(value),
    }
}

fn naive(profile: &Profile<'_>, name: Option<&str>, call: &Call) -> u32 {
    let Some(name) = name else { return profile.unknown.value() };
    let named = profile.rules.iter().filter(|r| r.names.contains(&name));
    let first = named.into_iter().find(|r| r.conditions.iter().all(|c| holds(c, call)));
    first.map_or(profile.default, |r| r.action).value()
}

fn rule<'a>(names: &[&'a str], action: Action, conditions: Vec<Condition>) -> Rule<'a> {
    Rule { names: names.to_vec(), action, conditions }
}

fn full(argument: u8, compare: Compare) -> Condition {
    Condition { argument, width: Width::Full64, compare }
}

/// Every other call allowed, so that there are as many ranges as can be; conditions of every kind.
fn jagged() -> Profile<'static> {
    let big = 0x1_0000_0002;
    let even: Vec<&str> = table::SYSCALLS.iter().step_by(2).map(|(n, _)| *n).collect();
    let low = Condition { argument: 0, width: Width::Low32, compare: Compare::NotEqual(38) };
    Profile {
        default: Action::Errno(1),
        unknown: Action::Errno(38),
        rules: vec![
            rule(&["socket"], Action::Allow, vec![low]),
            rule(&["clone"], Action::Allow, vec![full(0, Compare::Masked { mask: 0x7e02_0000, value: 0 })]),
            rule(&["personality"], Action::Allow, vec![full(0, Compare::Equal(8))]),
            rule(&["personality"], Action::Allow, vec![full(0, Compare::Equal(0xffff_ffff))]),
            rule(&["read"], Action::Trap, vec![full(5, Compare::Less(big)), full(1, Compare::Greater(big))]),
            rule(&["read"], Action::Log, vec![full(2, Compare::GreaterOrEqual(big))]),
            rule(&["read"], Action::Errno(9), vec![full(2, Compare::LessOrEqual(7))]),
            rule(&even, Action::Allow, vec![]),
        ],
        abis: Abi::of_this_machine().to_vec(),
    }
}

fn arguments() -> Vec<[u64; 6]> {
    let interesting =
        [0, 7, 8, 38, 0xffff_ffff, 0x1_0000_0002, 0x1_0000_0001, 38 | 1 << 32, 0x0002_0000, u64::MAX];
    let mut all: Vec<[u64; 6]> = interesting.iter().map(|n| [*n; 6]).collect();
    for (i, n) in interesting.iter().enumerate() {
        all.push([0, interesting[(i + 3) % 10], *n, 0, 0, interesting[(i + 6) % 10]]);
    }
    all
}

#[cfg(target_arch = "x86_64")]
#[test]
fn every_number_of_every_abi_gets_what_the_profile_says() {
    let profile = jagged();
    let program = compile(&profile).unwrap();
    assert!(program.0.len() < 4096, "{}", program.0.len());
    for (index, audit, bit) in [(0, 0xc000_003e, 0), (1, 0x4000_0003, 0), (2, 0xc000_003e, 0x4000_0000)] {
        let newest = table::SYSCALLS.iter().map(|(_, n)| n[index]).max().unwrap();
        for number in 0..700u32 {
            let name = table::SYSCALLS.iter().find(|(_, n)| n[index] == number as i32).map(|(name, _)| *name);
            for arguments in arguments() {
                let call = Call { number: number | bit, audit, arguments };
                // Holes below the newest call are known not to exist.
                let wanted = match name {
                    None if (number as i32) < newest => profile.default.value(),
                    name => naive(&profile, name, &call),
                };
                assert_eq!(interpret(&program, &call), wanted, "{name:?} {call:x?}");
            }
        }
    }
    let stranger = Call { audit: 0xc000_00b7, ..Call::default() };
    assert_eq!(interpret(&program, &stranger), Action::KillProcess.value());
}

#[cfg(target_arch = "x86_64")]
#[test]
fn an_abi_that_is_not_named_is_closed() {
    let mut profile = jagged();
    profile.abis = vec![Abi::X86_64];
    let program = compile(&profile).unwrap();
    let read = Call { number: 0, audit: 0x4000_0003, ..Call::default() };
    assert_eq!(interpret(&program, &read), Action::KillProcess.value());
    let x32 = Call { number: 0x4000_0000, audit: 0xc000_003e, ..Call::default() };
    assert_eq!(interpret(&program, &x32), Action::Errno(38).value());
    profile.abis = vec![Abi::Arm];
    assert_eq!(compile(&profile), Err(ProfileError::NoAbi));
}

#[test]
fn nonsense_is_refused() {
    let mut profile = jagged();
    profile.rules.push(rule(&["write"], Action::Allow, vec![full(6, Compare::Equal(0))]));
    assert_eq!(compile(&profile), Err(ProfileError::Argument(6)));
    assert!(is_known("openat2") && !is_known("openat3"));
    assert!(table::SYSCALLS.is_sorted_by_key(|(name, _)| *name));
}

#[test]
fn the_kernel_takes_it_and_keeps_to_it() {
    let mut profile = jagged();
    profile.default = Action::Allow;
    profile.rules = vec![
        rule(&["getppid"], Action::Errno(77), vec![]),
        rule(&["socket"], Action::Errno(78), vec![full(0, Compare::Equal(1))]),
    ];
    let program = compile(&profile).unwrap();
    std::thread::spawn(move || {
        crate::privilege::set_no_new_privileges().unwrap();
        install(&program, Flags::default()).unwrap();
        // SAFETY: harmless system calls.
        let (parent, socket) = unsafe {
            let parent = libc::syscall(libc::SYS_getppid);
            let parent = (parent, io::Error::last_os_error().raw_os_error());
            (parent, (libc::socket(1, 1, 0), io::Error::last_os_error().raw_os_error()))
        };
        assert_eq!((parent, socket), ((-1, Some(77)), (-1, Some(78))));
        std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    })
    .join()
    .unwrap();
}
