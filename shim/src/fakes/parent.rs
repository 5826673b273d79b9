//! A container that is a plain process: a shell that stops itself until the gate lets it go on.

use crate::api::{CreateRequest, Failure, FailureKind, Lap, User};
use crate::io::streams::Stdio;
use crate::server::creation::{Cgroup, Created, Creator, Gate};
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use std::process::{Command, Stdio as Std};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Makes containers that run a shell script.
#[derive(Default)]
pub struct Parent {
    /// What the container runs.
    pub script: String,
    /// Why its creation fails, if it does.
    pub broken: Option<Failure>,
    /// Why its program cannot be executed, if it cannot.
    pub unstartable: Option<Failure>,
    /// What its cgroup counts.
    pub memory_kills: Arc<AtomicU64>,
    /// Signalled when that has moved.
    pub oom: Option<OwnedFd>,
    /// The cgroup that is prepared.
    pub prepared: Arc<Mutex<Option<String>>>,
}

impl Creator for Parent {
    fn stand_by(&mut self) {}

    fn rest(&mut self) {}

    fn prepare(&mut self, _id: &str, cgroup: &str) -> Result<(), Failure> {
        *self.prepared.lock().unwrap() = Some(cgroup.to_owned());
        Ok(())
    }

    fn give_up(&mut self) {
        *self.prepared.lock().unwrap() = None;
    }

    #[expect(clippy::zombie_processes, reason = "the server waits for it")]
    fn create(&mut self, request: &CreateRequest) -> Result<Created, Failure> {
        if let Some(failure) = &self.broken {
            return Err(failure.clone());
        }
        let stdin = if request.stdin {
            Std::piped()
        } else {
            Std::null()
        };
        let mut child = Command::new("sh")
            .args(["-c", &format!("kill -STOP $$; {}", self.script)])
            .stdin(stdin)
            .stdout(Std::piped())
            .stderr(Std::piped())
            .spawn()
            .unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::STOPPED).unwrap();
        let pidfd = || rustix::process::pidfd_open(pid, PidfdFlags::empty()).unwrap();
        let stdio = Stdio::Pipes {
            stdin: child.stdin.take().map(Into::into),
            stdout: child.stdout.take().unwrap().into(),
            stderr: child.stderr.take().unwrap().into(),
        };
        Ok(Created {
            deputy: None,
            laps: Vec::new(),
            pid: pid.as_raw_pid(),
            start_time: 1,
            pidfd: pidfd(),
            stdio,
            gate: Box::new(Stopped {
                init: pidfd(),
                unstartable: self.unstartable.take(),
            }),
            cgroup: Box::new(Counter {
                init: pidfd(),
                kills: Arc::clone(&self.memory_kills),
                oom: self.oom.take(),
            }),
            user: User {
                uid: 7,
                gid: 8,
                groups: vec![9],
            },
        })
    }
}

/// Holds the shell by SIGSTOP.
struct Stopped {
    init: OwnedFd,
    unstartable: Option<Failure>,
}

impl Gate for Stopped {
    fn release(self: Box<Self>) -> Result<Vec<Lap>, Failure> {
        if let Some(failure) = self.unstartable {
            return Err(failure);
        }
        rustix::process::pidfd_send_signal(&self.init, Signal::CONT)
            .map(|()| Vec::new())
            .map_err(|errno| Failure::system("continue", errno))
    }
}

/// A cgroup of one process, whose counter a test moves.
struct Counter {
    init: OwnedFd,
    kills: Arc<AtomicU64>,
    oom: Option<OwnedFd>,
}

impl Cgroup for Counter {
    fn memory_kills(&self) -> u64 {
        self.kills.load(Ordering::SeqCst)
    }

    fn oom_events(&self) -> Option<OwnedFd> {
        self.oom.as_ref().and_then(|fd| fd.try_clone().ok())
    }

    fn kill_all(&self) -> Result<(), Failure> {
        let _ = rustix::process::pidfd_send_signal(&self.init, Signal::KILL);
        Ok(())
    }

    fn remove(&self) -> Result<(), Failure> {
        Ok(())
    }

    fn update(&self, resources: &str) -> Result<(), Failure> {
        match resources {
            "{}" => Ok(()),
            other => Err(Failure {
                kind: FailureKind::Invalid,
                ..Failure::invalid("update", other)
            }),
        }
    }
}
