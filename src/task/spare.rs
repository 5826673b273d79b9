//! Programs of `corten-shim` in reserve: each is started for a request that is still to come, so that
//! no create, exec or forward waits for a program's start (about 2 ms).
//!
//! It is only a head start: a spare that has ended in the meantime is passed over, and a second
//! request at the same time starts a program of its own. The first request of a kind has none.
//!
//! A dialer comes back when its session is over.
//!
//! Invariant: at most one of a kind is in reserve, what others read as its arguments says so, and none
//! outlives the daemon: it ends with its socket.

use super::process::{self, Spawned};
use super::program::Program;
use super::{TaskError, dial, exec, sandbox};
use crate::id::ContainerId;
use corten_shim::api;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many of an id's 64 digits name its shim's socket: a socket's address holds 108 bytes, also
/// below a long state directory, and they name a container as surely.
const DIGITS: usize = 32;

/// After a create its caller starts the container, within this time.
const MOMENT: Duration = Duration::from_millis(5);
/// A command that only looks at something is over by then.
const SHORT_EXEC: Duration = Duration::from_millis(2);
/// A session of port-forward that is over by then has given its dialer back.
const SHORT_SESSION: Duration = Duration::from_secs(1);

/// What is kept in reserve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// The shim of a container.
    Run,
    /// What starts a process in a container.
    Exec,
    /// What connects to ports of a pod.
    Dial,
    /// What pins a pod's namespaces.
    Sandbox,
}

impl Verb {
    /// How long nothing is started after a request.
    fn moment(self) -> Duration {
        match self {
            Self::Dial => SHORT_SESSION,
            Self::Exec => SHORT_EXEC,
            Self::Run | Self::Sandbox => MOMENT,
        }
    }

    /// The arguments of one that is started for a request which is there: a dialer can be in reserve
    /// after it.
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Dial => &[api::SPARE],
            Self::Run | Self::Exec | Self::Sandbox => &[],
        }
    }
}

/// Starts programs of `corten-shim`.
pub struct Starter {
    program: Program,
    sockets: PathBuf,
    cgroup: PathBuf,
    reserves: [Mutex<Reserve>; 4],
}

#[derive(Default)]
enum Reserve {
    #[default]
    Empty,
    /// Since it was asked for.
    Coming(Instant),
    Ready(Spawned),
}

impl Reserve {
    fn ready(self) -> Option<Spawned> {
        match self {
            Self::Ready(spare) if !spare.kill.is_over() => Some(spare),
            _ => None,
        }
    }

    fn is_wanted(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Coming(_) => false,
            Self::Ready(spare) => spare.kill.is_over(),
        }
    }
}

impl Starter {
    /// Of this program; sockets of shims go into `sockets`, shims into the cgroup `cgroup`.
    pub fn new(program: Program, sockets: PathBuf, cgroup: &Path) -> Arc<Self> {
        Arc::new(Self {
            program,
            sockets,
            cgroup: cgroup.to_owned(),
            reserves: Default::default(),
        })
    }

    /// Where the program is.
    pub fn program(&self) -> &Path {
        self.program.path()
    }

    /// As [`Program::bare`].
    pub fn bare(&self) -> Option<PathBuf> {
        self.program.bare()
    }

    /// The cgroup of shims.
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// Where the shim of a container listens.
    pub fn socket(&self, id: &ContainerId) -> PathBuf {
        self.sockets.join(&id.as_str()[..DIGITS])
    }

    /// The spare of this kind, while it lives.
    pub fn spare(&self, verb: Verb) -> Option<Spawned> {
        let mut reserve = self.reserve(verb);
        match *reserve {
            Reserve::Coming(_) => None,
            _ => std::mem::take(&mut *reserve).ready(),
        }
    }

