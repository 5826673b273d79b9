//! The RuntimeService: each RPC decodes, calls the engine, and encodes.
//!
//! Invariant: nothing is decided here. What this build does not have answers Unimplemented and
//! says what is missing.

use super::followed::{Events, events};
use super::parts::{Parts, in_parts};
use super::request::check::{id, refuse, required, texts};
use super::request::node::pod_cidr;
use super::request::time::{grace, optional_seconds};
use super::response::node;
use super::trace::{Object, about};
use crate::engine::Engine;
use crate::model::container::ContainerFilter;
use crate::model::pod_metrics::families;
use crate::model::sandbox::SandboxFilter;
use corten_proto::runtime::v1;
use std::sync::Arc;
use std::time::SystemTime;
use tonic::{Request, Response, Status, async_trait};

/// The version of the kubelet's runtime API that VersionResponse speaks of.
const KUBE_API_VERSION: &str = "0.1.0";

/// The service over an engine.
#[derive(Clone)]
pub struct Runtime {
    engine: Arc<Engine>,
}

type Answer<T> = Result<Response<T>, Status>;

impl Runtime {
    /// Over this engine.
    #[must_use]
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }

    fn sandboxes(
        &self,
        filter: Option<v1::PodSandboxFilter>,
    ) -> Result<Vec<v1::PodSandbox>, Status> {
        let filter: SandboxFilter = filter.unwrap_or_default().try_into()?;
        let found = self.engine.list_pod_sandbox(&filter);
        Ok(found
            .iter()
            .map(|sandbox| sandbox.as_ref().into())
            .collect())
    }

    fn containers(
        &self,
        filter: Option<v1::ContainerFilter>,
    ) -> Result<Vec<v1::Container>, Status> {
        let filter: ContainerFilter = filter.unwrap_or_default().try_into()?;
        let found = self.engine.list_containers(&filter);
        Ok(found
            .iter()
            .map(|container| container.as_ref().into())
            .collect())
    }

    async fn stats_of_containers(
        &self,
        filter: Option<v1::ContainerStatsFilter>,
    ) -> Result<Vec<v1::ContainerStats>, Status> {
        let filter = filter.unwrap_or_default().into();
        let found = self.engine.list_container_stats(&filter).await?;
        Ok(found.iter().map(Into::into).collect())
    }

    async fn stats_of_sandboxes(
        &self,
        filter: Option<v1::PodSandboxStatsFilter>,
    ) -> Result<Vec<v1::PodSandboxStats>, Status> {
        let filter = filter.unwrap_or_default().into();
        let found = self.engine.list_pod_sandbox_stats(&filter).await?;
        Ok(found.iter().map(Into::into).collect())
    }

    async fn metrics_of_sandboxes(&self) -> Result<Vec<v1::PodSandboxMetrics>, Status> {
        let found = self.engine.list_pod_sandbox_metrics().await?;
        Ok(found.iter().map(Into::into).collect())
    }
}

fn sandbox_id(text: String) -> Result<String, Status> {
    about(Object::Sandbox, &text);
    Ok(id(text, "pod_sandbox_id")?)
}

fn container_id(text: String) -> Result<String, Status> {
    about(Object::Container, &text);
    Ok(id(text, "container_id")?)
}

/// There is nothing to say.
fn done<T: Default>() -> Answer<T> {
    Ok(Response::new(T::default()))
}

fn missing(what: &str) -> Status {
    Status::unimplemented(format!("not in this build: {what}"))
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(i64::MAX)
}

#[async_trait]
impl v1::runtime_service_server::RuntimeService for Runtime {
    async fn version(&self, _: Request<v1::VersionRequest>) -> Answer<v1::VersionResponse> {
        Ok(Response::new(v1::VersionResponse {
            version: KUBE_API_VERSION.to_owned(),
            runtime_name: "corten".to_owned(),
            runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
            runtime_api_version: "v1".to_owned(),
        }))
    }

