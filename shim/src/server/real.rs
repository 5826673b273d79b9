//! The real maker of containers: [`crate::parent`] and [`crate::cgroup`] as the server asks them.

use super::creation::{Cgroup, Created, Creator, Gate};
use crate::api::{CreateRequest, Failure, FailureKind};
use crate::failure::At;
use crate::io::streams::Stdio;
use crate::{cgroup, cgroups, parent};
use rustix::fd::OwnedFd;
use std::path::PathBuf;

/// Makes containers from OCI bundles.
#[derive(Debug)]
pub struct Parent {
    /// What the shim was started with, as in [`parent::create`].
    pub oom_score: i32,
    /// The cgroup of shims, where this process has yet to enter it: not before the first stage is
    /// at work, which leaves whatever cgroup it is forked in.
    pub home: Option<PathBuf>,
}

impl Creator for Parent {
    fn create(&mut self, request: &CreateRequest) -> Result<Created, Failure> {
        let parent::Created {
            pid,
            start_time,
            pidfd,
            stdio,
            start,
            cgroup,
            user,
        } = parent::create(request, self.oom_score, || {
            self.home
                .take()
                .map_or(Ok(()), |home| cgroups::enter(&home))
        })?;
        let stdio = match stdio {
            parent::Stdio::Terminal { master } => Stdio::Terminal { master },
            parent::Stdio::Pipes {
                stdin,
                stdout,
                stderr,
            } => Stdio::Pipes {
                stdin,
                stdout,
                stderr,
            },
        };
        let (gate, cgroup) = (Box::new(start), Box::new(cgroup));
        Ok(Created {
            pid,
            start_time,
            pidfd,
            stdio,
            gate,
            cgroup,
            user,
        })
    }
}

impl Gate for parent::StartGate {
    fn release(self: Box<Self>) -> Result<(), Failure> {
        (*self).release()
    }
}

impl Cgroup for cgroup::Cgroup {
    /// A counter that cannot be read has not moved.
    fn memory_kills(&self) -> u64 {
        self.memory_kills().unwrap_or(0)
    }

    /// Without the descriptor the end still tells a kill for memory, by the counter.
    fn oom_events(&self) -> Option<OwnedFd> {
        self.oom_events().ok().flatten()
    }

    fn kill_all(&self) -> Result<(), Failure> {
        self.kill_now().at(FailureKind::System, || {
            "kill what is in the cgroup".to_owned()
        })
    }

    fn remove(&self) -> Result<(), Failure> {
        self.remove_now()
            .at(FailureKind::System, || "remove the cgroup".to_owned())
    }

    fn update(&self, resources: &str) -> Result<(), Failure> {
        self.update(resources)
    }
}
