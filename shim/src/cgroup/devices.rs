//! Which devices a container may use: lines of the devices hierarchy on v1, a program on v2.
//!
//! Invariant: nothing is allowed but what a rule allows; a later rule wins over an earlier one. The
//! devices that every container has are allowed after all rules, and so is the making of nodes, which
//! gives no use of them, unless the rules allow all but some: then what they deny is not to be made.

use super::limits::required;
use super::{Cgroup, Version, open, write_to};
use crate::api::{Failure, FailureKind};
use crate::bundle::resources::DeviceRule;
use crate::failure::At;
use crate::sys::bpf::{Instruction, attach_device_program, load_device_program};
use rustix::fd::OwnedFd;
use std::io;
use std::path::Path;

const READ: u8 = 1 << 1;
const WRITE: u8 = 1 << 2;
const MAKE: u8 = 1;
const ALL: u8 = READ | WRITE | MAKE;

/// Which kind of device. The numbers are those of `BPF_DEVCG_DEV_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Any = 0,
    Block = 1,
    Character = 2,
}

/// One rule, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rule {
    allow: bool,
    kind: Kind,
    major: Option<u32>,
    minor: Option<u32>,
    access: u8,
}

/// What every container may use: null, zero, full, random, urandom, tty, console, ptmx, pts.
const DEFAULT: [(u32, Option<u32>); 9] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(1)),
    (5, Some(2)),
    (136, None),
];

