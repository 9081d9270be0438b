//! From a profile to a program.

use super::assemble::{Assembler, Label, Test};
use super::table::SYSCALLS;
use super::{Abi, Action, Compare, Condition, Profile, ProfileError, Program, Rule, Width};

/// Where the filter finds what, in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// The bit that marks a call as x32.
const X32_BIT: u32 = 0x4000_0000;
/// The kernel's own limit.
const MAX_INSTRUCTIONS: usize = 4096;

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const AUDIT_ARCH_I386: u32 = 0x4000_0003;
const AUDIT_ARCH_AARCH64: u32 = 0xc000_00b7;
const AUDIT_ARCH_ARM: u32 = 0x4000_0028;

impl Abi {
    fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => AUDIT_ARCH_X86_64,
            Self::I386 => AUDIT_ARCH_I386,
            Self::Aarch64 => AUDIT_ARCH_AARCH64,
            Self::Arm => AUDIT_ARCH_ARM,
        }
    }

    fn number(self, numbers: [i32; 5]) -> Option<u32> {
        let [x86_64, i386, x32, aarch64, arm] = numbers;
        let number = match self {
            Self::X86_64 => x86_64,
            Self::I386 => i386,
            Self::X32 => x32,
            Self::Aarch64 => aarch64,
            Self::Arm => arm,
        };
        let number = u32::try_from(number).ok()?;
        Some(if self == Self::X32 { number | X32_BIT } else { number })
    }
}

/// What becomes of one call: some rules with conditions, in order, then what holds without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Verdict<'a> {
    /// Indices into the profile's rules, behind the call's index.
    conditional: &'a [(u16, u16)],
    otherwise: Action,
}

impl Verdict<'_> {
    /// Whether two calls are treated alike, by whatever name.
    fn is_like(&self, other: &Self) -> bool {
        let rules = self.conditional.iter().map(|(_, rule)| rule);
        self.otherwise == other.otherwise && rules.eq(other.conditional.iter().map(|(_, rule)| rule))
    }
}

/// A run of numbers with one verdict, up to where the next one starts.
#[derive(Debug, Clone, Copy)]
struct Range<'a> {
    start: u32,
    verdict: Verdict<'a>,
}

/// Room for what a compilation makes, so that it is made in a few pieces: it is on the way of every start.
const ROOM: usize = 640;

/// Compiles a profile for the ABIs it names.
pub fn compile(profile: &Profile<'_>) -> Result<Program, ProfileError> {
    for rule in &profile.rules {
        if let Some(bad) = rule.conditions.iter().find(|c| c.argument > 5) {
            return Err(ProfileError::Argument(bad.argument));
        }
    }
    let named = named(profile);
    let verdicts = verdicts(profile, &named);
    let has = |abi: &Abi| profile.abis.contains(abi);
    let machine: Vec<Abi> = Abi::of_this_machine().iter().copied().filter(has).collect();
    if machine.is_empty() {
        return Err(ProfileError::NoAbi);
    }
    let mut asm = Assembler::with_room(ROOM);
    let mut next = asm.finish(Action::KillProcess);
    let mut audits: Vec<u32> = machine.iter().map(|abi| abi.audit()).collect();
    audits.dedup();
    // Written backwards: the native architecture comes last here and is asked first.
    for audit in audits.into_iter().rev() {
        let ranges = ranges(profile, &verdicts, &machine, audit);
        let tree = tree(&mut asm, &profile.rules, &ranges);
        let body = asm.load(NUMBER, tree);
        next = asm.branch(Test::Equal, audit, body, next);
    }
    let entry = asm.load(ARCHITECTURE, next);
    let program = asm.program(entry);
    match program.0.len() {
        n if n > MAX_INSTRUCTIONS => Err(ProfileError::TooLong(n)),
        _ => Ok(program),
    }
}

