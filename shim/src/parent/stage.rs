//! The stage: the process between the resident one and the init. It waits for its orders, makes the
//! cgroup, reads the bundle, plans and makes what belongs to the host's side, clones the init, reports,
//! and exits.
//!
//! Invariant: it is the only process of a create that parses; its memory goes away with it.

use super::{Stdio, facts, nodes, rootfs, trees};
use crate::api::{CreateRequest, Failure, FailureKind, IdMaps, Part};
use crate::bundle::{self, NamespaceKind, Seccomp, Spec};
use crate::cgroup::{Cgroup, Entrance};
use crate::failure::{At, log};
use crate::hooks::deputy::{Deputy, Moment};
use crate::init::process::set_oom_score;
use crate::init::{self, Ends, Init, InnerStdio};
use crate::laps::Laps;
use crate::packet::{self, Received};
use crate::plan::namespaces::{Namespaces, User, name};
use crate::plan::{self, HostFacts, Plan};
use crate::root::Root;
use crate::sandbox::bare;
use crate::seccomp::Filter;
use crate::state::Identity;
use crate::sync::{FromInit, FromStage, GO, Made, ToStage};
use crate::sys::clone::{self, Process, flags};
use crate::sys::descriptors;
use crate::title;
use crate::user::{self, Account, Home};
use crate::userns::{self, UserNamespace};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Pid, Signal, getppid, set_dumpable_behavior, set_parent_process_death_signal,
};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
use std::path::Path;

/// What the stage has to give: the message and the descriptors that go with it.
type Answer = (Made, Vec<OwnedFd>);

/// Runs the stage; the result is its exit code.
pub fn main(resident: Pid, oom_score: i32, socket: &OwnedFd) -> i32 {
    let mut site = Site {
        resident,
        socket,
        cgroup: None,
        entrance: None,
        init: None,
        deputy: None,
        laps: Laps::begin(),
    };
    let (answer, fds) = match site.work(oom_score) {
        Ok(Some((made, fds))) => (FromStage::Made(made), fds),
        Ok(None) => {
            site.clear();
            return 0;
        }
        Err(failure) => {
            site.clear();
            let init = site.init;
            (FromStage::Failed { failure, init }, Vec::new())
        }
    };
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    let sent = packet::send(socket, &answer, &fds);
    if sent.is_ok() {
        // Who is told wakes up on this processor, and would wait for the end of this process. And a
        // request that is left unread would take the answer's place.
        let _ = rustix::io::retry_on_intr(|| rustix::io::read(socket, &mut [0; 1]));
    }
    i32::from(sent.is_err())
}

/// What is to be taken away where no container comes of it.
struct Site<'a> {
    resident: Pid,
    socket: &'a OwnedFd,
    cgroup: Option<Cgroup>,
    entrance: Option<Entrance>,
    init: Option<i32>,
    deputy: Option<Deputy>,
    laps: Laps,
}

