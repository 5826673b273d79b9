//! Runs a first pod through the CRI, as a kubelet would, and shows what each step took.
//!
//! ```text
//! first-pod up SOCKET IMAGE     pod, container, its first log line, its address; the pod stays
//! first-pod down SOCKET         stops and removes it
//! ```

use corten_proto::runtime::v1::runtime_service_client::RuntimeServiceClient;
use corten_proto::runtime::v1::{
    ContainerConfig, ContainerMetadata, CreateContainerRequest, ImageSpec, ListPodSandboxRequest,
    PodSandboxConfig, PodSandboxFilter, PodSandboxMetadata, PodSandboxStatusRequest,
    RemovePodSandboxRequest, RunPodSandboxRequest, StartContainerRequest, StopPodSandboxRequest,
};
use std::collections::HashMap;
use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tonic::transport::Channel;

type Client = RuntimeServiceClient<Channel>;
type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Marks the pod, so that it is found again whoever made it.
const LABEL: (&str, &str) = ("corten.first-pod", "yes");
const LOGS: &str = "/var/log/pods/default_first-pod_0";
/// Says who and where it is, then waits to be looked at.
const SCRIPT: &str =
    "echo \"hello from $(hostname) at $(hostname -i), process $$\"; exec sleep 1000000";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["up", socket, image] => up(socket, image).await,
        ["down", socket] => down(&mut connect(socket).await?).await,
        _ => Err("usage: first-pod up SOCKET IMAGE | first-pod down SOCKET".into()),
    }
}

async fn connect(socket: &str) -> Result<Client> {
    Ok(Client::connect(format!("unix://{socket}")).await?)
}

/// What was done so far, and when.
struct Steps {
    last: Instant,
}

impl Steps {
    fn done(&mut self, step: &str) {
        let now = Instant::now();
        println!(
            "  {step:<24}{:>8.1} ms",
            (now - self.last).as_secs_f64() * 1e3
        );
        self.last = now;
    }
}

async fn up(socket: &str, image: &str) -> Result<()> {
    let mut client = connect(socket).await?;
    down(&mut client).await?;
    let mut steps = Steps {
        last: Instant::now(),
    };
    let pod = run_pod(&mut client).await?;
    steps.done("RunPodSandbox");
    let container = create(&mut client, &pod, image).await?;
    steps.done("CreateContainer");
    client
        .start_container(StartContainerRequest {
            container_id: container,
        })
        .await?;
    steps.done("StartContainer");
    let line = first_line().await?;
    steps.done("first line in the log");
    println!("  address  {}", address(&mut client, &pod).await?);
    println!("  log      {line}");
    Ok(())
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
    Ok(client
        .run_pod_sandbox(asked)
        .await?
        .into_inner()
        .pod_sandbox_id)
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
    Ok(client
        .create_container(asked)
        .await?
        .into_inner()
        .container_id)
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
    Err(format!("no line in {} within 10 s", path.display()).into())
}

async fn address(client: &mut Client, pod: &str) -> Result<String> {
    let asked = PodSandboxStatusRequest {
        pod_sandbox_id: pod.to_owned(),
        verbose: false,
    };
    let status = client.pod_sandbox_status(asked).await?.into_inner().status;
    Ok(status.and_then(|s| s.network).unwrap_or_default().ip)
}

/// Removes the pod and its log, where there is one.
async fn down(client: &mut Client) -> Result<()> {
    let filter = PodSandboxFilter {
        label_selector: HashMap::from([(LABEL.0.into(), LABEL.1.into())]),
        ..Default::default()
    };
    let asked = ListPodSandboxRequest {
        filter: Some(filter),
    };
    for pod in client.list_pod_sandbox(asked).await?.into_inner().items {
        let pod_sandbox_id = pod.id;
        client
            .stop_pod_sandbox(StopPodSandboxRequest {
                pod_sandbox_id: pod_sandbox_id.clone(),
            })
            .await?;
        client
            .remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id })
            .await?;
    }
    match std::fs::remove_dir_all(LOGS) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e.into()),
        _ => Ok(()),
    }
}
