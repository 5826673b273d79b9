//! Our programs answer as libseccomp's do: for every number, and for the arguments near which rules
//! decide.

use super::grammar::{Grammar, OPERATORS, Several};
use super::{ENOSYS, LinuxSeccomp, default_for, oracle, program_for, run, section};
use crate::model::spec::seccomp::runtime_default;
use crate::task::seccomp::abi::{Abi, BY_IPC, BY_SOCKETCALL, NUMBERS, X32_BIT};
use crate::task::seccomp::tests::machine::is_sound;
use libseccomp::{ScmpArch, ScmpSyscall};
use oci_spec::runtime::{LinuxSeccompAction, LinuxSyscall};
use std::collections::BTreeSet;

/// Architectures of the kernel that are asked, also those that no profile here names.
const TOKENS: [Abi; 6] = [
    Abi::X8664,
    Abi::X86,
    Abi::Aarch64,
    Abi::Arm,
    Abi::Riscv64,
    Abi::S390x,
];

/// How many random profiles are held against libseccomp's.
const COUNT: usize = 40;

/// A section, and both programs of it.
struct Pair {
    section: LinuxSeccomp,
    native: Abi,
    ours: Vec<u8>,
    theirs: Vec<u8>,
    /// Of each ABI, the highest number that the profile names.
    highest: Vec<(Abi, u32)>,
}

impl Pair {
    /// `None` where libseccomp finds that rules contradict each other.
    fn new(section: LinuxSeccomp, native: Abi) -> Option<Self> {
        let section = known_to_libseccomp(section);
        let ours = program_for(&section, native);
        let theirs = oracle::compile(&section, native).ok()?;
        let ours = ours.unwrap_or_else(|error| panic!("{error}: {}", text(&section)));
        assert!(is_sound(&ours));
        let pair = Self {
            section,
            native,
            ours,
            theirs,
            highest: Vec::new(),
        };
        Some(pair.find_highest())
    }

    /// Asks both, of every number.
    fn hold(&self, random: &mut fastrand::Rng) {
        for token in TOKENS.map(Abi::token) {
            for number in numbers() {
                self.ask(token, number, [0; 6]);
            }
        }
        for abi in self.abis() {
            for number in self.with_arguments(abi) {
                for args in self.arguments(number, random) {
                    self.ask(abi.token(), number, args);
                }
            }
        }
    }

    fn ask(&self, token: u32, number: u32, args: [u64; 6]) {
        let ours = run(&self.ours, token, number, args);
        let theirs = match self.is_newer(token, number) {
            true => ENOSYS,
            false => run(&self.theirs, token, number, args),
        };
        assert_eq!(
            ours,
            theirs,
            "ours {ours:#x}, theirs {theirs:#x}: {token:#x} {number:#x} {args:#x?} of {}",
            text(&self.section)
        );
    }

    fn abis(&self) -> Vec<Abi> {
        let named = self.section.architectures().iter().flatten();
        let named = named.filter_map(|arch| Abi::of(*arch));
        let here = named.filter(|abi| abi.runs_on(self.native));
        std::iter::once(self.native).chain(here).collect()
    }

    /// Whether the profile is too old for this call.
    fn is_newer(&self, token: u32, number: u32) -> bool {
        let has_bit = token == Abi::X8664.token() && number >= X32_BIT;
        let of_this = |abi: Abi| abi.token() == token && has_bit == (abi == Abi::X32);
        let highest = self.highest.iter().find(|(abi, _)| of_this(*abi));
        highest.is_some_and(|(abi, highest)| number > *highest && !is_private(*abi, number))
    }

    fn find_highest(mut self) -> Self {
        if self.section.default_action() == LinuxSeccompAction::ScmpActErrno {
            let all = self.abis().into_iter().filter_map(|abi| {
                let numbers = self.numbers_of(abi, |_| true);
                let counted = numbers
                    .into_iter()
                    .filter(|number| !is_private(abi, *number));
                Some((abi, counted.max()?))
            });
            self.highest = all.collect();
        }
        self
    }