impl Site<'_> {
    /// What is asked for; `None`: the stage is given up.
    fn work(&mut self, oom_score: i32) -> Result<Option<Answer>, Failure> {
        self.begin()?;
        let mut prepared = None;
        loop {
            let order = packet::receive(self.socket);
            let order = order.at(FailureKind::System, || "hear what is to be made".to_owned())?;
            self.laps.skip();
            match order.map(|order| order.message) {
                None => return Ok(None),
                Some(ToStage::Prepare { id, cgroup }) => {
                    self.prepare(&id, &cgroup)?;
                    prepared = Some(cgroup);
                }
                Some(ToStage::Create(request)) => {
                    let made = self.create(&request, prepared.as_deref(), oom_score);
                    return made.map(Some);
                }
            }
        }
    }

    fn prepare(&mut self, id: &str, cgroup: &str) -> Result<(), Failure> {
        // Nothing depends on it but who looks at the list of processes.
        let _ = title::name(id);
        self.laps.skip();
        self.establish(cgroup)?;
        crate::failpoint!("shim_create/prepared");
        Ok(())
    }

    fn begin(&self) -> Result<(), Failure> {
        // The shim's ends of its sockets are the shim's alone, by whose end it is missed, and without
        // it there is nobody to be at work for.
        descriptors::close_all_but(&[self.socket.as_fd()])
            .and_then(|()| set_parent_process_death_signal(Some(Signal::KILL)))
            .and_then(|()| match getppid() == Some(self.resident) {
                true => Ok(()),
                false => Err(Errno::SRCH),
            })
            .at(FailureKind::System, || "begin the stage".to_owned())?;
        // A container's process that finds a way to look at this one must not get at its program.
        set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .at(FailureKind::System, || "hide the stage".to_owned())?;
        rustix::process::umask(Mode::empty());
        Ok(())
    }

    /// Makes the container's cgroup.
    fn establish(&mut self, path: &str) -> Result<(), Failure> {
        let cgroup = Cgroup::find(path)?;
        packet::send(self.socket, &FromStage::Cgroup(cgroup.clone()), &[])
            .at(FailureKind::System, || "tell of the cgroup".to_owned())?;
        cgroup.establish()?;
        let entrance = cgroup.entrance();
        self.cgroup = Some(cgroup);
        self.entrance = Some(entrance?);
        self.laps.lap(Part::Cgroup);
        Ok(())
    }

    fn create(
        &mut self,
        request: &CreateRequest,
        prepared: Option<&str>,
        oom_score: i32,
    ) -> Result<Answer, Failure> {
        let text = bundle::read(&request.bundle, "config.json")?;
        let spec = bundle::parse(&text)?;
        let facts = HostFacts {
            powers: super::powers(),
        };
        let mut plan = plan::build(&spec, &facts)?;
        plan.process.oom_score_adj.get_or_insert(oom_score);
        let path = plan::cgroup_path(&spec, &request.id);
        self.laps.lap(Part::Bundle);
        match prepared {
            None => self.prepare(&request.id, &path)?,
            Some(prepared) if prepared == path => {}
            Some(prepared) => {
                let why = format!("it names {path}, and {prepared} was made for it");
                return Err(Failure::invalid("find the bundle's cgroup", why));
            }
        }
        let missing = || Failure::state("create", "there is no cgroup");
        let cgroup = self.cgroup.clone().ok_or_else(missing)?;
        let identity = Identity {
            id: &request.id,
            bundle: &request.bundle,
            annotations: &spec.annotations,
        };
        self.deputy = Deputy::begin(&spec.hooks, spec.linux.seccomp.as_ref(), identity)?;
        let (mut made, mut fds) = make(request, &spec, plan, &cgroup, self)?;
        if let Some(deputy) = self.deputy.take().filter(|_| spec.hooks.are_for_later()) {
            made.has_deputy = true;
            fds.insert(BEHIND_THE_GATE, deputy.into());
        }
        Ok((made, fds))
    }

    /// The init has ended or is ending; who is left in the cgroup must not keep it.
    fn clear(&self) {
        if let Some(cgroup) = &self.cgroup {
            let _ = cgroup.kill_all();
            let _ = cgroup.remove();
        }
        // Its last hooks have run when the failure is told.
        let _ = self.deputy.as_ref().map(|deputy| deputy.act(Moment::Gone));
    }
}

/// Where the deputy's socket is among the descriptors of an answer.
const BEHIND_THE_GATE: usize = 2;

fn make<'a>(
    request: &'a CreateRequest,
    spec: &'a Spec<'a>,
    plan: Plan<'a>,
    cgroup: &'a Cgroup,
    site: &mut Site<'_>,
) -> Result<Answer, Failure> {
    cgroup.apply(&spec.linux.resources)?;
    site.laps.lap(Part::Cgroup);
    crate::failpoint!("shim_create/cgroup-made");
    let terminal = plan.process.terminal;
    let entrance = site.entrance.take().unwrap_or_default();
    // A hook may be one of the host's programs, and see the host's mounts.
    let needs_mounts = spec.hooks.are_for_create() || plan.needs_the_hosts_mounts();
    let bare = request.bare.as_deref().filter(|_| !needs_mounts);
    let init = prepare(request, spec, plan, cgroup)?;
    site.laps.lap(Part::Root);
    let user = init.account.user.clone();
    let (gate, inner_gate) = super::pair()?;
    let (outer, inner) = match terminal {
        true => (None, InnerStdio::Terminal),
        false => super::pipes(request.stdin).map(|(outer, inner)| (Some(outer), inner))?,
    };
    if let Some(user) = &init.user {
        inner.give(&user.maps, init.account.user.uid)?;
        facts::raise_limits(&init.plan.process.limits);
    }
    let process = clone_init(
        init,
        Ends {
            gate: inner_gate,
            stdio: inner,
            entrance,
        },
        (cgroup, bare),
        &site.laps,
    )?;
    site.init = Some(process.pid);
    // While the init is at work: it takes the kernel a while.
    let start_time = crate::stat::start_time(process.pid);
    let master = wait_until_ready(&gate, process.pid, site)?;
    let start_time = start_time.at(FailureKind::System, || {
        "read the init's start time".to_owned()
    })?;
    let made = Made {
        pid: process.pid,
        start_time,
        user,
        has_deputy: false,
        laps: site.laps.told(),
    };
    let mut fds = vec![process.pidfd, gate];
    fds.extend(master);
    fds.extend(outer.into_iter().flat_map(into_descriptors));
    Ok((made, fds))
}