    async fn run_pod_sandbox(
        &self,
        request: Request<v1::RunPodSandboxRequest>,
    ) -> Answer<v1::RunPodSandboxResponse> {
        let asked = request.into_inner();
        let config = required(asked.config, "config")?.try_into()?;
        let made = self
            .engine
            .run_pod_sandbox(config, asked.runtime_handler)
            .await?;
        about(Object::Sandbox, made.as_str());
        Ok(Response::new(v1::RunPodSandboxResponse {
            pod_sandbox_id: made.to_string(),
        }))
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<v1::StopPodSandboxRequest>,
    ) -> Answer<v1::StopPodSandboxResponse> {
        let id = sandbox_id(request.into_inner().pod_sandbox_id)?;
        self.engine.stop_pod_sandbox(&id).await?;
        done()
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<v1::RemovePodSandboxRequest>,
    ) -> Answer<v1::RemovePodSandboxResponse> {
        let id = sandbox_id(request.into_inner().pod_sandbox_id)?;
        self.engine.remove_pod_sandbox(&id).await?;
        done()
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<v1::PodSandboxStatusRequest>,
    ) -> Answer<v1::PodSandboxStatusResponse> {
        let asked = request.into_inner();
        let id = sandbox_id(asked.pod_sandbox_id)?;
        let timestamp = now();
        let found = self.engine.pod_sandbox_status(&id)?;
        let info = match asked.verbose {
            true => self.engine.pod_sandbox_info(&id)?,
            false => Default::default(),
        };
        Ok(Response::new(v1::PodSandboxStatusResponse {
            status: Some(found.sandbox.as_ref().into()),
            info: info.into_iter().collect(),
            containers_statuses: found.containers.iter().map(|c| c.as_ref().into()).collect(),
            timestamp,
        }))
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<v1::ListPodSandboxRequest>,
    ) -> Answer<v1::ListPodSandboxResponse> {
        let items = self.sandboxes(request.into_inner().filter)?;
        Ok(Response::new(v1::ListPodSandboxResponse { items }))
    }

    type StreamPodSandboxesStream = Parts<v1::StreamPodSandboxesResponse>;

    async fn stream_pod_sandboxes(
        &self,
        request: Request<v1::StreamPodSandboxesRequest>,
    ) -> Answer<Self::StreamPodSandboxesStream> {
        let items = self.sandboxes(request.into_inner().filter)?;
        Ok(in_parts(items, |pod_sandboxes| {
            v1::StreamPodSandboxesResponse { pod_sandboxes }
        }))
    }

    async fn create_container(
        &self,
        request: Request<v1::CreateContainerRequest>,
    ) -> Answer<v1::CreateContainerResponse> {
        let asked = request.into_inner();
        let sandbox = sandbox_id(asked.pod_sandbox_id)?;
        let config = required(asked.config, "config")?.try_into()?;
        let made = self.engine.create_container(&sandbox, config).await?;
        about(Object::Container, made.as_str());
        Ok(Response::new(v1::CreateContainerResponse {
            container_id: made.to_string(),
        }))
    }

    async fn start_container(
        &self,
        request: Request<v1::StartContainerRequest>,
    ) -> Answer<v1::StartContainerResponse> {
        let id = container_id(request.into_inner().container_id)?;
        self.engine.start_container(&id).await?;
        done()
    }

    async fn stop_container(
        &self,
        request: Request<v1::StopContainerRequest>,
    ) -> Answer<v1::StopContainerResponse> {
        let asked = request.into_inner();
        let id = container_id(asked.container_id)?;
        self.engine
            .stop_container(&id, grace(asked.timeout))
            .await?;
        done()
    }

    async fn remove_container(
        &self,
        request: Request<v1::RemoveContainerRequest>,
    ) -> Answer<v1::RemoveContainerResponse> {
        let id = container_id(request.into_inner().container_id)?;
        self.engine.remove_container(&id).await?;
        done()
    }

    async fn list_containers(
        &self,
        request: Request<v1::ListContainersRequest>,
    ) -> Answer<v1::ListContainersResponse> {
        let containers = self.containers(request.into_inner().filter)?;
        Ok(Response::new(v1::ListContainersResponse { containers }))
    }

    type StreamContainersStream = Parts<v1::StreamContainersResponse>;

    async fn stream_containers(
        &self,
        request: Request<v1::StreamContainersRequest>,
    ) -> Answer<Self::StreamContainersStream> {
        let items = self.containers(request.into_inner().filter)?;
        Ok(in_parts(items, |containers| v1::StreamContainersResponse {
            containers,
        }))
    }

    async fn container_status(
        &self,
        request: Request<v1::ContainerStatusRequest>,
    ) -> Answer<v1::ContainerStatusResponse> {
        let asked = request.into_inner();
        let id = container_id(asked.container_id)?;
        let found = self.engine.container_status(&id)?;
        let info = match asked.verbose {
            true => self.engine.container_info(&id).await?,
            false => Default::default(),
        };
        Ok(Response::new(v1::ContainerStatusResponse {
            status: Some(found.as_ref().into()),
            info: info.into_iter().collect(),
        }))
    }

