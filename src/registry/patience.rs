//! When a host that has no time is asked again: it says so itself (Retry-After, RFC 9110 §10.2.3),
//! or the pauses grow.
//!
//! Invariant: until the time that a host has named is over, nothing asks it with those credentials,
//! whatever image it is for.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use reqwest::{Response, header::RETRY_AFTER};
use tokio::time::Instant;

use super::{Error, auth::Asker};

/// Rounds over all hosts without a new byte before one gives up.
const ROUNDS: u32 = 4;
/// A host that wants to be left alone for longer is given up at once: who asked asks again.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Who wants to be left alone, and until when.
#[derive(Default)]
pub(super) struct Patience(Mutex<HashMap<Asker, Instant>>);

impl Patience {
    /// How long a host still wants to be left alone by these credentials.
    pub fn left(&self, asker: &Asker) -> Option<Duration> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = known.get(asker)?.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    /// Keeps what a host has asked for.
    pub fn keep(&self, asker: &Asker, pause: Duration) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        known.retain(|_, until| *until > now);
        known.insert(asker.clone(), now + pause);
    }
}

/// The seconds of a Retry-After header. A date is as good as none: clocks of nodes differ.
pub(super) fn retry_after(response: &Response) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

/// The rounds over all hosts since the last new byte.
pub(super) struct Rounds {
    first_pause: Duration,
    round: u32,
}

impl Rounds {
    /// The first pause, where no host names one, is this long.
    pub fn new(first_pause: Duration) -> Self {
        Self {
            first_pause,
            round: 0,
        }
    }

    /// There was progress.
    pub fn reset(&mut self) {
        self.round = 0;
    }

    /// How long to wait before all hosts are asked again, after these failures of one round; `None`
    /// where that makes no sense. The last host is the registry itself: its refusal is final.
    pub fn pause(&mut self, failures: &[Error]) -> Option<Duration> {
        self.round += 1;
        if self.round >= ROUNDS || !failures.last().is_some_and(Error::is_temporary) {
            return None;
        }
        let own = jittered(self.first_pause * 2u32.pow(self.round - 1));
        let wanted = failures
            .iter()
            .filter(|failure| failure.is_temporary())
            .map(|failure| failure.retry_after().unwrap_or(own));
        wanted.min().filter(|pause| *pause <= LONGEST_PAUSE)
    }
}

/// Half as much again at most: nodes that failed together do not come back together.
fn jittered(pause: Duration) -> Duration {
    let mut byte = [0];
    // Without random bytes the pause is only less even.
    let _ = getrandom::fill(&mut byte);
    pause + pause * u32::from(byte[0]) / 512
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16, seconds: Option<u64>) -> Error {
        Error::Status {
            place: "host/v2".into(),
            status,
            message: String::new(),
            retry_after: seconds.map(Duration::from_secs),
        }
    }

    #[test]
    fn pauses_grow_unless_a_host_names_one() {
        let first = Duration::from_secs(1);
        let mut rounds = Rounds::new(first);
        let busy = || vec![status(503, None)];
        for least in [1, 2, 4] {
            let pause = rounds.pause(&busy()).unwrap();
            let least = Duration::from_secs(least);
            assert!(pause >= least && pause <= least * 3 / 2, "{pause:?}");
        }
        assert_eq!(rounds.pause(&busy()), None);
        rounds.reset();
        let named = [status(404, None), status(429, Some(7))];
        assert_eq!(rounds.pause(&named), Some(Duration::from_secs(7)));
        let soonest = [status(429, Some(5)), status(429, Some(7))];
        assert_eq!(rounds.pause(&soonest), Some(Duration::from_secs(5)));
    }

    #[test]
    fn refusals_and_long_times_end_it() {
        let mut rounds = Rounds::new(Duration::from_secs(1));
        assert_eq!(rounds.pause(&[status(404, None)]), None);
        assert_eq!(rounds.pause(&[status(429, Some(3600))]), None);
        assert_eq!(rounds.pause(&[status(503, None), status(401, None)]), None);
        assert_eq!(rounds.pause(&[]), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_is_left_alone_by_whom_it_told_to() {
        let patience = Patience::default();
        let asker = |origin: &str| Asker {
            origin: origin.into(),
            secret: crate::model::credentials::Secret::Anonymous,
        };
        patience.keep(&asker("a"), Duration::from_secs(5));
        assert_eq!(patience.left(&asker("b")), None);
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!(patience.left(&asker("a")), Some(Duration::from_secs(1)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(patience.left(&asker("a")), None);
    }
}
