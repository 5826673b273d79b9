//! A client of the daemon: CRI and `corten.admin.v1` over its socket. Each method is one call.

use crate::daemon::Daemon;
use crate::node::Node;
use crate::pods::Pod;
use crate::wait::{until, until_true};
use corten_proto::admin::v1::ImportImageRequest;
use corten_proto::admin::v1::admin_client::AdminClient;
use corten_proto::runtime::v1::image_service_client::ImageServiceClient;
use corten_proto::runtime::v1::runtime_service_client::RuntimeServiceClient;
use corten_proto::runtime::v1::*;
use std::path::Path;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

const ENDPOINT: &str = "unix:///run/corten/corten.sock";

type Answer<T> = Result<T, Status>;

/// A connection; cheap to clone.
#[derive(Clone)]
pub struct Cri {
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
    admin: AdminClient<Channel>,
}

impl Cri {
    /// Connects once the daemon says that pods can be run.
    pub async fn connect(daemon: &mut Daemon) -> Self {
        until(
            "the daemon says RuntimeReady and NetworkReady",
            30,
            async || {
                daemon.assert_alive();
                let channel = Endpoint::from_static(ENDPOINT).connect().await.ok()?;
                let cri = Self {
                    runtime: RuntimeServiceClient::new(channel.clone()),
                    images: ImageServiceClient::new(channel.clone()),
                    admin: AdminClient::new(channel),
                };
                cri.ready().await.ok()?.then_some(cri)
            },
        )
        .await
    }

    async fn ready(&self) -> Answer<bool> {
        let answer = self.runtime().status(StatusRequest::default()).await?;
        let status = answer.into_inner().status.unwrap_or_default();
        Ok(!status.conditions.is_empty() && status.conditions.iter().all(|c| c.status))
    }

    /// The service itself, for the calls that one case makes.
    pub fn runtime(&self) -> RuntimeServiceClient<Channel> {
        self.runtime.clone().max_decoding_message_size(64 << 20)
    }

    /// The image service.
    pub fn images(&self) -> ImageServiceClient<Channel> {
        self.images.clone()
    }

    /// Imports an image layout under a name.
    pub async fn import(&self, layout: &Path, name: &str) {
        let request = ImportImageRequest {
            path: layout.to_str().unwrap().to_owned(),
            references: vec![name.to_owned()],
        };
        let answer = self.admin.clone().import_image(request).await.unwrap();
        let mut progress = answer.into_inner();
        while progress.message().await.unwrap().is_some() {}
    }

    /// RunPodSandbox; the sandbox's id.
    pub async fn run_pod(&self, config: &PodSandboxConfig) -> Answer<String> {
        let request = RunPodSandboxRequest {
            config: Some(config.clone()),
            ..Default::default()
        };
        let answer = self.runtime().run_pod_sandbox(request).await?;
        Ok(answer.into_inner().pod_sandbox_id)
    }

    /// StopPodSandbox.
    pub async fn stop_pod(&self, id: &str) -> Answer<()> {
        let request = StopPodSandboxRequest {
            pod_sandbox_id: id.to_owned(),
        };
        self.runtime().stop_pod_sandbox(request).await.map(drop)
    }

    /// RemovePodSandbox.
    pub async fn remove_pod(&self, id: &str) -> Answer<()> {
        let request = RemovePodSandboxRequest {
            pod_sandbox_id: id.to_owned(),
        };
        self.runtime().remove_pod_sandbox(request).await.map(drop)
    }

    /// PodSandboxStatus.
    pub async fn pod_status(&self, id: &str) -> Answer<PodSandboxStatus> {
        let request = PodSandboxStatusRequest {
            pod_sandbox_id: id.to_owned(),
            verbose: false,
        };
        let answer = self.runtime().pod_sandbox_status(request).await?;
        Ok(answer.into_inner().status.unwrap())
    }

    /// The pod's address; empty with the node's network.
    pub async fn ip(&self, id: &str) -> String {
        let status = self.pod_status(id).await.unwrap();
        status.network.unwrap_or_default().ip
    }

    /// ListPodSandbox of all.
    pub async fn pods(&self) -> Vec<PodSandbox> {
        self.pods_like(PodSandboxFilter::default()).await
    }

    /// ListPodSandbox.
    pub async fn pods_like(&self, filter: PodSandboxFilter) -> Vec<PodSandbox> {
        let request = ListPodSandboxRequest {
            filter: Some(filter),
        };
        let answer = self.runtime().list_pod_sandbox(request).await.unwrap();
        answer.into_inner().items
    }

    /// CreateContainer; the container's id.
    pub async fn create(&self, pod: &Pod, config: &ContainerConfig) -> Answer<String> {
        let request = CreateContainerRequest {
            pod_sandbox_id: pod.id.clone(),
            config: Some(config.clone()),
            sandbox_config: Some(pod.config.clone()),
        };
        let answer = self.runtime().create_container(request).await?;
        Ok(answer.into_inner().container_id)
    }