    async fn update_container_resources(
        &self,
        request: Request<v1::UpdateContainerResourcesRequest>,
    ) -> Answer<v1::UpdateContainerResourcesResponse> {
        let asked = request.into_inner();
        let id = container_id(asked.container_id)?;
        let limits = required(asked.linux, "linux")?.try_into()?;
        self.engine.update_container_resources(&id, limits).await?;
        done()
    }

    async fn reopen_container_log(
        &self,
        request: Request<v1::ReopenContainerLogRequest>,
    ) -> Answer<v1::ReopenContainerLogResponse> {
        let id = container_id(request.into_inner().container_id)?;
        self.engine.reopen_container_log(&id).await?;
        done()
    }

    async fn exec_sync(
        &self,
        request: Request<v1::ExecSyncRequest>,
    ) -> Answer<v1::ExecSyncResponse> {
        let asked = request.into_inner();
        let id = container_id(asked.container_id)?;
        let limit = optional_seconds(asked.timeout, "timeout")?;
        let command = texts(asked.cmd, "cmd")?;
        if command.is_empty() {
            return Err(refuse("cmd", "must not be empty").into());
        }
        let done = self.engine.exec_sync(&id, command, limit).await?;
        Ok(Response::new(v1::ExecSyncResponse {
            stdout: done.stdout,
            stderr: done.stderr,
            exit_code: done.code,
        }))
    }

    async fn exec(&self, request: Request<v1::ExecRequest>) -> Answer<v1::ExecResponse> {
        let asked = request.into_inner();
        about(Object::Container, &asked.container_id);
        let url = self.engine.session_exec(asked.try_into()?)?;
        Ok(Response::new(v1::ExecResponse { url }))
    }

    async fn attach(&self, request: Request<v1::AttachRequest>) -> Answer<v1::AttachResponse> {
        let asked = request.into_inner();
        about(Object::Container, &asked.container_id);
        let url = self.engine.session_attach(asked.try_into()?)?;
        Ok(Response::new(v1::AttachResponse { url }))
    }

    async fn port_forward(
        &self,
        request: Request<v1::PortForwardRequest>,
    ) -> Answer<v1::PortForwardResponse> {
        let asked = request.into_inner();
        about(Object::Sandbox, &asked.pod_sandbox_id);
        let url = self.engine.session_port_forward(asked.try_into()?)?;
        Ok(Response::new(v1::PortForwardResponse { url }))
    }

    async fn container_stats(
        &self,
        request: Request<v1::ContainerStatsRequest>,
    ) -> Answer<v1::ContainerStatsResponse> {
        let id = container_id(request.into_inner().container_id)?;
        let stats = self.engine.container_stats(&id).await?;
        Ok(Response::new(v1::ContainerStatsResponse {
            stats: Some((&stats).into()),
        }))
    }

    async fn list_container_stats(
        &self,
        request: Request<v1::ListContainerStatsRequest>,
    ) -> Answer<v1::ListContainerStatsResponse> {
        let stats = self
            .stats_of_containers(request.into_inner().filter)
            .await?;
        Ok(Response::new(v1::ListContainerStatsResponse { stats }))
    }

    type StreamContainerStatsStream = Parts<v1::StreamContainerStatsResponse>;

    async fn stream_container_stats(
        &self,
        request: Request<v1::StreamContainerStatsRequest>,
    ) -> Answer<Self::StreamContainerStatsStream> {
        let items = self
            .stats_of_containers(request.into_inner().filter)
            .await?;
        Ok(in_parts(items, |container_stats| {
            v1::StreamContainerStatsResponse { container_stats }
        }))
    }

    async fn pod_sandbox_stats(
        &self,
        request: Request<v1::PodSandboxStatsRequest>,
    ) -> Answer<v1::PodSandboxStatsResponse> {
        let id = sandbox_id(request.into_inner().pod_sandbox_id)?;
        let stats = self.engine.pod_sandbox_stats(&id).await?;
        Ok(Response::new(v1::PodSandboxStatsResponse {
            stats: Some((&stats).into()),
        }))
    }

    async fn list_pod_sandbox_stats(
        &self,
        request: Request<v1::ListPodSandboxStatsRequest>,
    ) -> Answer<v1::ListPodSandboxStatsResponse> {
        let stats = self.stats_of_sandboxes(request.into_inner().filter).await?;
        Ok(Response::new(v1::ListPodSandboxStatsResponse { stats }))
    }

