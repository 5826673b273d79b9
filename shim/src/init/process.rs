//! From root in the container's namespaces to the container's process: limits, user, capabilities,
//! filter. The same for a container's init and for a process that joins it.
//!
//! Invariant: the order. Groups before the user, the bounding set before capabilities are given up,
//! the filter after everything that it might forbid; without no_new_privs the kernel wants
//! CAP_SYS_ADMIN for a filter, so then the capabilities are given up last.

use super::program::{Program, Ready};
use super::wait_for_go;
use crate::api::{Failure, FailureKind};
use crate::failure::At;
use crate::packet;
use crate::parent::RESOURCES;
use crate::plan::caps::Caps;
use crate::plan::process::{Limit, ProcessPlan};
use crate::plan::scheduling::Scheduling;
use crate::seccomp::Filter;
use crate::sync::FromInit;
use crate::sys::{descriptors, keyring, scheduling, signal};
use crate::user::Account;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::fs::{Mode, OFlags, PROC_SUPER_MAGIC, fstatfs};
use rustix::io::Errno;
use rustix::process::{Rlimit, Signal, set_parent_process_death_signal, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, Gid, Uid, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities, set_no_new_privs,
    set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};
use std::ffi::CString;
use std::path::Path;

/// The file that identifies a program: device and inode.
pub type FileId = (u64, u64);

/// Starts a session with the container's keyring: the host's terminal and keys are out of reach. The
/// first who comes makes it.
///
/// # Errors
/// What the kernel says; one without keys, or a filter of a nested node that forbids them, is fine.
pub fn new_session(id: &str) -> Result<(), Failure> {
    rustix::process::setsid()
        .map(|_| ())
        .at(FailureKind::System, || "start a session".to_owned())?;
    let name = CString::new(format!("_ses.{id}")).unwrap_or_default();
    match keyring::join_session(&name).and_then(keyring::let_user_find) {
        Err(Errno::NOSYS | Errno::PERM) => Ok(()),
        other => other.at(FailureKind::System, || "make a session keyring".to_owned()),
    }
}

/// Lets go of what was inherited of the host's: all descriptors but those given, and the log behind
/// stdout and stderr. For a process that others will see before it has become theirs.
///
/// # Errors
/// What the kernel says.
pub fn let_go_but(kept: &[BorrowedFd<'_>]) -> Result<(), Failure> {
    let step = || "let go of the host's descriptors".to_owned();
    // The shim's own stdin is the null device.
    let null = rustix::stdio::stdin();
    rustix::stdio::dup2_stdout(null).at(FailureKind::System, step)?;
    rustix::stdio::dup2_stderr(null).at(FailureKind::System, step)?;
    descriptors::close_all_but(kept).at(FailureKind::System, step)
}

/// Asks the security modules for the labels that the next execve is to enter. Called while `/proc`
/// is still the host's.
///
/// # Errors
/// [`FailureKind::Invalid`]: there is no such module, or no such profile.
pub fn set_labels(plan: &ProcessPlan<'_>) -> Result<(), Failure> {
    if let Some(profile) = plan.apparmor {
        let step = || format!("enter the AppArmor profile {profile}");
        let word = format!("exec {profile}");
        // Before 5.8 the one file belongs to whichever module is the first.
        let file = match write_label("/proc/self/attr/apparmor/exec", &word) {
            Err(Errno::NOENT) if !Path::new("/proc/self/attr/apparmor").exists() => {
                write_label("/proc/self/attr/exec", &word)
            }
            other => other,
        };
        match file {
            Err(Errno::NOENT) => {
                return Err(Failure::invalid(step(), "it is not loaded on this node"));
            }
            other => other.at(FailureKind::Invalid, step)?,
        }
    }
    if let Some(label) = plan.selinux {
        write_label("/proc/self/attr/exec", label).at(FailureKind::Invalid, || {
            format!("enter the SELinux context {label}")
        })?;
    }
    Ok(())
}

/// Sets how readily the kernel kills this process and its children for memory; false when it could
/// not. A score below one's own needs CAP_SYS_RESOURCE, which nested nodes lack: then the
/// container runs with ours.
///
/// # Errors
/// What the kernel says otherwise.
pub fn set_oom_score(score: Option<i32>) -> Result<bool, Failure> {
    let Some(score) = score else {
        return Ok(true);
    };
    match std::fs::write("/proc/self/oom_score_adj", score.to_string()) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Ok(false),
        other => other.map(|()| true).at(FailureKind::System, || {
            format!("set oom_score_adj to {score}")
        }),
    }
}

/// In one write, as the modules want it, and to a file that procfs itself has: what somebody mounted
/// over it would take the label and confine nothing.
fn write_label(path: &str, text: &str) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty())?;
    if fstatfs(&file)?.f_type != PROC_SUPER_MAGIC {
        return Err(Errno::PERM);
    }
    match rustix::io::retry_on_intr(|| rustix::io::write(&file, text.as_bytes()))? {
        written if written == text.len() => Ok(()),
        _ => Err(Errno::IO),
    }
}

