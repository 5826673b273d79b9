//! The container's side of creating a container: the process that will execute its program.
//!
//! It starts as a copy of the stage in the container's new namespaces, moves into place what the
//! stage has made, changes its root, becomes the container's user, and waits. `sync.rs` draws what
//! it says to whom.
//!
//! Invariant: until `execve` it is not dumpable, so nothing that can see it can reach the shim's
//! program through it; after the wait it makes no call but `execve` (and the report of a failure, by a plain `write`).

mod cgroupfs;
mod copy_up;
mod devices;
pub mod mounts;
mod paths;
pub mod process;
mod program;
pub mod terminal;

pub use program::Ready;

use crate::api::{Failure, FailureKind, IdMaps, Part};
use crate::bundle::{Hook, Hooks, NamespaceKind};
use crate::cgroup::{Cgroup, Entrance};
use crate::failure::At;
use crate::laps::{self, Laps};
use crate::packet;
use crate::plan::devices::DeviceNode;
use crate::plan::namespaces::name;
use crate::plan::{Plan, Step};
use crate::root::Root;
use crate::seccomp::Filter;
use crate::state::Identity;
use crate::sync::{FromInit, GO};
use crate::sys;
use crate::user::Account;
use crate::userns::{self, UserNamespace};
use process::{Become, FileId};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
use std::mem::ManuallyDrop;
use std::path::PathBuf;

/// What an init ends with when its program cannot be executed.
const START_ERROR: i32 = 128;

/// All that an init needs to make itself the container.
#[derive(Debug)]
pub struct Init<'a> {
    /// The container's id.
    pub id: &'a str,
    /// What to do.
    pub plan: Plan<'a>,
    /// The container's cgroup.
    pub cgroup: &'a Cgroup,
    /// The root file system: a detached mount.
    pub root: OwnedFd,
    /// Where it is attached, in the container's mount namespace.
    pub root_path: PathBuf,
    /// The plan's trees of the host, detached.
    pub trees: Vec<OwnedFd>,
    /// The plan's device nodes, where the init cannot make them: a detached mount.
    pub nodes: Option<OwnedFd>,
    /// The user namespace that it is born in, unless that is the host's.
    pub user: Option<UserNamespace>,
    /// Namespaces to be joined.
    pub namespaces: Vec<(NamespaceKind, OwnedFd)>,
    /// Whom to become.
    pub account: Account,
    /// The seccomp filter.
    pub filter: Option<Filter>,
    /// The shim's own program, which is never executed inside a container.
    pub own_program: FileId,
    /// The bundle's hooks.
    pub hooks: &'a Hooks<'a>,
    /// What those are told.
    pub identity: Identity<'a>,
}

impl Init<'_> {
    /// Whether somebody is asked about what its filter does not decide.
    fn asks(&self) -> bool {
        self.filter.as_ref().is_some_and(Filter::has_listener)
    }

    fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let namespaces = self.namespaces.iter().map(|(_, fd)| fd.as_fd());
        let trees = self.trees.iter().map(AsFd::as_fd);
        let nodes = self.nodes.iter().map(AsFd::as_fd);
        namespaces
            .chain(trees)
            .chain(nodes)
            .chain([self.root.as_fd()])
    }
}

/// The inner ends of what leads out of the container.
#[derive(Debug)]
pub struct Ends {
    /// Where it reports, and waits.
    pub gate: OwnedFd,
    /// Its stdio.
    pub stdio: InnerStdio,
    /// The way into its cgroup.
    pub entrance: Entrance,
}

/// The inner ends of a container's stdio.
#[derive(Debug)]
pub enum InnerStdio {
    /// Pipes; without a stdin it reads `/dev/null`.
    Pipes {
        /// To be read.
        stdin: Option<OwnedFd>,
        /// To be written.
        stdout: OwnedFd,
        /// To be written.
        stderr: OwnedFd,
    },
    /// A terminal that it opens itself.
    Terminal,
}

impl InnerStdio {
    /// Gives it to a user of a namespace, so that it can be opened again by `/dev/stdout`: from
    /// inside, what the host's root has made is nobody's to give.
    ///
    /// # Errors
    /// What the kernel says, or that there is no such user.
    pub fn give(&self, ids: &IdMaps, uid: u32) -> Result<(), Failure> {
        let ends = self.descriptors();
        ends.iter().try_for_each(|end| userns::give(end, ids, uid))
    }

