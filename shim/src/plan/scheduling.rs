//! A process's turn at the machine: scheduler, disks, memory nodes, CPUs; and its personality.

use crate::api::Failure;
use crate::bundle::process::{CpuAffinity, IoPriority, Process, Scheduler};
use crate::bundle::text::Text;
use crate::bundle::{Linux, MemoryPolicy, Personality};
use crate::sys::scheduling::{Attributes, BITS, Set};

/// What is set before the program is executed; what is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scheduling {
    /// How the kernel schedules it.
    pub attributes: Option<Attributes>,
    /// `ioprio_set`'s number: the class above 13 bits of priority.
    pub io_priority: Option<u16>,
    /// The mode with its flags, and the nodes.
    pub memory: Option<(u32, Set)>,
    /// Its personality.
    pub personality: Option<u32>,
}

/// The CPUs of a process that joins a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Affinity {
    /// Before it enters the container's cgroup.
    pub initial: Option<Set>,
    /// When it is in there.
    pub last: Option<Set>,
}

/// Policies by their numbers; one that is not there has no name.
const POLICIES: [&str; 7] = ["OTHER", "FIFO", "RR", "BATCH", "ISO", "IDLE", "DEADLINE"];
/// Flags by their bits.
const FLAGS: [&str; 7] = [
    "RESET_ON_FORK",
    "RECLAIM",
    "DL_OVERRUN",
    "KEEP_POLICY",
    "KEEP_PARAMS",
    "UTIL_CLAMP_MIN",
    "UTIL_CLAMP_MAX",
];
/// Classes by their numbers, from 1.
const CLASSES: [&str; 3] = ["RT", "BE", "IDLE"];
/// Modes by their numbers.
const MODES: [&str; 7] = [
    "DEFAULT",
    "PREFERRED",
    "BIND",
    "INTERLEAVE",
    "LOCAL",
    "PREFERRED_MANY",
    "WEIGHTED_INTERLEAVE",
];
/// Flags of modes by their bits, from 13.
const MODE_FLAGS: [&str; 3] = ["NUMA_BALANCING", "RELATIVE_NODES", "STATIC_NODES"];

/// Plans what is asked for.
///
/// # Errors
/// [`crate::api::FailureKind::Invalid`], with the property and the word.
pub fn plan(process: &Process<'_>, linux: &Linux<'_>) -> Result<Scheduling, Failure> {
    Ok(Scheduling {
        attributes: process.scheduler.as_ref().map(attributes).transpose()?,
        io_priority: process.io_priority.as_ref().map(io_priority).transpose()?,
        memory: linux.memory_policy.as_ref().map(memory).transpose()?,
        personality: linux.personality.as_ref().map(personality).transpose()?,
    })
}

/// Plans the CPUs of a process that joins: its own, or those that the container's say.
///
/// # Errors
/// As above.
pub fn affinity(process: &Process<'_>, container: &Process<'_>) -> Result<Affinity, Failure> {
    let own = process.exec_cpu_affinity.as_ref();
    let Some(CpuAffinity { initial, last }) = own.or(container.exec_cpu_affinity.as_ref()) else {
        return Ok(Affinity::default());
    };
    let plan = |list: &Option<Text<'_>>| match list.as_deref() {
        None | Some("") => Ok(None),
        Some(list) => set("process.execCPUAffinity", list).map(Some),
    };
    Ok(Affinity {
        initial: plan(initial)?,
        last: plan(last)?,
    })
}

fn attributes(wanted: &Scheduler<'_>) -> Result<Attributes, Failure> {
    const PROPERTY: &str = "process.scheduler";
    let mut flags = 0;
    for flag in &wanted.flags {
        flags |= 1 << index(PROPERTY, &FLAGS, "SCHED_FLAG_", flag)?;
    }
    let policy = index(PROPERTY, &POLICIES, "SCHED_", &wanted.policy)?;
    Ok(Attributes {
        policy,
        flags,
        nice: wanted.nice,
        priority: wanted.priority,
        runtime: wanted.runtime,
        deadline: wanted.deadline,
        period: wanted.period,
        ..Attributes::default()
    })
}

fn io_priority(wanted: &IoPriority<'_>) -> Result<u16, Failure> {
    const PROPERTY: &str = "process.ioPriority";
    let class = 1 + index(PROPERTY, &CLASSES, "IOPRIO_CLASS_", &wanted.class)?;
    match wanted.priority {
        0..=7 => Ok(u16::try_from(class << 13).unwrap_or(0) | wanted.priority),
        other => Err(invalid(PROPERTY, &other.to_string())),
    }
}

