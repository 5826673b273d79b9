//! What a profile means, straight from its text: our programs do one of the things that its rules say.
//! libseccomp is no judge of these: where one call has several rules with several arguments, or ranges
//! of one argument, its trees go wrong (a comparison of one word is made on another that was loaded).

use super::grammar::{Grammar, Several};
use super::machine::{is_sound, run};
use crate::task::seccomp::SeccompFilterError;
use crate::task::seccomp::abi::{Abi, Place};
use crate::task::seccomp::program_for;
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall};

/// All actions of rules that hold, the default where there is none, and the first alone of those
/// that ask nothing.
fn may_answer(section: &LinuxSeccomp, abi: Abi, number: u32, args: [u64; 6]) -> Vec<u32> {
    let default = section.default_action().as_u32(section.default_errno_ret());
    let (mut always, mut some) = (None, Vec::new());
    for rule in section.syscalls().iter().flatten() {
        let action = rule.action().as_u32(rule.errno_ret());
        let places = rule.names().iter().flat_map(|name| abi.places(name));
        for place in places.filter(|place| place.number == number && action != default) {
            let asked = asked(rule, place);
            let asks_nothing = asked.iter().all(|arg| asks_nothing(arg, abi));
            if asks_nothing && place.first_argument.is_none() {
                always = always.or(Some(action));
            }
            let which = place
                .first_argument
                .is_none_or(|which| cut(args[0], abi) == u64::from(which));
            if which && asked.iter().all(|arg| holds(arg, args, abi)) {
                some.push(action);
            }
        }
    }
    match always {
        Some(action) => vec![action],
        None if some.is_empty() => vec![default],
        None => some,
    }
}

fn asked(rule: &LinuxSyscall, place: Place) -> Vec<LinuxSeccompArg> {
    let asked = rule.args().iter().flatten().copied();
    asked
        .filter(|arg| place.first_argument.is_none() || arg.index() != 0)
        .collect()
}

fn cut(value: u64, abi: Abi) -> u64 {
    if abi.is_wide() {
        value
    } else {
        value & 0xffff_ffff
    }
}

fn asks_nothing(arg: &LinuxSeccompArg, abi: Abi) -> bool {
    arg.op() == LinuxSeccompOperator::ScmpCmpMaskedEq && cut(arg.value(), abi) == 0
}

fn holds(arg: &LinuxSeccompArg, args: [u64; 6], abi: Abi) -> bool {
    let (actual, value) = (cut(args[arg.index()], abi), cut(arg.value(), abi));
    match arg.op() {
        LinuxSeccompOperator::ScmpCmpNe => actual != value,
        LinuxSeccompOperator::ScmpCmpLt => actual < value,
        LinuxSeccompOperator::ScmpCmpLe => actual <= value,
        LinuxSeccompOperator::ScmpCmpEq => actual == value,
        LinuxSeccompOperator::ScmpCmpGe => actual >= value,
        LinuxSeccompOperator::ScmpCmpGt => actual > value,
        LinuxSeccompOperator::ScmpCmpMaskedEq => {
            actual & value == arg.value_two().unwrap_or(0) & value
        }
    }
}

/// As an interpreter of this machine's byte order is to be told of them.
fn in_memory(args: [u64; 6], abi: Abi) -> [u64; 6] {
    match abi.is_big_endian() == cfg!(target_endian = "big") {
        true => args,
        false => args.map(|arg| arg.rotate_left(32)),
    }
}

/// Where the values of the grammar make a difference.
const NEAR: [u64; 22] = [
    0,
    1,
    2,
    3,
    6,
    7,
    8,
    0xf,
    0x10,
    0x11,
    0x7e01_ffff,
    0x7e02_0000,
    0x7e02_0001,
    0xffff_fffe,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0001,
    0x5_0000_0006,
    0x5_0000_0007,
    0xffff_ffff_0000_0000,
    u64::MAX - 1,
    u64::MAX,
];

fn hold(section: &LinuxSeccomp, program: &[u8], abi: Abi, random: &mut fastrand::Rng) {
    let names = section
        .syscalls()
        .iter()
        .flatten()
        .flat_map(LinuxSyscall::names);
    let places: Vec<_> = names.flat_map(|name| abi.places(name)).collect();
    for place in places {
        for _ in 0..60 {
            let mut args = std::array::from_fn(|_| *random.choice(&NEAR).unwrap());
            if let Some(which) = place.first_argument {
                args[0] = u64::from(which);
            }
            let answer = run(program, abi.token(), place.number, in_memory(args, abi));
            let right = may_answer(section, abi, place.number, args);
            assert!(
                right.contains(&answer),
                "{answer:#x}, not {right:#x?}: {abi:?} {:#x} {args:#x?} of {}",
                place.number,
                serde_json::to_string(section).unwrap()
            );
        }
    }
}

fn hold_random(is_mixed: bool, abis: &[Abi]) {
    let mut grammar = Grammar {
        random: fastrand::Rng::with_seed(4),
        is_mixed,
        several: Several::Wild,
    };
    let mut contradictions = 0;
    for _ in 0..80 {
        let section = grammar.section();
        match program_for(&section, abis[0]) {
            Ok(program) => {
                assert!(is_sound(&program));
                hold(&section, &program, abis[0], &mut grammar.random);
                let named = section.architectures().iter().flatten();
                for abi in named
                    .filter_map(|arch| Abi::of(*arch))
                    .filter(|abi| abis.contains(abi))
                {
                    hold(&section, &program, abi, &mut grammar.random);
                }
            }
            Err(SeccompFilterError::Contradiction { .. }) => contradictions += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(contradictions < 30, "{contradictions}");
}

#[test]
fn a_call_with_rules_of_one_action_gets_it_where_any_holds() {
    hold_random(false, &[Abi::X8664, Abi::X86, Abi::X32]);
    hold_random(false, &[Abi::Aarch64, Abi::Arm]);
}

#[test]
fn a_call_with_rules_of_several_actions_gets_one_that_holds() {
    hold_random(true, &[Abi::X8664, Abi::X86, Abi::X32]);
    hold_random(true, &[Abi::S390x, Abi::S390]);
}
