//! What is asked of the arguments of one system call.
//!
//! A rule holds when all its conditions do; rules are tried in turn, and the first that holds says
//! what happens. The turn is the one that libseccomp's tree comes to, as profiles are written and
//! tested against that: later arguments before earlier ones, equality before ranges, narrow ranges
//! before wide ones, and of two rules of which one goes on where the other ends the shorter first.
//! It matters only to calls whose rules have different actions.

use super::abi::Abi;
use std::cmp::Reverse;

/// What is compared with what. Values have the width of the ABI's arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Test {
    Equal(u64),
    NotEqual(u64),
    Less(u64),
    LessOrEqual(u64),
    Greater(u64),
    GreaterOrEqual(u64),
    /// The bits of a mask, and what they are to be.
    Masked(u64, u64),
}

/// A test of one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// 0 to 5.
    pub argument: u32,
    pub test: Test,
}

/// An action and when it is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// One at most for each argument, in their order.
    pub conditions: Vec<Condition>,
    /// What the kernel's filter returns.
    pub action: u32,
}

/// All that is said about one number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Always(u32),
    /// Tried in this order.
    FirstOf(Vec<Rule>),
}

/// Two rules that ask the same and answer differently.
#[derive(Debug, PartialEq, Eq)]
pub struct Contradiction;

impl Condition {
    /// As an ABI sees it: 32 bits where its arguments have no more. `None` where it always holds.
    pub fn under(self, abi: Abi) -> Option<Self> {
        let cut = |value: u64| match abi.is_wide() {
            true => value,
            false => value & u64::from(u32::MAX),
        };
        let test = match self.test {
            Test::Equal(value) => Test::Equal(cut(value)),
            Test::NotEqual(value) => Test::NotEqual(cut(value)),
            Test::Less(value) => Test::Less(cut(value)),
            Test::LessOrEqual(value) => Test::LessOrEqual(cut(value)),
            Test::Greater(value) => Test::Greater(cut(value)),
            Test::GreaterOrEqual(value) => Test::GreaterOrEqual(cut(value)),
            Test::Masked(mask, _) if cut(mask) == 0 => return None,
            Test::Masked(mask, value) => Test::Masked(cut(mask), cut(mask) & value),
        };
        Some(Self { test, ..self })
    }

    /// The words that libseccomp looks at: high half, low half.
    fn words(self, abi: Abi) -> impl Iterator<Item = Word> {
        let halves: &[bool] = if abi.is_wide() {
            &[true, false]
        } else {
            &[false]
        };
        halves.iter().map(move |high| self.word(*high))
    }

    fn word(self, is_high: bool) -> Word {
        let half = |value: u64| {
            if is_high {
                value >> 32
            } else {
                value & u64::from(u32::MAX)
            }
        };
        let (kind, value, mask) = match self.test {
            Test::Equal(value) | Test::NotEqual(value) => (Kind::Equality, value, u64::MAX),
            Test::Masked(mask, value) => (Kind::Masked, value, mask),
            Test::Less(value) => (Kind::Less, value, u64::MAX),
            Test::LessOrEqual(value) => (Kind::LessOrEqual, value, u64::MAX),
            Test::Greater(value) => (Kind::Greater, value, u64::MAX),
            Test::GreaterOrEqual(value) => (Kind::GreaterOrEqual, value, u64::MAX),
        };
        Word {
            argument: self.argument,
            is_high,
            kind,
            value: half(value),
            mask: half(mask),
        }
    }
}

/// What a comparison of one word is, as far as its turn depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Word {
    argument: u32,
    is_high: bool,
    kind: Kind,
    value: u64,
    mask: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Equality,
    Masked,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Word {
    /// The lowest comes first.
    fn turn(self) -> (Reverse<(u32, bool)>, u8, u64) {
        let (class, value) = match self.kind {
            Kind::Equality | Kind::Masked => (0, u64::MAX - self.value),
            Kind::Less | Kind::LessOrEqual => (1, self.value),
            Kind::Greater | Kind::GreaterOrEqual => (2, u64::MAX - self.value),
        };
        (Reverse((self.argument, self.is_high)), class, value)
    }
}

/// Joins what was said about a number, in the order of the profile. What is said without a
/// condition stands over all else, and the first of that over the others.
///
/// # Errors
/// Where two rules contradict each other.
pub fn join(rules: Vec<Rule>, abi: Abi) -> Result<Verdict, Contradiction> {
    if let Some(rule) = rules.iter().find(|rule| rule.conditions.is_empty()) {
        return Ok(Verdict::Always(rule.action));
    }
    let mut kept: Vec<Rule> = Vec::new();
    for rule in rules {
        match kept
            .iter()
            .find(|other| other.conditions == rule.conditions)
        {
            Some(same) if same.action == rule.action => {}
            Some(_) => return Err(Contradiction),
            None => kept.push(rule),
        }
    }
    Ok(Verdict::FirstOf(in_turn(kept, abi)))
}

fn in_turn(rules: Vec<Rule>, abi: Abi) -> Vec<Rule> {
    let with_words = |rule: Rule| {
        let words = rule.conditions.iter().flat_map(|one| one.words(abi));
        (words.collect(), rule)
    };
    arrange(rules.into_iter().map(with_words).collect(), 0)
}

/// Rules that begin alike stay together, where the first of them is.
fn arrange(rules: Vec<(Vec<Word>, Rule)>, depth: usize) -> Vec<Rule> {
    let (mut done, mut groups) = (Vec::new(), Vec::<(Word, Vec<_>)>::new());
    for (words, rule) in rules {
        let Some(word) = words.get(depth).copied() else {
            done.push(rule);
            continue;
        };
        match groups.iter_mut().find(|(like, _)| *like == word) {
            Some((_, group)) => group.push((words, rule)),
            None => groups.push((word, vec![(words, rule)])),
        }
    }
    groups.sort_by_key(|(word, _)| word.turn());
    let deeper = groups
        .into_iter()
        .map(|(_, group)| arrange(group, depth + 1));
    done.into_iter().chain(deeper.flatten()).collect()
}
