//! Makes a process inside a running container.

use crate::api::{ExecRequest, Failure, FailureKind, IdMaps};
use crate::bundle::{self, NamespaceKind, Seccomp, Spec, process::Process as ProcessSpec};
use crate::cgroup::Cgroup;
use crate::failure::{At, log};
use crate::init::process::{
    Become, FileId, let_go_but, new_session, schedule, set_labels, set_oom_score,
};
use crate::init::terminal::{Terminal, install, open_pair};
use crate::init::{InnerStdio, report_failure};
use crate::packet;
use crate::parent::{Stdio, own_program, pair, pipes, powers, raise_limits};
use crate::plan::namespaces::Namespaces;
use crate::plan::{self, process::ProcessPlan, scheduling::Affinity};
use crate::root::Root;
use crate::seccomp::{Filter, listener};
use crate::state::Identity;
use crate::sync::{FromInit, GO};
use crate::sys::clone::{Process, clone3, flags};
use crate::sys::scheduling::{self, Set};
use crate::user::{self, Account, Home};
use crate::userns;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions, waitid};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};
use std::mem::ManuallyDrop;
use std::path::Path;

/// A process that was made inside a container.
#[derive(Debug)]
pub struct Joined {
    /// It.
    pub process: Process,
    /// The outer ends of its stdio.
    pub stdio: Stdio,
    /// Where it and its descendants are.
    pub nested: Nested,
}

/// The cgroup of one exec.
#[derive(Debug)]
pub struct Nested(Cgroup);

impl Nested {
    /// Ends whoever is left in it.
    pub fn end(&self) {
        if let Err(error) = self.0.kill_all() {
            log(format_args!("level=warn exec left processes: {error}"));
        }
        self.leave();
    }

    /// Removes it, unless somebody was left in it on purpose: then it goes with the container.
    pub fn leave(&self) {
        // Whoever removes the container's cgroup removes it too.
        let _ = self.0.remove_now();
    }
}

/// What the child needs.
#[derive(Clone, Copy)]
struct Child<'a> {
    id: &'a str,
    init: BorrowedFd<'a>,
    /// The ids of the container's user namespace, unless that is the host's.
    ids: Option<&'a IdMaps>,
    /// Which namespaces are joined.
    kinds: ThreadNameSpaceType,
    cgroup: &'a Cgroup,
    plan: &'a ProcessPlan<'a>,
    affinity: Affinity,
    account: &'a Account,
    filter: Option<&'a Filter>,
    /// Who is told of the filter's listener.
    listener: Option<(&'a Seccomp<'a>, Identity<'a>)>,
    own_program: FileId,
}

/// The inner ends of what leads out to the shim.
struct Ends {
    gate: OwnedFd,
    stdio: InnerStdio,
    terminal: Option<Terminal>,
}

/// Makes the process of a request.
///
/// # Errors
/// [`FailureKind::State`] when the container has ended, [`FailureKind::Start`] when the program
/// cannot be executed; else the step that failed.
pub fn join(request: &ExecRequest, init: &OwnedFd) -> Result<Joined, Failure> {
    let text = bundle::read(&request.bundle, "config.json")?;
    let spec = bundle::parse(&text)?;
    let process: ProcessSpec<'_> = bundle::json("the process to be executed", &request.process)?;
    bundle::check_process(&process)?;
    // What is not granted as asked was told when the container was made: not at every probe again.
    let mut plan = plan::process::plan(&process, &spec.linux, &powers(), &mut Vec::new())?;
    plan.oom_score_adj = plan.oom_score_adj.or(spec.process.oom_score_adj);
    let root = root(request.pid, init)?;
    let account = account(&spec, &process, &root)?;
    let filter = match &request.seccomp_filter {
        Some(path) => {
            let listener = spec.linux.seccomp.as_ref().and_then(Seccomp::listener);
            Some(Filter::read(path, plan::seccomp_flags(&spec)?, listener)?)
        }
        None => None,
    };
    let namespaces = plan::namespaces::plan(&spec.linux.namespaces)?;
    let has_user = namespaces.has(NamespaceKind::User);
    let ids = has_user.then(|| spec.linux.ids());
    if ids.is_some() {
        raise_limits(&plan.limits);
    }
    let name = request.bundle.file_name().unwrap_or_default();
    let path = plan::cgroup_path(&spec, &name.to_string_lossy());
    // The path ends in the container's id, which also names its keyring.
    let id = path.rsplit('/').next().unwrap_or("");
    let identity = Identity {
        id,
        bundle: &request.bundle,
        annotations: &spec.annotations,
    };
    let child = Child {
        id,
        init: init.as_fd(),
        ids: ids.as_ref(),
        kinds: kinds(&namespaces),
        cgroup: &Cgroup::find(&path)?,
        plan: &plan,
        affinity: plan::scheduling::affinity(&process, &spec.process)?,
        account: &account,
        filter: filter.as_ref(),
        listener: spec
            .linux
            .seccomp
            .as_ref()
            .map(|seccomp| (seccomp, identity)),
        own_program: own_program()?,
    };
    nest_and_start(child, &root, request.stdin)
}