    /// StartContainer.
    pub async fn start(&self, id: &str) -> Answer<()> {
        let request = StartContainerRequest {
            container_id: id.to_owned(),
        };
        self.runtime().start_container(request).await.map(drop)
    }

    /// StopContainer with a grace in seconds.
    pub async fn stop(&self, id: &str, grace: i64) -> Answer<()> {
        let request = StopContainerRequest {
            container_id: id.to_owned(),
            timeout: grace,
        };
        self.runtime().stop_container(request).await.map(drop)
    }

    /// RemoveContainer.
    pub async fn remove(&self, id: &str) -> Answer<()> {
        let request = RemoveContainerRequest {
            container_id: id.to_owned(),
        };
        self.runtime().remove_container(request).await.map(drop)
    }

    /// ContainerStatus.
    pub async fn status(&self, id: &str) -> Answer<ContainerStatus> {
        let request = ContainerStatusRequest {
            container_id: id.to_owned(),
            verbose: false,
        };
        let answer = self.runtime().container_status(request).await?;
        Ok(answer.into_inner().status.unwrap())
    }

    /// The verbose part of its status.
    pub async fn info(&self, id: &str) -> serde_json::Value {
        let request = ContainerStatusRequest {
            container_id: id.to_owned(),
            verbose: true,
        };
        let answer = self.runtime().container_status(request).await.unwrap();
        let info = answer.into_inner().info;
        serde_json::from_str(&info["info"]).unwrap()
    }

    /// The init's pid, as the node sees it.
    pub async fn pid(&self, id: &str) -> u32 {
        let info = self.info(id).await;
        info["pid"].as_u64().unwrap().try_into().unwrap()
    }

    /// Its status once it has exited.
    pub async fn ended(&self, id: &str) -> ContainerStatus {
        until(&format!("container {id} has exited"), 30, async || {
            let status = self.status(id).await.unwrap();
            (status.state() == ContainerState::ContainerExited).then_some(status)
        })
        .await
    }

    /// ListContainers of all.
    pub async fn containers(&self) -> Vec<Container> {
        self.containers_like(ContainerFilter::default()).await
    }

    /// ListContainers.
    pub async fn containers_like(&self, filter: ContainerFilter) -> Vec<Container> {
        let request = ListContainersRequest {
            filter: Some(filter),
        };
        let answer = self.runtime().list_containers(request).await.unwrap();
        answer.into_inner().containers
    }

    /// ReopenContainerLog.
    pub async fn reopen_log(&self, id: &str) -> Answer<()> {
        let request = ReopenContainerLogRequest {
            container_id: id.to_owned(),
        };
        self.runtime().reopen_container_log(request).await.map(drop)
    }

    /// ExecSync of a shell script with a time-out in seconds; 0: none.
    pub async fn exec(&self, id: &str, script: &str, timeout: i64) -> Answer<ExecSyncResponse> {
        let request = ExecSyncRequest {
            container_id: id.to_owned(),
            cmd: ["sh", "-c", script].map(str::to_owned).to_vec(),
            timeout,
        };
        let answer = self.runtime().exec_sync(Request::new(request)).await?;
        Ok(answer.into_inner())
    }

    /// What a script says, without the last line's end; it must end with 0.
    pub async fn ask(&self, id: &str, script: &str) -> String {
        let done = self.exec(id, script, 20).await.unwrap();
        let said = String::from_utf8(done.stdout).unwrap();
        let complaint = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.exit_code, 0, "{script:?}: {said}{complaint}");
        said.trim_end().to_owned()
    }
}

impl Node {
    /// Runs a pod that must come to be.
    pub async fn run(&self, config: PodSandboxConfig) -> Pod {
        let id = self.cri.run_pod(&config).await.unwrap();
        Pod { id, config }
    }

    /// Creates and starts a container; its id.
    pub async fn launch(&self, pod: &Pod, config: ContainerConfig) -> String {
        let id = self.cri.create(pod, &config).await.unwrap();
        self.cri.start(&id).await.unwrap();
        id
    }

    /// An idle container in a pod of its own: what most cases begin with.
    pub async fn idle(&self) -> (Pod, String) {
        let pod = self.run(crate::pods::pod("pod")).await;
        let id = self.launch(&pod, crate::pods::idle("idle")).await;
        (pod, id)
    }

    /// Waits until a container has written `ready`.
    pub async fn await_ready(&self, id: &str) {
        let path = self.cri.status(id).await.unwrap().log_path;
        let is_ready = async || {
            crate::logs::read(&path)
                .iter()
                .any(|line| line.text == "ready")
        };
        until_true("the container says that it is ready", 20, is_ready).await;
    }
}
