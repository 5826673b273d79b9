//! From the section of a container's configuration to a program.
//!
//! Besides what the section says, calls that are newer than an allow list do not exist. A C library
//! tries a new call first and falls back to an old one on ENOSYS, but takes EPERM for a refusal:
//! with EPERM alone every new glibc breaks in containers whose profile is older. Newer means: above
//! the highest number that the profile names for the ABI.
//!
//! Invariant: the same section makes the same program on every node of the same machine.

use super::SeccompFilterError;
use super::abi::{Abi, Place, X32_BIT};
use super::layout::{Calls, program};
use super::rules::{Condition, Rule, Test, Verdict, join};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall,
};
use std::collections::BTreeMap;

const EPERM: u32 = 1;
/// `SECCOMP_RET_ERRNO` with ENOSYS.
const RETURN_ENOSYS: u32 = 0x0005_0000 | 38;

/// The program, as the kernel takes it, for a machine of this native ABI.
///
/// # Errors
/// Where the section asks for what there is not, or contradicts itself.
pub fn compile(seccomp: &LinuxSeccomp, native: Abi) -> Result<Vec<u8>, SeccompFilterError> {
    let section = Section::read(seccomp)?;
    let abis = abis(
        seccomp.architectures().as_deref().unwrap_or_default(),
        native,
    );
    let calls = abis.into_iter().map(|abi| section.calls(abi));
    let calls = calls.collect::<Result<Vec<_>, _>>()?;
    Ok(program(&calls, section.default))
}

/// The machine's own first, as the kernel's own calls are the most frequent.
fn abis(architectures: &[Arch], native: Abi) -> Vec<Abi> {
    let mut abis = vec![native];
    for abi in architectures.iter().filter_map(|arch| Abi::of(*arch)) {
        if abi.runs_on(native) && !abis.contains(&abi) {
            abis.push(abi);
        }
    }
    abis
}

/// What the profile says, in its order and for no ABI yet.
struct Section<'a> {
    default: u32,
    is_allow_list: bool,
    named: Vec<Said<'a>>,
}

/// One entry of the profile.
struct Said<'a> {
    names: &'a [String],
    action: u32,
    /// Any of these, each of which holds when all that is in it does.
    cases: Vec<Vec<Condition>>,
}

impl<'a> Section<'a> {
    fn read(seccomp: &'a LinuxSeccomp) -> Result<Self, SeccompFilterError> {
        let said = seccomp.syscalls().iter().flatten().map(Said::read);
        Ok(Self {
            default: action(seccomp.default_action(), seccomp.default_errno_ret())?,
            is_allow_list: seccomp.default_action() == LinuxSeccompAction::ScmpActErrno,
            named: said.collect::<Result<_, _>>()?,
        })
    }

    fn calls(&self, abi: Abi) -> Result<Calls, SeccompFilterError> {
        let (mut rules, mut highest) = (BTreeMap::new(), None);
        for (said, name) in self.names() {
            for place in abi.places(name) {
                highest = highest.max(age(place, abi));
                if said.action != self.default {
                    let (_, there) = rules.entry(place.number).or_insert((name, Vec::new()));
                    there.extend(said.rules(place, abi));
                }
            }
        }
        Ok(Calls {
            abi,
            named: joined(rules, abi)?,
            unnamed: self.unnamed(abi, highest),
        })
    }

    fn names(&self) -> impl Iterator<Item = (&Said<'a>, &'a str)> {
        let names = |said: &'a [String]| said.iter().map(String::as_str);
        let each = move |said: &Said<'a>| names(said.names);
        self.named
            .iter()
            .flat_map(move |said| each(said).map(move |name| (said, name)))
    }

    fn unnamed(&self, abi: Abi, highest: Option<u32>) -> Vec<(u32, u32)> {
        let first = match abi {
            Abi::X32 => X32_BIT,
            _ => 0,
        };
        let mut unnamed = vec![(first, self.default)];
        if let Some(highest) = highest.filter(|_| self.is_allow_list) {
            unnamed.push((highest + 1, RETURN_ENOSYS));
            unnamed.extend(abi.private().map(|from| (from, self.default)));
        }
        unnamed
    }
}

/// The number, where it says how new the call is.
fn age(place: Place, abi: Abi) -> Option<u32> {
    let is_private = abi.private().is_some_and(|from| place.number >= from);
    (place.first_argument.is_none() && !is_private).then_some(place.number)
}