fn memory(wanted: &MemoryPolicy<'_>) -> Result<(u32, Set), Failure> {
    const PROPERTY: &str = "linux.memoryPolicy";
    let mut mode = index(PROPERTY, &MODES, "MPOL_", &wanted.mode)?;
    for flag in &wanted.flags {
        mode |= 1 << (13 + index(PROPERTY, &MODE_FLAGS, "MPOL_F_", flag)?);
    }
    let nodes = match wanted.nodes.as_deref() {
        None | Some("") => Set::default(),
        Some(list) => set(PROPERTY, list)?,
    };
    Ok((mode, nodes))
}

fn personality(wanted: &Personality<'_>) -> Result<u32, Failure> {
    const PROPERTY: &str = "linux.personality";
    match (&*wanted.domain, wanted.flags.first()) {
        ("LINUX", None) => Ok(0),
        ("LINUX32", None) => Ok(8),
        (_, Some(flag)) => Err(invalid(PROPERTY, flag)),
        (other, None) => Err(invalid(PROPERTY, other)),
    }
}

fn index(property: &str, known: &[&str], prefix: &str, word: &str) -> Result<u32, Failure> {
    let plain = word.strip_prefix(prefix);
    let found = plain.and_then(|plain| known.iter().position(|known| *known == plain));
    let number = found.and_then(|number| u32::try_from(number).ok());
    number.ok_or_else(|| invalid(property, word))
}

/// The numbers of a list such as `0-2,7`.
fn set(property: &str, list: &str) -> Result<Set, Failure> {
    let mut set = Set::default();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let range = first
            .trim()
            .parse::<usize>()
            .ok()
            .zip(last.trim().parse().ok());
        match range {
            Some((first, last)) if first <= last && last < BITS => {
                (first..=last).for_each(|number| set.add(number));
            }
            _ => return Err(invalid(property, list)),
        }
    }
    Ok(set)
}

fn invalid(property: &str, word: &str) -> Failure {
    Failure::invalid("plan the process", format!("{property}: {word} cannot be"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_the_kernels_numbers() {
        let text = r#"{"scheduler":{"policy":"SCHED_DEADLINE","flags":["SCHED_FLAG_RECLAIM"],"period":9},
            "ioPriority":{"class":"IOPRIO_CLASS_BE","priority":5}}"#;
        let process: Process<'_> = serde_json::from_str(text).unwrap();
        let text = r#"{"personality":{"domain":"LINUX32"},
            "memoryPolicy":{"mode":"MPOL_BIND","nodes":"0,2-3","flags":["MPOL_F_STATIC_NODES"]}}"#;
        let linux: Linux<'_> = serde_json::from_str(text).unwrap();
        let planned = plan(&process, &linux).unwrap();
        let attributes = planned.attributes.unwrap();
        assert_eq!(
            (attributes.policy, attributes.flags, attributes.period),
            (6, 2, 9)
        );
        assert_eq!(planned.io_priority, Some(2 << 13 | 5));
        assert_eq!(planned.personality, Some(8));
        let (mode, nodes) = planned.memory.unwrap();
        assert_eq!((mode, nodes.words()[0]), (2 | 1 << 15, 0b1101));
    }

    #[test]
    fn odd_words_are_refused_by_their_property() {
        for (text, property) in [
            (
                r#"{"scheduler":{"policy":"SCHED_SOUL"}}"#,
                "process.scheduler",
            ),
            (
                r#"{"scheduler":{"policy":"SCHED_OTHER","flags":["X"]}}"#,
                "process.scheduler",
            ),
            (
                r#"{"ioPriority":{"class":"IOPRIO_CLASS_BE","priority":8}}"#,
                "process.ioPriority",
            ),
        ] {
            let process: Process<'_> = serde_json::from_str(text).unwrap();
            let refused = plan(&process, &Linux::default()).unwrap_err();
            assert!(refused.chain[0].starts_with(property), "{refused}");
        }
        for text in [
            r#"{"personality":{"domain":"LINUX","flags":["X"]}}"#,
            r#"{"memoryPolicy":{"mode":"MPOL_BIND","nodes":"5-1"}}"#,
            r#"{"memoryPolicy":{"mode":"MPOL_BIND","nodes":"1024"}}"#,
        ] {
            let linux: Linux<'_> = serde_json::from_str(text).unwrap();
            plan(&Process::default(), &linux).unwrap_err();
        }
    }
}