fn nest_and_start(child: Child<'_>, root: &Root, stdin: bool) -> Result<Joined, Failure> {
    sweep(child.cgroup);
    let nested = child.cgroup.nest(&nested_name());
    let (cgroup, nested) =
        nested.at(FailureKind::System, || "make the exec's cgroup".to_owned())?;
    let child = Child {
        cgroup: &cgroup,
        ..child
    };
    let nested = Nested(nested);
    match start(child, root, stdin) {
        Ok((process, stdio)) => Ok(Joined {
            process,
            stdio,
            nested,
        }),
        Err(failure) => {
            nested.end();
            Err(failure)
        }
    }
}

/// Removes what execs that were killed have left. One whose shim lives is left alone: it may be empty
/// because nobody has entered it yet.
fn sweep(cgroup: &Cgroup) {
    for path in cgroup.nested().unwrap_or_default() {
        let name = path.file_name().and_then(|name| name.to_str());
        let owner = name.and_then(|name| name.strip_prefix("exec-")?.split_once('-'));
        if let Some((pid, _)) = owner
            && !Path::new("/proc").join(pid).exists()
        {
            // Busy: somebody was left running on purpose.
            let _ = rustix::fs::rmdir(&path);
        }
    }
}

/// Unique among the execs of a container: a nested cgroup may outlive the process that it is
/// named after.
fn nested_name() -> String {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    format!(
        "exec-{}-{}{:09}",
        rustix::process::getpid().as_raw_pid(),
        now.tv_sec,
        now.tv_nsec
    )
}

/// The container's root, by a descriptor. The init is asked afterwards whether it still lives: if
/// it does, the pid was its own.
fn root(pid: i32, init: &OwnedFd) -> Result<Root, Failure> {
    let path = format!("/proc/{pid}/root");
    let root = rustix::fs::open(
        &*path,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    );
    alive(init)?;
    root.map(Root::new).at(FailureKind::State, || {
        "find the container's root".to_owned()
    })
}

/// The pidfd of a process that has ended is readable.
fn alive(init: &OwnedFd) -> Result<(), Failure> {
    let mut fds = [PollFd::new(init, PollFlags::IN)];
    let now = Timespec::default();
    let ready = rustix::io::retry_on_intr(|| poll(&mut fds, Some(&now)));
    match ready.at(FailureKind::System, || {
        "look at the container's init".to_owned()
    })? {
        0 => Ok(()),
        _ => Err(ended()),
    }
}

fn ended() -> Failure {
    Failure {
        kind: FailureKind::State,
        step: "join the container".to_owned(),
        errno: libc::ESRCH,
        chain: vec!["the container has ended".to_owned()],
    }
}

