//! A container in a pod of its own that does no harm: its exec and its log are watched while another one does.

use crate::logs::{COUNT, assert_gapless, numbers};
use crate::node::Node;
use crate::pods::{self, gated, log_path, shell};
use crate::wait::until_true;
use std::time::{Duration, Instant};

/// Each figure is the median of so many.
const LOOKS: usize = 5;
/// A turn of the log: it writes a line every 10 ms.
const LINES: usize = 10;
/// How much longer than before an exec and a turn of the log may take while somebody else does
/// harm. They share processors with it and with other tests: a wait for it to end is what is meant to be
/// found.
const RATIO: u32 = 50;

/// A running container, and how it was before.
pub struct Neighbour {
    id: String,
    log: String,
    before: Pace,
}

/// How long things take.
#[derive(Debug)]
struct Pace {
    exec: Duration,
    turn: Duration,
}

impl Neighbour {
    /// Runs one and takes its pace.
    pub async fn beside(node: &Node) -> Self {
        let pod = node.run(pods::pod("neighbour")).await;
        let container = gated(shell("count", COUNT), &node.gate("neighbour"));
        let id = node.launch(&pod, container).await;
        let log = log_path(&pod.config, "count");
        until_true("the neighbour writes", 20, async || {
            numbers(&log).len() > LINES
        })
        .await;
        let before = pace(node, &id, &log).await;
        Self { id, log, before }
    }

    /// Its exec and its log go on, at a pace like before.
    pub async fn assert_undisturbed(&self, node: &Node) {
        let now = pace(node, &self.id, &self.log).await;
        println!("neighbour before: {:?}, now: {now:?}", self.before);
        assert!(now.exec < RATIO * self.before.exec, "exec: {now:?}");
        assert!(now.turn < RATIO * self.before.turn, "log: {now:?}");
        assert_gapless(&self.log, &numbers(&self.log));
    }
}

async fn pace(node: &Node, id: &str, log: &str) -> Pace {
    let (mut execs, mut turns) = (Vec::new(), Vec::new());
    for _ in 0..LOOKS {
        let begun = Instant::now();
        assert_eq!(node.cri.ask(id, "echo on").await, "on");
        execs.push(begun.elapsed());
        turns.push(turn(log).await);
    }
    Pace {
        exec: median(execs),
        turn: median(turns),
    }
}

async fn turn(log: &str) -> Duration {
    let (begun, seen) = (Instant::now(), numbers(log).len());
    until_true("the neighbour's log grows", 60, async || {
        numbers(log).len() >= seen + LINES
    })
    .await;
    begun.elapsed()
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort();
    all[all.len() / 2]
}