    /// Its descriptors.
    #[must_use]
    pub fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        match self {
            Self::Terminal => Vec::new(),
            Self::Pipes {
                stdin,
                stdout,
                stderr,
            } => {
                let stdin = stdin.iter().map(AsFd::as_fd);
                stdin.chain([stdout.as_fd(), stderr.as_fd()]).collect()
            }
        }
    }
}

/// Runs the init; returns only its exit code, when it could not become the program.
pub fn main(init: Init<'_>, ends: Ends, mut laps: Laps) -> i32 {
    laps.lap(Part::Clone);
    // Its descriptors are closed all at once, before the filter; nobody shall close them again.
    let init = ManuallyDrop::new(init);
    let Ends {
        gate,
        stdio,
        entrance,
    } = ends;
    match place(&init, stdio, entrance, &gate, &mut laps) {
        Ok(root) if init.asks() => settle_then_say(&init, root, &gate, &laps),
        Ok(root) => say_then_settle(&init, root, &gate, &laps),
        Err(failure) => {
            report_failure(&gate, failure);
            1
        }
    }
}

/// Nobody waits for what is left to be done: it is, while the daemon answers.
fn say_then_settle(init: &Init<'_>, root: Root, gate: &OwnedFd, laps: &Laps) -> i32 {
    let said = ready(laps).map(|word| packet::write_encoded(gate, &word));
    if !matches!(said, Ok(Ok(()))) {
        return 1;
    }
    match settle(init, root, gate, laps) {
        Ok(settled) => wait_and_execute(gate, &settled),
        Err(failure) => {
            let code = report_failure(gate, failure);
            // What it failed of is the answer to the start, so it may not end before that.
            let _ = wait_for_go(gate);
            code
        }
    }
}

/// Whom the filter asks is told by the stage, which ends when this process is ready.
fn settle_then_say(init: &Init<'_>, root: Root, gate: &OwnedFd, laps: &Laps) -> i32 {
    let word = ready(laps);
    match word.and_then(|word| settle(init, root, gate, laps).map(|settled| (word, settled))) {
        Ok((word, settled)) => match packet::write_encoded(gate, &word) {
            Ok(()) => wait_and_execute(gate, &settled),
            Err(_) => 1,
        },
        Err(failure) => {
            report_failure(gate, failure);
            1
        }
    }
}

/// The word that says it, encoded now, since afterwards there may be a filter.
fn ready(laps: &Laps) -> Result<Vec<u8>, Failure> {
    encoded(&FromInit::Ready { laps: laps.told() })
}

fn encoded(word: &FromInit) -> Result<Vec<u8>, Failure> {
    packet::encode(word).at(FailureKind::System, || "tell of the container".to_owned())
}

/// An init whose gate is closed without a word has been given up.
fn wait_and_execute(gate: &OwnedFd, settled: &Settled<'_>) -> i32 {
    if packet::write_encoded(gate, &settled.word).is_err() || wait_for_go(gate).is_err() {
        return 1;
    }
    let hooks = settled.hooks.as_ref();
    if let Some(Err(failure)) = hooks.map(|(hooks, state)| crate::hooks::run(hooks, state)) {
        return report_failure(gate, failure);
    }
    report_failure(gate, settled.ready.execute())
}

/// What is left to do under the filter: all of it was made before.
struct Settled<'a> {
    ready: Ready,
    hooks: Option<StartHooks<'a>>,
    /// [`FromInit::Settled`], as it goes over the gate.
    word: Vec<u8>,
}

