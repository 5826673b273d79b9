//! How long each part of making and starting a container took, as it was seen from within.
//!
//! The processes that share the work pass their laps on; one part that is worked at twice counts
//! once. By the clock of the day, which is the same in every time namespace: a lap that is longer than
//! any, because the clock was set meanwhile, counts for nothing.
//!
//! Invariant: no clock is read under a container's filter, which may forbid it. How long the filter took
//! is seen from outside, by the processor's time that its process has had.

use crate::api::{Lap, Part};
use crate::io::stamp::now_nanos;
use rustix::time::{ClockId, clock_gettime};

/// Nothing that is timed takes longer: the daemon does not wait so long.
const LONGEST: i64 = 60_000_000_000;

/// How long this process has had a processor, in nanoseconds. Others read the same by
/// [`crate::sys::clock::worked`], also where this one may read no clock any more.
#[must_use]
pub fn worked() -> i64 {
    let worked = clock_gettime(ClockId::ProcessCPUTime);
    worked.tv_sec * 1_000_000_000 + worked.tv_nsec
}

/// A stopwatch.
#[derive(Debug, Clone)]
pub struct Laps {
    since: i64,
    done: Vec<Lap>,
}

impl Laps {
    /// Begins with the first part.
    #[must_use]
    pub fn begin() -> Self {
        Self {
            since: now_nanos(),
            done: Vec::with_capacity(8),
        }
    }

    /// Has worked at this since the last lap.
    pub fn lap(&mut self, part: Part) {
        let now = now_nanos();
        self.add(part, now - self.since);
        self.since = now;
    }

    /// Has waited for others since the last lap.
    pub fn skip(&mut self) {
        self.since = now_nanos();
    }

    /// For a process that goes on from here and tells its own.
    #[must_use]
    pub fn handed_on(&self) -> Self {
        Self {
            since: self.since,
            done: Vec::with_capacity(8),
        }
    }

    /// The laps.
    #[must_use]
    pub fn told(&self) -> Vec<Lap> {
        self.done.clone()
    }

    /// Another process did these while this one waited.
    pub fn take_over(&mut self, laps: Vec<Lap>) {
        for lap in laps {
            self.add(lap.part, i64::from(lap.micros) * 1000);
        }
        self.skip();
    }

    /// Another process, which waits now, has worked at this for the difference: both in nanoseconds of a
    /// processor's time.
    pub fn worked_at(&mut self, part: Part, before: i64, now: i64) {
        self.add(part, now - before);
    }

    fn add(&mut self, part: Part, nanos: i64) {
        let real = (0..LONGEST).contains(&nanos).then_some(nanos / 1000);
        let micros = real
            .and_then(|micros| u32::try_from(micros).ok())
            .unwrap_or(0);
        match self.done.iter_mut().find(|lap| lap.part == part) {
            Some(lap) => lap.micros = lap.micros.saturating_add(micros),
            None => self.done.push(Lap { part, micros }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn laps(since: i64) -> Laps {
        Laps {
            since,
            done: Vec::new(),
        }
    }

    #[test]
    fn a_part_that_is_worked_at_twice_counts_once() {
        let mut laps = laps(0);
        laps.add(Part::Cgroup, 5_000);
        laps.add(Part::Root, 1_000);
        laps.take_over(vec![Lap {
            part: Part::Cgroup,
            micros: 7,
        }]);
        laps.worked_at(Part::Seccomp, 1_000, 3_000);
        let micros = |lap: &Lap| (lap.part, lap.micros);
        let done: Vec<_> = laps.told().iter().map(micros).collect();
        let want = [(Part::Cgroup, 12), (Part::Root, 1), (Part::Seccomp, 2)];
        assert_eq!(done, want);
    }

    #[test]
    fn a_clock_that_is_set_gives_nothing() {
        let mut laps = laps(i64::MAX);
        laps.lap(Part::Mounts);
        laps.since = now_nanos() - 2 * LONGEST;
        laps.lap(Part::Mounts);
        assert_eq!(
            laps.told(),
            [Lap {
                part: Part::Mounts,
                micros: 0
            }]
        );
    }
}
