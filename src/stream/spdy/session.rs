//! What the driver and the handles of streams share: the two directions, each under a lock of its
//! own that is held for one call of the connection at most.
//!
//! Invariant: where both locks are needed they are taken one after the other, never at once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use super::Limits;
use super::codec::{Frame, ResetStatus};
use super::inbound::Inbound;
use super::outbound::{Connection, Outbound};

/// One connection's state.
pub(super) struct Session {
    pub limits: Limits,
    inbound: Mutex<Inbound>,
    outbound: Mutex<Outbound>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Session {
    pub fn new(connection: Connection, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            inbound: Mutex::new(Inbound::new(limits)),
            outbound: Mutex::new(Outbound::new(connection)),
        })
    }

    pub fn inbound(&self) -> MutexGuard<'_, Inbound> {
        lock(&self.inbound)
    }

    pub fn outbound(&self) -> MutexGuard<'_, Outbound> {
        lock(&self.outbound)
    }

    /// Ends a stream at once, both ways, and tells the peer unless it knows.
    pub fn reset(&self, stream: u32, status: ResetStatus) {
        let credit = self.inbound().reset(stream, status);
        self.give(0, &credit);
        let mut outbound = self.outbound();
        if outbound.end(stream, status) {
            outbound.send(&Frame::RstStream { stream, status });
        }
    }

    /// The session is over: every handle hears of it.
    pub fn over(&self) {
        self.inbound().over();
        self.outbound().over();
    }
}

/// Wakes who waits, once.
pub(super) fn wake(waiting: &mut Option<Waker>) {
    if let Some(waker) = waiting.take() {
        waker.wake();
    }
}

/// Remembers who waits.
pub(super) fn wait(waiting: &mut Option<Waker>, waker: &Waker) {
    match waiting {
        Some(known) => known.clone_from(waker),
        None => *waiting = Some(waker.clone()),
    }
}