/// The verdicts of one architecture in ascending order, the first from 0, neighbours always different.
fn ranges<'a>(profile: &Profile, verdicts: &[Verdict<'a>], abis: &[Abi], audit: u32) -> Vec<Range<'a>> {
    let mut ranges = Vec::with_capacity(ROOM);
    let mut refused = 0;
    for abi in [Abi::X86_64, Abi::I386, Abi::X32, Abi::Aarch64, Abi::Arm] {
        if abi.audit() != audit {
            continue;
        }
        if abis.contains(&abi) {
            add_abi(profile, verdicts, abi, &mut ranges);
        } else if abi == Abi::X32 {
            refused = X32_BIT;
        }
    }
    if refused != 0 {
        // The same architecture by the auditors' count, but an ABI that the profile does not name; most kernels
        // are built without it and answer likewise.
        push(&mut ranges, refused, plain(profile.unknown));
    }
    ranges
}

fn plain<'a>(action: Action) -> Verdict<'a> {
    Verdict { conditional: &[], otherwise: action }
}

fn push<'a>(ranges: &mut Vec<Range<'a>>, start: u32, verdict: Verdict<'a>) {
    if ranges.last().is_none_or(|last| !last.verdict.is_like(&verdict)) {
        ranges.push(Range { start, verdict });
    }
}