fn into_descriptors(stdio: Stdio) -> Vec<OwnedFd> {
    match stdio {
        Stdio::Terminal { master } => vec![master],
        Stdio::Pipes {
            stdin,
            stdout,
            stderr,
        } => stdin.into_iter().chain([stdout, stderr]).collect(),
    }
}

fn prepare<'a>(
    request: &'a CreateRequest,
    spec: &'a Spec<'a>,
    plan: Plan<'a>,
    cgroup: &'a Cgroup,
) -> Result<Init<'a>, Failure> {
    let root_path = rootfs::path(&request.bundle, spec);
    let user = user_namespace(&plan.namespaces, spec)?;
    // The trees come first: a root made by the old call leaves the host's mount namespace.
    let images = bundle::image_volumes(&request.bundle)?;
    let trees = trees::clone_all(&plan.trees, &images, user.as_ref())?;
    let namespaces = open_namespaces(&plan.namespaces)?;
    let filter = filter(request.seccomp_filter.as_deref(), spec, plan.seccomp_flags)?;
    let root = rootfs::make(&request.bundle, &root_path, user.as_ref())?;
    let account = account(spec, &root)?;
    let nodes = match &user {
        None => None,
        Some(user) => {
            has_account(&user.maps, &account)?;
            Some(nodes::make(&plan.steps, &user.maps)?)
        }
    };
    // Inherited by the init.
    if !set_oom_score(plan.process.oom_score_adj)? {
        warn(
            &request.id,
            &["oom_score_adj is below this host's own and was not set".to_owned()],
        );
    }
    warn(&request.id, &plan.warnings);
    Ok(Init {
        id: &request.id,
        plan,
        cgroup,
        root,
        root_path,
        trees,
        nodes,
        user,
        namespaces,
        account,
        filter,
        own_program: super::own_program()?,
        hooks: &spec.hooks,
        identity: Identity {
            id: &request.id,
            bundle: &request.bundle,
            annotations: &spec.annotations,
        },
    })
}

/// The compiled filter of a bundle's section.
///
/// # Errors
/// One of the two is missing where the other is there; else as [`Filter::read`].
fn filter(path: Option<&Path>, spec: &Spec<'_>, flags: u32) -> Result<Option<Filter>, Failure> {
    let section = spec.linux.seccomp.as_ref();
    match (path, section) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(Failure::invalid(
            "read the seccomp filter",
            "linux.seccomp comes without its compiled filter",
        )),
        (Some(path), section) => {
            let listener = section.and_then(Seccomp::listener);
            Filter::read(path, flags, listener).map(Some)
        }
    }
}

fn account(spec: &Spec<'_>, root: &OwnedFd) -> Result<Account, Failure> {
    let root = root
        .try_clone()
        .at(FailureKind::System, || "keep the root".to_owned())?;
    let env = &spec.process.env;
    let home = if env.iter().any(|variable| variable.starts_with("HOME=")) {
        Home::Given
    } else {
        Home::LookUp
    };
    user::resolve(
        &Root::new(root),
        &spec.process.user,
        user::policy(&spec.annotations)?,
        home,
    )
}

/// Who the program runs as is somebody in its user namespace.
fn has_account(ids: &IdMaps, account: &Account) -> Result<(), Failure> {
    ids.user(account.user.uid)?;
    let groups = account.user.groups.iter().chain([&account.user.gid]);
    let mut groups = groups.map(|gid| ids.group(*gid));
    groups.try_for_each(|found| found.map(drop))
}

fn user_namespace(
    wanted: &Namespaces<'_>,
    spec: &Spec<'_>,
) -> Result<Option<UserNamespace>, Failure> {
    let maps = spec.linux.ids();
    match wanted.user {
        None => Ok(None),
        Some(User::New) => userns::make(&maps).map(Some),
        Some(User::Joined(path)) => {
            let fd = userns::open(path)?;
            Ok(Some(UserNamespace { fd, maps }))
        }
    }
}

