//! From the section of a container's configuration to a program, by libseccomp.

use super::SeccompFilterError;
use libseccomp::error::SeccompError;
use libseccomp::{
    ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall,
    ScmpVersion,
};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall,
};
use rustix::fs::{MemfdFlags, memfd_create};
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::path::Path;

const EPERM: u32 = 1;

/// libseccomp's version: another one knows other system calls.
pub fn version() -> Result<String, SeccompFilterError> {
    let version = ScmpVersion::current().map_err(during("ask for its version"))?;
    Ok(format!(
        "libseccomp {}.{}.{}",
        version.major, version.minor, version.micro
    ))
}

/// The program, as libseccomp makes it.
pub fn compile(seccomp: &LinuxSeccomp) -> Result<Vec<u8>, SeccompFilterError> {
    let default = action(seccomp.default_action(), seccomp.default_errno_ret())?;
    let mut filter = ScmpFilterContext::new(default).map_err(during("begin"))?;
    for arch in seccomp.architectures().iter().flatten() {
        add_architecture(&mut filter, *arch)?;
    }
    // 2: a binary tree over the numbers, a quarter of a list's price for each call.
    filter
        .set_ctl_optimize(2)
        .map_err(during("choose the binary tree"))?;
    for rule in seccomp.syscalls().iter().flatten() {
        add_rule(&mut filter, rule, default)?;
    }
    export(&filter)
}

fn during(step: impl Into<String>) -> impl FnOnce(SeccompError) -> SeccompFilterError {
    let step = step.into();
    move |source| SeccompFilterError::Compile { step, source }
}

fn add_architecture(filter: &mut ScmpFilterContext, arch: Arch) -> Result<(), SeccompFilterError> {
    let arch = to_libseccomp(arch)?;
    // The machine's own is there from the start, and adding it again is no error.
    filter
        .add_arch(arch)
        .map_err(during(format!("add architecture {arch:?}")))?;
    Ok(())
}

/// libseccomp's word for it.
pub fn to_libseccomp(arch: Arch) -> Result<ScmpArch, SeccompFilterError> {
    let name = serde_json::to_value(arch).ok();
    let known = name.as_ref().and_then(|name| name.as_str()?.parse().ok());
    known.ok_or_else(|| SeccompFilterError::Unsupported {
        what: format!("architecture {arch:?}"),
    })
}

/// Adds one rule for all its names. A name that libseccomp does not know is passed over, as
/// profiles are written for newer kernels than any one node has; so is a rule that says what the
/// default says.
fn add_rule(
    filter: &mut ScmpFilterContext,
    rule: &LinuxSyscall,
    default: ScmpAction,
) -> Result<(), SeccompFilterError> {
    let action = action(rule.action(), rule.errno_ret())?;
    if action == default {
        return Ok(());
    }
    let conditions = conditions(rule.args().as_deref().unwrap_or_default())?;
    for name in rule.names() {
        let Ok(syscall) = ScmpSyscall::from_name(name) else {
            continue;
        };
        for condition in &conditions {
            filter
                .add_rule_conditional(action, syscall, condition)
                .map_err(during(format!("add the rule for {name}")))?;
        }
    }
    Ok(())
}

/// One list for each rule that libseccomp is to hold. Conditions on different arguments must all
/// be met; where two are on the same argument, which libseccomp cannot join, meeting any one of
/// the rule's conditions is enough (so every runtime reads it).
fn conditions(args: &[LinuxSeccompArg]) -> Result<Vec<Vec<ScmpArgCompare>>, SeccompFilterError> {
    let all = args.iter().map(condition).collect::<Result<Vec<_>, _>>()?;
    let twice =
        |arg: &LinuxSeccompArg| args.iter().filter(|a| a.index() == arg.index()).count() > 1;
    Ok(match args.iter().any(twice) {
        true => all.into_iter().map(|one| vec![one]).collect(),
        false => vec![all],
    })
}

fn condition(arg: &LinuxSeccompArg) -> Result<ScmpArgCompare, SeccompFilterError> {
    let index = u32::try_from(arg.index()).ok().filter(|index| *index < 6);
    let index = index.ok_or_else(|| SeccompFilterError::Unsupported {
        what: format!("argument {}", arg.index()),
    })?;
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
    Ok(ScmpArgCompare::new(index, operator, value))
}

fn action(
    action: LinuxSeccompAction,
    errno: Option<u32>,
) -> Result<ScmpAction, SeccompFilterError> {
    let code =
        u16::try_from(errno.unwrap_or(EPERM)).map_err(|_| SeccompFilterError::Unsupported {
            what: format!("errnoRet {errno:?}"),
        })?;
    Ok(match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => {
            ScmpAction::KillThread
        }
        LinuxSeccompAction::ScmpActKillProcess => ScmpAction::KillProcess,
        LinuxSeccompAction::ScmpActTrap => ScmpAction::Trap,
        LinuxSeccompAction::ScmpActErrno => ScmpAction::Errno(code.into()),
        LinuxSeccompAction::ScmpActTrace => ScmpAction::Trace(code),
        LinuxSeccompAction::ScmpActLog => ScmpAction::Log,
        LinuxSeccompAction::ScmpActAllow => ScmpAction::Allow,
        LinuxSeccompAction::ScmpActNotify => {
            return Err(SeccompFilterError::Unsupported {
                what: "SCMP_ACT_NOTIFY".to_owned(),
            });
        }
    })
}

fn export(filter: &ScmpFilterContext) -> Result<Vec<u8>, SeccompFilterError> {
    let memory = || Path::new("in memory");
    let fd = memfd_create("seccomp", MemfdFlags::CLOEXEC)
        .map_err(|errno| SeccompFilterError::io("create", memory())(errno.into()))?;
    let mut file = File::from(fd);
    filter.export_bpf(&file).map_err(during("export"))?;
    let mut program = Vec::new();
    file.rewind()
        .and_then(|()| file.read_to_end(&mut program))
        .map_err(SeccompFilterError::io("read", memory()))?;
    Ok(program)
}
