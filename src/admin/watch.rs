//! Work whose steps are told while it goes on.
//!
//! Invariant: the work ends when its caller goes away, and its failure is the stream's last word.

use crate::error::Result;
use std::future::Future;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Response, Status};

/// The steps of some work, as its caller gets them.
pub type Steps<M> = UnboundedReceiverStream<Result<M, Status>>;

/// Where work tells its steps.
#[derive(Debug)]
pub struct Teller<M> {
    sender: UnboundedSender<Result<M, Status>>,
}

impl<M> Clone for Teller<M> {
    fn clone(&self) -> Self {
        Self {
            sender: self.sender.clone(),
        }
    }
}

impl<M> Teller<M> {
    /// Tells a step. Where nobody listens any more the work is about to be dropped.
    pub fn send(&self, step: M) {
        let _ = self.sender.send(Ok(step));
    }
}

/// Does the work on a task of its own.
pub fn watch<M, F>(work: impl FnOnce(Teller<M>) -> F) -> Response<Steps<M>>
where
    M: Send + 'static,
    F: Future<Output = Result<()>> + Send + 'static,
{
    let (sender, receiver) = unbounded_channel();
    let work = work(Teller {
        sender: sender.clone(),
    });
    tokio::spawn(async move {
        let ended = tokio::select! {
            ended = work => ended,
            () = sender.closed() => return,
        };
        if let Err(error) = ended {
            let _ = sender.send(Err(error.into()));
        }
    });
    Response::new(UnboundedReceiverStream::new(receiver))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use tokio_stream::StreamExt;

    #[tokio::test]
    async fn steps_come_in_order_and_a_failure_last() {
        let mut steps = watch(|steps| async move {
            steps.send(1);
            steps.send(2);
            Err(Error::not_found("it"))
        })
        .into_inner();
        assert_eq!(steps.next().await.unwrap().unwrap(), 1);
        assert_eq!(steps.next().await.unwrap().unwrap(), 2);
        let last = steps.next().await.unwrap().unwrap_err();
        assert_eq!(last.code(), tonic::Code::NotFound);
        assert!(steps.next().await.is_none());
    }

    #[tokio::test]
    async fn the_work_ends_with_its_caller() {
        let (alive, ended) = tokio::sync::oneshot::channel::<()>();
        let steps = watch::<u32, _>(|_| async move {
            let _alive = alive;
            std::future::pending().await
        });
        drop(steps);
        assert!(ended.await.is_err());
    }
}
