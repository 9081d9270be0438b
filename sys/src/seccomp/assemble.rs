//! Classic BPF, written backwards: whatever an instruction jumps to is placed already, so its distance is known.

use super::{Action, Instruction, Program};

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;

/// Comparisons of the accumulator with a constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Test {
    Equal,
    Greater,
    GreaterOrEqual,
}

/// A place in the program, counted from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Label(usize);

/// A program under construction, last instruction first.
#[derive(Debug)]
pub(super) struct Assembler {
    reversed: Vec<Instruction>,
    /// The latest return of each value; there are a handful.
    returns: Vec<(u32, Label)>,
}

/// Conditional jumps have eight bits.
const REACH: usize = 255;

impl Assembler {
    /// An empty program with room for so many instructions.
    pub(super) fn with_room(instructions: usize) -> Self {
        Self { reversed: Vec::with_capacity(instructions), returns: Vec::with_capacity(8) }
    }

    fn emit(&mut self, code: u16, yes: u8, no: u8, operand: u32) -> Label {
        let packed = u64::from(code) << 48 | u64::from(yes) << 40 | u64::from(no) << 32 | u64::from(operand);
        self.reversed.push(packed);
        Label(self.reversed.len() - 1)
    }

    /// How many instructions lie between the next one to be written and a label.
    fn distance(&self, label: Label) -> usize {
        self.reversed.len() - label.0 - 1
    }

    /// Returns with an action; returns are shared as long as a jump reaches them.
    pub(super) fn finish(&mut self, action: Action) -> Label {
        let value = action.value();
        // Some room, because whoever jumps here is written later.
        let known = self.returns.iter().find(|(of, _)| *of == value).map(|(_, label)| *label);
        if let Some(label) = known.filter(|label| self.distance(*label) < REACH / 2) {
            return label;
        }
        let label = self.emit(RETURN, 0, 0, value);
        self.returns.retain(|(of, _)| *of != value);
        self.returns.push((value, label));
        label
    }

    /// Loads 32 bits of what the filter sees, and goes on at `next`.
    pub(super) fn load(&mut self, offset: u32, next: Label) -> Label {
        self.continue_at(next);
        self.emit(LOAD, 0, 0, offset)
    }

    /// Masks the accumulator, and goes on at `next`.
    pub(super) fn and(&mut self, mask: u32, next: Label) -> Label {
        self.continue_at(next);
        self.emit(AND, 0, 0, mask)
    }

    /// Makes sure that what is written next falls through to `next`.
    fn continue_at(&mut self, next: Label) {
        if self.distance(next) != 0 {
            self.jump(next);
        }
    }

    fn jump(&mut self, to: Label) -> Label {
        let distance = u32::try_from(self.distance(to)).unwrap_or(u32::MAX);
        self.emit(JUMP, 0, 0, distance)
    }

    /// Compares the accumulator and goes to one of two places.
    pub(super) fn branch(&mut self, test: Test, operand: u32, yes: Label, no: Label) -> Label {
        if yes == no {
            return yes;
        }
        let code = match test {
            Test::Equal => libc::BPF_JEQ,
            Test::Greater => libc::BPF_JGT,
            Test::GreaterOrEqual => libc::BPF_JGE,
        };
        // One stepping stone moves the other target one away, hence the margin.
        let stone = |asm: &mut Self, label| {
            if asm.distance(label) >= REACH { asm.jump(label) } else { label }
        };
        let yes = stone(self, yes);
        let no = stone(self, no);
        let near = |distance: usize| u8::try_from(distance).expect("a stepping stone was laid");
        let (yes, no) = (near(self.distance(yes)), near(self.distance(no)));
        self.emit((libc::BPF_JMP | code | libc::BPF_K) as u16, yes, no, operand)
    }

    /// The program that starts at `entry`.
    pub(super) fn program(mut self, entry: Label) -> Program {
        self.continue_at(entry);
        self.reversed.reverse();
        Program(self.reversed)
    }
}

/// An instruction as the kernel takes it.
pub(super) fn unpack(instruction: Instruction) -> libc::sock_filter {
    let byte = |shift: u32| (instruction >> shift & 0xff) as u8;
    libc::sock_filter {
        code: (instruction >> 48) as u16,
        jt: byte(40),
        jf: byte(32),
        k: (instruction & 0xffff_ffff) as u32,
    }
}
