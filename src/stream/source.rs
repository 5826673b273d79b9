//! What the server needs of the engine, so that tests can bring a process of their own.
//!
//! Invariant: nothing of HTTP is known behind this.

use crate::engine::Engine;
use crate::engine::session::{
    AttachSession, Dialer, Ended, ExecSession, Joined, Kind, PortForwardSession, Process, Session,
};
use crate::error::Result;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// What is read, from a process or from a client.
pub type Inlet = Box<dyn AsyncRead + Send + Unpin>;
/// What is written.
pub type Mouth = Box<dyn AsyncWrite + Send + Unpin>;

/// A process and its streams. Dropped as a whole it ends, or is left alone if it was attached to.
pub struct Joint<P> {
    /// What it hears.
    pub stdin: Option<Mouth>,
    /// What it says.
    pub stdout: Option<Inlet>,
    /// What it complains.
    pub stderr: Option<Inlet>,
    /// It.
    pub process: P,
}

/// A process that a session is about.
pub trait Steer: Send + Sync {
    /// Sets the size of its terminal, in columns and rows.
    fn resize(&self, width: u16, height: u16) -> impl Future<Output = Result<()>> + Send;
    /// The client will send it no more.
    fn stdin_ended(&self);
    /// Waits for its end.
    fn wait(&self) -> impl Future<Output = Result<Ended>> + Send;
    /// Waits until the client is cut off, also after that end.
    fn cut_off(&self) -> impl Future<Output = ()> + Send;
}

/// Where the ports of a pod are.
pub trait Dial: Send + Sync + 'static {
    /// The pod, as a person knows it.
    fn pod(&self) -> &str;
    /// Connects to a port.
    fn connect(&self, port: u16) -> impl Future<Output = Result<TcpStream>> + Send;
    /// Waits until the pod is not ready any more: whoever goes on keeps its network from going.
    fn gone(&self) -> impl Future<Output = ()> + Send;
}

/// Who keeps sessions and begins them.
pub trait Source: Send + Sync + 'static {
    /// What a session of exec or attach is about.
    type Process: Steer;
    /// What a session of port-forward is about.
    type Dialer: Dial;

    /// Whether a token waits for a session of this kind.
    fn knows(&self, kind: Kind, token: &str) -> bool;
    /// The session of a token, which is then used up.
    fn take(&self, kind: Kind, token: &str) -> Option<Session>;
    /// Starts a process.
    fn exec(&self, ask: ExecSession) -> impl Future<Output = Result<Joint<Self::Process>>> + Send;
    /// Joins a container.
    fn attach(
        &self,
        ask: AttachSession,
    ) -> impl Future<Output = Result<Joint<Self::Process>>> + Send;
    /// Goes to where a pod's ports are.
    fn dialer(&self, ask: PortForwardSession) -> impl Future<Output = Result<Self::Dialer>> + Send;
}

impl Source for Engine {
    type Process = Process;
    type Dialer = Dialer;

    fn knows(&self, kind: Kind, token: &str) -> bool {
        self.knows_session(kind, token)
    }

    fn take(&self, kind: Kind, token: &str) -> Option<Session> {
        self.take_session(kind, token)
    }

    async fn exec(&self, ask: ExecSession) -> Result<Joint<Process>> {
        Ok(self.run_exec(ask).await?.into())
    }

    async fn attach(&self, ask: AttachSession) -> Result<Joint<Process>> {
        Ok(self.run_attach(ask).await?.into())
    }

    async fn dialer(&self, ask: PortForwardSession) -> Result<Dialer> {
        Engine::dialer(self, &ask.sandbox).await
    }
}

impl From<Joined> for Joint<Process> {
    fn from(joined: Joined) -> Self {
        Self {
            stdin: joined.stdin.map(|stdin| Box::new(stdin) as Mouth),
            stdout: joined.stdout.map(|stdout| Box::new(stdout) as Inlet),
            stderr: joined.stderr.map(|stderr| Box::new(stderr) as Inlet),
            process: joined.process,
        }
    }
}

impl Steer for Process {
    async fn resize(&self, width: u16, height: u16) -> Result<()> {
        Process::resize(self, width, height).await
    }

    fn stdin_ended(&self) {
        Process::stdin_ended(self);
    }

    async fn wait(&self) -> Result<Ended> {
        Process::wait(self).await
    }

    async fn cut_off(&self) {
        Process::cut_off(self).await;
    }
}

impl Dial for Dialer {
    fn pod(&self) -> &str {
        Dialer::pod(self)
    }

    async fn connect(&self, port: u16) -> Result<TcpStream> {
        Dialer::connect(self, port).await
    }

    async fn gone(&self) {
        Dialer::gone(self).await;
    }
}

#[cfg(test)]
pub mod fakes;
