//! Whatever a bundle asks for: it is refused, or planned so that each step finds what those before it have made, with no
//! more power than there is to give. An input is a `config.json`, or a line for each part of one (see `Asked::line`).
#![no_main]

use corten_shim::bundle::{self, NamespaceKind, Spec};
use corten_shim::plan::mounts::Source;
use corten_shim::plan::options::Propagation;
use corten_shim::plan::process::{Powers, RLIMITS};
use corten_shim::plan::{self, HostFacts, Plan, Step};
use libfuzzer_sys::fuzz_target;
use rustix::mount::MountAttrFlags as Attr;
use serde_json::{Value, json};

/// What the host may hand on: all capabilities but the last ones, and few open files.
const BOUNDING: u64 = 0xff_ffff;
const MOST: u64 = 1000;

fuzz_target!(|input: &str| {
    let text = if input.starts_with('{') {
        input.to_owned()
    } else {
        Asked::of(input).to_string()
    };
    let Ok(spec) = bundle::parse(&text) else {
        return;
    };
    let facts = HostFacts {
        powers: Powers {
            bounding: BOUNDING,
            may_raise_limits: false,
            hard_limits: [MOST; RLIMITS.len()],
        },
    };
    if let Ok(plan) = plan::build(&spec, &facts) {
        mounts_keep_their_order(&spec, &plan);
        steps_are_in_order(&plan);
        trees_are_used(&plan);
        nothing_leads_out(&plan);
        no_more_than_there_is(&plan);
    }
});

/// The specification's own order: so no mount comes before the one that it is in, unless the bundle says so.
fn mounts_keep_their_order(spec: &Spec<'_>, plan: &Plan<'_>) {
    let planned = plan.steps.iter().filter_map(|step| match step {
        Step::Mount(mount) => Some(mount.destination),
        _ => None,
    });
    assert!(planned.eq(spec.mounts.iter().map(|mount| &*mount.destination)));
}

/// Mounts, then what is made in them, then what may no longer be written, hidden things, and the root last.
fn steps_are_in_order(plan: &Plan<'_>) {
    let rank = |step: &Step<'_>| match step {
        Step::Mount(_) => 0,
        Step::Device(_) | Step::Link { .. } | Step::Terminal => 1,
        Step::Hostname(_) | Step::Domainname(_) | Step::Sysctl { .. } => 2,
        Step::Freeze(_) => 3,
        Step::ReadOnly(_) => 4,
        Step::Mask(_) => 5,
        Step::RootReadOnly => 6,
    };
    assert!(plan.steps.iter().map(rank).is_sorted(), "{:?}", plan.steps);
}

/// Each tree is attached once, and a tmpfs is written to before it is frozen.
fn trees_are_used(plan: &Plan<'_>) {
    let mut next = 0;
    for step in &plan.steps {
        let Step::Mount(mount) = step else { continue };
        match &mount.source {
            Source::Tree(tree) => {
                assert_eq!(*tree, next);
                next += 1;
            }
            Source::FileSystem(made) if made.kind == "tmpfs" => {
                assert!(!made.attributes.contains(Attr::MOUNT_ATTR_RDONLY));
            }
            _ => {}
        }
    }
    assert_eq!(next, plan.trees.len());
    assert!(plan.trees.iter().all(|tree| tree.path.starts_with('/')));
}

fn nothing_leads_out(plan: &Plan<'_>) {
    let in_user_namespace = plan.namespaces.has(NamespaceKind::User);
    for step in &plan.steps {
        match step {
            Step::Mount(mount) => {
                let at = mount.destination;
                assert!(
                    at.split('/').any(|part| !matches!(part, "" | "." | "..")),
                    "{at}"
                );
                assert!(!in_user_namespace || mount.spread.kind != Propagation::Shared);
            }
            Step::Sysctl { name, .. } => {
                let odd = |part: &str| matches!(part, "" | "." | "..");
                assert!(!name.split('/').any(odd), "{name}");
                let kind = match name.split_once('/') {
                    Some(("net", _)) => NamespaceKind::Network,
                    Some(("fs", rest)) if rest.starts_with("mqueue/") => NamespaceKind::Ipc,
                    Some(("kernel", "hostname" | "domainname")) => NamespaceKind::Uts,
                    Some(("kernel", rest))
                        if rest.starts_with("shm") || rest.starts_with("msgm") || rest == "sem" =>
                    {
                        NamespaceKind::Ipc
                    }
                    _ => panic!("{name} is the host's"),
                };
                assert!(plan.namespaces.has(kind), "{name}");
            }
            Step::Hostname(_) | Step::Domainname(_) => {
                assert!(plan.namespaces.has(NamespaceKind::Uts))
            }
            _ => {}
        }
    }
}

fn no_more_than_there_is(plan: &Plan<'_>) {
    let caps = plan.process.caps;
    let all = caps.bounding | caps.effective | caps.permitted | caps.inheritable | caps.ambient;
    assert_eq!(all & !BOUNDING, 0);
    assert_eq!(caps.effective & !caps.permitted, 0);
    assert_eq!(caps.inheritable & !caps.bounding, 0);
    assert_eq!(caps.ambient & !(caps.permitted & caps.inheritable), 0);
    for limit in &plan.process.limits {
        assert!(limit.resource < RLIMITS.len() && limit.soft <= limit.hard && limit.hard <= MOST);
    }
    assert!(plan.process.cwd.starts_with('/') && !plan.process.args.is_empty());
}