/// What a process is to become.
#[derive(Debug)]
pub struct Become<'a> {
    /// What to execute, and how.
    pub plan: &'a ProcessPlan<'a>,
    /// As whom.
    pub account: &'a Account,
    /// Under which filter.
    pub filter: Option<&'a Filter>,
    /// The shim's own program, which is never executed inside a container.
    pub own_program: FileId,
    /// The signal that it gets when its parent ends, if any.
    pub parent_death: Option<Signal>,
}

impl Become<'_> {
    /// Becomes it, up to [`Become::restrict`]. Every descriptor but 0 to 2 and those `kept`, of which the first
    /// is the gate, is closed.
    ///
    /// # Errors
    /// Which step failed. A program that cannot be executed is no error yet: see [`Ready`].
    pub fn prepare(&self, kept: &[BorrowedFd<'_>]) -> Result<Ready, Failure> {
        // Before the limits: what is opened below must not meet a small one on open files.
        descriptors::close_all_but(kept)
            .at(FailureKind::System, || "close what is left open".to_owned())?;
        for limit in &self.plan.limits {
            set_limit(*limit)?;
        }
        let inside = self.change_directory();
        drop_bounding(self.plan.caps.bounding)?;
        self.become_user()?;
        self.give_up()?;
        if inside.is_err() {
            self.change_directory()?;
        }
        prove_inside()?;
        // A change of the user would have cleared it.
        tie(self.parent_death, kept.first().copied())?;
        rustix::process::umask(Mode::from_raw_mode(self.plan.umask));
        signal::reset().at(FailureKind::System, || "reset the signals".to_owned())?;
        Ok(self.program())
    }

    fn change_directory(&self) -> Result<(), Failure> {
        let cwd = self.plan.cwd;
        rustix::process::chdir(cwd).at(FailureKind::Start, || {
            format!("change to the working directory {cwd}")
        })
    }

    fn become_user(&self) -> Result<(), Failure> {
        let user = &self.account.user;
        let step = || format!("become user {}:{}", user.uid, user.gid);
        let groups: Vec<_> = user.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
        let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
        set_keep_capabilities(true).at(FailureKind::System, step)?;
        set_thread_groups(&groups).at(FailureKind::System, step)?;
        set_thread_res_gid(gid, gid, gid).at(FailureKind::System, step)?;
        set_thread_res_uid(uid, uid, uid).at(FailureKind::System, step)?;
        set_keep_capabilities(false).at(FailureKind::System, step)
    }

    fn program(&self) -> Ready {
        let mut env = self.plan.env.clone();
        if !env
            .iter()
            .any(|variable| variable.as_bytes().starts_with(b"HOME="))
        {
            env.extend(CString::new(format!("HOME={}", self.account.home)));
        }
        Ready::new(&Program {
            args: &self.plan.args,
            env: &env,
            own: self.own_program,
        })
    }

    /// Gives up what the program will not have, but for what a filter still needs.
    fn give_up(&self) -> Result<(), Failure> {
        let caps = self.plan.caps;
        let kept = match self.filter {
            Some(_) if !self.plan.no_new_privs => CapabilitySet::SYS_ADMIN.bits(),
            _ => 0,
        };
        set_sets(Caps {
            effective: caps.effective | kept,
            permitted: caps.permitted | kept,
            ..caps
        })
    }

    /// The last of it, after which nothing more is asked of the kernel than an execve: no_new_privs, the filter and the rest of the capabilities.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn restrict(&self, kept: &[BorrowedFd<'_>]) -> Result<(), Failure> {
        if self.plan.no_new_privs {
            set_no_new_privs(true).at(FailureKind::System, || "set no_new_privs".to_owned())?;
            set_caps(self.plan.caps)?;
            return self.load_filter(kept);
        }
        self.load_filter(kept)?;
        set_caps(self.plan.caps)
    }

    fn load_filter(&self, kept: &[BorrowedFd<'_>]) -> Result<(), Failure> {
        let step = || "load the seccomp filter".to_owned();
        let load = |filter: &Filter| filter.load().at(FailureKind::System, step);
        match (self.filter.map(load).transpose()?.flatten(), kept) {
            (Some(listener), [gate, ..]) => {
                // By the two calls that no listener may be asked about.
                packet::write(gate, &FromInit::Listener(listener.as_raw_fd()))
                    .at(FailureKind::System, step)?;
                wait_for_go(gate)
            }
            _ => Ok(()),
        }
    }
}

