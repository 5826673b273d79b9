//! List and Status: memory only, no gate, no I/O (but for the verbose forms).

use super::health::health;
use super::{Engine, blocking, bundle};
use crate::error::{Context, Error, Kind, Result};
use crate::model::container::{Container, ContainerFilter};
use crate::model::sandbox::{Namespaces, Sandbox, SandboxFilter};
use crate::task::Task;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

/// A sandbox and its containers, in one picture.
#[derive(Debug, Clone)]
pub struct SandboxStatus {
    /// The sandbox.
    pub sandbox: Arc<Sandbox>,
    /// Its containers, the oldest first.
    pub containers: Vec<Arc<Container>>,
}

impl Engine {
    /// The sandboxes that match, the newest first.
    #[must_use]
    pub fn list_pod_sandbox(&self, filter: &SandboxFilter) -> Vec<Arc<Sandbox>> {
        let all = self
            .objects
            .sandboxes()
            .into_iter()
            .map(|cell| cell.record());
        let mut matching: Vec<_> = all.filter(|sandbox| filter.matches(sandbox)).collect();
        matching.sort_by_key(|sandbox| std::cmp::Reverse(sandbox.created_at));
        matching
    }

    /// The containers that match, the newest first.
    #[must_use]
    pub fn list_containers(&self, filter: &ContainerFilter) -> Vec<Arc<Container>> {
        let all = self
            .objects
            .containers()
            .into_iter()
            .map(|cell| cell.record());
        let mut matching: Vec<_> = all.filter(|container| filter.matches(container)).collect();
        matching.sort_by_key(|container| std::cmp::Reverse(container.created_at));
        matching
    }

    /// One sandbox and its containers.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn pod_sandbox_status(&self, id: &str) -> Result<SandboxStatus> {
        let cell = self.objects.sandbox(id)?;
        let sandbox = cell
            .ok_or_else(|| Error::not_found(format!("no sandbox {id}")))?
            .record();
        let cells = self.objects.containers_of(&sandbox.id);
        let mut containers: Vec<_> = cells.iter().map(|cell| cell.record()).collect();
        containers.sort_by_key(|container| container.created_at);
        Ok(SandboxStatus {
            sandbox,
            containers,
        })
    }

    /// What a person who looks into a sandbox wants: the verbose part of its status.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn pod_sandbox_info(&self, id: &str) -> Result<BTreeMap<String, String>> {
        let sandbox = self.pod_sandbox_status(id)?.sandbox;
        let info = json!({
            "pid": sandbox.namespaces.holder.map_or(0, |(pid, _)| pid),
            "netns": sandbox.namespaces.network,
            "scope": sandbox.scope.as_ref().map(|scope| &scope.cgroup),
            "namespaces": sandbox.namespaces,
            "runtimeHandler": sandbox.handler,
            "runtimeSpec": runtime_spec(&sandbox.namespaces),
            "config": sandbox.config,
        });
        Ok(as_info(&info))
    }

    /// One container.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn container_status(&self, id: &str) -> Result<Arc<Container>> {
        let cell = self.objects.container(id)?;
        Ok(cell
            .ok_or_else(|| Error::not_found(format!("no container {id}")))?
            .record())
    }

    /// What a person who looks into a container wants: the verbose part of its status.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn container_info(&self, id: &str) -> Result<BTreeMap<String, String>> {
        let cell = self.objects.container(id)?;
        let cell = cell.ok_or_else(|| Error::not_found(format!("no container {id}")))?;
        let container = cell.record();
        let places = self.bundle_places(&container.id);
        let spec: Value = blocking(move || {
            let path = bundle::found(places).join("config.json");
            let failed = || format!("read the bundle {}", path.display());
            match std::fs::read(&path) {
                // It ends with the boot that it was made in.
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(Value::Null),
                text => serde_json::from_slice(&text.context(Kind::Internal, failed)?)
                    .context(Kind::Internal, failed),
            }
        })
        .await?;
        let info = json!({
            "sandboxID": container.sandbox_id,
            "pid": container.pid,
            "cgroup": container.cgroup,
            "runtimeSpec": spec,
            "config": container.config,
            "shim": shim_info(cell.task()).await,
            "health": container.healthcheck.as_ref().map(|_| health(&cell)),
        });
        Ok(as_info(&info))
    }
}

/// A person who looks into a container is not to wait for a shim that hangs.
const SHIM_ANSWERS: Duration = Duration::from_secs(1);

/// How a container's shim fares: above all whether lines of the log were lost, and why.
async fn shim_info(shim: Option<Arc<dyn Task>>) -> Value {
    let Some(shim) = shim else {
        return Value::Null;
    };
    let health = tokio::time::timeout(SHIM_ANSWERS, shim.health()).await;
    let slow = |_| {
        Err(Error::new(
            Kind::DeadlineExceeded,
            "the shim does not answer",
        ))
    };
    match health.map_or_else(slow, |health| Ok(health?)) {
        Ok(health) => json!({
            "loggedBytes": health.logged_bytes,
            "droppedLines": health.dropped_lines,
            "logError": log_error(health.log_errno),
            "attachedClients": health.attached,
            "slowClients": health.slow_clients,
            "memoryKills": health.oom_kills,
        }),
        Err(error) => json!({ "error": error.chain() }),
    }
}

/// Why the log was last not written to.
fn log_error(errno: i32) -> Option<String> {
    let error = || std::io::Error::from_raw_os_error(errno).to_string();
    (errno != 0).then(error)
}

/// The namespaces in the form of an OCI spec: where tools look for a pod's network namespace.
fn runtime_spec(pod: &Namespaces) -> Value {
    let all = [
        ("network", &pod.network),
        ("ipc", &pod.ipc),
        ("uts", &pod.uts),
        ("pid", &pod.pid),
    ];
    let pinned = all
        .into_iter()
        .filter_map(|(kind, path)| Some(json!({"type": kind, "path": path.as_ref()?})));
    json!({"linux": {"namespaces": pinned.collect::<Vec<_>>()}})
}

/// The field's form: one key, `info`, whose value is JSON.
fn as_info(info: &Value) -> BTreeMap<String, String> {
    BTreeMap::from([("info".to_owned(), info.to_string())])
}
