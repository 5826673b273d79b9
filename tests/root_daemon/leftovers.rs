//! Is anything left? What a node holds, before and after; the difference is what was forgotten.

use crate::network::addresses;
use crate::processes;
use crate::wait::until_found;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Seconds within which a removed pod is gone altogether: links and mounts end in the background.
const PACE: u64 = 10;
/// What grows and shrinks by itself, or is meant to stay.
const NOT_LOOKED_AT: [&str; 2] = ["/var/lib/corten/images", "/var/lib/corten/layers"];

/// What a node holds: lines of the form `KIND WHAT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holdings(BTreeSet<String>);

impl Holdings {
    /// As it is now.
    pub fn of_this_node() -> Self {
        let mut all = BTreeSet::new();
        let mut add = |kind: &str, whats: Vec<String>| {
            all.extend(whats.into_iter().map(|what| format!("{kind} {what}")));
        };
        add("mount", mounts());
        add("process", process_names());
        add("link", names("/sys/class/net"));
        add("network namespace", names("/run/netns"));
        add("firewall rule", firewall_rules());
        add("address", addresses());
        add("cgroup", directories("/sys/fs/cgroup"));
        for root in ["/run/corten", "/var/lib/corten", "/var/lib/cni/results"] {
            add("file", everything_below(root));
        }
        Self(all)
    }

    /// What is here and was not `before`.
    pub fn more_than(&self, before: &Self) -> Vec<String> {
        self.0.difference(&before.0).cloned().collect()
    }
}

/// Waits until the node holds no more than before.
pub async fn await_nothing_left(before: &Holdings) {
    until_found("nothing is left", PACE, async || {
        let left = Holdings::of_this_node().more_than(before);
        let nothing = left.is_empty().then_some(());
        nothing.ok_or_else(|| format!("\n{}", left.join("\n")))
    })
    .await;
}

/// Numbered by place: two mounts at one place are two.
fn mounts() -> Vec<String> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let places = text.lines().filter_map(|line| line.split(' ').nth(4));
    numbered(places.map(str::to_owned).collect())
}

/// Numbered by program: pids change, and a daemon that was started again is no leftover.
fn process_names() -> Vec<String> {
    let name = |process: processes::Process| {
        let program = process.arguments[0]
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .to_owned();
        match process.arguments.get(1) {
            Some(verb) if program.starts_with("corten") => format!("{program} {verb}"),
            _ => program,
        }
    };
    numbered(processes::all().into_iter().map(name).collect())
}

fn firewall_rules() -> Vec<String> {
    let saved = Command::new("iptables-save").output().unwrap();
    let rules = String::from_utf8(saved.stdout).unwrap();
    let rules = rules.lines().filter(|line| line.starts_with("-A"));
    numbered(rules.map(str::to_owned).collect())
}

fn names(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

fn directories(root: &str) -> Vec<String> {
    let mut found = Vec::new();
    walk(Path::new(root), &mut |path, is_directory| {
        if is_directory {
            found.push(path.display().to_string());
        }
    });
    found
}

fn everything_below(root: &str) -> Vec<String> {
    let mut found = Vec::new();
    walk(Path::new(root), &mut |path, _| {
        if !NOT_LOOKED_AT.iter().any(|place| path.starts_with(place)) {
            found.push(path.display().to_string());
        }
    });
    found
}

/// Passes over what vanishes meanwhile, and does not follow links.
fn walk(folder: &Path, see: &mut impl FnMut(&Path, bool)) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        see(&entry.path(), is_directory);
        if is_directory {
            walk(&entry.path(), see);
        }
    }
}

/// `a`, `a`, `b` become `a (1)`, `a (2)`, `b (1)`.
fn numbered(mut all: Vec<String>) -> Vec<String> {
    all.sort();
    let mut previous = String::new();
    let mut number = 0;
    for one in &mut all {
        number = if *one == previous { number + 1 } else { 1 };
        previous.clone_from(one);
        *one = format!("{one} ({number})");
    }
    all
}
