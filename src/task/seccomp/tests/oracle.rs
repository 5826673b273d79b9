//! The same section as a program of libseccomp's, which every other runtime loads.

use crate::task::seccomp::abi::Abi;
use libseccomp::error::SeccompError;
use libseccomp::{
    ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall,
};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall,
};
use std::io::{Read as _, Seek as _};

const EPERM: u32 = 1;

/// The program, as libseccomp makes it.
///
/// # Errors
/// What it says; a rule that it refuses is one that contradicts another.
pub fn compile(seccomp: &LinuxSeccomp, native: Abi) -> Result<Vec<u8>, SeccompError> {
    let default = action(seccomp.default_action(), seccomp.default_errno_ret());
    let mut filter = ScmpFilterContext::new(default)?;
    for arch in architectures(seccomp, native) {
        filter.add_arch(arch)?;
    }
    if Abi::native() != Some(native) {
        filter.remove_arch(ScmpArch::native())?;
    }
    // 2: a binary tree over the numbers, a quarter of a list's price for each call.
    filter.set_ctl_optimize(2)?;
    for rule in seccomp.syscalls().iter().flatten() {
        add_rule(&mut filter, rule, default)?;
    }
    export(&filter)
}

fn architectures(seccomp: &LinuxSeccomp, native: Abi) -> Vec<ScmpArch> {
    let own = match native {
        Abi::Aarch64 => ScmpArch::Aarch64,
        _ => ScmpArch::native(),
    };
    let named = seccomp.architectures().iter().flatten();
    let here = named.filter(|arch| Abi::of(**arch).is_some_and(|abi| abi.runs_on(native)));
    std::iter::once(own)
        .chain(here.map(|arch| to_libseccomp(*arch)))
        .collect()
}

/// libseccomp's word for it.
pub fn to_libseccomp(arch: Arch) -> ScmpArch {
    let name = serde_json::to_value(arch).unwrap();
    name.as_str().unwrap().parse().unwrap()
}

/// Adds one rule for all its names. A name that libseccomp does not know is passed over, as
/// profiles are written for newer kernels than any one node has; so is a rule that says what the
/// default says.
fn add_rule(
    filter: &mut ScmpFilterContext,
    rule: &LinuxSyscall,
    default: ScmpAction,
) -> Result<(), SeccompError> {
    let action = action(rule.action(), rule.errno_ret());
    if action == default {
        return Ok(());
    }
    let conditions = conditions(rule.args().as_deref().unwrap_or_default());
    for name in rule.names() {
        let Ok(syscall) = ScmpSyscall::from_name(name) else {
            continue;
        };
        for condition in &conditions {
            filter.add_rule_conditional(action, syscall, condition)?;
        }
    }
    Ok(())
}

/// One list for each rule that libseccomp is to hold. Conditions on different arguments must all
/// be met; where two are on the same argument, which libseccomp cannot join, meeting any one of
/// the rule's conditions is enough (so every runtime reads it).
fn conditions(args: &[LinuxSeccompArg]) -> Vec<Vec<ScmpArgCompare>> {
    let all: Vec<_> = args.iter().map(condition).collect();
    let twice =
        |arg: &LinuxSeccompArg| args.iter().filter(|a| a.index() == arg.index()).count() > 1;
    match args.iter().any(twice) {
        true => all.into_iter().map(|one| vec![one]).collect(),
        false => vec![all],
    }
}

fn condition(arg: &LinuxSeccompArg) -> ScmpArgCompare {
    let index = u32::try_from(arg.index()).unwrap();
    let (operator, value) = match arg.op() {
        LinuxSeccompOperator::ScmpCmpNe => (ScmpCompareOp::NotEqual, arg.value()),
        LinuxSeccompOperator::ScmpCmpLt => (ScmpCompareOp::Less, arg.value()),
        LinuxSeccompOperator::ScmpCmpLe => (ScmpCompareOp::LessOrEqual, arg.value()),
        LinuxSeccompOperator::ScmpCmpEq => (ScmpCompareOp::Equal, arg.value()),
        LinuxSeccompOperator::ScmpCmpGe => (ScmpCompareOp::GreaterEqual, arg.value()),
        LinuxSeccompOperator::ScmpCmpGt => (ScmpCompareOp::Greater, arg.value()),
        LinuxSeccompOperator::ScmpCmpMaskedEq => (
            ScmpCompareOp::MaskedEqual(arg.value()),
            arg.value_two().unwrap_or(0),
        ),
    };
    ScmpArgCompare::new(index, operator, value)
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> ScmpAction {
    let code = u16::try_from(errno.unwrap_or(EPERM)).unwrap();
    match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => {
            ScmpAction::KillThread
        }
        LinuxSeccompAction::ScmpActKillProcess => ScmpAction::KillProcess,
        LinuxSeccompAction::ScmpActTrap => ScmpAction::Trap,
        LinuxSeccompAction::ScmpActErrno => ScmpAction::Errno(code.into()),
        LinuxSeccompAction::ScmpActTrace => ScmpAction::Trace(code),
        LinuxSeccompAction::ScmpActLog => ScmpAction::Log,
        LinuxSeccompAction::ScmpActAllow => ScmpAction::Allow,
        LinuxSeccompAction::ScmpActNotify => ScmpAction::Notify,
    }
}

fn export(filter: &ScmpFilterContext) -> Result<Vec<u8>, SeccompError> {
    let mut file = tempfile::tempfile().unwrap();
    filter.export_bpf(&file)?;
    let mut program = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut program).unwrap();
    Ok(program)
}
