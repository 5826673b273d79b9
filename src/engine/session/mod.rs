//! Exec, Attach and PortForward: sessions that are asked for by one way and begun by another.
//!
//! ```text
//! kubelet ─gRPC─▶ cri ─▶ Engine::session_…  state checked, token kept ──▶ the URL goes back
//! client ──HTTP─▶ stream ─▶ Engine::take_session(token) ─▶ run_exec | run_attach | dialer
//!                  ▲                                                │
//!                  └──────────────── bytes ─────── Joined, Dialer ◀─┘
//! ```
//! What HTTP is made of is `stream`'s affair; here are the processes and their descriptors.
//!
//! Invariant: a session holds on to nothing but what it was given: dropped, its process is ended,
//! its container left alone, its dialer gone.

mod attach;
mod dial;
mod exec;
mod process;
mod streams;
mod tokens;

pub use dial::Dialer;
pub use process::{Ended, Joined, Process};
pub use streams::{Input, Output};
pub use tokens::{LIFETIME, MOST};

use super::Engine;
use super::running::ready;
use crate::error::{Error, Kind as ErrorKind, Result};
use std::sync::{Arc, PoisonError, RwLock};
use tokens::Sessions;

/// Which streams a client wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wants {
    /// To write to stdin.
    pub stdin: bool,
    /// To read stdout.
    pub stdout: bool,
    /// To read stderr; never with a terminal, which has one stream out.
    pub stderr: bool,
    /// A terminal.
    pub tty: bool,
}

/// The kinds of session: each has a place of its own in the URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A new process in a container.
    Exec,
    /// The streams of a container's own process.
    Attach,
    /// Connections to ports of a pod.
    PortForward,
}

impl Kind {
    /// The first part of the URL's path.
    #[must_use]
    pub fn segment(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::Attach => "attach",
            Self::PortForward => "portforward",
        }
    }
}

/// A process that is to be started in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecSession {
    /// The container's id.
    pub container: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Its streams.
    pub wants: Wants,
}

/// A container that is to be attached to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachSession {
    /// The container's id.
    pub container: String,
    /// The streams that are wanted of it.
    pub wants: Wants,
}

/// A pod whose ports are to be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortForwardSession {
    /// The sandbox's id.
    pub sandbox: String,
    /// The ports that were announced; a client may ask for others.
    pub ports: Vec<u16>,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Session {
    /// A new process.
    Exec(ExecSession),
    /// A container's own streams.
    Attach(AttachSession),
    /// A pod's ports.
    PortForward(PortForwardSession),
}

impl Session {
    /// Which kind it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Exec(_) => Kind::Exec,
            Self::Attach(_) => Kind::Attach,
            Self::PortForward(_) => Kind::PortForward,
        }
    }
}

/// What the engine knows of sessions: those that wait, and where clients are to go.
#[derive(Debug)]
pub struct Streaming {
    sessions: Sessions,
    /// What URLs begin with, or why there are none.
    base: RwLock<Result<Arc<str>, Arc<str>>>,
}

impl Default for Streaming {
    fn default() -> Self {
        Self {
            sessions: Sessions::default(),
            base: RwLock::new(Err("the daemon has just begun".into())),
        }
    }
}

impl Streaming {
    fn url(&self, session: Session) -> Result<String> {
        let base = self.base.read().unwrap_or_else(PoisonError::into_inner);
        let base = base.as_deref().map_err(|why| {
            let message = format!("the streaming server takes no sessions: {why}");
            Error::new(ErrorKind::Unavailable, message)
        })?;
        let place = session.kind().segment();
        Ok(format!("{base}/{place}/{}", self.sessions.keep(session)?))
    }
}

impl Engine {
    /// The URL at which the process is started; works once, within a minute.
    ///
    /// # Errors
    /// `NotFound`; `FailedPrecondition` where the container does not run; `Unavailable` while no
    /// streaming server is bound; `ResourceExhausted` where too many sessions wait.
    pub fn session_exec(&self, mut session: ExecSession) -> Result<String> {
        let container = self.running(&session.container)?;
        session.container = container.id.as_str().to_owned();
        self.streaming.url(Session::Exec(session))
    }

    /// The URL at which the container's streams are; works once, within a minute.
    ///
    /// # Errors
    /// As [`Engine::session_exec`].
    pub fn session_attach(&self, mut session: AttachSession) -> Result<String> {
        let container = self.running(&session.container)?;
        session.container = container.id.as_str().to_owned();
        self.streaming.url(Session::Attach(session))
    }

    /// The URL at which the pod's ports are; works once, within a minute.
    ///
    /// # Errors
    /// As [`Engine::session_exec`], of a sandbox that is to be ready.
    pub fn session_port_forward(&self, mut session: PortForwardSession) -> Result<String> {
        let sandbox = self.pod_sandbox_status(&session.sandbox)?.sandbox;
        ready(&sandbox)?;
        session.sandbox = sandbox.id.as_str().to_owned();
        self.streaming.url(Session::PortForward(session))
    }

    /// Sessions are begun below this URL, such as `http://127.0.0.1:10010`; or there are no new ones,
    /// for this reason.
    pub fn set_streaming_base(&self, base: Result<String, String>) {
        let mut current = self
            .streaming
            .base
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *current = base.map(Into::into).map_err(Into::into);
    }

    /// Whether a session of this kind waits under the token.
    #[must_use]
    pub fn knows_session(&self, kind: Kind, token: &str) -> bool {
        self.streaming.sessions.knows(kind, token)
    }

    /// The session of a token, which is then used up; `None`: it never was, was taken, is over, or
    /// is of another kind.
    #[must_use]
    pub fn take_session(&self, kind: Kind, token: &str) -> Option<Session> {
        self.streaming.sessions.take(kind, token)
    }
}
