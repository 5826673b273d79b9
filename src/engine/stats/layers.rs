//! What writable layers take.
//!
//! Where the file system counts them (`snapshot/projects.rs`) each reply has what it says at that moment. Elsewhere
//! measuring one is a walk over its files, so it is done beside the call that wants it, by one thread for all
//! of them, and the more rarely the longer it takes: a node must not be busy with counting files.
//!
//! A container that owns its files may give them to another project, and they are counted no more: then the
//! walk, which goes on more rarely, finds more than was counted, and that container is measured by walks.

use super::lives;
use crate::engine::objects::ContainerCell;
use crate::engine::{Engine, now};
use crate::model::container::ContainerState;
use crate::model::stats::FsUsage;
use crate::snapshot::Snapshotter;
use crate::store::Store;
use crate::unpack::Usage;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A measure younger than this is good enough.
const YOUNG: Duration = Duration::from_secs(10);
/// What is counted is looked at only this often.
const COUNTED: Duration = Duration::from_secs(120);
/// At most one part in this many of a thread's time goes into one layer.
const SHARE: u32 = 50;
/// So much more than was counted may come while a walk goes on: bytes, inodes, and one part in so many.
const SLACK: Usage = Usage {
    bytes: 8 << 20,
    inodes: 1024,
};
const SLACK_PART: u64 = 8;

/// What a container's writable layer takes, as far as it is known.
#[derive(Debug, Default)]
pub struct Layer {
    last: Mutex<Option<FsUsage>>,
    walk: Mutex<Option<Walk>>,
    /// It holds more than is counted.
    miscounted: AtomicBool,
}

/// When a walk was made.
#[derive(Debug)]
struct Walk {
    at: Instant,
    took: Duration,
    /// How long it is good enough.
    lasts: Duration,
}

impl Layer {
    /// What it took when it was last counted or measured; `None` before that.
    pub fn usage(&self) -> Option<FsUsage> {
        lock(&self.last).clone()
    }

    pub(super) fn is_due(&self) -> bool {
        let rest = |walk: &Walk| walk.lasts.max(walk.took * SHARE);
        lock(&self.walk)
            .as_ref()
            .is_none_or(|walk| walk.at.elapsed() >= rest(walk))
    }

    /// Takes what the file system counts just now, if it does: a few system calls.
    pub(in crate::engine) fn count(&self, snapshots: &dyn Snapshotter, directory: &Path) {
        if let Some(usage) = self.counted(snapshots, directory) {
            self.take(directory, usage);
        }
    }

    fn counted(&self, snapshots: &dyn Snapshotter, directory: &Path) -> Option<Usage> {
        match self.miscounted.load(Ordering::Relaxed) {
            true => None,
            false => snapshots.counted(directory),
        }
    }

    /// A layer that cannot be read keeps its last measure.
    pub(super) fn measure(&self, snapshots: &dyn Snapshotter, directory: &Path) {
        let start = Instant::now();
        let before = self.counted(snapshots, directory);
        let Ok(walked) = snapshots.usage(directory) else {
            return;
        };
        let after = self.counted(snapshots, directory);
        let is_believed = before
            .zip(after)
            .is_some_and(|(before, after)| !exceeds(walked, before) || !exceeds(walked, after));
        *lock(&self.walk) = Some(Walk {
            at: Instant::now(),
            took: start.elapsed(),
            lasts: if is_believed { COUNTED } else { YOUNG },
        });
        match after.filter(|_| is_believed) {
            Some(counted) => self.take(directory, counted),
            None => self.take(directory, walked),
        }
        if before.is_some() && !is_believed {
            self.miscounted.store(true, Ordering::Relaxed);
            tracing::warn!(
                directory = %directory.display(),
                ?walked,
                counted = ?after,
                "a writable layer holds more than its project quota counts; it is measured by looking at its files"
            );
        }
    }

    fn take(&self, directory: &Path, usage: Usage) {
        *lock(&self.last) = Some(FsUsage {
            timestamp: now(),
            mountpoint: directory.parent().unwrap_or(directory).to_owned(),
            used_bytes: usage.bytes,
            inodes_used: usage.inodes,
        });
    }
}

/// Whether that is more than can have come while a walk went on.
fn exceeds(walked: Usage, counted: Usage) -> bool {
    let more = |walked: u64, counted: u64, slack: u64| {
        walked > counted.saturating_add(counted / SLACK_PART + slack)
    };
    more(walked.bytes, counted.bytes, SLACK.bytes)
        || more(walked.inodes, counted.inodes, SLACK.inodes)
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// True while a thread measures.
#[derive(Debug, Clone, Default)]
pub struct Measuring(Arc<AtomicBool>);

impl Measuring {
    /// `None` where a thread measures already.
    pub(super) fn begin(&self) -> Option<Self> {
        let busy = self.0.swap(true, Ordering::AcqRel);
        (!busy).then(|| Self(Arc::clone(&self.0)))
    }
}

/// Counts layers, on a thread that may wait for the disk.
#[derive(Clone)]
pub(in crate::engine) struct Counting {
    snapshots: Arc<dyn Snapshotter>,
    store: Arc<dyn Store>,
}

impl Counting {
    /// Takes what the file system counts of these.
    pub(in crate::engine) fn count<'a>(
        &self,
        cells: impl IntoIterator<Item = &'a Arc<ContainerCell>>,
    ) {
        for cell in cells {
            let directory = self.store.container_dir(&cell.record().id);
            cell.layer.count(&*self.snapshots, &directory);
        }
    }

    /// Measures those of which nothing is known yet, until this time is over.
    pub(super) fn measure_unknown(&self, cells: &[&Arc<ContainerCell>], limit: Duration) {
        let start = Instant::now();
        let unknown = cells.iter().filter(|cell| cell.layer.usage().is_none());
        for cell in unknown.take_while(|_| start.elapsed() < limit) {
            let directory = self.store.container_dir(&cell.record().id);
            cell.layer.measure(&*self.snapshots, &directory);
        }
    }
}

impl Engine {
    /// What counts layers.
    pub(in crate::engine) fn counting(&self) -> Counting {
        Counting {
            snapshots: Arc::clone(&self.ports.snapshots),
            store: Arc::clone(&self.ports.store),
        }
    }

    /// Measures the layers of those whose measure is old, without being waited for.
    pub(in crate::engine) fn measure_layers(&self, mut cells: Vec<Arc<ContainerCell>>) {
        cells.retain(|cell| is_due(cell));
        if cells.is_empty() {
            return;
        }
        let Some(turn) = self.measuring.begin() else {
            return;
        };
        let Counting { snapshots, store } = self.counting();
        tokio::task::spawn_blocking(move || {
            measure_all(&cells, &*snapshots, &*store);
            turn.0.store(false, Ordering::Release);
        });
    }
}

/// The layer of a container that has ended changes no more: one look after its end is enough.
pub(super) fn is_due(cell: &ContainerCell) -> bool {
    let container = cell.record();
    match &container.state {
        ContainerState::Exited(exit) => {
            let seen = cell.layer.usage().map(|usage| usage.timestamp);
            seen.is_none_or(|seen| seen < exit.finished_at)
        }
        _ => lives(&container) && cell.layer.is_due(),
    }
}

fn measure_all(cells: &[Arc<ContainerCell>], snapshots: &dyn Snapshotter, store: &dyn Store) {
    for cell in cells {
        let directory = store.container_dir(&cell.record().id);
        cell.layer.measure(snapshots, &directory);
    }
}
