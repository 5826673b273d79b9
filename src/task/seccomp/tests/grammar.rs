//! Profiles of a small grammar, made at random.

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompOperator, LinuxSyscall,
};

/// What the profiles may say.
pub struct Grammar {
    pub random: fastrand::Rng,
    /// Whether rules may have different actions.
    pub is_mixed: bool,
    /// What several rules of one call may ask of arguments.
    pub several: Several,
}

/// What rules of a call may ask. One that is alone may ask anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Several {
    /// Anything.
    Wild,
    /// Of one argument each, whether it is a value or, with a mask, a part of one.
    OneOf(&'static [LinuxSeccompOperator]),
}

const NAMES: [&str; 24] = [
    "read",
    "write",
    "open",
    "close",
    "ioctl",
    "personality",
    "clone",
    "socket",
    "socketpair",
    "accept4",
    "send",
    "semop",
    "semtimedop",
    "shmat",
    "socketcall",
    "ipc",
    "readv",
    "waitpid",
    "io_setup",
    "fcntl64",
    "prlimit64",
    "rseq",
    "statx",
    "no_such_call",
];

const ARCHITECTURES: [Arch; 5] = [
    Arch::ScmpArchX86_64,
    Arch::ScmpArchX86,
    Arch::ScmpArchX32,
    Arch::ScmpArchAarch64,
    Arch::ScmpArchArm,
];

const ACTIONS: [(LinuxSeccompAction, Option<u32>); 9] = [
    (LinuxSeccompAction::ScmpActAllow, None),
    (LinuxSeccompAction::ScmpActErrno, None),
    (LinuxSeccompAction::ScmpActErrno, Some(38)),
    (LinuxSeccompAction::ScmpActErrno, Some(13)),
    (LinuxSeccompAction::ScmpActLog, None),
    (LinuxSeccompAction::ScmpActTrap, None),
    (LinuxSeccompAction::ScmpActTrace, Some(7)),
    (LinuxSeccompAction::ScmpActKillProcess, None),
    (LinuxSeccompAction::ScmpActKill, None),
];

/// Equality first.
pub const OPERATORS: [LinuxSeccompOperator; 7] = [
    LinuxSeccompOperator::ScmpCmpEq,
    LinuxSeccompOperator::ScmpCmpMaskedEq,
    LinuxSeccompOperator::ScmpCmpNe,
    LinuxSeccompOperator::ScmpCmpLt,
    LinuxSeccompOperator::ScmpCmpLe,
    LinuxSeccompOperator::ScmpCmpGe,
    LinuxSeccompOperator::ScmpCmpGt,
];

const VALUES: [u64; 10] = [
    0,
    1,
    2,
    7,
    0x10,
    0x7e02_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x5_0000_0007,
    u64::MAX,
];

impl Grammar {
    pub fn section(&mut self) -> LinuxSeccomp {
        let (default, errno) = self.action();
        let architectures = ARCHITECTURES.into_iter().filter(|_| self.random.bool());
        let architectures = architectures.collect();
        let mut section = LinuxSeccomp::default();
        section
            .set_default_action(default)
            .set_default_errno_ret(errno)
            .set_architectures(Some(architectures))
            .set_syscalls(Some(self.rules()));
        section
    }

    fn rules(&mut self) -> Vec<LinuxSyscall> {
        let name_count = self.random.usize(1..6);
        let one = self.action();
        let mut rules = Vec::new();
        for name in self.random.choose_multiple(NAMES, name_count) {
            let rule_count = self.random.usize(1..5);
            for _ in 0..rule_count {
                let (action, errno) = if self.is_mixed { self.action() } else { one };
                let mut rule = LinuxSyscall::default();
                rule.set_names(vec![name.to_owned()])
                    .set_action(action)
                    .set_errno_ret(errno)
                    .set_args(self.arguments(if rule_count == 1 {
                        Several::Wild
                    } else {
                        self.several
                    }));
                rules.push(rule);
            }
        }
        self.random.shuffle(&mut rules);
        rules
    }

    fn arguments(&mut self, may: Several) -> Option<Vec<LinuxSeccompArg>> {
        let (count, operators) = match may {
            Several::Wild => (self.random.usize(0..4), &OPERATORS[..]),
            Several::OneOf(some) => (usize::from(self.random.usize(0..9) > 0), some),
        };
        let indices = self.random.choose_multiple(0..6usize, count);
        let arguments = indices
            .into_iter()
            .map(|index| self.argument(index, operators));
        Some(arguments.collect::<Vec<_>>()).filter(|all| !all.is_empty())
    }

    fn argument(&mut self, index: usize, operators: &[LinuxSeccompOperator]) -> LinuxSeccompArg {
        LinuxSeccompArgBuilder::default()
            .index(index)
            .op(*self.random.choice(operators).unwrap())
            .value(*self.random.choice(&VALUES).unwrap())
            .value_two(*self.random.choice(&VALUES).unwrap())
            .build()
            .unwrap()
    }

    fn action(&mut self) -> (LinuxSeccompAction, Option<u32>) {
        *self.random.choice(&ACTIONS).unwrap()
    }
}
