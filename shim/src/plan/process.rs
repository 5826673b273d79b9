//! What a process gets beside its user: arguments, limits, capabilities, labels.

use super::caps::{self, Caps};
use super::scheduling::{self, Scheduling};
use crate::api::Failure;
use crate::bundle::Linux;
use crate::bundle::process::{ConsoleSize, Process, Rlimit};
use crate::bundle::text::Text;
use std::ffi::CString;

/// The names of the resource limits in the order of the kernel's numbers, without `RLIMIT_`.
pub const RLIMITS: [&str; 16] = [
    "CPU",
    "FSIZE",
    "DATA",
    "STACK",
    "CORE",
    "RSS",
    "NPROC",
    "NOFILE",
    "MEMLOCK",
    "AS",
    "LOCKS",
    "SIGPENDING",
    "MSGQUEUE",
    "NICE",
    "RTPRIO",
    "RTTIME",
];

/// What this process may hand on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Powers {
    /// Its capability bounding set.
    pub bounding: u64,
    /// It has CAP_SYS_RESOURCE in force.
    pub may_raise_limits: bool,
    /// Its own hard limits, in the order of [`RLIMITS`].
    pub hard_limits: [u64; RLIMITS.len()],
}

/// One resource limit, by the kernel's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Its index in [`RLIMITS`].
    pub resource: usize,
    /// What is in force.
    pub soft: u64,
    /// The most that the process can set itself.
    pub hard: u64,
}

/// A process, ready to be made.
#[derive(Debug)]
pub struct ProcessPlan<'a> {
    /// The program and its arguments; never empty.
    pub args: Vec<CString>,
    /// `NAME=value` each.
    pub env: Vec<CString>,
    /// The working directory, absolute.
    pub cwd: &'a str,
    /// The file mode creation mask.
    pub umask: u32,
    /// Capabilities.
    pub caps: Caps,
    /// Resource limits.
    pub limits: Vec<Limit>,
    /// Never gains privileges by executing a file.
    pub no_new_privs: bool,
    /// The AppArmor profile to be entered by the next execve.
    pub apparmor: Option<&'a str>,
    /// The SELinux context to be entered by the next execve.
    pub selinux: Option<&'a str>,
    /// How readily the kernel kills it for memory.
    pub oom_score_adj: Option<i32>,
    /// Its stdio is a terminal.
    pub terminal: bool,
    /// The terminal's size.
    pub console_size: Option<ConsoleSize>,
    /// Its turn at the machine.
    pub scheduling: Scheduling,
}

/// Plans a process.
///
/// # Errors
/// [`crate::api::FailureKind::Invalid`]: a working directory that is not absolute, a string with a
/// NUL byte, an unknown limit.
pub fn plan<'a>(
    process: &'a Process<'a>,
    linux: &Linux<'_>,
    powers: &Powers,
    warnings: &mut Vec<String>,
) -> Result<ProcessPlan<'a>, Failure> {
    let cwd = process.cwd.as_deref().unwrap_or("/");
    if !cwd.starts_with('/') {
        return Err(invalid(format!(
            "the working directory {cwd} is not absolute"
        )));
    }
    Ok(ProcessPlan {
        args: strings(&process.args)?,
        env: strings(&process.env)?,
        cwd,
        umask: process.user.umask.unwrap_or(0o022) & 0o777,
        caps: caps::plan(process.capabilities.as_ref(), powers.bounding, warnings),
        limits: limits(&process.rlimits, powers, warnings)?,
        no_new_privs: process.no_new_privileges,
        apparmor: process
            .apparmor_profile
            .as_deref()
            .filter(|profile| !profile.is_empty()),
        selinux: process
            .selinux_label
            .as_deref()
            .filter(|label| !label.is_empty()),
        oom_score_adj: process.oom_score_adj,
        terminal: process.terminal,
        console_size: process.console_size,
        scheduling: scheduling::plan(process, linux)?,
    })
}

