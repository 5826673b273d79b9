//! Pauses between tries, ever longer, and no two of them alike: what failed together is not to come
//! back together.

use std::time::Duration;

/// The first pause, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// The pauses of one thing that is tried again and again.
pub struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: PAUSES.0 }
    }
}

impl Backoff {
    /// The pause before the next try: twice the last one, give or take a quarter.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next.mul_f64(0.75 + 0.5 * chance());
        self.next = (self.next * 2).min(PAUSES.1);
        pause
    }
}

/// From 0 to 1. Without a random source, the middle: the pauses are then only longer.
fn chance() -> f64 {
    let mut byte = [128];
    let _ = getrandom::fill(&mut byte);
    f64::from(byte[0]) / 255.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_differ() {
        let mut backoff = Backoff::default();
        let first = backoff.pause();
        assert!(first >= PAUSES.0.mul_f64(0.75) && first <= PAUSES.0.mul_f64(1.25));
        let late: Vec<_> = (0..40).map(|_| backoff.pause()).skip(10).collect();
        assert!(late.iter().all(|pause| *pause >= PAUSES.1.mul_f64(0.75)));
        assert!(late.iter().all(|pause| *pause <= PAUSES.1.mul_f64(1.25)));
        assert!(late.iter().any(|pause| *pause != late[0]));
    }
}
