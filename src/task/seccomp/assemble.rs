//! Programs of classic BPF, written from their end to their beginning.
//!
//! Jumps of classic BPF only lead forward, so whoever writes backwards has every target behind it:
//! a jump is told where to go when it is written, and is never mended. What lies further away than
//! the 255 instructions of a conditional jump is brought near: a return is written again, to
//! anything else leads a long jump.

use std::collections::HashMap;

/// The length of one instruction, a `sock_filter` of the kernel's filter.h.
pub const INSTRUCTION: usize = 8;

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const RETURN: u16 = 0x06;

/// How far a conditional jump is made to go: less than it can, as its targets may still move by the
/// two instructions that bring them near.
const REACH: usize = 250;

/// What a conditional jump asks of the accumulator. The values are the kernel's codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum If {
    Equal = 0x15,
    Greater = 0x25,
    AtLeast = 0x35,
}

/// An instruction that was written: how many came before it, counted from the program's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label(usize);

#[derive(Debug, Clone, Copy)]
struct Instruction {
    code: u16,
    if_true: u8,
    if_false: u8,
    operand: u32,
}

/// A program of which the end is there.
#[derive(Debug, Default)]
pub struct Assembler {
    /// The last instruction first.
    reversed: Vec<Instruction>,
    /// Where each value was last returned.
    returns: HashMap<u32, Label>,
}

impl Assembler {
    /// Ends with a value.
    pub fn end(&mut self, value: u32) -> Label {
        if let Some(label) = self
            .returns
            .get(&value)
            .filter(|label| self.is_near(**label))
        {
            return *label;
        }
        let label = self.push(RETURN, value);
        self.returns.insert(value, label);
        label
    }

    /// Loads a word of `struct seccomp_data`.
    pub fn load(&mut self, offset: u32, next: Label) -> Label {
        self.fall_through(next);
        self.push(LOAD, offset)
    }

    /// Keeps the bits of a mask.
    pub fn and(&mut self, mask: u32, next: Label) -> Label {
        self.fall_through(next);
        self.push(AND, mask)
    }

    /// Compares, and goes one way or the other.
    pub fn branch(&mut self, test: If, operand: u32, yes: Label, no: Label) -> Label {
        if yes == no {
            return yes;
        }
        let yes = self.bring_near(yes);
        let no = self.bring_near(no);
        let label = self.push(test as u16, operand);
        let (if_true, if_false) = (self.distance(yes), self.distance(no));
        if let Some(last) = self.reversed.last_mut() {
            last.if_true = if_true;
            last.if_false = if_false;
        }
        label
    }

    /// The program that begins here, as the kernel takes it.
    pub fn bytes(mut self, begin: Label) -> Vec<u8> {
        self.fall_through(begin);
        self.reversed.iter().rev().flat_map(bytes).collect()
    }

    fn push(&mut self, code: u16, operand: u32) -> Label {
        self.reversed.push(Instruction {
            code,
            if_true: 0,
            if_false: 0,
            operand,
        });
        Label(self.reversed.len() - 1)
    }

    /// Sees that what is written next goes on there.
    fn fall_through(&mut self, next: Label) {
        let between = self.reversed.len() - 1 - next.0;
        if between > 0 {
            self.push(JUMP, u32::try_from(between).unwrap_or(u32::MAX));
        }
    }

    fn is_near(&self, label: Label) -> bool {
        self.reversed.len() - label.0 <= REACH
    }

    fn bring_near(&mut self, label: Label) -> Label {
        if self.is_near(label) {
            return label;
        }
        let Instruction { code, operand, .. } = self.reversed[label.0];
        if code == RETURN {
            return self.end(operand);
        }
        self.fall_through(label);
        Label(self.reversed.len() - 1)
    }

    /// From the instruction that was just written.
    fn distance(&self, label: Label) -> u8 {
        let between = self.reversed.len() - 2 - label.0;
        u8::try_from(between).expect("a target is brought near before it is jumped to")
    }
}

fn bytes(instruction: &Instruction) -> [u8; INSTRUCTION] {
    let mut bytes = [0; INSTRUCTION];
    bytes[..2].copy_from_slice(&instruction.code.to_ne_bytes());
    bytes[2] = instruction.if_true;
    bytes[3] = instruction.if_false;
    bytes[4..].copy_from_slice(&instruction.operand.to_ne_bytes());
    bytes
}