/// Hooks, and the state that they read.
type StartHooks<'a> = (&'a [Hook<'a>], OwnedFd);

/// Waits for [`GO`].
///
/// # Errors
/// Nobody is left who could say it.
pub fn wait_for_go(gate: impl AsFd) -> Result<(), Failure> {
    let step = || "wait to be let go on".to_owned();
    let mut word = [0; 1];
    let heard = rustix::io::retry_on_intr(|| rustix::io::read(&gate, &mut word));
    match heard.at(FailureKind::System, step)? {
        1 if word == GO => Ok(()),
        _ => Err(Failure::invalid(step(), "the gate was closed")),
    }
}

/// Says why the program is not executed, and answers the exit code that goes with it. By a plain
/// `write`: there may be a filter already.
pub fn report_failure(gate: &OwnedFd, failure: Failure) -> i32 {
    // Without anybody who listens there is nobody left to be told.
    let _ = packet::write(gate, &FromInit::Failed(failure));
    START_ERROR
}

/// Everything that can be wrong with what was asked for: up to the container's root, which is returned.
fn place(
    init: &Init<'_>,
    stdio: InnerStdio,
    entrance: Entrance,
    gate: &OwnedFd,
    laps: &mut Laps,
) -> Result<Root, Failure> {
    // First: in a PID namespace that is shared, others see this process already.
    let mut kept = stdio.descriptors();
    kept.extend(init.descriptors().chain([gate.as_fd()]));
    kept.extend(entrance.descriptors());
    process::let_go_but(&kept)?;
    drop(kept);
    entrance.enter()?;
    join_namespaces(init)?;
    laps.lap(Part::Enter);
    crate::failpoint!("shim_create/init");
    process::set_labels(&init.plan.process)?;
    let (root, terminal) = build(init)?;
    laps.lap(Part::Mounts);
    run_create_hooks(init, gate)?;
    laps.skip();
    process::new_session(init.id)?;
    process::schedule(&init.plan.process.scheduling)?;
    mounts::pivot(&root)?;
    let master = terminal::install(stdio, terminal, &init.plan.process, &init.account)?;
    if let Some(master) = master {
        packet::send(gate, &FromInit::Terminal, &[master.as_fd()])
            .at(FailureKind::System, || "hand the terminal out".to_owned())?;
    }
    laps.lap(Part::Mounts);
    Ok(root)
}

/// From the container's root to its process, but for the execve. Nobody waits for it before the start,
/// unless the filter has a listener.
fn settle<'a>(
    init: &Init<'a>,
    root: Root,
    gate: &OwnedFd,
    laps: &Laps,
) -> Result<Settled<'a>, Failure> {
    let mut laps = laps.handed_on();
    mounts::let_go_of_host(&root, init.plan.root_spread)?;
    drop(root);
    let hooks = start_hooks(init)?;
    let mut kept = vec![gate.as_fd()];
    kept.extend(hooks.iter().map(|(_, state)| state.as_fd()));
    let wanted = Become {
        plan: &init.plan.process,
        account: &init.account,
        filter: init.filter.as_ref(),
        own_program: init.own_program,
        parent_death: None,
    };
    let ready = wanted.prepare(&kept)?;
    laps.lap(Part::Identity);
    let word = encoded(&FromInit::Settled {
        laps: laps.told(),
        worked: laps::worked(),
    })?;
    wanted.restrict(&kept)?;
    Ok(Settled { ready, hooks, word })
}

/// Those of the host first, while this process waits; then those that run in here.
fn run_create_hooks(init: &Init<'_>, gate: &OwnedFd) -> Result<(), Failure> {
    if !init.hooks.are_for_create() {
        return Ok(());
    }
    packet::write(gate, &FromInit::Placed)
        .at(FailureKind::System, || "tell of the mounts".to_owned())?;
    wait_for_go(gate)?;
    let own = rustix::process::getpid().as_raw_pid();
    let state = crate::hooks::state_file(&init.identity.state("creating", own))?;
    crate::hooks::run(&init.hooks.create_container, &state)
}

/// Prepared now, since afterwards there may be a filter.
fn start_hooks<'a>(init: &Init<'a>) -> Result<Option<StartHooks<'a>>, Failure> {
    let hooks = init.hooks.start_container.as_slice();
    if hooks.is_empty() {
        return Ok(None);
    }
    let own = rustix::process::getpid().as_raw_pid();
    let state = crate::hooks::state_file(&init.identity.state("created", own))?;
    Ok(Some((hooks, state)))
}

