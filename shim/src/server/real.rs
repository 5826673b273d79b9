//! The real maker of containers: [`crate::parent`] and [`crate::cgroup`] as the server asks them.

use super::creation::{Cgroup, Created, Creator, Gate};
use crate::api::{CreateRequest, Failure, FailureKind};
use crate::failure::At;
use crate::io::streams::Stdio;
use crate::parent::Stage;
use crate::{cgroup, cgroups, parent};
use rustix::fd::OwnedFd;
use std::path::PathBuf;

/// Makes containers from OCI bundles.
#[derive(Debug)]
pub struct Parent {
    /// What the shim was started with, as in [`Stage::begin`].
    pub oom_score: i32,
    /// The cgroup of shims, where this process has yet to enter it: not before the first stage is
    /// at work, which leaves whatever cgroup it is forked in.
    pub home: Option<PathBuf>,
    /// At work on the cgroup of a container whose bundle is still to come.
    pub stage: Option<Stage>,
}

impl Parent {
    fn begin(&mut self, cgroup: Option<&str>) -> Result<Stage, Failure> {
        let stage = Stage::begin(cgroup, self.oom_score)?;
        match self
            .home
            .take()
            .map_or(Ok(()), |home| cgroups::enter(&home))
        {
            Ok(()) => Ok(stage),
            Err(failure) => {
                stage.give_up();
                Err(failure)
            }
        }
    }
}

impl Creator for Parent {
    fn prepare(&mut self, cgroup: &str) -> Result<(), Failure> {
        if self.stage.is_some() {
            return Err(Failure::state("prepare", "a cgroup is prepared already"));
        }
        self.stage = Some(self.begin(Some(cgroup))?);
        Ok(())
    }

    fn give_up(&mut self) {
        if let Some(stage) = self.stage.take() {
            stage.give_up();
        }
    }

    fn create(&mut self, request: &CreateRequest) -> Result<Created, Failure> {
        let stage = match self.stage.take() {
            Some(prepared) => prepared,
            None => self.begin(None)?,
        };
        let parent::Created {
            pid,
            start_time,
            pidfd,
            stdio,
            start,
            cgroup,
            user,
        } = stage.create(request)?;
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