/// How it gets the processor and memory. Before capabilities are given up: most of it needs CAP_SYS_NICE.
///
/// # Errors
/// What is refused, and why.
pub fn schedule(wanted: &Scheduling) -> Result<(), Failure> {
    let at = |set: Result<(), Errno>, what: &str| {
        set.at(FailureKind::System, || format!("set the {what}"))
    };
    if let Some(attributes) = &wanted.attributes {
        at(scheduling::set_scheduler(attributes), "scheduler")?;
    }
    if let Some(priority) = wanted.io_priority {
        at(scheduling::set_io_priority(priority), "ioPriority")?;
    }
    if let Some((mode, nodes)) = &wanted.memory {
        at(scheduling::set_memory_policy(*mode, nodes), "memoryPolicy")?;
    }
    if let Some(personality) = wanted.personality {
        at(scheduling::set_personality(personality), "personality")?;
    }
    Ok(())
}

/// Lets it end with its parent, where it is to.
fn tie(signal: Option<Signal>, gate: Option<BorrowedFd<'_>>) -> Result<(), Failure> {
    set_parent_process_death_signal(signal)
        .at(FailureKind::System, || "tie it to its parent".to_owned())?;
    // One that died before that sends no signal: it would run for nobody, and later.
    match (signal, gate) {
        (Some(_), Some(gate)) if is_abandoned(gate) => {
            Err(Failure::state("tie it to its parent", "that has gone"))
        }
        _ => Ok(()),
    }
}

/// Whether nobody holds the gate's other end any more. Parents have no number that is seen inside of
/// another PID namespace.
fn is_abandoned(gate: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(gate, PollFlags::empty())];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let _ = rustix::io::retry_on_intr(|| poll(&mut fds, Some(&now)));
    fds[0].revents().contains(PollFlags::HUP)
}

fn set_limit(limit: Limit) -> Result<(), Failure> {
    let value = |limit: u64| (limit != u64::MAX).then_some(limit);
    let rlimit = Rlimit {
        current: value(limit.soft),
        maximum: value(limit.hard),
    };
    let name = crate::plan::process::RLIMITS[limit.resource];
    setrlimit(RESOURCES[limit.resource], rlimit).at(FailureKind::System, || {
        format!("set RLIMIT_{name} to {}:{}", limit.soft, limit.hard)
    })
}

/// Takes every capability but `kept` out of the bounding set of this process.
///
/// # Errors
/// What the kernel says; it asks for CAP_SETPCAP.
pub fn drop_bounding(kept: u64) -> Result<(), Failure> {
    for bit in (0..64).map(|number| 1u64 << number) {
        if kept & bit != 0 {
            continue;
        }
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(bit)) {
            // The first number that this kernel does not have.
            Err(Errno::INVAL) => return Ok(()),
            other => other.at(FailureKind::System, || "drop capabilities".to_owned())?,
        }
    }
    Ok(())
}

fn set_caps(caps: Caps) -> Result<(), Failure> {
    set_sets(caps)?;
    for bit in (0..64)
        .map(|number| 1u64 << number)
        .filter(|bit| caps.ambient & bit != 0)
    {
        configure_capability_in_ambient_set(CapabilitySet::from_bits_retain(bit), true)
            .at(FailureKind::System, || {
                "set ambient capabilities".to_owned()
            })?;
    }
    Ok(())
}

fn set_sets(caps: Caps) -> Result<(), Failure> {
    let sets = CapabilitySets {
        effective: CapabilitySet::from_bits_retain(caps.effective),
        permitted: CapabilitySet::from_bits_retain(caps.permitted),
        inheritable: CapabilitySet::from_bits_retain(caps.inheritable),
    };
    set_capabilities(None, sets).at(FailureKind::System, || "set capabilities".to_owned())
}

/// A working directory that was reached through a descriptor left open from the host has no path
/// below the root; the kernel then says so instead of naming one.
fn prove_inside() -> Result<(), Failure> {
    let step = || "look where the working directory is".to_owned();
    let cwd = rustix::process::getcwd(Vec::new()).at(FailureKind::Start, step)?;
    if cwd.as_bytes().starts_with(b"/") {
        return Ok(());
    }
    Err(Failure::invalid(
        step(),
        "it is outside of the container's root",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fd::AsFd;

    /// Whether it would go on.
    fn tied(signal: Option<Signal>, gate: BorrowedFd<'_>) -> bool {
        let tied = tie(signal, Some(gate)).is_ok();
        set_parent_process_death_signal(None).unwrap();
        tied
    }

    #[test]
    fn who_is_left_alone_before_it_is_tied_does_not_go_on() {
        let (ours, theirs) = crate::parent::pair().unwrap();
        assert!(tied(Some(Signal::CONT), theirs.as_fd()));
        drop(ours);
        assert!(!tied(Some(Signal::CONT), theirs.as_fd()));
        // A container's init outlives who made it.
        assert!(tied(None, theirs.as_fd()));
    }
}
