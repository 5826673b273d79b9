//! What writable layers take. Measuring one is a walk over its files, so it is done beside the call
//! that wants it, by one thread for all of them, and the more rarely the longer it takes: a node
//! must not be busy with counting files.

use super::lives;
use crate::engine::objects::ContainerCell;
use crate::engine::{Engine, now};
use crate::model::stats::FsUsage;
use crate::snapshot::Snapshotter;
use crate::store::Store;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A measure younger than this is good enough.
const YOUNG: Duration = Duration::from_secs(10);
/// At most one part in this many of a thread's time goes into one layer.
const SHARE: u32 = 50;

/// The last measure of a container's writable layer.
#[derive(Debug, Default)]
pub struct Layer(Mutex<Option<Measure>>);

#[derive(Debug)]
struct Measure {
    usage: FsUsage,
    at: Instant,
    took: Duration,
}

impl Layer {
    /// What it took when it was last measured; `None` before that.
    pub fn usage(&self) -> Option<FsUsage> {
        self.last().as_ref().map(|measure| measure.usage.clone())
    }

    pub(super) fn is_due(&self) -> bool {
        let rest = |measure: &Measure| YOUNG.max(measure.took * SHARE);
        self.last()
            .as_ref()
            .is_none_or(|measure| measure.at.elapsed() >= rest(measure))
    }

    /// A layer that cannot be read keeps its last measure.
    pub(super) fn measure(&self, snapshots: &dyn Snapshotter, directory: &Path) {
        let start = Instant::now();
        let Ok(usage) = snapshots.usage(directory) else {
            return;
        };
        let measure = Measure {
            usage: FsUsage {
                timestamp: now(),
                mountpoint: directory.parent().unwrap_or(directory).to_owned(),
                used_bytes: usage.bytes,
                inodes_used: usage.inodes,
            },
            at: Instant::now(),
            took: start.elapsed(),
        };
        *self.last() = Some(measure);
    }

    fn last(&self) -> MutexGuard<'_, Option<Measure>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
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

impl Engine {
    /// Measures the layers of those that live and whose measure is old, without being waited for.
    pub(super) fn measure_layers(&self, mut cells: Vec<Arc<ContainerCell>>) {
        cells.retain(|cell| cell.layer.is_due() && lives(&cell.record()));
        if cells.is_empty() {
            return;
        }
        let Some(turn) = self.measuring.begin() else {
            return;
        };
        let (snapshots, store) = (
            Arc::clone(&self.ports.snapshots),
            Arc::clone(&self.ports.store),
        );
        tokio::task::spawn_blocking(move || {
            measure_all(&cells, &*snapshots, &*store);
            turn.0.store(false, Ordering::Release);
        });
    }
}

fn measure_all(cells: &[Arc<ContainerCell>], snapshots: &dyn Snapshotter, store: &dyn Store) {
    for cell in cells {
        let directory = store.container_dir(&cell.record().id);
        cell.layer.measure(snapshots, &directory);
    }
}
