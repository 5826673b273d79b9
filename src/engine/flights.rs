//! Downloads that can be joined and that end when nobody waits for them any more.
//!
//! Unlike a create (`claim.rs`), a pull that every caller has given up must not go on: the kubelet
//! that gave up asks again, and a node should not fill its disk for nobody.

use std::{
    collections::HashMap,
    future::Future,
    hash::Hash,
    sync::{Mutex, PoisonError},
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared},
};

use crate::error::Result;

type Work<T> = BoxFuture<'static, Result<T>>;
/// An operation; it moves on while at least one clone is waited for.
pub(super) type Flight<T> = Shared<Work<T>>;

/// The operations under way, by key.
pub(super) struct Flights<K, T: Clone>(Mutex<HashMap<K, WeakShared<Work<T>>>>);

impl<K, T: Clone> Default for Flights<K, T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

/// How one came to an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Boarding {
    /// It is one's own.
    Started,
    /// Somebody else's: its failure may have reasons that are not one's own.
    Joined,
}

impl<K: Eq + Hash, T: Clone + Send + Sync + 'static> Flights<K, T> {
    /// The operation under this key, or a new one.
    pub fn board<F>(&self, key: K, start: impl FnOnce() -> F) -> (Flight<T>, Boarding)
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Upgrading tells whether somebody still waits, peeking whether there is something to
        // wait for.
        let alive =
            |weak: &WeakShared<Work<T>>| weak.upgrade().filter(|flight| flight.peek().is_none());
        if let Some(flight) = all.get(&key).and_then(alive) {
            return (flight, Boarding::Joined);
        }
        all.retain(|_, weak| alive(weak).is_some());
        let flight = start().boxed().shared();
        if let Some(weak) = flight.downgrade() {
            all.insert(key, weak);
        }
        (flight, Boarding::Started)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };
    use tokio::sync::Notify;

    /// Counts itself when it is dropped unfinished.
    struct Given<'a>(&'a AtomicU32);

    impl Drop for Given<'_> {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[tokio::test]
    async fn one_flight_for_all_and_none_for_nobody() {
        let flights = Flights::<&str, u32>::default();
        let (go, ended) = (Arc::new(Notify::new()), Arc::new(AtomicU32::new(0)));
        let work = || {
            let (go, ended) = (Arc::clone(&go), Arc::clone(&ended));
            async move {
                let _given = Given(&ended);
                go.notified().await;
                Ok(7)
            }
        };
        let (first, boarding) = flights.board("a", work);
        assert_eq!(boarding, Boarding::Started);
        let (second, boarding) = flights.board("a", work);
        assert_eq!(boarding, Boarding::Joined);
        assert!(first.clone().now_or_never().is_none());
        drop(first);
        assert_eq!(ended.load(Ordering::SeqCst), 0, "the second still waits");
        go.notify_one();
        assert_eq!(second.clone().await.unwrap(), 7);
        let (third, boarding) = flights.board("a", work);
        assert_eq!(
            boarding,
            Boarding::Started,
            "a finished flight is not joined"
        );
        assert!(third.clone().now_or_never().is_none());
        drop(third);
        assert_eq!(
            ended.load(Ordering::SeqCst),
            2,
            "nobody waits for the third"
        );
        drop(second);
    }
}
