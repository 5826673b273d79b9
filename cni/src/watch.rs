//! The configuration directory, watched: the network that it gives now, or why it gives none.
//!
//! Each event only says "look again": everything is armed anew, then read anew. So a directory that
//! is removed, renamed or replaced by a link is met by the same few lines as a changed file, and no
//! event has to be understood.
//!
//! ```text
//! /etc ──▶ cni ──▶ net.d ──▶ NAME        the nearest that exists above: the next part appears
//!   └ moved or deleted ┘  └ entries ┘    the directory, its parent and those in it: entries change
//! ```
//!
//! Invariant: watches are armed before the directory is read, so a change is either read or
//! announced. Where the kernel gives no watch (its limits are small and shared), the directory is
//! read every two seconds instead.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use inotify::{EventStream, Inotify, WatchMask};
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{sleep, timeout};
use tokio_stream::StreamExt as _;

use crate::conf::NetworkList;
use crate::dir::load;
use crate::error::NoNetwork;

/// What the directory gives.
pub type NetworkState = Result<NetworkList, NoNetwork>;

/// How often the directory is read where no event tells.
const POLL: Duration = Duration::from_secs(2);
/// A look without an event: a link's target may change where no watch is.
const SECOND_LOOK: Duration = Duration::from_secs(30);
/// A file comes in several events; one look after them is enough.
const SETTLE: Duration = Duration::from_millis(20);
const LONGEST_SETTLE: Duration = Duration::from_millis(200);

/// A directory under watch; dropping it ends the watch.
#[derive(Debug)]
pub struct ConfWatch {
    state: watch::Receiver<NetworkState>,
    task: JoinHandle<()>,
}

impl ConfWatch {
    /// Reads the directory and begins to watch it. The directory need not exist. The first state
    /// is there when this returns. Must be called inside a tokio runtime.
    pub fn start(dir: PathBuf) -> Self {
        let eyes = Eyes::open();
        eyes.arm(&dir);
        let (sender, state) = watch::channel(load(&dir));
        let task = tokio::spawn(follow(dir, eyes, sender));
        Self { state, task }
    }

    /// The state now and its changes.
    pub fn state(&self) -> watch::Receiver<NetworkState> {
        self.state.clone()
    }
}

impl Drop for ConfWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(dir: PathBuf, eyes: Eyes, sender: watch::Sender<NetworkState>) {
    let mut eyes = eyes;
    loop {
        eyes.wait().await;
        let path = dir.clone();
        let look = spawn_blocking(move || {
            eyes.arm(&path);
            (load(&path), eyes)
        });
        // Only a runtime that shuts down refuses the work.
        let Ok((now, back)) = look.await else { return };
        eyes = back;
        sender.send_if_modified(|state| {
            let changed = *state != now;
            *state = now;
            changed
        });
    }
}

// === Eyes: what tells that something changed ===

enum Eyes {
    Inotify(EventStream<Vec<u8>>),
    Poll,
}

impl Eyes {
    fn open() -> Self {
        match Inotify::init().and_then(|inotify| inotify.into_event_stream(vec![0; 4096])) {
            Ok(events) => Self::Inotify(events),
            Err(error) => {
                tracing::warn!(%error, "no inotify: the CNI directory is read every 2 s instead");
                Self::Poll
            }
        }
    }

    /// Returns when something may have changed.
    async fn wait(&mut self) {
        match self {
            Self::Poll => sleep(POLL).await,
            Self::Inotify(events) => match timeout(SECOND_LOOK, events.next()).await {
                Ok(Some(Ok(_))) => settle(events).await,
                Ok(_) => sleep(POLL).await,
                Err(_) => {}
            },
        }
    }

    /// Watches what decides about `dir`. To watch the same again changes nothing; what cannot be
    /// watched is not there, and the directory above tells when it comes.
    fn arm(&self, dir: &Path) {
        let Self::Inotify(events) = self else { return };
        let itself = WatchMask::DELETE_SELF | WatchMask::MOVE_SELF | WatchMask::ONLYDIR;
        let names = WatchMask::CREATE | WatchMask::DELETE | WatchMask::MOVE | itself;
        let files = WatchMask::CLOSE_WRITE | WatchMask::ATTRIB | names;
        let mut watches = events.watches();
        let mut mask = names;
        for ancestor in dir.ancestors().skip(1) {
            let is_there = watches.add(ancestor, mask).is_ok();
            mask = if is_there { itself } else { names };
        }
        let _ = watches.add(dir, files);
        for below in directories_in(dir) {
            let _ = watches.add(below, files);
        }
    }
}

/// Throws away what belongs to the same change: that something came is all that events say.
async fn settle(events: &mut EventStream<Vec<u8>>) {
    let quiet = async { while let Ok(Some(Ok(_))) = timeout(SETTLE, events.next()).await {} };
    let _ = timeout(LONGEST_SETTLE, quiet).await;
}

/// A list's further plugins are in a directory of its name.
fn directories_in(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect()
}

#[cfg(test)]
mod tests;