fn account(spec: &Spec<'_>, process: &ProcessSpec<'_>, root: &Root) -> Result<Account, Failure> {
    let given = process
        .env
        .iter()
        .any(|variable| variable.starts_with("HOME="));
    let home = if given { Home::Given } else { Home::LookUp };
    user::resolve(root, &process.user, user::policy(&spec.annotations)?, home)
}

fn start(child: Child<'_>, root: &Root, stdin: bool) -> Result<(Process, Stdio), Failure> {
    let (outer, inner, terminal) = stdio(child.plan.terminal, root, stdin)?;
    if let Some(ids) = child.ids {
        let uid = child.account.user.uid;
        inner.give(ids, uid)?;
        if let Some(Terminal { peer, .. }) = &terminal {
            userns::give(peer, ids, uid)?;
        }
    }
    let (gate, inner_gate) = pair()?;
    let ends = Ends {
        gate: inner_gate,
        stdio: inner,
        terminal,
    };
    let process = clone_inside(child, ends)?;
    wait_until_executed(&gate, &process, child.listener)?;
    Ok((process, outer))
}

/// Until the gate is closed, by the execve.
fn wait_until_executed(
    gate: &OwnedFd,
    process: &Process,
    listener: Option<(&Seccomp<'_>, Identity<'_>)>,
) -> Result<(), Failure> {
    let step = || "hear from the process".to_owned();
    loop {
        let heard = packet::receive(gate).at(FailureKind::System, step)?;
        match (heard.map(|received| received.message), listener) {
            (None, _) => return Ok(()),
            (Some(FromInit::Failed(failure)), _) => return Err(failure),
            (Some(FromInit::Listener(descriptor)), Some((seccomp, identity))) => {
                let taken = listener::take(process.pid, descriptor)?;
                seccomp.hand_over(&taken, &identity, "running", process.pid)?;
                rustix::io::write(gate, GO).at(FailureKind::System, step)?;
            }
            (Some(_), _) => return Err(Failure::invalid(step(), "it spoke out of turn")),
        }
    }
}

/// The outer ends, the inner ends, and for a terminal the inner one's descriptor.
fn stdio(
    terminal: bool,
    root: &Root,
    stdin: bool,
) -> Result<(Stdio, InnerStdio, Option<Terminal>), Failure> {
    if !terminal {
        let (outer, inner) = pipes(stdin)?;
        return Ok((outer, inner, None));
    }
    let opened = open_pair(root)?;
    let master = opened
        .master
        .try_clone()
        .at(FailureKind::System, || "keep the terminal".to_owned())?;
    Ok((
        Stdio::Terminal { master },
        InnerStdio::Terminal,
        Some(opened),
    ))
}

/// Clones the process as this one's child, by a process between that goes away.
///
/// Who is in the container's PID namespace may be able to trace (CAP_SYS_PTRACE) whoever is born
/// there, and takes what it has. So the one between, whom nobody there sees, first lets go of the
/// host: its descriptors, its cgroup, its root.
fn clone_inside(child: Child<'_>, ends: Ends) -> Result<Process, Failure> {
    let step = || "clone the process".to_owned();
    let (answer, socket) = pair()?;
    let birthplace = child.cgroup.birthplace()?;
    let between = clone3(0, birthplace.as_ref().map(AsFd::as_fd), move || {
        stand_between(&child, ends, socket)
    })
    .at(FailureKind::System, step)?;
    let received = packet::receive::<Result<i32, Failure>>(&answer);
    let id = WaitId::PidFd(between.pidfd.as_fd());
    let _ = rustix::io::retry_on_intr(|| waitid(id.clone(), WaitIdOptions::EXITED));
    let lost = || Failure::invalid(step(), "the process between was killed");
    let mut received = received.at(FailureKind::System, step)?.ok_or_else(lost)?;
    Ok(Process {
        pid: received.message?,
        pidfd: received.fds.pop().ok_or_else(lost)?,
    })
}

