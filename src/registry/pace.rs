//! How fast bodies come: each is read at the pace that the node's limit allows, and given up when
//! the host makes no progress.
//!
//! Only the time in which we wait for the host counts against it: a slow disk is not its fault.
//! Invariant: a host that sends less than [`LEAST`] bytes a second over the time-out is given up,
//! so that one byte a second holds no slot for ever.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use reqwest::Response;
use tokio::time::{Instant, timeout};

use super::{Error, client::place};

/// Bytes a second below which a host makes no progress.
const LEAST: u64 = 1024;
/// So much may come at once, however low the limit: about one chunk.
const BURST: Duration = Duration::from_millis(200);

/// One body's pace.
pub(super) struct Pace {
    limit: Duration,
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// No progress for `limit` ends the body.
    pub fn new(limit: Duration) -> Self {
        Self {
            limit,
            waited: Duration::ZERO,
            bytes: 0,
        }
    }

    /// The next chunk of a body; `None` at its end.
    pub async fn chunk(&mut self, response: &mut Response) -> Result<Option<Bytes>, Error> {
        let began = Instant::now();
        let Ok(read) = timeout(self.limit, response.chunk()).await else {
            return Err(self.too_slow(response, 0));
        };
        let chunk = read.map_err(|source| Error::Transport {
            operation: "read from",
            place: place(response.url()),
            source: source.without_url(),
        })?;
        let length = chunk.as_ref().map_or(0, Bytes::len) as u64;
        match self.count(began.elapsed(), length) {
            Some(bytes) => Err(self.too_slow(response, bytes)),
            None => Ok(chunk),
        }
    }

    /// Counts a chunk; gives what came in the time-out where that is too little.
    fn count(&mut self, waited: Duration, bytes: u64) -> Option<u64> {
        self.waited += waited;
        self.bytes += bytes;
        if self.waited < self.limit {
            return None;
        }
        let (came, waited) = (self.bytes, self.waited.as_millis());
        (self.waited, self.bytes) = (Duration::ZERO, 0);
        (u128::from(came) * 1000 < u128::from(LEAST) * waited).then_some(came)
    }

    fn too_slow(&self, response: &Response, bytes: u64) -> Error {
        Error::Stalled {
            place: place(response.url()),
            seconds: self.limit.as_secs(),
            bytes,
        }
    }
}

/// The bytes a second that all downloads together may take.
#[derive(Default)]
pub(super) struct Bandwidth(Mutex<Allowed>);

#[derive(Default)]
struct Allowed {
    /// Bytes a second; `None`: as many as there are.
    rate: Option<u64>,
    /// When what was taken so far is paid for.
    paid: Option<Instant>,
}

impl Bandwidth {
    /// Changes the limit, for downloads under way too.
    pub fn set(&self, rate: Option<u64>) {
        let mut allowed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *allowed = Allowed { rate, paid: None };
    }

    /// Whether there is a limit.
    pub fn is_limited(&self) -> bool {
        let allowed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        allowed.rate.is_some()
    }

    /// Waits until so many bytes more may have been taken.
    pub async fn take(&self, bytes: u64) {
        if let Some(until) = self.pay(bytes, Instant::now()) {
            tokio::time::sleep_until(until).await;
        }
    }

    fn pay(&self, bytes: u64, now: Instant) -> Option<Instant> {
        let mut allowed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rate = allowed.rate?;
        let costs = Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / rate.max(1));
        let start = allowed.paid.map_or(now, |paid| paid.max(now));
        let paid = start + costs;
        allowed.paid = Some(paid);
        (paid > now + BURST).then(|| paid - BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trickle_is_no_progress_and_a_stream_is() {
        let mut pace = Pace::new(Duration::from_secs(60));
        for _ in 0..59 {
            assert_eq!(pace.count(Duration::from_secs(1), 1), None);
        }
        assert_eq!(pace.count(Duration::from_secs(1), 1), Some(60));
        for _ in 0..1000 {
            assert_eq!(pace.count(Duration::from_secs(1), LEAST), None);
        }
        // Nobody waited: a slow disk is not the host's fault.
        assert_eq!(pace.count(Duration::ZERO, 1), None);
    }

    #[tokio::test(start_paused = true)]
    async fn all_downloads_share_the_limit() {
        let bandwidth = Bandwidth::default();
        let began = Instant::now();
        bandwidth.take(u64::MAX).await;
        assert_eq!(began.elapsed(), Duration::ZERO, "no limit is no wait");
        bandwidth.set(Some(1000));
        let one = async {
            for _ in 0..10 {
                bandwidth.take(500).await;
            }
        };
        let two = async {
            for _ in 0..10 {
                bandwidth.take(500).await;
            }
        };
        futures::join!(one, two);
        let took = began.elapsed();
        assert!(
            took >= Duration::from_millis(9_700) && took <= Duration::from_secs(10),
            "{took:?}"
        );
    }
}