    fn numbers_of(&self, abi: Abi, of: impl Fn(&LinuxSyscall) -> bool) -> BTreeSet<u32> {
        let rules = self
            .section
            .syscalls()
            .iter()
            .flatten()
            .filter(|rule| of(rule));
        let places = rules
            .flat_map(LinuxSyscall::names)
            .flat_map(|name| abi.places(name));
        let direct = places.filter(|place| place.first_argument.is_none());
        direct.map(|place| place.number).collect()
    }

    /// Those with rules about arguments, multiplexers included.
    fn with_arguments(&self, abi: Abi) -> BTreeSet<u32> {
        let mut numbers = self.numbers_of(abi, |rule| rule.args().is_some());
        let multiplexers = ["socketcall", "ipc"].map(|name| abi.places(name));
        numbers.extend(multiplexers.iter().flatten().map(|place| place.number));
        numbers
    }

    /// Each argument near its rules' values by itself, and many of them together.
    fn arguments(&self, number: u32, random: &mut fastrand::Rng) -> Vec<[u64; 6]> {
        let values = [0, 1, 2, 3, 4, 5].map(|index| self.values(index));
        let mut all = Vec::new();
        for (index, some) in values.iter().enumerate() {
            for value in some {
                let mut args = [0; 6];
                args[index] = *value;
                all.push(args);
            }
        }
        let any = |some: &Vec<u64>, random: &mut fastrand::Rng| *random.choice(some).unwrap();
        for _ in 0..150 {
            all.push(std::array::from_fn(|index| any(&values[index], random)));
        }
        if number == 102 || number == 117 {
            all.extend((0..26).map(|which| [which, 0, 0, 0, 0, 0]));
        }
        all
    }

    fn values(&self, index: usize) -> Vec<u64> {
        let rules = self.section.syscalls().iter().flatten();
        let args = rules.flat_map(|rule| rule.args().iter().flatten());
        let near = args.filter(|arg| arg.index() == index).flat_map(|arg| {
            let two = arg.value_two().unwrap_or(0);
            [arg.value(), two, arg.value() & two, !arg.value() | two]
        });
        let near = near.flat_map(|v| [v, v.wrapping_add(1), v.wrapping_sub(1)]);
        let halves = |v: u64| [v, v ^ (1 << 32), v & 0xffff_ffff, v >> 32 << 32, v << 32];
        let values: BTreeSet<u64> = near.flat_map(halves).chain([0, 1, u64::MAX]).collect();
        values.into_iter().collect()
    }
}

/// Calls that only ARM has say nothing about what is new.
fn is_private(abi: Abi, number: u32) -> bool {
    abi == Abi::Arm && number >= 0xf_0000
}

/// The first thousand, the first thousand of x32, and where words begin and end.
fn numbers() -> impl Iterator<Item = u32> {
    let edges = [
        0x7fff_ffff,
        0x8000_0000,
        0xbfff_ffff,
        0xc000_0000,
        u32::MAX - 1,
        u32::MAX,
    ];
    let private = 0xeffff..0xf_0010;
    (0..1024)
        .chain(X32_BIT - 1..X32_BIT + 1024)
        .chain(private)
        .chain(edges)
}

fn text(section: &LinuxSeccomp) -> String {
    serde_json::to_string(section).unwrap()
}

/// Without the calls that the libseccomp of this machine does not know, or has elsewhere.
fn known_to_libseccomp(mut section: LinuxSeccomp) -> LinuxSeccomp {
    let mut rules = section.syscalls().clone().unwrap();
    for rule in &mut rules {
        let known = |name: &&String| is_where_libseccomp_has_it(name);
        let names = rule.names().iter().filter(known).cloned().collect();
        rule.set_names(names);
    }
    section.set_syscalls(Some(rules));
    section
}

fn is_where_libseccomp_has_it(name: &str) -> bool {
    let same = |(abi, arch): (Abi, ScmpArch)| {
        let ours = abi.places(name);
        let ours = ours.iter().find(|place| place.first_argument.is_none());
        match ScmpSyscall::from_name_by_arch(name, arch).map(ScmpSyscall::as_raw_syscall) {
            // Its own number of a call that is not there, or that a multiplexer makes.
            Ok(number @ ..0) => ours.is_none() || abi == Abi::X86 && number > -300,
            Ok(number) => ours.is_some_and(|place| u32::try_from(number) == Ok(place.number)),
            Err(_) => false,
        }
    };
    ABIS.into_iter().all(same)
}

