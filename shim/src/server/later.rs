//! A container's hooks that run on the host while it lives and when it has gone: who runs them is
//! another process, and nothing here waits for it.
//!
//! ```text
//! Idle ── the program runs ──▶ After(start) ── heard ──▶ Idle
//!   └──── all has gone, and somebody shuts down ──▶ After(end) ── heard ──▶ Over
//! ```

use crate::api::Failure;
use crate::hooks::deputy::{Deputy, Moment};
use rustix::fd::OwnedFd;

/// The later hooks of a container.
pub struct LaterHooks {
    deputy: Option<Deputy>,
    phase: Phase,
    /// What came of those after the start, until somebody takes it.
    started: Option<Result<(), Failure>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    Started,
    Gone,
    Over,
}

impl LaterHooks {
    /// Those that this deputy runs; without one there are none.
    #[must_use]
    pub fn of(deputy: Option<Deputy>) -> Self {
        Self {
            deputy,
            phase: Phase::Idle,
            started: None,
        }
    }

    /// To be polled while hooks run.
    #[must_use]
    pub fn socket(&self) -> Option<&OwnedFd> {
        let runs = matches!(self.phase, Phase::Started | Phase::Gone);
        self.deputy.as_ref().filter(|_| runs).map(Deputy::socket)
    }

    /// The program runs: begins with the hooks for that. Whether there are any.
    pub fn start(&mut self, pid: i32) -> bool {
        let Some(deputy) = &self.deputy else {
            return false;
        };
        match deputy.tell(Moment::Started(pid)) {
            Ok(()) => self.phase = Phase::Started,
            Err(failure) => self.started = Some(Err(failure)),
        }
        true
    }

    /// What came of the hooks after the start, once.
    pub fn take_started(&mut self) -> Option<Result<(), Failure>> {
        self.started.take()
    }

    /// The container has gone: begins with the last hooks. Whether they are over.
    pub fn are_over(&mut self) -> bool {
        match (&self.deputy, self.phase) {
            (None, _) | (_, Phase::Over) => return true,
            (Some(deputy), Phase::Idle) => {
                let told = deputy.tell(Moment::Gone).is_ok();
                self.phase = if told { Phase::Gone } else { Phase::Over };
            }
            (Some(_), Phase::Started | Phase::Gone) => {}
        }
        self.phase == Phase::Over
    }

    /// Hears what the socket has to say; a failure of the hooks after the start.
    pub fn heard(&mut self) -> Option<Failure> {
        let answer = self.deputy.as_ref()?.hear();
        match self.phase {
            Phase::Started => {
                self.phase = Phase::Idle;
                self.started = Some(answer.clone());
                answer.err()
            }
            _ => {
                self.phase = Phase::Over;
                None
            }
        }
    }
}
