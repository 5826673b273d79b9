//! The instructions before an allow list that answer ENOSYS to system calls which are newer than
//! the list.
//!
//! A C library tries a new call first and falls back to an old one on ENOSYS, but takes EPERM for
//! a refusal: with EPERM alone every new glibc breaks in containers whose profile is older. No
//! rule of libseccomp can speak of a range of numbers, hence these few instructions by hand. Newer
//! means: above the highest number that the profile names for the architecture.
//!
//! ```text
//! ld arch; then for each architecture:
//!   jeq ARCH else next    ld nr    jge x32 bit → second    jgt highest → enosys, else end
//!                                        second: jgt highest of x32 → enosys, else end
//!   enosys: ret ERRNO|38    end: ja the program
//! ```

use super::compile::to_libseccomp;
use libseccomp::ScmpSyscall;
use oci_spec::runtime::{Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSyscall};
use std::collections::BTreeMap;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;

/// Codes of classic BPF: load a word, jumps, return.
const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const IF_EQUAL: u16 = 0x15;
const IF_GREATER: u16 = 0x25;
const IF_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;

const RETURN_ENOSYS: u32 = 0x0005_0000 | 38;
/// Set in the numbers of x32, which shares its architecture with x86_64.
const X32_BIT: u32 = 0x4000_0000;

/// How many instructions each architecture takes.
const BLOCK: u32 = 7;

/// One `sock_filter`: code, jump if true, jump if false, operand.
type Instruction = (u16, u8, u8, u32);

/// The highest numbers that a profile names under one architecture of the kernel.
#[derive(Default)]
struct Highest {
    plain: Option<u32>,
    x32: Option<u32>,
}

/// The instructions, empty where the profile is no allow list that answers with an error.
pub fn before(seccomp: &LinuxSeccomp) -> Vec<u8> {
    if seccomp.default_action() != LinuxSeccompAction::ScmpActErrno {
        return Vec::new();
    }
    let highest = highest(seccomp);
    let Ok(blocks) = u32::try_from(highest.len()) else {
        return Vec::new();
    };
    if blocks == 0 {
        return Vec::new();
    }
    let mut program = vec![(LOAD, 0, 0, ARCHITECTURE)];
    for (left, (arch, highest)) in (0..blocks).rev().zip(&highest) {
        program.extend(block(*arch, highest, left * BLOCK));
    }
    program.into_iter().flat_map(bytes).collect()
}

/// `after` is how many instructions follow this block.
fn block(arch: u32, highest: &Highest, after: u32) -> [Instruction; BLOCK as usize] {
    let limit = |highest: Option<u32>| highest.unwrap_or(u32::MAX);
    [
        (IF_EQUAL, 0, 6, arch),
        (LOAD, 0, 0, NUMBER),
        (IF_AT_LEAST, 1, 0, X32_BIT),
        (IF_GREATER, 1, 2, limit(highest.plain)),
        (IF_GREATER, 0, 1, limit(highest.x32)),
        (RETURN, 0, 0, RETURN_ENOSYS),
        (JUMP, 0, 0, after),
    ]
}

fn bytes((code, if_true, if_false, operand): Instruction) -> [u8; super::INSTRUCTION] {
    let mut bytes = [0; super::INSTRUCTION];
    bytes[..2].copy_from_slice(&code.to_ne_bytes());
    bytes[2] = if_true;
    bytes[3] = if_false;
    bytes[4..].copy_from_slice(&operand.to_ne_bytes());
    bytes
}

/// By the kernel's number of the architecture.
fn highest(seccomp: &LinuxSeccomp) -> BTreeMap<u32, Highest> {
    let mut all: BTreeMap<u32, Highest> = BTreeMap::new();
    for arch in seccomp.architectures().iter().flatten() {
        let Some(number) = highest_of(seccomp, *arch) else {
            continue;
        };
        match arch {
            Arch::ScmpArchNative => {}
            Arch::ScmpArchX32 => {
                all.entry(Arch::ScmpArchX86_64 as u32).or_default().x32 = Some(number);
            }
            other => all.entry(*other as u32).or_default().plain = Some(number),
        }
    }
    all
}

fn highest_of(seccomp: &LinuxSeccomp, arch: Arch) -> Option<u32> {
    let token = to_libseccomp(arch).ok()?;
    seccomp
        .syscalls()
        .iter()
        .flatten()
        .flat_map(LinuxSyscall::names)
        .filter_map(|name| ScmpSyscall::from_name_by_arch(name, token).ok())
        // Negative: libseccomp's own number for what this architecture lacks.
        .filter_map(|syscall| u32::try_from(syscall.as_raw_syscall()).ok())
        .max()
}