/// The rules of each number, and one of its names.
type Rules<'a> = BTreeMap<u32, (&'a str, Vec<Rule>)>;

fn joined(rules: Rules<'_>, abi: Abi) -> Result<BTreeMap<u32, Verdict>, SeccompFilterError> {
    let verdict = |(number, (name, rules)): (u32, (&str, Vec<Rule>))| {
        let verdict = join(rules, abi).map_err(|_| SeccompFilterError::Contradiction {
            call: name.to_owned(),
        })?;
        Ok((number, verdict))
    };
    rules.into_iter().map(verdict).collect()
}

impl<'a> Said<'a> {
    fn read(syscall: &'a LinuxSyscall) -> Result<Self, SeccompFilterError> {
        Ok(Self {
            names: syscall.names(),
            action: action(syscall.action(), syscall.errno_ret())?,
            cases: cases(syscall.args().as_deref().unwrap_or_default())?,
        })
    }

    fn rules(&self, place: Place, abi: Abi) -> impl Iterator<Item = Rule> {
        self.cases.iter().map(move |case| Rule {
            conditions: conditions(case, place, abi),
            action: self.action,
        })
    }
}

/// A multiplexer's first argument says which call is meant; what the profile says of the call's own
/// first argument, which is in memory then, cannot be asked.
fn conditions(case: &[Condition], place: Place, abi: Abi) -> Vec<Condition> {
    let which = place.first_argument.map(|which| Condition {
        argument: 0,
        test: Test::Equal(which.into()),
    });
    let can_be_asked = |one: &&Condition| which.is_none() || one.argument != 0;
    let own = case.iter().filter(can_be_asked).copied();
    let all = which.into_iter().chain(own);
    all.filter_map(|condition| condition.under(abi)).collect()
}

/// Conditions on different arguments must all be met; where two are on the same argument, meeting
/// any one of the entry's conditions is enough (so every runtime reads it).
fn cases(args: &[LinuxSeccompArg]) -> Result<Vec<Vec<Condition>>, SeccompFilterError> {
    let mut all = args.iter().map(condition).collect::<Result<Vec<_>, _>>()?;
    let twice = |arg: &Condition| all.iter().filter(|a| a.argument == arg.argument).count() > 1;
    if all.iter().any(twice) {
        return Ok(all.into_iter().map(|one| vec![one]).collect());
    }
    all.sort_by_key(|condition| condition.argument);
    Ok(vec![all])
}

fn condition(arg: &LinuxSeccompArg) -> Result<Condition, SeccompFilterError> {
    let argument = u32::try_from(arg.index()).ok().filter(|index| *index < 6);
    let argument = argument.ok_or_else(|| SeccompFilterError::Unsupported {
        what: format!("argument {}", arg.index()),
    })?;
    let value = arg.value();
    let test = match arg.op() {
        LinuxSeccompOperator::ScmpCmpNe => Test::NotEqual(value),
        LinuxSeccompOperator::ScmpCmpLt => Test::Less(value),
        LinuxSeccompOperator::ScmpCmpLe => Test::LessOrEqual(value),
        LinuxSeccompOperator::ScmpCmpEq => Test::Equal(value),
        LinuxSeccompOperator::ScmpCmpGe => Test::GreaterOrEqual(value),
        LinuxSeccompOperator::ScmpCmpGt => Test::Greater(value),
        LinuxSeccompOperator::ScmpCmpMaskedEq => Test::Masked(value, arg.value_two().unwrap_or(0)),
    };
    Ok(Condition { argument, test })
}

/// What the kernel takes for an action: a `SECCOMP_RET_*`, with 16 bits of data.
fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Result<u32, SeccompFilterError> {
    let data = errno.unwrap_or(EPERM);
    if data > u32::from(u16::MAX) {
        return Err(SeccompFilterError::Unsupported {
            what: format!("errnoRet {data}"),
        });
    }
    Ok(match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => 0,
        LinuxSeccompAction::ScmpActKillProcess => 0x8000_0000,
        LinuxSeccompAction::ScmpActTrap => 0x0003_0000,
        LinuxSeccompAction::ScmpActErrno => 0x0005_0000 | data,
        LinuxSeccompAction::ScmpActNotify => 0x7fc0_0000,
        LinuxSeccompAction::ScmpActTrace => 0x7ff0_0000 | data,
        LinuxSeccompAction::ScmpActLog => 0x7ffc_0000,
        LinuxSeccompAction::ScmpActAllow => 0x7fff_0000,
    })
}
