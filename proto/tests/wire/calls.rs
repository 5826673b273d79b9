//! The path of every call, as the generated clients of both sides send it.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codegen::http::{Request, Response};

use crate::known::NEWER_CALLS;

/// Answers every call with an error, and keeps its path.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<BTreeSet<String>>>);

impl Recorder {
    fn paths(&self) -> BTreeSet<String> {
        self.0.lock().unwrap().clone()
    }
}

impl GrpcService<Body> for Recorder {
    type ResponseBody = Body;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.0
            .lock()
            .unwrap()
            .insert(request.uri().path().to_owned());
        ready(Ok(tonic::Status::unimplemented("only recorded").into_http()))
    }
}

/// Makes each call once and keeps its path.
macro_rules! call {
    ($recorder:ident, $($client:ident)::+, $($method:ident)*) => {
        let mut client = $($client)::+::new($recorder.clone());
        $(client.$method(tonic::Request::new(Default::default())).await.unwrap_err();)*
    };
}

macro_rules! call_what_both_know {
    ($recorder:ident, $($api:ident)::+) => {
        call!($recorder, $($api)::+::runtime_service_client::RuntimeServiceClient,
            version run_pod_sandbox stop_pod_sandbox remove_pod_sandbox pod_sandbox_status
            list_pod_sandbox create_container start_container stop_container remove_container
            list_containers container_status update_container_resources reopen_container_log
            exec_sync exec attach port_forward container_stats list_container_stats
            pod_sandbox_stats list_pod_sandbox_stats update_runtime_config status
            checkpoint_container get_container_events list_metric_descriptors
            list_pod_sandbox_metrics runtime_config);
        call!($recorder, $($api)::+::image_service_client::ImageServiceClient,
            list_images image_status pull_image remove_image image_fs_info);
    };
}

async fn theirs() -> BTreeSet<String> {
    let recorder = Recorder::default();
    call_what_both_know!(recorder, k8s_cri::v1);
    recorder.paths()
}

async fn ours() -> BTreeSet<String> {
    let recorder = Recorder::default();
    call_what_both_know!(recorder, corten_proto::runtime::v1);
    recorder.paths()
}

#[tokio::test]
async fn both_call_the_same_34_paths() {
    let theirs = theirs().await;
    assert_eq!(ours().await, theirs);
    assert_eq!(theirs.len(), 34);
}

/// What they call and what is listed as newer are together all calls, and no call is in both.
#[tokio::test]
async fn every_call_is_theirs_or_newer() {
    let theirs = theirs().await;
    let pool = crate::pool();
    let services = pool
        .services()
        .filter(|service| service.package_name() == crate::PACKAGE);
    for method in services.flat_map(|service| service.methods().collect::<Vec<_>>()) {
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let newer = NEWER_CALLS.iter().any(|(name, _)| *name == method.name());
        assert!(
            theirs.contains(&path) != newer,
            "{path}: listed as newer: {newer}"
        );
    }
    assert_eq!(theirs.len() + NEWER_CALLS.len(), 43);
}
