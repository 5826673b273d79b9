//! What happened to the container, kept until the daemon says that it knows.
//!
//! Invariant: numbers have no gaps, and what is kept does not grow with time: kills for memory
//! that nobody has acknowledged are told as one.

use crate::api::{Event, EventKind};

/// The events that were not acknowledged yet.
#[derive(Debug, Default)]
pub struct Events {
    last: u64,
    kept: Vec<Event>,
}

impl Events {
    /// Numbers and keeps an event; `None` where the kept ones say it already.
    pub fn add(&mut self, kind: EventKind) -> Option<Event> {
        if self.kept.last().is_some_and(|last| last.kind == kind) {
            return None;
        }
        self.last += 1;
        let event = Event {
            seq: self.last,
            kind,
        };
        self.kept.push(event.clone());
        Some(event)
    }

    /// Forgets the events up to this number.
    pub fn acknowledge(&mut self, up_to: u64) {
        self.kept.retain(|event| event.seq > up_to);
    }

    /// The events that a new connection is to be told.
    #[must_use]
    pub fn kept(&self) -> &[Event] {
        &self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{ExitReason, ExitRecord};

    fn exited() -> EventKind {
        EventKind::Exited(ExitRecord {
            pid: 1,
            code: 0,
            signal: None,
            reason: ExitReason::Completed,
            message: String::new(),
            started_at: 0,
            finished_at: 0,
        })
    }

    #[test]
    fn events_are_numbered_from_one_and_kept_until_acknowledged() {
        let mut events = Events::default();
        assert_eq!(events.add(EventKind::OutOfMemory).unwrap().seq, 1);
        assert_eq!(events.add(exited()).unwrap().seq, 2);
        events.acknowledge(1);
        assert_eq!(
            events
                .kept()
                .iter()
                .map(|event| event.seq)
                .collect::<Vec<_>>(),
            [2]
        );
        events.acknowledge(9);
        assert!(events.kept().is_empty());
    }

    #[test]
    fn a_thousand_kills_that_nobody_hears_of_are_one_event() {
        let mut events = Events::default();
        for _ in 0..1_000 {
            events.add(EventKind::OutOfMemory);
        }
        assert_eq!(events.kept().len(), 1);
        events.acknowledge(1);
        assert_eq!(events.add(EventKind::OutOfMemory).unwrap().seq, 2);
    }
}