/// A `config.json` in the making. It has the mount namespace that each needs.
struct Asked {
    process: Value,
    top: Value,
    linux: Value,
}

impl Asked {
    fn of(lines: &str) -> Self {
        let mut asked = Self {
            process: json!({"args": ["x"]}),
            top: json!({"mounts": []}),
            linux: json!({"namespaces": [{"type": "mount"}]}),
        };
        for line in lines.lines() {
            asked.line(&line.split(' ').collect::<Vec<_>>());
        }
        asked
    }

    /// What is not known is passed over, and so is what lacks a word.
    fn line(&mut self, words: &[&str]) {
        let Some((first, words)) = words.split_first() else {
            return;
        };
        let word = |at: usize| words.get(at).copied().filter(|word| *word != "-");
        let number = |at: usize| word(at).and_then(|word| word.parse::<i64>().ok());
        let list = |at: usize| {
            word(at)
                .map(|word| word.split(',').collect::<Vec<_>>())
                .unwrap_or_default()
        };
        let ids = json!([{"containerID": number(0).unwrap_or(0), "hostID": number(1).unwrap_or(1000), "size": number(2).unwrap_or(1)}]);
        match *first {
            "mount" => push(
                &mut self.top,
                "mounts",
                json!({"destination": word(0).unwrap_or(""), "type": word(1), "source": word(2), "options": list(3)}),
            ),
            "mapped" => push(
                &mut self.top,
                "mounts",
                json!({"destination": word(3).unwrap_or("/m"), "type": "bind", "source": "/s", "options": list(4), "uidMappings": ids, "gidMappings": ids}),
            ),
            "namespace" => push(
                &mut self.linux,
                "namespaces",
                json!({"type": word(0), "path": word(1)}),
            ),
            "device" => push(
                &mut self.linux,
                "devices",
                json!({"type": word(0).unwrap_or("c"), "path": word(1).unwrap_or("/dev/x"), "major": number(2).unwrap_or(0), "minor": number(3).unwrap_or(0)}),
            ),
            "mask" => push(
                &mut self.linux,
                "maskedPaths",
                json!(word(0).unwrap_or("/proc/kcore")),
            ),
            "readonly" => push(
                &mut self.linux,
                "readonlyPaths",
                json!(word(0).unwrap_or("/proc/sys")),
            ),
            "sysctl" => put(
                &mut self.linux,
                "sysctl",
                word(0).unwrap_or("net.x"),
                json!(word(1).unwrap_or("1")),
            ),
            "offset" => put(
                &mut self.linux,
                "timeOffsets",
                word(0).unwrap_or("monotonic"),
                json!({"secs": number(1).unwrap_or(0), "nanosecs": number(2).unwrap_or(0)}),
            ),
            "uids" => self.linux["uidMappings"] = ids,
            "gids" => self.linux["gidMappings"] = ids,
            "spread" => self.linux["rootfsPropagation"] = json!(word(0)),
            "label" => self.linux["mountLabel"] = json!(word(0)),
            "filter" => self.linux["seccomp"] = json!({"flags": list(0)}),
            "personality" => {
                self.linux["personality"] =
                    json!({"domain": word(0).unwrap_or(""), "flags": list(1)})
            }
            "memory" => {
                self.linux["memoryPolicy"] =
                    json!({"mode": word(0).unwrap_or(""), "nodes": word(1), "flags": list(2)})
            }
            "hostname" | "domainname" => self.top[*first] = json!(word(0)),
            "root" => self.top["root"] = json!({"readonly": word(0) == Some("ro")}),
            "args" | "env" => self.process[*first] = json!(list(0)),
            "cwd" => self.process["cwd"] = json!(word(0)),
            "terminal" => self.process["terminal"] = json!(true),
            "caps" => put(
                &mut self.process,
                "capabilities",
                word(0).unwrap_or("bounding"),
                json!(list(1)),
            ),
            "limit" => push(
                &mut self.process,
                "rlimits",
                json!({"type": word(0).unwrap_or(""), "soft": number(1).unwrap_or(0), "hard": number(2).unwrap_or(0)}),
            ),
            "scheduler" => {
                self.process["scheduler"] = json!({"policy": word(0).unwrap_or(""), "nice": number(1).unwrap_or(0), "priority": number(2).unwrap_or(0), "flags": list(3)})
            }
            "io" => {
                self.process["ioPriority"] =
                    json!({"class": word(0).unwrap_or(""), "priority": number(1).unwrap_or(0)})
            }
            "cpus" => {
                self.process["execCPUAffinity"] = json!({"initial": word(0), "final": word(1)})
            }
            _ => {}
        }
    }
}

impl std::fmt::Display for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut whole = self.top.clone();
        whole["process"] = self.process.clone();
        whole["linux"] = self.linux.clone();
        write!(f, "{whole}")
    }
}

fn push(into: &mut Value, field: &str, value: Value) {
    match &mut into[field] {
        Value::Array(items) => items.push(value),
        other => *other = json!([value]),
    }
}

fn put(into: &mut Value, field: &str, key: &str, value: Value) {
    into[field][key] = value;
}