fn open_namespaces(wanted: &Namespaces<'_>) -> Result<Vec<(NamespaceKind, OwnedFd)>, Failure> {
    let open = |(kind, path): &(NamespaceKind, &str)| {
        let fd = rustix::fs::open(*path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        fd.map(|fd| (*kind, fd)).at(FailureKind::Invalid, || {
            format!("open the {} namespace {path}", name(*kind))
        })
    };
    wanted.joined.iter().map(open).collect()
}

/// Clones the init as a child of the resident process. What it owns is dropped on this side.
fn clone_init(
    mut init: Init<'_>,
    ends: Ends,
    (cgroup, bare): (&Cgroup, Option<&Path>),
    laps: &Laps,
) -> Result<Process, Failure> {
    if let Some(path) = init.plan.namespaces.pid {
        join_pid_namespace(path)?;
    }
    let birthplace = cgroup.birthplace()?;
    match bare.map(|bare| bare::enter(bare, cgroup)) {
        None => {}
        Some(Ok(())) => init.root_path = bare::ROOT.into(),
        Some(Err(errno)) => warn(
            init.id,
            &[format!(
                "it begins with a copy of the host's mounts: {errno}"
            )],
        ),
    }
    // The last thing done with power over the host: what is made from here on is the namespace's.
    if let Some(user) = &init.user {
        userns::join(user)?;
    }
    if init.plan.namespaces.new_time {
        leave_the_hosts_time(&init.plan.time_offsets)?;
    }
    let flags = init.plan.namespaces.new | flags::PARENT;
    clone::clone3(flags, birthplace.as_ref().map(AsFd::as_fd), move || {
        init::main(init, ends, laps.handed_on())
    })
    .at(FailureKind::System, || {
        "clone the container's init".to_owned()
    })
}

/// Clocks can be set until somebody lives by them: the namespace is that of children born from now
/// on.
fn leave_the_hosts_time(offsets: &str) -> Result<(), Failure> {
    let step = || format!("make a time namespace {offsets:?}");
    clone::unshare(UnshareFlags::NEWTIME).at(FailureKind::System, step)?;
    if offsets.is_empty() {
        return Ok(());
    }
    std::fs::write("/proc/self/timens_offsets", offsets).at(FailureKind::System, step)
}

fn join_pid_namespace(path: &str) -> Result<(), Failure> {
    let step = || format!("join the pid namespace {path}");
    let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .at(FailureKind::Invalid, step)?;
    move_into_link_name_space(fd.as_fd(), Some(LinkNameSpaceType::ProcessID))
        .at(FailureKind::System, step)
}

/// Waits for the init, and has done what it waits for itself.
fn wait_until_ready(
    gate: &OwnedFd,
    pid: i32,
    site: &mut Site<'_>,
) -> Result<Option<OwnedFd>, Failure> {
    let deputy = site.deputy.as_ref();
    let on_the_host = |moment| {
        let lost = || super::ended("create the container", "there is no deputy");
        deputy.ok_or_else(lost)?.act(moment)?;
        let step = || "let the init go on".to_owned();
        rustix::io::write(gate, GO)
            .map(drop)
            .at(FailureKind::System, step)
    };
    let mut master = None;
    loop {
        let received =
            packet::receive(gate).at(FailureKind::System, || "hear from the init".to_owned())?;
        match received {
            Some(Received {
                message: FromInit::Terminal,
                mut fds,
                ..
            }) => master = fds.pop(),
            Some(Received {
                message: FromInit::Placed,
                ..
            }) => on_the_host(Moment::Made(pid))?,
            Some(Received {
                message: FromInit::Listener(descriptor),
                ..
            }) => on_the_host(Moment::Listener(pid, descriptor))?,
            Some(Received {
                message: FromInit::Ready { laps },
                ..
            }) => {
                site.laps.take_over(laps);
                return Ok(master);
            }
            Some(Received {
                message: FromInit::Failed(failure),
                ..
            }) => return Err(failure),
            Some(Received {
                message: FromInit::Settled { .. },
                ..
            }) => {
                return Err(super::ended(
                    "create the container",
                    "its init spoke out of turn",
                ));
            }
            None => {
                return Err(super::ended(
                    "create the container",
                    "its init ended without a word (out of memory in its cgroup?)",
                ));
            }
        }
    }
}

fn warn(id: &str, warnings: &[String]) {
    for warning in warnings {
        log(format_args!("level=warn container.id={id} {warning}"));
    }
}
