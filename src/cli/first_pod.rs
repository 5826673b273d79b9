//! `corten first-pod`: runs a pod through the CRI, as a kubelet would, and shows what each step took.
//! It proves a node without a kubelet, and leaves the pod to be looked at.

use super::ask::{print, refused, unreachable};
use crate::error::{Context, Error, Kind, Result};
use clap::Subcommand;
use corten_proto::runtime::v1::runtime_service_client::RuntimeServiceClient;
use corten_proto::runtime::v1::{
    ContainerConfig, ContainerMetadata, CreateContainerRequest, ImageSpec, ListPodSandboxRequest,
    PodSandboxConfig, PodSandboxFilter, PodSandboxMetadata, PodSandboxStatusRequest,
    RemovePodSandboxRequest, RunPodSandboxRequest, StartContainerRequest, StopPodSandboxRequest,
};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tonic::transport::Channel;

type Client = RuntimeServiceClient<Channel>;

/// Marks the pod, so that it is found again whoever made it.
const LABEL: (&str, &str) = ("corten.first-pod", "yes");
const LOGS: &str = "/var/log/pods/default_first-pod_0";
/// Says who and where it is, then waits to be looked at.
const SCRIPT: &str =
    "echo \"hello from $(hostname) at $(hostname -i), process $$\"; exec sleep 1000000";

/// What to do with the first pod.
#[derive(Debug, Subcommand)]
pub enum FirstPodVerb {
    /// Run it; one that runs already is replaced.
    Run {
        /// An image of this node that has `sh`.
        image: String,
    },
    /// Stop and remove it.
    Remove,
}

/// Does it.
///
/// # Errors
/// The step that failed, in the daemon's words.
pub async fn first_pod(endpoint: &Path, verb: &FirstPodVerb) -> Result<()> {
    let uri = format!("unix://{}", endpoint.display());
    let mut client = Client::connect(uri)
        .await
        .map_err(|e| unreachable(endpoint, &e))?;
    match verb {
        FirstPodVerb::Run { image } => run(&mut client, image).await,
        FirstPodVerb::Remove => remove(&mut client).await,
    }
}

/// What was done so far, and when.
struct Steps {
    last: Instant,
}

impl Steps {
    fn done(&mut self, step: &str) -> Result<()> {
        let now = Instant::now();
        let took = (now - self.last).as_secs_f64() * 1e3;
        self.last = now;
        print(&format!("  {step:<24}{took:>8.1} ms"))
    }
}

async fn run(client: &mut Client, image: &str) -> Result<()> {
    remove(client).await?;
    let mut steps = Steps {
        last: Instant::now(),
    };
    let pod = run_pod(client).await?;
    steps.done("RunPodSandbox")?;
    let container_id = create(client, &pod, image).await?;
    steps.done("CreateContainer")?;
    let started = client.start_container(StartContainerRequest { container_id });
    started.await.map_err(|e| refused(&e))?;
    steps.done("StartContainer")?;
    let line = first_line().await?;
    steps.done("first line in the log")?;
    print(&format!("  address  {}", address(client, &pod).await?))?;
    print(&format!("  log      {line}"))
}

fn pod_config() -> PodSandboxConfig {
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: "first-pod".into(),
            uid: "first-pod".into(),
            namespace: "default".into(),
            attempt: 0,
        }),
        hostname: "first-pod".into(),
        log_directory: LOGS.into(),
        labels: HashMap::from([(LABEL.0.into(), LABEL.1.into())]),
        ..Default::default()
    }
}

async fn run_pod(client: &mut Client) -> Result<String> {
    let asked = RunPodSandboxRequest {
        config: Some(pod_config()),
        runtime_handler: String::new(),
    };
    let made = client.run_pod_sandbox(asked).await;
    Ok(made.map_err(|e| refused(&e))?.into_inner().pod_sandbox_id)
}

async fn create(client: &mut Client, pod: &str, image: &str) -> Result<String> {
    let config = ContainerConfig {
        metadata: Some(ContainerMetadata {
            name: "hello".into(),
            attempt: 0,
        }),
        image: Some(ImageSpec {
            image: image.into(),
            ..Default::default()
        }),
        command: ["sh", "-c", SCRIPT].map(str::to_owned).to_vec(),
        log_path: "hello/0.log".into(),
        ..Default::default()
    };
    let asked = CreateContainerRequest {
        pod_sandbox_id: pod.to_owned(),
        config: Some(config),
        sandbox_config: Some(pod_config()),
    };
    let made = client.create_container(asked).await;
    Ok(made.map_err(|e| refused(&e))?.into_inner().container_id)
}

/// The log's first line, without its time and stream.
async fn first_line() -> Result<String> {
    let path = PathBuf::from(LOGS).join("hello/0.log");
    for _ in 0..2000 {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        if let Some((line, _)) = text.split_once('\n') {
            return Ok(line.splitn(4, ' ').last().unwrap_or_default().to_owned());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let text = format!("no line in {} within 10 s", path.display());
    Err(Error::new(Kind::DeadlineExceeded, text))
}

async fn address(client: &mut Client, pod: &str) -> Result<String> {
    let asked = PodSandboxStatusRequest {
        pod_sandbox_id: pod.to_owned(),
        verbose: false,
    };
    let status = client.pod_sandbox_status(asked).await;
    let status = status.map_err(|e| refused(&e))?.into_inner().status;
    Ok(status.and_then(|s| s.network).unwrap_or_default().ip)
}

/// Removes the pod and its log, where there is one.
async fn remove(client: &mut Client) -> Result<()> {
    let filter = PodSandboxFilter {
        label_selector: HashMap::from([(LABEL.0.into(), LABEL.1.into())]),
        ..Default::default()
    };
    let asked = ListPodSandboxRequest {
        filter: Some(filter),
    };
    let found = client.list_pod_sandbox(asked).await;
    for pod in found.map_err(|e| refused(&e))?.into_inner().items {
        let pod_sandbox_id = pod.id.clone();
        let stopped = client.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id });
        stopped.await.map_err(|e| refused(&e))?;
        let pod_sandbox_id = pod.id;
        let removed = client.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id });
        removed.await.map_err(|e| refused(&e))?;
    }
    match std::fs::remove_dir_all(LOGS) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed.context(Kind::Internal, || format!("remove {LOGS}")),
    }
}