fn stand_between(child: &Child<'_>, ends: Ends, socket: OwnedFd) -> i32 {
    // What is closed all at once is not to be closed again.
    let (mut ends, socket) = (ManuallyDrop::new(ends), ManuallyDrop::new(socket));
    let made = leave_host(child, &ends, &socket).and_then(|()| {
        clone3(flags::PARENT, None, || main(child, &mut ends))
            .at(FailureKind::System, || "clone the process".to_owned())
    });
    let (answer, pidfd) = match made {
        Ok(Process { pid, pidfd }) => (Ok(pid), Some(pidfd)),
        Err(failure) => (Err(failure), None),
    };
    let fds: Vec<_> = pidfd.iter().map(AsFd::as_fd).collect();
    i32::from(packet::send(&*socket, &answer, &fds).is_err())
}

fn leave_host(child: &Child<'_>, ends: &Ends, socket: &OwnedFd) -> Result<(), Failure> {
    set_affinity(child.affinity.initial)?;
    child.cgroup.enter()?;
    set_affinity(child.affinity.last)?;
    set_oom_score(child.plan.oom_score_adj)?;
    set_labels(child.plan)?;
    let mut kept = ends.stdio.descriptors();
    if let Some(Terminal { master, peer }) = &ends.terminal {
        kept.extend([master.as_fd(), peer.as_fd()]);
    }
    kept.extend([ends.gate.as_fd(), socket.as_fd(), child.init]);
    let_go_but(&kept)?;
    join_namespaces(child.init, child.kinds)?;
    child.ids.map_or(Ok(()), |_| userns::become_root())
}

fn set_affinity(cpus: Option<Set>) -> Result<(), Failure> {
    let set = cpus.map_or(Ok(()), |cpus| scheduling::set_affinity(&cpus));
    set.at(FailureKind::System, || "set the execCPUAffinity".to_owned())
}

/// All that a container has, and two only where it has its own: one's own user namespace cannot be
/// joined, and not every kernel knows namespaces of time.
fn kinds(namespaces: &Namespaces<'_>) -> ThreadNameSpaceType {
    let own = |kind, flag| match namespaces.has(kind) {
        true => flag,
        false => ThreadNameSpaceType::empty(),
    };
    own(NamespaceKind::User, ThreadNameSpaceType::USER)
        | own(NamespaceKind::Time, ThreadNameSpaceType::TIME)
        | ThreadNameSpaceType::PROCESS_ID
        | ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::CONTROL_GROUP
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::NETWORK
}

/// All at once. The PID namespace is that of children born from now on.
fn join_namespaces(init: BorrowedFd<'_>, kinds: ThreadNameSpaceType) -> Result<(), Failure> {
    match move_into_thread_name_spaces(init, kinds) {
        Err(Errno::SRCH) => Err(ended()),
        other => other.at(FailureKind::System, || {
            "join the container's namespaces".to_owned()
        }),
    }
}

fn main(child: &Child<'_>, ends: &mut Ends) -> i32 {
    let Ends {
        gate,
        stdio,
        terminal,
    } = ends;
    let stdio = std::mem::replace(stdio, InnerStdio::Terminal);
    let failure = match become_process(child, stdio, terminal.take(), gate) {
        Ok(ready) => ready.execute(),
        Err(failure) => failure,
    };
    report_failure(gate, failure)
}

fn become_process(
    child: &Child<'_>,
    stdio: InnerStdio,
    terminal: Option<Terminal>,
    gate: &OwnedFd,
) -> Result<crate::init::Ready, Failure> {
    new_session(child.id)?;
    install(stdio, terminal, child.plan, child.account)?;
    schedule(&child.plan.scheduling)?;
    let Child {
        plan,
        account,
        filter,
        own_program,
        ..
    } = *child;
    let wanted = Become {
        plan,
        account,
        filter,
        own_program,
        // Should this shim be killed, nobody would be left who could end it.
        parent_death: Some(Signal::KILL),
    };
    let ready = wanted.prepare(&[gate.as_fd()])?;
    wanted.restrict(&[gate.as_fd()])?;
    Ok(ready)
}
