//! Clients of the streaming server whose session has not begun.
//!
//! Invariant: there are only so many, and no newcomer is kept out by one that does nothing.

use std::collections::VecDeque;
use tokio::task::AbortHandle;

/// Finished ones are let go of as often.
const SWEEP: usize = 32;

/// Clients whose session has not begun. For one too many the one that has kept its place for longest
/// goes: a real client needs its place for a moment.
pub struct Newcomers {
    most: usize,
    all: VecDeque<AbortHandle>,
}

impl Newcomers {
    /// With this many places.
    #[must_use]
    pub fn new(most: usize) -> Self {
        let all = VecDeque::new();
        Self { most, all }
    }

    /// Gives a place to this one.
    pub fn add(&mut self, newcomer: AbortHandle) {
        // A handle keeps what its task was made of.
        if self.all.len() >= self.most || self.all.len().is_multiple_of(SWEEP) {
            self.all.retain(|one| !one.is_finished());
        }
        if self.all.len() >= self.most
            && let Some(oldest) = self.all.pop_front()
        {
            oldest.abort();
        }
        self.all.push_back(newcomer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_newcomer_too_many_is_the_end_of_the_first_that_still_waits() {
        let waits = || tokio::spawn(std::future::pending::<()>());
        let (first, done, second) = (waits(), tokio::spawn(async {}), waits());
        while !done.is_finished() {
            tokio::task::yield_now().await;
        }
        let mut newcomers = Newcomers::new(3);
        for one in [&first, &done, &second] {
            newcomers.add(one.abort_handle());
        }
        let third = waits();
        newcomers.add(third.abort_handle());
        tokio::task::yield_now().await;
        assert!(!first.is_finished(), "there was a place");
        newcomers.add(waits().abort_handle());
        assert!(first.await.unwrap_err().is_cancelled());
        assert!(!second.is_finished() && !third.is_finished());
    }
}
