//! The program of a filter: a balanced tree over ranges of numbers for each architecture.
//!
//! ```text
//! ld arch ── the machine's own? ── ld number ── tree ──▶ ret
//!               └─no─ the next?  ── ld number ── tree ──▶ ret, or tests of arguments ──▶ ret
//!                        └─no─ ret KILL
//! ```
//!
//! Loading a filter costs the kernel a walk for each number that there is (it remembers which are
//! always allowed), so the depth counts twice: for the container's start and for its every call.
//! Numbers side by side with the same answer are one range, and one odd number in the midst of a
//! range is one comparison.

use super::abi::{Abi, X32_BIT};
use super::assemble::{Assembler, If, Label};
use super::rules::{Condition, Rule, Test, Verdict};
use std::collections::BTreeMap;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// `SECCOMP_RET_KILL_THREAD`, for an architecture that the filter does not have.
const KILL: u32 = 0;

/// What is said of the calls of one ABI.
#[derive(Debug)]
pub struct Calls {
    pub abi: Abi,
    pub named: BTreeMap<u32, Verdict>,
    /// The answers to numbers that no rule names: each from a number on.
    pub unnamed: Vec<(u32, u32)>,
}

/// Numbers from one on, up to the next range.
struct Range<'a> {
    from: u32,
    abi: Abi,
    verdict: Answer<'a>,
}

#[derive(PartialEq, Eq)]
enum Answer<'a> {
    Return(u32),
    Rules(&'a [Rule]),
}

/// The program of all ABIs, the first one first. `default` answers where no rule of a call holds.
pub fn program(calls: &[Calls], default: u32) -> Vec<u8> {
    let mut tree = Tree {
        assembler: Assembler::default(),
        default,
    };
    let mut next = tree.assembler.end(KILL);
    for one in calls.iter().rev().filter(|one| one.abi != Abi::X32) {
        let x32 = calls.iter().find(|other| other.abi == Abi::X32);
        let ranges = match one.abi {
            Abi::X8664 => joined([ranges(one), x32_ranges(x32, default)]),
            _ => joined([ranges(one), Vec::new()]),
        };
        let begin = tree.over(&ranges);
        let begin = tree.assembler.load(NUMBER, begin);
        let token = one.abi.token();
        next = tree.assembler.branch(If::Equal, token, begin, next);
    }
    let begin = tree.assembler.load(ARCHITECTURE, next);
    tree.assembler.bytes(begin)
}

/// Where x32 is not allowed its numbers are another architecture's, but for -1: with that a tracer
/// says that a call is not to be made.
fn x32_ranges(x32: Option<&Calls>, default: u32) -> Vec<Range<'_>> {
    let bare = |from, action| Range {
        from,
        abi: Abi::X32,
        verdict: Answer::Return(action),
    };
    match x32 {
        Some(calls) => ranges(calls),
        None => vec![bare(X32_BIT, KILL), bare(u32::MAX, default)],
    }
}

/// In their order, neighbours of the same kind not yet joined.
fn ranges(calls: &Calls) -> Vec<Range<'_>> {
    let unnamed = calls.unnamed.iter().map(|(from, _)| *from);
    let after = calls
        .named
        .keys()
        .filter_map(|number| number.checked_add(1));
    let mut starts: Vec<u32> = unnamed
        .chain(calls.named.keys().copied())
        .chain(after)
        .collect();
    starts.sort_unstable();
    starts.dedup();
    let range = |from| Range {
        from,
        abi: calls.abi,
        verdict: calls.answer(from),
    };
    starts.into_iter().map(range).collect()
}

impl Calls {
    fn answer(&self, number: u32) -> Answer<'_> {
        match self.named.get(&number) {
            Some(Verdict::Always(action)) => Answer::Return(*action),
            Some(Verdict::FirstOf(rules)) => Answer::Rules(rules),
            None => {
                let before = self.unnamed.iter().rev().find(|(from, _)| *from <= number);
                Answer::Return(before.map_or(KILL, |(_, action)| *action))
            }
        }
    }
}

fn joined<'a>(parts: [Vec<Range<'a>>; 2]) -> Vec<Range<'a>> {
    let mut ranges: Vec<Range<'a>> = parts.into_iter().flatten().collect();
    ranges.dedup_by(|later, earlier| later.answers_as(earlier));
    ranges
}

