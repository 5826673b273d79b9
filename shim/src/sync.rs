//! What the processes that make a container say to each other.
//!
//! ```text
//! run (resident)            stage                             init
//! ─────────────────────────────────────────────────────────────────────────────────────────
//! fork ───────────────────▶ waits
//! ToStage::Prepare ───────▶ cgroup
//! ◀── FromStage::Cgroup
//! ToStage::Create ────────▶ parse, plan
//! waits                     user, trees, root, pipes
//!                           clone3 (its sibling) ───────────▶ enters the cgroup, joins
//!                           waits                             namespaces, mounts, pivots
//!                           ◀───────── FromInit::Placed, if there are hooks
//!                           runs them ─────────────────────▶ GO; before its root changes
//!                           ◀───────── FromInit::Terminal + master, if any
//!                           ◀───────── FromInit::Ready
//! ◀── FromStage::Made + pidfd, gate, stdio                    lets go of the host's root,
//! shuts the socket ───────▶ exits                             becomes the user, filters
//! ◀────────────────────────────────────────────── FromInit::Settled, or FromInit::Failed
//!                                                             waits
//! StartGate::release: GO ───────────────────────────────────▶ execve
//! ◀─────────── the gate is closed: it has succeeded;  FromInit::Failed: it has not
//! ```
//! Where the filter asks a listener, `FromInit::Listener` comes before `FromInit::Ready`, for the stage has
//! it handed over, and answers with GO; both after the filter, then.
//! A shim in reserve has a stage in reserve. Where nothing is prepared, the cgroup that the bundle names
//! is made when it is parsed. A stage whose socket is shut before the request is given up.
//! A failure on the way: the init says `FromInit::Failed` and exits; the stage says
//! `FromStage::Failed` with the init's pid, takes the cgroup away and exits; the resident process
//! reaps both. When the resident process dies, the gate closes and a waiting init exits.
//!
//! Invariant: nothing is parsed in the resident process but these small messages.

use crate::api::{CreateRequest, Failure, Lap, User};
use crate::cgroup::Cgroup;
use serde::{Deserialize, Serialize};

/// The byte that lets an init execute its program.
pub const GO: &[u8] = b"g";

/// What the resident process tells the stage, which may have waited for it since before anyone asked
/// for a container.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToStage {
    /// There will be a container: its cgroup can be made.
    Prepare {
        /// The container's id.
        id: String,
        /// The path of its cgroup.
        cgroup: String,
    },
    /// Its bundle is there.
    Create(CreateRequest),
}

/// What the stage tells the resident process: the cgroup, then how it went.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromStage {
    /// Where the container's limits will be: said before any of it is made, so that it can be taken
    /// away when the stage is killed.
    Cgroup(Cgroup),
    /// The container is made. With it travel the init's pidfd, the gate, and either the terminal's
    /// master or stdin (only where asked for), stdout and stderr.
    Made(Made),
    /// It could not be made.
    Failed {
        /// Why.
        failure: Failure,
        /// The init, where there is already one to be reaped.
        init: Option<i32>,
    },
}

/// A container that was made.
#[derive(Debug, Serialize, Deserialize)]
pub struct Made {
    /// The init's process id as the host sees it.
    pub pid: i32,
    /// The init's start time in clock ticks since boot.
    pub start_time: u64,
    /// Whom it runs as.
    pub user: User,
    /// The deputy's socket travels behind the gate: there are hooks for later.
    pub has_deputy: bool,
    /// What it took.
    pub laps: Vec<Lap>,
}

/// What the init says over the gate.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromInit {
    /// The terminal's master travels with this, where there is one; `Ready` follows.
    Terminal,
    /// Its mounts are made; it waits for [`GO`], while hooks run on the host. Only where there are hooks.
    Placed,
    /// Its filter has a listener, of this descriptor; it waits for [`GO`] until that was fetched.
    Listener(i32),
    /// It is there: nothing that was asked for can be wrong any more but the program.
    Ready {
        /// What it took until then.
        laps: Vec<Lap>,
    },
    /// It waits for [`GO`].
    Settled {
        /// What it took from then until it began with its filter.
        laps: Vec<Lap>,
        /// How long it had had a processor when it did, in nanoseconds.
        worked: i64,
    },
    /// It could not go on, and exits: if it was ready, when it is started.
    Failed(Failure),
}
