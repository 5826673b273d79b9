//! Ranges of one blob side by side, for hosts that give each connection less than it could take.
//!
//! ```text
//! first part alone ─▶ did we wait for the host most of the time?
//!     no:  one request for the rest
//!     yes: ▓▓▓▓ part 2   given on as soon as it is whole
//!          ▓▓░░ part 3   held until its turn
//!          ▓░░░ part 4
//! ```
//! Invariants: bytes are given on in order; all blobs together hold at most [`BUDGET`] parts, and one
//! that finds it used up goes on with one connection.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, future::BoxFuture, stream::FuturesOrdered};
use reqwest::StatusCode;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::{
    Error,
    client::place,
    pace::Pace,
    stream::{Asking, check},
};

/// A blob of fewer bytes is not worth more than one connection.
pub(super) const LARGE: u64 = 32 << 20;
/// The bytes that tell how fast a host is.
pub(super) const FIRST: u64 = 8 << 20;
/// The bytes of a part.
const PART: u64 = 2 << 20;
/// So many bytes are given on at once.
const SLICE: usize = 256 << 10;
/// Parts that all blobs together may hold.
const BUDGET: usize = 8;
/// Parts that one blob asks for at the same time.
const LANES: usize = 4;

/// What all blobs share.
#[derive(Clone)]
pub(super) struct Budget(Arc<Semaphore>);

impl Default for Budget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(BUDGET)))
    }
}

impl Budget {
    /// The room of one part, if there is one.
    pub fn take(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).try_acquire_owned().ok()
    }
}

/// How long a body took, and how much of that was waiting for its host.
pub(super) struct Waiting {
    began: Instant,
    waited: Duration,
}

impl Waiting {
    /// From now on.
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            waited: Duration::ZERO,
        }
    }

    /// Adds what was spent since.
    pub fn add(&mut self, since: Instant) {
        self.waited += since.elapsed();
    }

    /// Whether more of the time went to the host than to who takes the bytes.
    pub fn is_most(&self) -> bool {
        self.waited * 2 > self.began.elapsed()
    }
}

type Part = BoxFuture<'static, Result<(Bytes, OwnedSemaphorePermit), Error>>;

/// The parts of a blob that are under way.
pub(super) struct Ahead {
    asking: Arc<Asking>,
    budget: Budget,
    parts: FuturesOrdered<Part>,
    /// The first byte that nobody has asked for.
    next: u64,
    /// What is left of the part that is given on.
    current: Option<(Bytes, OwnedSemaphorePermit)>,
}

impl Ahead {
    /// Goes on from this byte.
    pub fn new(asking: Asking, budget: Budget, from: u64) -> Self {
        Self {
            asking: Arc::new(asking),
            budget,
            parts: FuturesOrdered::new(),
            next: from,
            current: None,
        }
    }

    /// The next bytes; `None` at the end, or where others hold all the parts that there may be.
    ///
    /// # Errors
    /// As the host says; the parts behind are worth nothing then.
    pub async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        if self.current.is_none() {
            self.ask();
            match self.parts.next().await? {
                Ok(part) => self.current = Some(part),
                Err(error) => return Some(Err(error)),
            }
        }
        let (bytes, _) = self.current.as_mut()?;
        let slice = bytes.split_to(SLICE.min(bytes.len()));
        if bytes.is_empty() {
            self.current = None;
        }
        Some(Ok(slice))
    }

    /// Asks for parts while there is room for them.
    fn ask(&mut self) {
        while self.parts.len() < LANES && self.next < self.asking.size() {
            let Some(permit) = self.budget.take() else {
                return;
            };
            let (from, to) = (self.next, (self.next + PART).min(self.asking.size()));
            self.next = to;
            let asking = Arc::clone(&self.asking);
            let part = async move { Ok((part(&asking, from, to).await?, permit)) };
            self.parts.push_back(Box::pin(part));
        }
    }
}

/// All bytes from `from` up to `to`.
async fn part(asking: &Asking, from: u64, to: u64) -> Result<Bytes, Error> {
    let mut response = asking.range(from, Some(to)).await?;
    if response.status() != StatusCode::PARTIAL_CONTENT {
        return Err(Error::Range {
            place: place(response.url()),
            expected: format!("bytes {from}-{}", to - 1),
            actual: "the blob from the front".into(),
        });
    }
    check(&response, Some(from), asking.size())?;
    // The cast cannot lose: it is at most PART.
    let mut bytes = BytesMut::with_capacity((to - from) as usize);
    let mut pace = Pace::new(asking.patience());
    while let Some(chunk) = pace.chunk(&mut response).await? {
        if (bytes.len() + chunk.len()) as u64 > to - from {
            let (place, limit) = (place(response.url()), to - from);
            return Err(Error::TooLarge { place, limit });
        }
        bytes.extend_from_slice(&chunk);
    }
    let offset = from + bytes.len() as u64;
    match offset == to {
        true => Ok(bytes.freeze()),
        false => Err(Error::Short {
            place: place(response.url()),
            offset,
            size: to,
        }),
    }
}