impl Range<'_> {
    fn answers_as(&self, other: &Self) -> bool {
        let same_arguments = matches!(self.verdict, Answer::Return(_)) || self.abi == other.abi;
        self.verdict == other.verdict && same_arguments
    }
}

struct Tree {
    assembler: Assembler,
    default: u32,
}

impl Tree {
    /// With the number in the accumulator.
    fn over(&mut self, ranges: &[Range<'_>]) -> Label {
        match ranges {
            [only] => self.answer(only),
            [around, one, rest] if rest.from - one.from == 1 && around.answers_as(rest) => {
                let other = self.answer(around);
                let this = self.answer(one);
                self.assembler.branch(If::Equal, one.from, this, other)
            }
            _ => {
                let (low, high) = ranges.split_at(ranges.len() / 2);
                let from = high.first().map_or(0, |range| range.from);
                let high = self.over(high);
                let low = self.over(low);
                self.assembler.branch(If::AtLeast, from, high, low)
            }
        }
    }

    fn answer(&mut self, range: &Range<'_>) -> Label {
        match range.verdict {
            Answer::Return(action) => self.assembler.end(action),
            Answer::Rules(rules) => self.first_of(rules, range.abi),
        }
    }

    fn first_of(&mut self, rules: &[Rule], abi: Abi) -> Label {
        let mut otherwise = self.assembler.end(self.default);
        for rule in rules.iter().rev() {
            let mut holds = self.assembler.end(rule.action);
            for condition in rule.conditions.iter().rev() {
                holds = self.condition(*condition, abi, holds, otherwise);
            }
            otherwise = holds;
        }
        otherwise
    }

    fn condition(&mut self, condition: Condition, abi: Abi, yes: Label, no: Label) -> Label {
        let argument = Argument::of(condition.argument, abi);
        match condition.test {
            Test::Equal(value) => self.equal(argument, (u64::MAX, value), yes, no),
            Test::NotEqual(value) => self.equal(argument, (u64::MAX, value), no, yes),
            Test::Masked(mask, value) => self.equal(argument, (mask, value), yes, no),
            Test::Greater(value) => self.above(argument, (If::Greater, value), yes, no),
            Test::GreaterOrEqual(value) => self.above(argument, (If::AtLeast, value), yes, no),
            Test::Less(value) => self.above(argument, (If::AtLeast, value), no, yes),
            Test::LessOrEqual(value) => self.above(argument, (If::Greater, value), no, yes),
        }
    }

    fn equal(
        &mut self,
        argument: Argument,
        (mask, value): (u64, u64),
        yes: Label,
        no: Label,
    ) -> Label {
        let low = self.word_equal(argument.low, (low(mask), low(value)), yes, no);
        match argument.high {
            Some(at) => self.word_equal(at, (high(mask), high(value)), low, no),
            None => low,
        }
    }

    fn word_equal(&mut self, at: u32, (mask, value): (u32, u32), yes: Label, no: Label) -> Label {
        if mask == 0 {
            return yes;
        }
        let test = self.assembler.branch(If::Equal, value, yes, no);
        let test = match mask {
            u32::MAX => test,
            _ => self.assembler.and(mask, test),
        };
        self.assembler.load(at, test)
    }

    /// The high half decides, unless both are the same.
    fn above(
        &mut self,
        argument: Argument,
        (test, value): (If, u64),
        yes: Label,
        no: Label,
    ) -> Label {
        let by_low = self.assembler.branch(test, low(value), yes, no);
        let by_low = self.assembler.load(argument.low, by_low);
        let Some(at) = argument.high else {
            return by_low;
        };
        let equal = self.assembler.branch(If::Equal, high(value), by_low, no);
        let greater = self.assembler.branch(If::Greater, high(value), yes, equal);
        self.assembler.load(at, greater)
    }
}

/// Where the halves of an argument are in `struct seccomp_data`.
#[derive(Clone, Copy)]
struct Argument {
    low: u32,
    /// `None` under an ABI that has no more than 32 bits.
    high: Option<u32>,
}

impl Argument {
    fn of(index: u32, abi: Abi) -> Self {
        let begin = ARGUMENTS + 8 * index;
        let (low, high) = match abi.is_big_endian() {
            true => (begin + 4, begin),
            false => (begin, begin + 4),
        };
        Self {
            low,
            high: abi.is_wide().then_some(high),
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the low half is what is asked for"
)]
fn low(value: u64) -> u32 {
    value as u32
}

fn high(value: u64) -> u32 {
    (value >> 32) as u32
}
