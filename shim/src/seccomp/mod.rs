//! Seccomp filters: ready programs of classic BPF, compiled by the daemon, loaded here.
//!
//! Invariant: nothing is decided here. A file that is no whole program is refused before anything
//! runs under it.

pub mod listener;

use crate::api::{Failure, FailureKind};
use crate::failure::At;
use crate::sys::seccomp::{Instruction, set_filter, set_filter_with_listener};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::path::Path;

/// The kernel's own bound (`BPF_MAXINSNS`).
const MOST: usize = 4096;
/// The size of an instruction in the file.
const SIZE: usize = 8;

/// `SECCOMP_FILTER_FLAG_TSYNC`.
const ALL_THREADS: u32 = 1;
/// `SECCOMP_FILTER_FLAG_NEW_LISTENER`.
const NEW_LISTENER: u32 = 1 << 3;
/// `SECCOMP_FILTER_FLAG_TSYNC_ESRCH`: with a listener the kernel cannot say otherwise which thread it was.
const ALL_THREADS_OR_ERROR: u32 = 1 << 4;
/// Returns a constant: `BPF_RET | BPF_K`.
const RETURN: u16 = 0x06;
/// `SECCOMP_RET_USER_NOTIF`, and the bits of an action.
const ASK: u32 = 0x7fc0_0000;
const ACTION: u32 = 0xffff_0000;

/// A program and the flags that it is loaded with.
#[derive(Debug)]
pub struct Filter {
    program: Vec<Instruction>,
    flags: u32,
}

impl Filter {
    /// Reads a program from its file.
    ///
    /// # Errors
    /// The file cannot be read, or is no whole program; it asks a listener, and there is none.
    pub fn read(path: &Path, flags: u32, listener: Option<&str>) -> Result<Self, Failure> {
        let step = || format!("read the seccomp filter {}", path.display());
        let bytes = std::fs::read(path).at(FailureKind::Invalid, step)?;
        let program = decode(&bytes).map_err(|cause| Failure::invalid(step(), cause))?;
        let flags = match (asks(&program), listener) {
            (false, _) => flags,
            (true, Some(_)) => {
                flags | NEW_LISTENER | ((flags & ALL_THREADS) * ALL_THREADS_OR_ERROR)
            }
            (true, None) => {
                let cause = "SCMP_ACT_NOTIFY needs linux.seccomp.listenerPath";
                return Err(Failure::invalid(step(), cause));
            }
        };
        Ok(Self { program, flags })
    }

    /// Whether somebody is asked about what it does not decide.
    #[must_use]
    pub fn has_listener(&self) -> bool {
        self.flags & NEW_LISTENER != 0
    }

    /// Puts the filter on this thread; its listener, where it has one.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn load(&self) -> Result<Option<OwnedFd>, Errno> {
        match self.flags & NEW_LISTENER {
            0 => set_filter(&self.program, self.flags).map(|()| None),
            _ => set_filter_with_listener(&self.program, self.flags).map(Some),
        }
    }
}

/// Whether some call is for a listener to decide.
fn asks(program: &[Instruction]) -> bool {
    let asks = |one: &Instruction| one.code == RETURN && one.k & ACTION == ASK;
    program.iter().any(asks)
}

fn decode(bytes: &[u8]) -> Result<Vec<Instruction>, String> {
    let count = bytes.len() / SIZE;
    if !bytes.len().is_multiple_of(SIZE) || count == 0 || count > MOST {
        return Err(format!(
            "{} bytes are no program of 1 to {MOST} instructions",
            bytes.len()
        ));
    }
    Ok(bytes.chunks_exact(SIZE).map(instruction).collect())
}

fn instruction(bytes: &[u8]) -> Instruction {
    Instruction {
        code: u16::from_ne_bytes([bytes[0], bytes[1]]),
        jt: bytes[2],
        jf: bytes[3],
        k: u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
    }
}

/// The number of a `SECCOMP_FILTER_FLAG_…`.
///
/// # Errors
/// A flag that is unknown, or not the bundle's to set.
pub fn flag(name: &str) -> Result<u32, Failure> {
    match name {
        "SECCOMP_FILTER_FLAG_TSYNC" => Ok(1),
        "SECCOMP_FILTER_FLAG_LOG" => Ok(1 << 1),
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => Ok(1 << 2),
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => Ok(1 << 5),
        other => Err(Failure::invalid(
            "plan the seccomp filter",
            format!("the flag {other} is not supported"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_decoded_as_the_kernel_lays_it_out() {
        let mut bytes = 0x06u16.to_ne_bytes().to_vec();
        bytes.extend([1, 2]);
        bytes.extend(0x7fff_0000u32.to_ne_bytes());
        let program = decode(&bytes).unwrap();
        assert_eq!(
            program,
            [Instruction {
                code: 6,
                jt: 1,
                jf: 2,
                k: 0x7fff_0000
            }]
        );
    }

    #[test]
    fn what_is_no_whole_program_is_refused() {
        assert!(decode(&[]).is_err());
        assert!(decode(&[0; 12]).is_err());
        assert!(decode(&vec![0; SIZE * (MOST + 1)]).is_err());
        assert!(flag("SECCOMP_FILTER_FLAG_NEW_LISTENER").is_err());
    }
}