fn add_abi<'a>(profile: &Profile<'_>, verdicts: &[Verdict<'a>], abi: Abi, ranges: &mut Vec<Range<'a>>) {
    let mut calls: Vec<(u32, Verdict<'a>)> = Vec::with_capacity(SYSCALLS.len());
    let numbered = SYSCALLS.iter().zip(verdicts);
    calls.extend(numbered.filter_map(|((_, numbers), verdict)| Some((abi.number(*numbers)?, *verdict))));
    calls.sort_unstable_by_key(|(number, _)| *number);
    calls.dedup_by_key(|(number, _)| *number);
    let mut expected = if abi == Abi::X32 { X32_BIT } else { 0 };
    let newest = newest(abi);
    for (number, verdict) in calls {
        if number > expected {
            // A hole: reserved numbers below the newest call, or private ones far above it.
            let action = if expected > newest { profile.unknown } else { profile.default };
            push(ranges, expected, plain(action));
        }
        push(ranges, number, verdict);
        expected = number + 1;
    }
    push(ranges, expected, plain(profile.unknown));
}

/// The highest number that the table has for an ABI, without the private ones far above (arm has some).
fn newest(abi: Abi) -> u32 {
    let numbers = SYSCALLS.iter().filter_map(|(_, numbers)| abi.number(*numbers));
    numbers.filter(|n| n & !X32_BIT < 0x1_0000).max().unwrap_or(0)
}

/// Which rules name which call, by their indices: sorted by call, and for one call in the profile's order.
fn named(profile: &Profile<'_>) -> Vec<(u16, u16)> {
    let mut named = Vec::with_capacity(ROOM);
    for (rule, names) in (0..).zip(profile.rules.iter().map(|rule| &rule.names)) {
        let index = |name: &&str| SYSCALLS.binary_search_by_key(name, |(known, _)| known).ok();
        let calls = names.iter().filter_map(index).filter_map(|call| u16::try_from(call).ok());
        named.extend(calls.map(|call| (call, rule)));
    }
    named.sort_unstable();
    named
}

/// What becomes of each call of the table, in its order.
fn verdicts<'a>(profile: &Profile<'_>, mut named: &'a [(u16, u16)]) -> Vec<Verdict<'a>> {
    let mut verdicts = Vec::with_capacity(SYSCALLS.len());
    for call in (0..).take(SYSCALLS.len()) {
        let count = named.iter().take_while(|(of, _)| *of == call).count();
        let (rules, rest) = named.split_at(count);
        named = rest;
        verdicts.push(verdict(profile, rules));
    }
    verdicts
}

/// Rules after the first one without conditions cannot be reached.
fn verdict<'a>(profile: &Profile<'_>, rules: &'a [(u16, u16)]) -> Verdict<'a> {
    let rule = |(_, index): &(u16, u16)| profile.rules.get(usize::from(*index));
    let last = rules.iter().position(|r| rule(r).is_some_and(|rule| rule.conditions.is_empty()));
    let otherwise = last.and_then(|at| rules.get(at)).and_then(rule).map_or(profile.default, |r| r.action);
    let conditional = rules.get(..last.unwrap_or(rules.len())).unwrap_or_default();
    Verdict { conditional, otherwise }
}

/// A balanced tree of comparisons; the accumulator holds the call's number.
fn tree(asm: &mut Assembler, rules: &[Rule<'_>], ranges: &[Range<'_>]) -> Label {
    match ranges {
        [] => asm.finish(Action::KillProcess),
        [one] => leaf(asm, rules, &one.verdict),
        _ => {
            let (low, high) = ranges.split_at(ranges.len() / 2);
            let pivot = high.first().map_or(0, |range| range.start);
            let high = tree(asm, rules, high);
            let low = tree(asm, rules, low);
            asm.branch(Test::GreaterOrEqual, pivot, high, low)
        }
    }
}

fn leaf(asm: &mut Assembler, rules: &[Rule<'_>], verdict: &Verdict<'_>) -> Label {
    let mut next = asm.finish(verdict.otherwise);
    let conditional = verdict.conditional.iter().rev();
    for rule in conditional.filter_map(|(_, index)| rules.get(usize::from(*index))) {
        let mut yes = asm.finish(rule.action);
        for condition in rule.conditions.iter().rev() {
            yes = test(asm, condition, yes, next);
        }
        next = yes;
    }
    next
}

fn test(asm: &mut Assembler, condition: &Condition, yes: Label, no: Label) -> Label {
    let at = ARGUMENTS + 8 * u32::from(condition.argument);
    // Both machines that we know are little-endian: the low half comes first.
    let halves = Halves { low: at, high: at + 4, width: condition.width };
    match condition.compare {
        Compare::Equal(value) => halves.equal(asm, u64::MAX, value, (yes, no)),
        Compare::NotEqual(value) => halves.equal(asm, u64::MAX, value, (no, yes)),
        Compare::Masked { mask, value } => halves.equal(asm, mask, value, (yes, no)),
        Compare::Greater(value) => halves.order(asm, Test::Greater, value, (yes, no)),
        Compare::LessOrEqual(value) => halves.order(asm, Test::Greater, value, (no, yes)),
        Compare::GreaterOrEqual(value) => halves.order(asm, Test::GreaterOrEqual, value, (yes, no)),
        Compare::Less(value) => halves.order(asm, Test::GreaterOrEqual, value, (no, yes)),
    }
}

/// The two words of an argument.
struct Halves {
    low: u32,
    high: u32,
    width: Width,
}

impl Halves {
    fn equal(&self, asm: &mut Assembler, mask: u64, value: u64, (yes, no): (Label, Label)) -> Label {
        let word = |asm: &mut Assembler, offset, mask: u32, value: u32, yes, no| {
            if mask == 0 && value == 0 {
                return yes;
            }
            let compare = asm.branch(Test::Equal, value, yes, no);
            let compare = if mask == u32::MAX { compare } else { asm.and(mask, compare) };
            asm.load(offset, compare)
        };
        let low = word(asm, self.low, mask as u32, value as u32, yes, no);
        match self.width {
            Width::Low32 => low,
            Width::Full64 => word(asm, self.high, (mask >> 32) as u32, (value >> 32) as u32, low, no),
        }
    }

    fn order(&self, asm: &mut Assembler, test: Test, value: u64, (yes, no): (Label, Label)) -> Label {
        let low = asm.branch(test, value as u32, yes, no);
        let low = asm.load(self.low, low);
        if self.width == Width::Low32 {
            return low;
        }
        let high = (value >> 32) as u32;
        let equal = asm.branch(Test::Equal, high, low, no);
        let greater = asm.branch(Test::Greater, high, yes, equal);
        asm.load(self.high, greater)
    }
}
