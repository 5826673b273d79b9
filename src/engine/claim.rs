//! Creates that can be joined: who asks for what is being made waits for the same end.
//!
//! The work runs as a task of its own, so a caller that goes away neither stops it half way nor
//! keeps its result from the one who asks again.

use crate::error::{Error, Result};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

type Running<T> = Shared<BoxFuture<'static, Result<T>>>;

/// The operations that run, by key.
pub struct Claims<K, T> {
    running: Arc<Mutex<HashMap<K, Running<T>>>>,
}

impl<K, T> Default for Claims<K, T> {
    fn default() -> Self {
        Self {
            running: Arc::default(),
        }
    }
}

impl<K, T> Claims<K, T>
where
    K: Clone + Eq + Hash + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// Joins the operation that runs under this key, or starts this one.
    pub async fn join<F>(&self, key: K, operation: F) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let running = {
            // Held over start and entry: the operation's last act waits for it.
            let mut all = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            let start = || self.spawn(key.clone(), operation);
            all.entry(key.clone()).or_insert_with(start).clone()
        };
        running.await
    }

    fn spawn<F>(&self, key: K, operation: F) -> Running<T>
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let all = Arc::clone(&self.running);
        let task = tokio::spawn(async move {
            let result = operation.await;
            all.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&key);
            result
        });
        task.map(|ended| {
            ended.unwrap_or_else(|e| Err(Error::internal("the operation ended early").caused_by(e)))
        })
        .boxed()
        .shared()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tokio::sync::Notify;

    #[tokio::test]
    async fn the_second_asker_joins_and_the_third_starts_anew() {
        let claims = Claims::<&str, u32>::default();
        let (count, go) = (Arc::new(AtomicU32::new(0)), Arc::new(Notify::new()));
        let work = || {
            let (count, go) = (Arc::clone(&count), Arc::clone(&go));
            async move {
                let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                go.notified().await;
                Ok(number)
            }
        };
        let both = async { tokio::join!(claims.join("a", work()), claims.join("a", work())) };
        let release = async { go.notify_one() };
        let ((first, second), ()) = tokio::join!(both, release);
        assert_eq!((first.unwrap(), second.unwrap()), (1, 1));
        go.notify_one();
        assert_eq!(claims.join("a", work()).await.unwrap(), 2);
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_does_not_stop_the_work() {
        let claims = Claims::<&str, u32>::default();
        let (go, done) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let work = {
            let (go, done) = (Arc::clone(&go), Arc::clone(&done));
            async move {
                go.notified().await;
                done.notify_one();
                Ok(7)
            }
        };
        // Polled once, then dropped.
        assert!(claims.join("a", work).now_or_never().is_none());
        go.notify_one();
        done.notified().await;
    }
}
