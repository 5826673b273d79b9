//! The real maker of containers: [`crate::parent`] and [`crate::cgroup`] as the server asks them.

use super::creation::{Cgroup, Created, Creator, Gate};
use crate::api::{CreateRequest, Failure, FailureKind, Lap};
use crate::failure::At;
use crate::io::streams::Stdio;
use crate::parent::Stage;
use crate::{cgroup, cgroups, parent};
use rustix::fd::OwnedFd;
use std::path::PathBuf;

/// Where a maker of containers is.
#[derive(Debug, Default)]
pub enum Work {
    /// Nobody is at work.
    #[default]
    None,
    /// A stage waits for its container.
    Waiting(Stage),
    /// A stage knows of its container and waits for the bundle.
    Prepared(Stage),
    /// A stage has done its part, and ends when this is closed.
    Done(OwnedFd),
}

/// Makes containers from OCI bundles.
#[derive(Debug)]
pub struct Parent {
    /// What the shim was started with, as in [`Stage::begin`].
    pub oom_score: i32,
    /// The cgroup of shims, where this process has yet to enter it: not before the first stage is
    /// at work, which leaves whatever cgroup it is forked in.
    pub home: Option<PathBuf>,
    /// Where it is in making a container.
    pub work: Work,
}

impl Parent {
    fn begin(&mut self) -> Result<Stage, Failure> {
        let stage = Stage::begin(self.oom_score)?;
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
    fn stand_by(&mut self) {
        // Who needs one tries again, and tells.
        self.work = self.begin().map_or(Work::None, Work::Waiting);
    }

    fn prepare(&mut self, id: &str, cgroup: &str) -> Result<(), Failure> {
        let stage = match std::mem::take(&mut self.work) {
            prepared @ Work::Prepared(_) => {
                self.work = prepared;
                return Err(Failure::state("prepare", "a cgroup is prepared already"));
            }
            Work::Waiting(stage) if stage.prepare(id, cgroup).is_ok() => stage,
            // There is none, or it was killed while it waited.
            Work::None | Work::Done(_) | Work::Waiting(_) => {
                let stage = self.begin()?;
                stage.prepare(id, cgroup)?;
                stage
            }
        };
        self.work = Work::Prepared(stage);
        Ok(())
    }

    fn rest(&mut self) {
        if let Work::Done(_) = self.work {
            self.work = Work::None;
        }
    }

    fn give_up(&mut self) {
        if let Work::Waiting(stage) | Work::Prepared(stage) = std::mem::take(&mut self.work) {
            stage.give_up();
        }
    }

    fn create(&mut self, request: &CreateRequest) -> Result<Created, Failure> {
        let stage = match std::mem::take(&mut self.work) {
            Work::Waiting(stage) | Work::Prepared(stage) => stage,
            Work::None | Work::Done(_) => self.begin()?,
        };
        let parent::Created {
            pid,
            start_time,
            pidfd,
            stdio,
            start,
            cgroup,
            user,
            deputy,
            laps,
            stage,
        } = stage.create(request)?;
        self.work = Work::Done(stage);
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
            deputy,
            laps,
        })
    }
}

impl Gate for parent::StartGate {
    fn release(self: Box<Self>) -> Result<Vec<Lap>, Failure> {
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