    /// Starts the shim of a container.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn start(&self, id: &ContainerId) -> Result<Spawned, TaskError> {
        self.run(id.as_str(), &self.socket(id))
    }

    /// The spare, or what is started now, of a kind that is told by its request whom it is for.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn take(&self, verb: Verb) -> Result<Spawned, TaskError> {
        let arguments = verb.arguments().iter().map(AsRef::as_ref);
        let fresh = || self.begin(verb, &arguments.collect::<Vec<_>>());
        self.spare(verb).map_or_else(fresh, Ok)
    }

    /// Takes one back that has done what it was asked for, unless there is one.
    pub fn give_back(&self, verb: Verb, spawned: Spawned) {
        let mut reserve = self.reserve(verb);
        if matches!(*reserve, Reserve::Coming(_)) || reserve.is_wanted() {
            *reserve = Reserve::Ready(spawned);
        }
    }

    /// Starts a spare in the background, unless there is one: after a moment, so that it does not take
    /// the processor from what the caller does next.
    pub fn fill(self: &Arc<Self>, verb: Verb) {
        let asked = Instant::now();
        match &mut *self.reserve(verb) {
            reserve if reserve.is_wanted() => *reserve = Reserve::Coming(asked),
            _ => return,
        }
        let starter = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(verb.moment()).await;
            // One was given back meanwhile.
            if !matches!(*starter.reserve(verb), Reserve::Coming(since) if since == asked) {
                return;
            }
            // The kernel holds a thread that starts a program until the program is there: not one that
            // requests wait for.
            let started = tokio::task::spawn_blocking(move || starter.keep(verb, asked));
            // Only a runtime that shuts down refuses the work.
            let _ = started.await;
        });
    }

    /// Unless one was given back meanwhile.
    fn keep(&self, verb: Verb, asked: Instant) {
        let spare = match verb {
            Verb::Run => self.run(api::ANY, &self.sockets.join(&api::ANY[..DIGITS])),
            verb => self.begin(verb, &[api::SPARE.as_ref()]),
        };
        let mut reserve = self.reserve(verb);
        if !matches!(*reserve, Reserve::Coming(since) if since == asked) {
            return;
        }
        *reserve = match spare {
            Ok(spare) => Reserve::Ready(spare),
            Err(error) => {
                // Who needs one tries again, and tells.
                tracing::debug!(%error, ?verb, "nothing is kept in reserve");
                Reserve::Empty
            }
        };
    }

    fn run(&self, id: &str, socket: &Path) -> Result<Spawned, TaskError> {
        let arguments = [
            "--id".as_ref(),
            id.as_ref(),
            "--socket".as_ref(),
            socket.as_os_str(),
            "--cgroup".as_ref(),
            self.cgroup.as_os_str(),
        ];
        self.begin(Verb::Run, &arguments)
    }

    fn begin(&self, verb: Verb, arguments: &[&OsStr]) -> Result<Spawned, TaskError> {
        let verb = match verb {
            Verb::Run => "run",
            Verb::Exec => exec::VERB,
            Verb::Dial => dial::VERB,
            Verb::Sandbox => sandbox::VERB,
        };
        process::spawn(&self.program, verb, arguments)
    }

    fn reserve(&self, verb: Verb) -> MutexGuard<'_, Reserve> {
        let place = &self.reserves[verb as usize];
        place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    /// Stands for a shim that writes its arguments down and does what it is told to.
    fn starter(dir: &Path, then: &str) -> Arc<Starter> {
        let program = dir.join("shim");
        let text = format!(
            "#!/bin/sh\necho \"$3\" >>{}/started\n{then}\n",
            dir.display()
        );
        std::fs::write(&program, text).unwrap();
        std::fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        let program = Program::plain(&program);
        Starter::new(program, dir.join("sockets"), Path::new("/corten/shims"))
    }

    fn started(dir: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(dir.join("started")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    async fn until(what: impl Fn() -> bool) {
        let tried = async {
            while !what() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), tried)
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn there_is_one_spare_and_it_is_given_once() {
        let dir = tempfile::tempdir().unwrap();
        let starter = starter(dir.path(), "exec cat");
        assert!(starter.spare(Verb::Run).is_none());
        starter.fill(Verb::Run);
        until(|| matches!(*starter.reserve(Verb::Run), Reserve::Ready(_))).await;
        starter.fill(Verb::Run);
        until(|| !started(dir.path()).is_empty()).await;
        assert_eq!(started(dir.path()), [api::ANY]);
        assert!(starter.spare(Verb::Run).is_some());
        assert!(starter.spare(Verb::Run).is_none());
    }

    #[tokio::test]
    async fn one_that_is_given_back_is_the_spare_and_none_is_started() {
        let dir = tempfile::tempdir().unwrap();
        let starter = starter(dir.path(), "exec cat");
        let first = starter.take(Verb::Dial).unwrap();
        let second = starter.take(Verb::Dial).unwrap();
        until(|| started(dir.path()).len() == 2).await;
        starter.fill(Verb::Dial);
        starter.give_back(Verb::Dial, first);
        starter.give_back(Verb::Dial, second);
        assert!(starter.spare(Verb::Dial).is_some());
        assert!(starter.spare(Verb::Dial).is_none(), "one is kept");
        tokio::time::sleep(2 * SHORT_SESSION).await;
        assert_eq!(started(dir.path()).len(), 2);
    }

    #[tokio::test]
    async fn each_kind_has_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let starter = starter(dir.path(), "exec cat");
        starter.fill(Verb::Exec);
        until(|| matches!(*starter.reserve(Verb::Exec), Reserve::Ready(_))).await;
        assert!(starter.spare(Verb::Dial).is_none());
        starter.take(Verb::Dial).unwrap();
        assert!(starter.spare(Verb::Exec).is_some());
    }

    #[tokio::test]
    async fn one_that_has_ended_is_passed_over_and_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let starter = starter(dir.path(), "exit 1");
        starter.fill(Verb::Run);
        let is_over = || matches!(&*starter.reserve(Verb::Run), Reserve::Ready(spare) if spare.kill.is_over());
        until(is_over).await;
        starter.fill(Verb::Run);
        until(|| started(dir.path()).len() == 2).await;
        until(is_over).await;
        assert!(starter.spare(Verb::Run).is_none());
    }
}