    type StreamPodSandboxStatsStream = Parts<v1::StreamPodSandboxStatsResponse>;

    async fn stream_pod_sandbox_stats(
        &self,
        request: Request<v1::StreamPodSandboxStatsRequest>,
    ) -> Answer<Self::StreamPodSandboxStatsStream> {
        let items = self.stats_of_sandboxes(request.into_inner().filter).await?;
        Ok(in_parts(items, |pod_sandbox_stats| {
            v1::StreamPodSandboxStatsResponse { pod_sandbox_stats }
        }))
    }

    async fn update_runtime_config(
        &self,
        request: Request<v1::UpdateRuntimeConfigRequest>,
    ) -> Answer<v1::UpdateRuntimeConfigResponse> {
        let asked = request.into_inner().runtime_config.unwrap_or_default();
        let pod_cidr = pod_cidr(asked.network_config.unwrap_or_default().pod_cidr)?;
        self.engine.update_runtime_config(&pod_cidr).await?;
        done()
    }

    async fn status(&self, request: Request<v1::StatusRequest>) -> Answer<v1::StatusResponse> {
        let verbose = request.into_inner().verbose;
        Ok(Response::new(node::status(self.engine.status(), verbose)))
    }

    async fn checkpoint_container(
        &self,
        _: Request<v1::CheckpointContainerRequest>,
    ) -> Answer<v1::CheckpointContainerResponse> {
        Err(missing("checkpoints of containers"))
    }

    async fn checkpoint_pod(
        &self,
        _: Request<v1::CheckpointPodRequest>,
    ) -> Answer<v1::CheckpointPodResponse> {
        Err(missing("checkpoints of pods"))
    }

    async fn restore_pod(
        &self,
        _: Request<v1::RestorePodRequest>,
    ) -> Answer<v1::RestorePodResponse> {
        Err(missing("checkpoints of pods, so there is none to restore"))
    }

    type GetContainerEventsStream = Events;

    async fn get_container_events(
        &self,
        _: Request<v1::GetEventsRequest>,
    ) -> Answer<Self::GetContainerEventsStream> {
        Ok(Response::new(events(self.engine.follow_events())))
    }

    async fn list_metric_descriptors(
        &self,
        _: Request<v1::ListMetricDescriptorsRequest>,
    ) -> Answer<v1::ListMetricDescriptorsResponse> {
        let descriptors = families::ALL.iter().map(|&family| family.into()).collect();
        Ok(Response::new(v1::ListMetricDescriptorsResponse {
            descriptors,
        }))
    }

    async fn list_pod_sandbox_metrics(
        &self,
        _: Request<v1::ListPodSandboxMetricsRequest>,
    ) -> Answer<v1::ListPodSandboxMetricsResponse> {
        let pod_metrics = self.metrics_of_sandboxes().await?;
        Ok(Response::new(v1::ListPodSandboxMetricsResponse {
            pod_metrics,
        }))
    }

    type StreamPodSandboxMetricsStream = Parts<v1::StreamPodSandboxMetricsResponse>;

    async fn stream_pod_sandbox_metrics(
        &self,
        _: Request<v1::StreamPodSandboxMetricsRequest>,
    ) -> Answer<Self::StreamPodSandboxMetricsStream> {
        let items = self.metrics_of_sandboxes().await?;
        Ok(in_parts(items, |pod_sandbox_metrics| {
            v1::StreamPodSandboxMetricsResponse {
                pod_sandbox_metrics,
            }
        }))
    }

    async fn runtime_config(
        &self,
        _: Request<v1::RuntimeConfigRequest>,
    ) -> Answer<v1::RuntimeConfigResponse> {
        let cgroup_driver = node::cgroup_driver(self.engine.cgroup_driver()).into();
        Ok(Response::new(v1::RuntimeConfigResponse {
            linux: Some(v1::LinuxRuntimeConfiguration { cgroup_driver }),
        }))
    }

    async fn update_pod_sandbox_resources(
        &self,
        request: Request<v1::UpdatePodSandboxResourcesRequest>,
    ) -> Answer<v1::UpdatePodSandboxResourcesResponse> {
        let asked = request.into_inner();
        let id = sandbox_id(asked.pod_sandbox_id)?;
        let overhead = asked.overhead.map(TryInto::try_into).transpose()?;
        let resources = asked.resources.map(TryInto::try_into).transpose()?;
        self.engine
            .update_pod_sandbox_resources(&id, overhead, resources)
            .await?;
        done()
    }
}
