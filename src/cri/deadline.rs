//! The deadline that a caller names in `grpc-timeout` (gRPC over HTTP/2, "Timeout").
//!
//! tonic enforces it too, but answers `CANCELLED` where its clock is quicker than the caller's own.
//! Callers tell a time-out from a cancellation by the code, so the answer is given here first.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;
use tonic::Status;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tower::{Layer, Service};

/// Puts a [`Bounded`] around a service.
#[derive(Debug, Clone, Copy)]
pub struct DeadlineLayer;

impl<S> Layer<S> for DeadlineLayer {
    type Service = Bounded<S>;

    fn layer(&self, inner: S) -> Bounded<S> {
        Bounded { inner }
    }
}

/// A service whose calls end at their callers' deadlines.
#[derive(Debug, Clone)]
pub struct Bounded<S> {
    inner: S,
}

impl<S, B, R> Service<Request<B>> for Bounded<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    R: Default,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // Taken now: tonic takes its own after this, so this one is never later.
        let deadline = limit(request.headers()).map(|limit| Instant::now() + limit);
        let call = self.inner.call(request);
        Box::pin(async move {
            match deadline {
                Some(deadline) => tokio::time::timeout_at(deadline, call)
                    .await
                    .unwrap_or_else(|_| Ok(late().into_http())),
                None => call.await,
            }
        })
    }
}

fn late() -> Status {
    Status::deadline_exceeded(
        "the caller's deadline has passed; what was begun goes on or is undone",
    )
}

/// At most eight digits and a unit.
fn limit(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    fn asked(timeout: &str) -> Request<()> {
        Request::builder()
            .header("grpc-timeout", timeout)
            .body(())
            .unwrap()
    }

    #[test]
    fn a_limit_is_digits_and_a_unit() {
        let limit = |text: &str| limit(asked(text).headers());
        assert_eq!(limit("1H"), Some(Duration::from_secs(3600)));
        assert_eq!(limit("250m"), Some(Duration::from_millis(250)));
        assert_eq!(limit("99999999n"), Some(Duration::from_nanos(99_999_999)));
        for wrong in ["", "S", "1", "-1S", "1x", "123456789S"] {
            assert_eq!(limit(wrong), None, "{wrong:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_takes_too_long_is_answered_with_deadline_exceeded() {
        let slow = tower::service_fn(|_: Request<()>| async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            Ok::<_, std::convert::Infallible>(Response::new(()))
        });
        let mut service = DeadlineLayer.layer(slow);
        let late = service.call(asked("1S")).await.unwrap();
        let status = Status::from_header_map(late.headers()).unwrap();
        assert_eq!(status.code(), Code::DeadlineExceeded);
        let in_time = service.call(asked("3S")).await.unwrap();
        assert!(Status::from_header_map(in_time.headers()).is_none());
    }
}
