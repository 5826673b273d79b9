//! What the driver and the handles of streams share: the two directions, each under a lock of its
//! own that is held for one call of the connection at most.
//!
//! Invariant: where both locks are needed they are taken one after the other, never at once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use super::Limits;
use super::codec::{Frame, ResetStatus, Setting};
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
        self.inbound().reset(stream, status);
        let mut outbound = self.outbound();
        if outbound.end(stream, status) {
            outbound.send(&Frame::RstStream { stream, status });
        }
    }

    /// Tells a peer that keeps windows of those that streams have now.
    pub fn share_window(&self) {
        let window = self.inbound().new_window();
        if let Some(Ok(value)) = window.map(u32::try_from) {
            let window = Setting {
                flags: 0,
                id: Setting::INITIAL_WINDOW,
                value,
            };
            self.outbound().send(&Frame::Settings(vec![window]));
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
