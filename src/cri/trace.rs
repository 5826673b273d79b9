//! A span and one log line for each RPC, of this API and of the admin's on the same socket.
//!
//! A handler adds what its RPC is about to the span ([`about`]), so that each line below, of
//! whatever module, has the ids.
//!
//! Invariant: a failure is logged here, at the edge, and nowhere below.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tonic::codegen::http::{HeaderMap, Request, Response};
use tonic::{Code, Status};
use tower::{Layer, Service};
use tracing::{Instrument, Span, debug, error, field, info, info_span};

/// What an RPC is about.
#[derive(Debug, Clone, Copy)]
pub enum Object {
    /// A pod sandbox.
    Sandbox,
    /// A container.
    Container,
    /// An image.
    Image,
}

/// Names the object of the RPC that is being served.
pub fn about(object: Object, name: &str) {
    let field = match object {
        Object::Sandbox => "sandbox.id",
        Object::Container => "container.id",
        Object::Image => "image.ref",
    };
    Span::current().record(field, name);
}

/// Puts a [`Traced`] around a service.
#[derive(Debug, Clone, Copy)]
pub struct TraceLayer;

impl<S> Layer<S> for TraceLayer {
    type Service = Traced<S>;

    fn layer(&self, inner: S) -> Traced<S> {
        Traced { inner }
    }
}

/// A service whose calls are traced.
#[derive(Debug, Clone)]
pub struct Traced<S> {
    inner: S,
}

impl<S, B, R> Service<Request<B>> for Traced<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let rpc = name(request.uri().path()).to_owned();
        let span = info_span!(
            "rpc",
            rpc,
            sandbox.id = field::Empty,
            container.id = field::Empty,
            image.r#ref = field::Empty
        );
        let call = self.inner.call(request).instrument(span.clone());
        Box::pin(async move {
            let mut line = Line::new(rpc, span);
            let answer = call.await;
            line.end(answer.as_ref().ok().map(Response::headers));
            answer
        })
    }
}

/// `/runtime.v1.RuntimeService/Version` is `Version`.
fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The log line of one RPC: written at its end, or when its caller goes away before.
struct Line {
    rpc: String,
    span: Span,
    started: Instant,
    ended: bool,
}

impl Line {
    fn new(rpc: String, span: Span) -> Self {
        Self {
            rpc,
            span,
            started: Instant::now(),
            ended: false,
        }
    }

    /// A failed RPC has its status in the answer's headers: nothing else is in the answer.
    fn end(&mut self, headers: Option<&HeaderMap>) {
        self.ended = true;
        let status = headers.and_then(Status::from_header_map);
        let took = self.started.elapsed();
        self.span.in_scope(|| match status {
            Some(status) if status.code() != Code::Ok => failed(&status, took),
            _ if only_reads(&self.rpc) => debug!(?took, "served"),
            _ => info!(?took, "served"),
        });
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if !self.ended {
            let took = self.started.elapsed();
            self.span.in_scope(|| info!(?took, "the caller went away"));
        }
    }
}

/// What the caller can mend is its business, and news; the rest is an error of this node's.
fn failed(status: &Status, took: Duration) {
    let (code, message) = (status.code(), status.message());
    match code {
        Code::Internal | Code::Unknown | Code::DataLoss | Code::Unavailable => {
            error!(?code, ?took, "{message}");
        }
        _ => info!(?code, ?took, "{message}"),
    }
}

/// RPCs that come many times a minute and change nothing on the node.
fn only_reads(rpc: &str) -> bool {
    const OTHERS: [&str; 5] = [
        "Version",
        "ImageFsInfo",
        "RuntimeConfig",
        "Config",
        "ExecSync",
    ];
    rpc.starts_with("List")
        || rpc.starts_with("Stream")
        || rpc.ends_with("Status")
        || rpc.ends_with("Stats")
        || OTHERS.contains(&rpc)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_the_node_is_told() {
        for rpc in [
            "RunPodSandbox",
            "PullImage",
            "UpdateRuntimeConfig",
            "StopContainer",
        ] {
            assert!(!only_reads(rpc), "{rpc}");
        }
        for rpc in [
            "Status",
            "PodSandboxStatus",
            "ListContainerStats",
            "ImageFsInfo",
            "ExecSync",
        ] {
            assert!(only_reads(rpc), "{rpc}");
        }
    }

    #[test]
    fn an_rpc_is_named_without_its_service() {
        assert_eq!(name("/runtime.v1.RuntimeService/Version"), "Version");
    }
}
