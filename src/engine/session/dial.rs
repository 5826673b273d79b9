//! PortForward: connections to ports of a pod, from inside its network.

use super::Engine;
use crate::engine::objects::SandboxCell;
use crate::engine::running::ready;
use crate::error::{Error, Result};
use crate::task;
use std::sync::Arc;
use tokio::net::TcpStream;

/// What connects to a pod's ports. Dropped it is gone, and what it has connected lives on.
pub struct Dialer {
    dialer: task::Dialer,
    cell: Arc<SandboxCell>,
    pod: String,
}

impl Engine {
    /// Starts what connects to the ports of a sandbox: one for a whole session.
    ///
    /// # Errors
    /// `NotFound`; `FailedPrecondition` where the sandbox is not ready any more; else why its network
    /// cannot be joined.
    pub async fn dialer(&self, sandbox: &str) -> Result<Dialer> {
        let cell = self.objects.sandbox(sandbox)?;
        let cell = cell.ok_or_else(|| Error::not_found(format!("no sandbox {sandbox}")))?;
        let record = cell.record();
        ready(&record)?;
        let who = &record.config.metadata;
        let pod = format!("{}/{}", who.namespace, who.name);
        let network = record.namespaces.network.as_deref();
        let started = self.ports.tasks.dialer(network).await;
        let dialer =
            started.map_err(|e| Error::from(e).during(format!("reach the ports of pod {pod}")))?;
        Ok(Dialer { dialer, cell, pod })
    }
}

impl Dialer {
    /// The pod's namespace and name.
    #[must_use]
    pub fn pod(&self) -> &str {
        &self.pod
    }

    /// Connects to a port of the pod: of 127.0.0.1, or else of ::1. Many may be made at once.
    ///
    /// # Errors
    /// Why there is no connection; the message names pod, port and cause.
    pub async fn connect(&self, port: u16) -> Result<TcpStream> {
        let connected = self.dialer.connect(port).await;
        connected.map_err(|e| {
            Error::from(e).during(format!("connect to port {port} of pod {}", self.pod))
        })
    }

    /// Waits until the pod is not ready any more: whoever goes on keeps its network from going.
    pub async fn gone(&self) {
        self.cell.not_ready().await;
    }
}