/// Puts the rules on a new cgroup.
///
/// # Errors
/// [`FailureKind::Invalid`] for a rule that cannot be; else what the kernel says.
pub(super) fn apply(cgroup: &Cgroup, rules: &[DeviceRule<'_>]) -> Result<(), Failure> {
    let rules = plan(rules)?;
    match cgroup.controller("devices") {
        Some(directory) if directory.version == Version::V1 => {
            let mut lists = Lists::default();
            let mut lines = rules.iter().flat_map(v1_lines);
            lines.try_for_each(|(file, line)| {
                let written = lists.write(&directory.path, file, &line);
                written.at(FailureKind::System, || format!("set {file} to {line}"))
            })
        }
        _ => attach(cgroup, &rules),
    }
}

/// The two files of v1, each opened once: the kernel takes one line at each write.
#[derive(Default)]
struct Lists(Vec<(&'static str, OwnedFd)>);

impl Lists {
    fn write(&mut self, directory: &Path, name: &'static str, line: &str) -> io::Result<()> {
        if !self.0.iter().any(|(open, _)| *open == name) {
            self.0.push((name, open(&directory.join(name))?));
        }
        let mut files = self.0.iter().filter(|(open, _)| *open == name);
        files.try_for_each(|(_, file)| write_to(file, line))
    }
}

fn attach(cgroup: &Cgroup, rules: &[Rule]) -> Result<(), Failure> {
    let step = || "load the device rules".to_owned();
    let Some(directory) = cgroup.birthplace()? else {
        return required(cgroup, "devices").map(|_| ());
    };
    // A descriptor that only names the directory is not good enough here.
    let flags =
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let directory = rustix::fs::openat(&directory, c".", flags, rustix::fs::Mode::empty())
        .at(FailureKind::System, step)?;
    let program = load_device_program(&program(rules)).at(FailureKind::System, step)?;
    attach_device_program(&directory, &program).at(FailureKind::System, step)
}

/// The rules that matter, in order, beginning with the one that is about everything.
fn plan(wanted: &[DeviceRule<'_>]) -> Result<Vec<Rule>, Failure> {
    let everything = |allow| Rule {
        allow,
        kind: Kind::Any,
        major: None,
        minor: None,
        access: ALL,
    };
    let mut rules = vec![everything(false)];
    for rule in wanted {
        let rule = checked(rule)?;
        if rule == everything(rule.allow) {
            rules.clear();
        }
        rules.push(rule);
    }
    let all_but_some = rules[0].allow;
    if all_but_some && rules.len() == 1 {
        return Ok(rules);
    }
    let allowed = |kind, major, minor, access| Rule {
        allow: true,
        kind,
        major,
        minor,
        access,
    };
    let make = [Kind::Character, Kind::Block].map(|kind| allowed(kind, None, None, MAKE));
    let make = make.into_iter().filter(|_| !all_but_some);
    let always = DEFAULT.map(|(major, minor)| allowed(Kind::Character, Some(major), minor, ALL));
    // Where nothing is denied again, what was allowed once is allowed.
    let denied = rules[1..].iter().any(|rule| !rule.allow);
    for rule in make.chain(always) {
        if denied || !rules.contains(&rule) {
            rules.push(rule);
        }
    }
    Ok(rules)
}

fn checked(rule: &DeviceRule<'_>) -> Result<Rule, Failure> {
    let odd = |what: &str| Failure::invalid("plan the device rules", format!("{what} cannot be"));
    let kind = match rule.kind.as_deref() {
        None | Some("" | "a") => Kind::Any,
        Some("b") => Kind::Block,
        Some("c" | "u") => Kind::Character,
        Some(other) => return Err(odd(&format!("a device of kind {other}"))),
    };
    let number = |number: Option<i64>| match number {
        None => Ok(None),
        Some(number) if number < 0 => Ok(None),
        Some(number) => u32::try_from(number)
            .map(Some)
            .map_err(|_| odd(&format!("a device number {number}"))),
    };
    let access = rule
        .access
        .as_deref()
        .filter(|access| !access.is_empty())
        .unwrap_or("rwm");
    let access = access.chars().try_fold(0, |all, letter| match letter {
        'r' => Ok(all | READ),
        'w' => Ok(all | WRITE),
        'm' => Ok(all | MAKE),
        other => Err(odd(&format!("a device access {other}"))),
    })?;
    Ok(Rule {
        allow: rule.allow,
        kind,
        major: number(rule.major)?,
        minor: number(rule.minor)?,
        access,
    })
}

/// The lines for a rule, each with its file. A line about all kinds is about everything on v1,
/// whatever else it says: a rule about some devices of all kinds becomes one for each kind.
fn v1_lines(rule: &Rule) -> Vec<(&'static str, String)> {
    let file = if rule.allow {
        "devices.allow"
    } else {
        "devices.deny"
    };
    let lines = match rule.kind {
        _ if is_about_everything(rule) => vec!["a".to_owned()],
        Kind::Any => vec![v1_line(rule, 'b'), v1_line(rule, 'c')],
        Kind::Block => vec![v1_line(rule, 'b')],
        Kind::Character => vec![v1_line(rule, 'c')],
    };
    lines.into_iter().map(|line| (file, line)).collect()
}

fn v1_line(rule: &Rule, kind: char) -> String {
    let number = |number: Option<u32>| number.map_or("*".to_owned(), |number| number.to_string());
    let letters = [(READ, 'r'), (WRITE, 'w'), (MAKE, 'm')];
    let access: String = letters
        .iter()
        .filter(|(bit, _)| rule.access & bit != 0)
        .map(|(_, letter)| letter)
        .collect();
    let (major, minor) = (number(rule.major), number(rule.minor));
    format!("{kind} {major}:{minor} {access}")
}

/// Registers and operations of extended BPF.
mod op {
    pub const R0: u8 = 0;
    pub const CONTEXT: u8 = 1;
    pub const KIND: u8 = 2;
    pub const ACCESS: u8 = 3;
    pub const MAJOR: u8 = 4;
    pub const MINOR: u8 = 5;
    pub const SCRATCH: u8 = 6;
    pub const LOAD_WORD: u8 = 0x61;
    pub const MOVE: u8 = 0xbc;
    pub const MOVE_IMMEDIATE: u8 = 0xb4;
    pub const AND_IMMEDIATE: u8 = 0x54;
    pub const SHIFT_RIGHT: u8 = 0x74;
    pub const JUMP_NOT_EQUAL: u8 = 0x56;
    pub const JUMP_EQUAL: u8 = 0x16;
    pub const EXIT: u8 = 0x95;
}

fn instruction(code: u8, target: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction {
        code,
        registers: target | source << 4,
        offset,
        immediate,
    }
}

/// A program that answers with the last rule that matches.
///
/// Its context is `struct bpf_cgroup_dev_ctx`: the kind in the low half of the first word and the
/// access in the high half, then major and minor number.
fn program(rules: &[Rule]) -> Vec<Instruction> {
    let mut code = vec![
        instruction(op::LOAD_WORD, op::KIND, op::CONTEXT, 0, 0),
        instruction(op::MOVE, op::ACCESS, op::KIND, 0, 0),
        instruction(op::AND_IMMEDIATE, op::KIND, 0, 0, 0xffff),
        instruction(op::SHIFT_RIGHT, op::ACCESS, 0, 0, 16),
        instruction(op::LOAD_WORD, op::MAJOR, op::CONTEXT, 4, 0),
        instruction(op::LOAD_WORD, op::MINOR, op::CONTEXT, 8, 0),
    ];
    for rule in rules.iter().rev() {
        code.extend(block(rule));
        if is_about_everything(rule) {
            return code;
        }
    }
    code.extend([
        instruction(op::MOVE_IMMEDIATE, op::R0, 0, 0, 0),
        instruction(op::EXIT, 0, 0, 0, 0),
    ]);
    code
}

fn is_about_everything(rule: &Rule) -> bool {
    rule.kind == Kind::Any && rule.access == ALL && rule.major.is_none() && rule.minor.is_none()
}

/// One rule: jumps behind its end where it does not match. An allowing rule must cover all of the
/// access that is wanted; a denying one any of it.
fn block(rule: &Rule) -> Vec<Instruction> {
    let mut code = Vec::new();
    if rule.kind != Kind::Any {
        code.push(unless_equal(op::KIND, rule.kind as u32));
    }
    if rule.access != ALL {
        code.extend(access_check(rule));
    }
    code.extend(rule.major.map(|number| unless_equal(op::MAJOR, number)));
    code.extend(rule.minor.map(|number| unless_equal(op::MINOR, number)));
    let answer = rule.allow.into();
    code.push(instruction(op::MOVE_IMMEDIATE, op::R0, 0, 0, answer));
    code.push(instruction(op::EXIT, 0, 0, 0, 0));
    jump_behind_the_end(&mut code);
    code
}

fn unless_equal(register: u8, number: u32) -> Instruction {
    instruction(op::JUMP_NOT_EQUAL, register, 0, 0, number.cast_signed())
}

fn access_check(rule: &Rule) -> [Instruction; 3] {
    let (mask, jump) = match rule.allow {
        true => (!rule.access & ALL, op::JUMP_NOT_EQUAL),
        false => (rule.access, op::JUMP_EQUAL),
    };
    [
        instruction(op::MOVE, op::SCRATCH, op::ACCESS, 0, 0),
        instruction(op::AND_IMMEDIATE, op::SCRATCH, 0, 0, mask.into()),
        instruction(jump, op::SCRATCH, 0, 0, 0),
    ]
}

fn jump_behind_the_end(code: &mut [Instruction]) {
    let length = code.len();
    for (index, instruction) in code.iter_mut().enumerate() {
        if matches!(instruction.code, op::JUMP_NOT_EQUAL | op::JUMP_EQUAL) {
            // At most nine instructions a block.
            instruction.offset = i16::try_from(length - index - 1).unwrap_or(0);
        }
    }
}

#[cfg(test)]
mod tests;