const ABIS: [(Abi, ScmpArch); 5] = [
    (Abi::X8664, ScmpArch::X8664),
    (Abi::X86, ScmpArch::X86),
    (Abi::X32, ScmpArch::X32),
    (Abi::Aarch64, ScmpArch::Aarch64),
    (Abi::Arm, ScmpArch::Arm),
];

#[test]
fn all_that_libseccomp_knows_is_where_it_has_it() {
    let lines = NUMBERS
        .lines()
        .filter(|line| !line.starts_with('#'))
        .skip(1);
    let names = lines.map(|line| line.split(' ').next().unwrap());
    let known = names.filter(|name| ScmpSyscall::from_name(name).is_ok());
    let (same, other): (Vec<_>, Vec<_>) = known.partition(|name| is_where_libseccomp_has_it(name));
    assert!(same.len() > 470);
    // Debian 12's does not have it for x32, where later versions do.
    let other: Vec<_> = other
        .into_iter()
        .filter(|name| *name != "map_shadow_stack")
        .collect();
    assert!(other.is_empty(), "{other:?}");
}

#[test]
fn the_default_profile_is_libseccomps_with_any_capabilities() {
    let mut random = fastrand::Rng::with_seed(1);
    let sets: [&[&str]; 6] = [
        &[],
        &["CAP_SYS_ADMIN"],
        &["CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_MODULE"],
        &["CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_SYS_NICE"],
        &["CAP_BPF", "CAP_PERFMON", "CAP_SYSLOG", "CAP_SYS_BOOT"],
        &["CAP_DAC_READ_SEARCH", "CAP_SYS_RAWIO", "CAP_SYS_PACCT"],
    ];
    for set in sets {
        Pair::new(default_for(set), Abi::X8664)
            .unwrap()
            .hold(&mut random);
        let section = section(runtime_default(), set, "arm64");
        Pair::new(section, Abi::Aarch64).unwrap().hold(&mut random);
    }
}

/// Each with an answer of its own.
#[test]
fn what_old_abis_multiplex_is_what_libseccomp_takes_it_for() {
    let names = BY_SOCKETCALL
        .into_iter()
        .chain(BY_IPC.map(|(name, _)| name));
    let rules: Vec<String> = (100..)
        .zip(names)
        .map(|(errno, name)| {
            format!(r#"{{"names": ["{name}"], "action": "SCMP_ACT_ERRNO", "errnoRet": {errno}}}"#)
        })
        .collect();
    let profile = format!(
        r#"{{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"],
            "syscalls": [{}]}}"#,
        rules.join(", ")
    );
    let section = serde_json::from_str(&profile).unwrap();
    let pair = Pair::new(section, Abi::X8664).unwrap();
    pair.hold(&mut fastrand::Rng::with_seed(5));
}

/// How many profiles were held.
fn hold_random(mut grammar: Grammar, count: usize) -> usize {
    let mut held = 0;
    for _ in 0..count {
        let section = grammar.section();
        let native = *grammar.random.choice(&[Abi::X8664, Abi::Aarch64]).unwrap();
        if let Some(pair) = Pair::new(section, native) {
            pair.hold(&mut grammar.random);
            held += 1;
        }
    }
    held
}

#[test]
fn profiles_with_one_action_are_libseccomps() {
    let grammar = Grammar {
        random: fastrand::Rng::with_seed(2),
        is_mixed: false,
        several: Several::OneOf(OPERATORS.split_at(3).0),
    };
    assert!(hold_random(grammar, COUNT) > COUNT / 2);
}

#[test]
fn profiles_with_several_actions_for_a_call_are_libseccomps() {
    let grammar = Grammar {
        random: fastrand::Rng::with_seed(3),
        is_mixed: true,
        several: Several::OneOf(OPERATORS.split_at(2).0),
    };
    assert!(hold_random(grammar, COUNT) > COUNT / 4);
}
