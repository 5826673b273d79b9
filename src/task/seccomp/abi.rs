//! The ABIs under which a process can call the kernel, and the numbers that calls have there.
//!
//! The numbers are data of the project, not a C library's: libseccomp of Debian 12 ends with Linux
//! 5.17 and does not know twenty calls that the default profile allows, so one profile made another
//! filter on each node. A call that an ABI lacks has no place in it and is passed over, as profiles
//! name the calls of all machines.
//!
//! Invariant: a filter holds only ABIs of its own machine. The kernel never reports another one, so
//! what a profile says for those could decide nothing.

use oci_spec::runtime::Arch;
use std::collections::HashMap;
use std::sync::OnceLock;

/// What the filters of this build depend on beside their profile.
pub const NUMBERS: &str = include_str!("numbers.txt");

/// Set in the numbers of x32, which shares its token with x86_64.
pub const X32_BIT: u32 = 0x4000_0000;
/// Where the few calls begin that only ARM has.
const ARM_PRIVATE: u32 = 0x000f_0000;

/// In the order of the columns of `numbers.txt`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abi {
    X8664,
    X86,
    X32,
    Aarch64,
    Arm,
    Riscv64,
    Loongarch64,
    Ppc64le,
    S390x,
    S390,
}

const ABIS: usize = Abi::S390 as usize + 1;

/// What `socketcall` of old ABIs calls, from 1 on.
pub const BY_SOCKETCALL: [&str; 20] = [
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "getsockname",
    "getpeername",
    "socketpair",
    "send",
    "recv",
    "sendto",
    "recvfrom",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "sendmsg",
    "recvmsg",
    "accept4",
    "recvmmsg",
    "sendmmsg",
];

/// What `ipc` of old ABIs calls.
pub const BY_IPC: [(&str, u32); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

/// How a call is made: by a number, and for a call through `socketcall` or `ipc` also by what is
/// then the first argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub number: u32,
    pub first_argument: Option<u32>,
}

impl Abi {
    /// `None` for ABIs that Corten runs on no machine with.
    pub fn of(arch: Arch) -> Option<Self> {
        match arch {
            Arch::ScmpArchX86_64 => Some(Self::X8664),
            Arch::ScmpArchX86 => Some(Self::X86),
            Arch::ScmpArchX32 => Some(Self::X32),
            Arch::ScmpArchAarch64 => Some(Self::Aarch64),
            Arch::ScmpArchArm => Some(Self::Arm),
            Arch::ScmpArchRiscv64 => Some(Self::Riscv64),
            Arch::ScmpArchLoongarch64 => Some(Self::Loongarch64),
            Arch::ScmpArchPpc64le => Some(Self::Ppc64le),
            Arch::ScmpArchS390x => Some(Self::S390x),
            Arch::ScmpArchS390 => Some(Self::S390),
            _ => None,
        }
    }