/// Carries out the steps inside the root, before it becomes the root.
fn build(init: &Init<'_>) -> Result<(Root, Option<terminal::Terminal>), Failure> {
    mounts::detach_from_host()?;
    let root = mounts::attach_root(&init.root, &init.root_path)?;
    if init.user.is_some() {
        // Nothing of the host's root is needed any more, and what is made from here on is the container's.
        userns::become_root()?;
    }
    if let Some(nodes) = &init.nodes {
        devices::attach(nodes)?;
    }
    let mut builder = Builder {
        root: &root,
        trees: &init.trees,
        nodes: init.nodes.as_ref(),
        bound: 0,
        cgroup: init.cgroup,
        new_cgroup_namespace: init.plan.namespaces.new_cgroup,
        empty: None,
        null: None,
        terminal: None,
    };
    for step in &init.plan.steps {
        builder.run(step)?;
    }
    let terminal = builder.terminal;
    paths::make_working_directory(&root, init.plan.process.cwd)?;
    Ok((root, terminal))
}

/// Carries out the plan's steps.
struct Builder<'a> {
    root: &'a Root,
    trees: &'a [OwnedFd],
    nodes: Option<&'a OwnedFd>,
    /// How many of the nodes are bound.
    bound: usize,
    cgroup: &'a Cgroup,
    new_cgroup_namespace: bool,
    /// An empty read-only directory, made when the first one is needed.
    empty: Option<OwnedFd>,
    /// The container's `/dev/null`, opened when the first file is masked.
    null: Option<OwnedFd>,
    terminal: Option<terminal::Terminal>,
}

impl Builder<'_> {
    fn run(&mut self, step: &Step<'_>) -> Result<(), Failure> {
        match step {
            Step::Mount(mount) => self.mount(mount),
            Step::Device(node) => self.device(node),
            Step::Link { path, target } => devices::link(self.root, path, target),
            Step::Terminal => self.open_terminal(),
            Step::Hostname(name) => rustix::system::sethostname(name.as_bytes())
                .at(FailureKind::System, || format!("set the host name {name}")),
            Step::Domainname(name) => rustix::system::setdomainname(name.as_bytes())
                .at(FailureKind::System, || {
                    format!("set the domain name {name}")
                }),
            Step::Sysctl { name, value } => paths::write_sysctl(name, value),
            Step::Freeze(path) => paths::freeze(self.root, path),
            Step::ReadOnly(path) => paths::make_read_only(self.root, path),
            Step::Mask(path) => self.mask(path),
            Step::RootReadOnly => crate::filesystem::read_only(self.root, sys::mount::Depth::Top)
                .at(FailureKind::Mount, || "make the root read-only".to_owned()),
        }
    }

    fn device(&mut self, node: &DeviceNode<'_>) -> Result<(), Failure> {
        let Some(nodes) = self.nodes else {
            return devices::make(self.root, node);
        };
        devices::bind(self.root, node, nodes, self.bound)?;
        self.bound += 1;
        Ok(())
    }

    fn open_terminal(&mut self) -> Result<(), Failure> {
        self.terminal = Some(terminal::open(self.root)?);
        Ok(())
    }
}

/// Joins, and takes the cgroup namespace only now: its root is the cgroup that one is in.
fn join_namespaces(init: &Init<'_>) -> Result<(), Failure> {
    for (kind, fd) in &init.namespaces {
        move_into_link_name_space(fd.as_fd(), Some(link_type(*kind)))
            .at(FailureKind::System, || {
                format!("join the {} namespace", name(*kind))
            })?;
    }
    if init.plan.namespaces.new_cgroup {
        sys::clone::unshare(UnshareFlags::NEWCGROUP)
            .at(FailureKind::System, || "make a cgroup namespace".to_owned())?;
    }
    Ok(())
}

fn link_type(kind: NamespaceKind) -> LinkNameSpaceType {
    match kind {
        NamespaceKind::Pid => LinkNameSpaceType::ProcessID,
        NamespaceKind::Network => LinkNameSpaceType::Network,
        NamespaceKind::Mount => LinkNameSpaceType::Mount,
        NamespaceKind::Ipc => LinkNameSpaceType::InterProcessCommunication,
        NamespaceKind::Uts => LinkNameSpaceType::HostNameAndNISDomainName,
        NamespaceKind::User => LinkNameSpaceType::User,
        NamespaceKind::Cgroup => LinkNameSpaceType::ControlGroup,
        NamespaceKind::Time => LinkNameSpaceType::Time,
    }
}

/// True for what a path that is simply not there answers.
fn is_absent(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::NOTDIR)
}
