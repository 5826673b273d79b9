//! Kills for memory, as a container's cgroup counts them.

use std::time::{Duration, Instant};

/// How long after a kill for memory an end by SIGKILL may come from it: an init may take a while to
/// pass on its child's end, and a kill long past has nothing to do with a Stop.
const RECENT: Duration = Duration::from_secs(5);

/// What is known of them.
#[derive(Debug, Default)]
pub struct Kills {
    at_create: u64,
    /// The counter when it was last looked at.
    pub told: u64,
    /// When the counter was last seen to have moved.
    moved: Option<Instant>,
    /// Until when it is looked at again and again.
    pub look_until: Option<Instant>,
}

impl Kills {
    /// Of a container whose counter begins with this.
    #[must_use]
    pub fn since(at_create: u64) -> Self {
        Self {
            at_create,
            told: at_create,
            ..Self::default()
        }
    }

    /// Takes note of the counter; whether it has moved.
    pub fn note(&mut self, counter: u64, now: Instant) -> bool {
        let moved = counter > self.told;
        if moved {
            (self.told, self.moved) = (counter, Some(now));
        }
        moved
    }

    /// The kills that an end at this time may come from: none, where the last one is long past.
    #[must_use]
    pub fn behind(&self, end: Instant) -> u64 {
        let recent = |moved| end.saturating_duration_since(moved) < RECENT;
        match self.moved.is_some_and(recent) {
            true => self.told - self.at_create,
            false => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_long_past_is_behind_no_end() {
        let mut kills = Kills::since(5);
        let begin = Instant::now();
        assert!(!kills.note(5, begin));
        assert_eq!(kills.behind(begin), 0);
        assert!(kills.note(7, begin));
        assert_eq!(kills.behind(begin + RECENT / 2), 2);
        assert_eq!(kills.behind(begin + RECENT), 0);
        assert!(kills.note(8, begin + RECENT), "and again");
        assert_eq!(kills.behind(begin + RECENT), 3);
    }
}
