//! What happened to pods and containers, for those who follow it (GetContainerEvents).
//!
//! Invariants: what happened is entered by the very step that changes what List and Status tell, so nobody
//! hears of something that a later list does not show, and the order of entries is the order of changes. A
//! time is taken before what is told with it is read: all that happened until then is in it. Nobody who
//! follows is waited for: who falls too far behind is let go at once, and hears so.
//!
//! Where nobody follows nothing is entered, but for five minutes: from the daemon's start, so that what it
//! found changed is told to the first who comes, and from when the last who followed has left, so that one
//! who connects again misses nothing. So long after an end everybody lists anyway.

use crate::metrics::EventMetrics;
use crate::model::container::Container;
use crate::model::event::EventKind;
use crate::model::sandbox::Sandbox;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// How many entries are kept at most, and so how far one may fall behind: some sixty pods come and gone.
const MOST: usize = 512;
/// How long they are kept where nobody follows, in nanoseconds.
const KEPT: i64 = 300 * 1_000_000_000;

/// Something that happened.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What.
    pub kind: EventKind,
    /// The container's id, or the sandbox's for its own events.
    pub subject: String,
    /// When, in nanoseconds since the epoch. No two entries have the same.
    pub at: i64,
    /// The sandbox just after it.
    pub sandbox: Arc<Sandbox>,
    /// Its containers just after it; `None` where nobody followed: whoever comes reads them then.
    pub containers: Option<Vec<Arc<Container>>>,
}

/// Who follows.
pub type Follower = u64;

/// All that happened and that somebody may still want.
#[derive(Debug)]
pub struct Journal {
    inner: Mutex<Inner>,
    /// The number of the next entry; changed when there is one more, and at the end.
    grown: watch::Sender<u64>,
    metrics: EventMetrics,
}

#[derive(Debug, Default)]
struct Inner {
    /// In order; the last has the number `next` - 1.
    kept: VecDeque<Entry>,
    next: u64,
    last_time: i64,
    /// Where each is who follows: the number of the entry that it takes next.
    followers: BTreeMap<Follower, u64>,
    /// Those who fell behind and have not been told yet.
    dropped: BTreeSet<Follower>,
    last_follower: Follower,
    /// Until then somebody may come who wants what happens now.
    awaited_until: i64,
    is_closed: bool,
}

/// What there is for one who follows.
#[derive(Debug)]
pub enum Next {
    /// Something that happened.
    Entry(Entry),
    /// Nothing, until the journal has grown.
    Wait,
    /// What was lost; nothing more is told.
    Behind,
    /// The daemon stops, or nothing more is told.
    Closed,
}

impl Journal {
    /// An empty one; who comes within five minutes is told what happens from now on.
    pub fn new(metrics: EventMetrics, now: i64) -> Self {
        let inner = Inner {
            awaited_until: now.saturating_add(KEPT),
            ..Inner::default()
        };
        Self {
            inner: Mutex::new(inner),
            grown: watch::Sender::new(0),
            metrics,
        }
    }

