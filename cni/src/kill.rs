//! The end of a plugin that will not end: it, its process group and all its descendants.
//!
//! The group alone is not enough: a shell script's helper may have a session of its own. The tree
//! alone is not enough either: a child whose parent has exited belongs to init. So both are killed,
//! the tree first, each process stopped before its children are listed so that none is missed.
//!
//! Invariant: only called while the root is not reaped, so that its id and its group's id are its
//! own.

use std::collections::HashSet;
use std::fs;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// Kills the process `root`, which leads its group, with everything below it. What is gone already
/// is no error: there is nobody to tell and nothing else to do.
pub(crate) fn kill_tree(root: u32) {
    let Some(root) = pid(root) else { return };
    let _ = kill_process_group(root, Signal::STOP);
    for descendant in stopped_descendants(root) {
        let _ = kill_process(descendant, Signal::KILL);
    }
    let _ = kill_process_group(root, Signal::KILL);
}

/// A stopped process makes no more children and, since its parent is stopped too, is not reaped:
/// its id stays its own.
fn stopped_descendants(root: Pid) -> HashSet<Pid> {
    let mut found = HashSet::new();
    let mut to_list = vec![root];
    while let Some(parent) = to_list.pop() {
        for child in children(parent) {
            if found.insert(child) {
                let _ = kill_process(child, Signal::STOP);
                to_list.push(child);
            }
        }
    }
    found
}

/// The children of every thread of the process, from `/proc/PID/task/TID/children`; none where the
/// kernel was built without that file.
fn children(parent: Pid) -> Vec<Pid> {
    let tasks = format!("/proc/{}/task", parent.as_raw_nonzero());
    let Ok(tasks) = fs::read_dir(tasks) else {
        return Vec::new();
    };
    let lists = tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let words = |list: String| -> Vec<Pid> {
        list.split_whitespace()
            .filter_map(|word| pid(word.parse().ok()?))
            .collect()
    };
    lists.flat_map(words).collect()
}

fn pid(raw: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(raw).ok()?)
}