    /// The machine that this program was built for.
    pub fn native() -> Option<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Self::X8664),
            "aarch64" => Some(Self::Aarch64),
            "riscv64" => Some(Self::Riscv64),
            "loongarch64" => Some(Self::Loongarch64),
            "powerpc64" => Some(Self::Ppc64le),
            "s390x" => Some(Self::S390x),
            _ => None,
        }
    }

    /// Whether a machine of that native ABI can run programs of this one.
    pub fn runs_on(self, native: Self) -> bool {
        match self {
            Self::X86 | Self::X32 => native == Self::X8664,
            Self::Arm => native == Self::Aarch64,
            Self::S390 => native == Self::S390x,
            own => own == native,
        }
    }

    /// The kernel's `AUDIT_ARCH_*`.
    pub fn token(self) -> u32 {
        match self {
            Self::X8664 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
            Self::Riscv64 => 0xc000_00f3,
            Self::Loongarch64 => 0xc000_0102,
            Self::Ppc64le => 0xc000_0015,
            Self::S390x => 0x8000_0016,
            Self::S390 => 0x0000_0016,
        }
    }

    /// Whether arguments have 64 bits. Of the others' the kernel shows 64, and 32 count.
    pub fn is_wide(self) -> bool {
        !matches!(self, Self::X86 | Self::X32 | Self::Arm | Self::S390)
    }

    /// Whether the high half of an argument comes first in memory.
    pub fn is_big_endian(self) -> bool {
        matches!(self, Self::S390x | Self::S390)
    }

    /// All ways to make the call of this name: none, one, or directly and through a multiplexer.
    pub fn places(self, name: &str) -> Vec<Place> {
        let direct = self.number(name).map(|number| Place {
            number,
            first_argument: None,
        });
        self.multiplexed(name).into_iter().chain(direct).collect()
    }

    fn multiplexed(self, name: &str) -> Option<Place> {
        let by_socketcall = (1u32..).zip(BY_SOCKETCALL).find(|(_, call)| *call == name);
        let by_ipc = || BY_IPC.iter().find(|(call, _)| *call == name);
        let (multiplexer, first_argument) = match by_socketcall {
            Some((which, _)) => ("socketcall", which),
            None => ("ipc", by_ipc()?.1),
        };
        Some(Place {
            number: self.number(multiplexer)?,
            first_argument: Some(first_argument),
        })
    }

    fn number(self, name: &str) -> Option<u32> {
        let number = table().get(name)?[self as usize]?;
        Some(match self {
            Self::X32 => number | X32_BIT,
            _ => number,
        })
    }

    /// Where numbers begin that say nothing about how new a call is.
    pub fn private(self) -> Option<u32> {
        (self == Self::Arm).then_some(ARM_PRIVATE)
    }
}

type Numbers = [Option<u32>; ABIS];

fn table() -> &'static HashMap<&'static str, Numbers> {
    static TABLE: OnceLock<HashMap<&'static str, Numbers>> = OnceLock::new();
    TABLE.get_or_init(|| lines().map(line).collect())
}

/// Without the comments and the names of the columns.
fn lines() -> impl Iterator<Item = &'static str> {
    let said = NUMBERS.lines().filter(|line| !line.starts_with('#'));
    said.skip(1)
}

fn line(line: &'static str) -> (&'static str, Numbers) {
    let mut words = line.split(' ');
    let name = words.next().unwrap_or_default();
    let mut numbers = Numbers::default();
    for (number, word) in numbers.iter_mut().zip(words) {
        *number = word.parse().ok();
    }
    (name, numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_has_a_number_or_none_for_each_abi() {
        assert!(NUMBERS.contains(
            "\nname x86_64 x86 x32 aarch64 arm riscv64 loongarch64 ppc64le s390x s390\n"
        ));
        for line in lines() {
            let words: Vec<_> = line.split(' ').skip(1).collect();
            assert_eq!(words.len(), ABIS, "{line}");
            let right = |word: &&str| *word == "-" || word.parse::<u32>().is_ok();
            assert!(words.iter().all(right), "{line}");
        }
        assert!(table().len() > 490);
    }

    #[test]
    fn a_call_is_where_the_kernel_has_it() {
        let direct = |number| Place {
            number,
            first_argument: None,
        };
        assert_eq!(Abi::X8664.places("read"), [direct(0)]);
        assert_eq!(Abi::Aarch64.places("read"), [direct(63)]);
        assert_eq!(Abi::X32.places("readv"), [direct(X32_BIT + 515)]);
        assert_eq!(Abi::Aarch64.places("open"), []);
        assert_eq!(Abi::X8664.places("no_such_call"), []);
        let socketcall = |which| Place {
            number: 102,
            first_argument: Some(which),
        };
        assert_eq!(Abi::X86.places("socket"), [socketcall(1), direct(359)]);
        assert_eq!(Abi::X86.places("accept"), [socketcall(5)]);
        let ipc = Place {
            number: 117,
            first_argument: Some(24),
        };
        assert_eq!(Abi::X86.places("shmctl"), [ipc, direct(396)]);
    }
}