    /// Opens the journal for what is about to change. Until the answer is dropped nothing else does.
    pub fn open(&self) -> Page<'_> {
        Page {
            inner: self.locked(),
            journal: self,
        }
    }

    /// One more follows: from what nobody has taken, or from now on where others follow.
    pub fn follow(&self, now: i64) -> (Follower, watch::Receiver<u64>) {
        let mut inner = self.locked();
        inner.last_follower += 1;
        let follower = inner.last_follower;
        let start = if inner.followers.is_empty() {
            inner.forget_old(now);
            inner.first()
        } else {
            inner.next
        };
        inner.followers.insert(follower, start);
        self.metrics.came();
        (follower, self.grown.subscribe())
    }

    /// One does not follow any more.
    pub fn leave(&self, follower: Follower, now: i64) {
        let mut inner = self.locked();
        inner.dropped.remove(&follower);
        if let Some(taken) = inner.followers.remove(&follower) {
            self.metrics.went();
            inner.forget_taken(taken);
            inner.await_another(now);
        }
    }

    /// What there is for this one.
    pub fn next(&self, follower: Follower) -> Next {
        let mut inner = self.locked();
        if inner.dropped.remove(&follower) {
            return Next::Behind;
        }
        let first = inner.first();
        let Some(wanted) = inner.followers.get_mut(&follower) else {
            return Next::Closed;
        };
        // Nobody who follows wants one that is not kept: `enter` lets him go before.
        let offset = usize::try_from(*wanted - first).unwrap_or(usize::MAX);
        let taken = *wanted + 1;
        match inner.kept.get(offset).cloned() {
            Some(entry) => {
                inner.followers.insert(follower, taken);
                inner.forget_taken(taken);
                Next::Entry(entry)
            }
            None if inner.is_closed => Next::Closed,
            None => Next::Wait,
        }
    }

    /// The daemon stops: who follows hears the rest, and then that this is all.
    pub fn close(&self) {
        self.locked().is_closed = true;
        self.grown.send_modify(|_| {});
    }

    fn locked(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The number of the oldest entry.
    fn first(&self) -> u64 {
        self.next - u64::try_from(self.kept.len()).unwrap_or(self.next)
    }

    /// What all who follow have taken is wanted no more. One has just come to this, or has left there: where
    /// nobody else follows the rest waits for who comes next.
    fn forget_taken(&mut self, taken: u64) {
        let slowest = self.followers.values().copied().min();
        let wanted = slowest.unwrap_or(taken);
        while self.first() < wanted && self.kept.pop_front().is_some() {}
    }

    /// What is so old nobody comes for. Only where nobody follows: who does is told how far it has come.
    fn forget_old(&mut self, now: i64) {
        while self.kept.front().is_some_and(|entry| now - entry.at > KEPT) {
            self.kept.pop_front();
        }
    }

    fn await_another(&mut self, now: i64) {
        if self.followers.is_empty() {
            self.awaited_until = now.saturating_add(KEPT);
        }
    }

    /// The oldest entry goes, and with it who has not taken it yet.
    fn drop_oldest(&mut self) -> Vec<Follower> {
        let oldest = self.first();
        self.kept.pop_front();
        let slow: Vec<_> = self
            .followers
            .extract_if(.., |_, wanted| *wanted <= oldest)
            .map(|(follower, _)| follower)
            .collect();
        self.dropped.extend(&slow);
        slow
    }
}

/// The open journal.
pub struct Page<'a> {
    inner: MutexGuard<'a, Inner>,
    journal: &'a Journal,
}

impl Page<'_> {
    /// Somebody follows just now.
    pub fn is_followed(&self) -> bool {
        !self.inner.followers.is_empty()
    }

    /// Somebody follows, or may come for what happens now. Where not nothing is kept.
    pub fn is_wanted(&mut self, now: i64) -> bool {
        let is_wanted = self.is_followed() || now < self.inner.awaited_until;
        if !is_wanted && !self.inner.kept.is_empty() {
            self.inner.kept = VecDeque::new();
        }
        is_wanted
    }

    /// A time for what happens now: later than all before.
    pub fn time(&mut self, now: i64) -> i64 {
        let time = now.max(self.inner.last_time + 1);
        self.inner.last_time = time;
        time
    }

    /// Enters what has happened.
    pub fn enter(&mut self, entry: Entry) {
        let now = entry.at;
        if !self.is_followed() {
            self.inner.forget_old(now);
        }
        self.inner.kept.push_back(entry);
        self.inner.next += 1;
        if self.inner.kept.len() > MOST {
            self.let_go_the_slow(now);
        }
        self.journal.grown.send_replace(self.inner.next);
    }

    fn let_go_the_slow(&mut self, now: i64) {
        for follower in self.inner.drop_oldest() {
            self.journal.metrics.dropped();
            self.inner.await_another(now);
            tracing::warn!(
                follower,
                behind = MOST,
                "a client takes events too slowly, so its stream is ended"
            );
        }
        if let Some(&wanted) = self.inner.followers.values().min() {
            self.inner.forget_taken(wanted);
        }
    }
}

#[cfg(test)]
mod tests;