fn strings(texts: &[Text<'_>]) -> Result<Vec<CString>, Failure> {
    let string = |text: &Text<'_>| {
        CString::new(text.as_bytes())
            .map_err(|_| invalid("an argument or a variable holds a NUL byte"))
    };
    texts.iter().map(string).collect()
}

fn limits(
    wanted: &[Rlimit<'_>],
    powers: &Powers,
    warnings: &mut Vec<String>,
) -> Result<Vec<Limit>, Failure> {
    wanted
        .iter()
        .map(|wanted| limit(wanted, powers, warnings))
        .collect()
}

/// Without CAP_SYS_RESOURCE no limit can be raised above one's own: then the container gets the
/// best that there is.
fn limit(
    wanted: &Rlimit<'_>,
    powers: &Powers,
    warnings: &mut Vec<String>,
) -> Result<Limit, Failure> {
    let name = wanted.kind.strip_prefix("RLIMIT_").unwrap_or(&wanted.kind);
    let Some(resource) = RLIMITS.iter().position(|known| *known == name) else {
        return Err(invalid(format!("unknown resource limit {}", wanted.kind)));
    };
    if wanted.soft > wanted.hard {
        return Err(invalid(format!(
            "the soft limit of {} is above its hard limit",
            wanted.kind
        )));
    }
    let most = powers.hard_limits[resource];
    if powers.may_raise_limits || wanted.hard <= most {
        return Ok(Limit {
            resource,
            soft: wanted.soft,
            hard: wanted.hard,
        });
    }
    warnings.push(format!(
        "{} is {most}, not {}: this host gives no more without CAP_SYS_RESOURCE",
        wanted.kind, wanted.hard
    ));
    Ok(Limit {
        resource,
        soft: wanted.soft.min(most),
        hard: most,
    })
}

fn invalid(cause: impl Into<String>) -> Failure {
    Failure::invalid("plan the process", cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn powers(may_raise_limits: bool) -> Powers {
        Powers {
            bounding: u64::MAX,
            may_raise_limits,
            hard_limits: [1000; RLIMITS.len()],
        }
    }

    fn nofile(soft: u64, hard: u64) -> Rlimit<'static> {
        Rlimit {
            kind: "RLIMIT_NOFILE".into(),
            soft,
            hard,
        }
    }

    #[test]
    fn a_limit_above_ones_own_is_clipped_with_a_warning() {
        let mut warnings = Vec::new();
        let clipped = limit(&nofile(1024, 524_288), &powers(false), &mut warnings).unwrap();
        assert_eq!(
            clipped,
            Limit {
                resource: libc::RLIMIT_NOFILE as usize,
                soft: 1000,
                hard: 1000
            }
        );
        assert_eq!(warnings.len(), 1);
        let whole = limit(&nofile(1024, 524_288), &powers(true), &mut warnings).unwrap();
        assert_eq!((whole.soft, whole.hard, warnings.len()), (1024, 524_288, 1));
    }

    #[test]
    fn limits_that_cannot_be_are_refused() {
        let odd = Rlimit {
            kind: "RLIMIT_SOULS".into(),
            soft: 1,
            hard: 1,
        };
        assert!(
            limit(&odd, &powers(true), &mut Vec::new())
                .unwrap_err()
                .chain[0]
                .contains("SOULS")
        );
        assert!(limit(&nofile(2, 1), &powers(true), &mut Vec::new()).is_err());
    }

    #[test]
    fn a_relative_working_directory_and_a_nul_are_refused() {
        let process = Process {
            args: vec!["x".into()],
            cwd: Some("tmp".into()),
            ..Process::default()
        };
        assert!(plan(&process, &Linux::default(), &powers(true), &mut Vec::new()).is_err());
        let process = Process {
            args: vec!["x\0y".into()],
            ..Process::default()
        };
        assert!(plan(&process, &Linux::default(), &powers(true), &mut Vec::new()).is_err());
    }
}
