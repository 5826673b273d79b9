//! Limits that a process carries itself: open files, and how soon it is killed for memory.

use crate::error::{Error, Result};
use crate::model::host::HostFacts;
use crate::model::resources::Resources;
use oci_spec::runtime::{PosixRlimit, PosixRlimitBuilder, PosixRlimitType};

const OPEN_FILES_SOFT: u64 = 1024;
const OPEN_FILES_HARD: u64 = 524_288;

/// Open files alone, and always: what the daemon or its unit happens to have is never inherited.
/// The kernel refuses a hard limit above one's own, so a node with a lower one clips it.
pub fn rlimits(host: &HostFacts) -> Vec<PosixRlimit> {
    let files = PosixRlimitBuilder::default()
        .typ(PosixRlimitType::RlimitNofile)
        .soft(OPEN_FILES_SOFT.min(host.max_open_files))
        .hard(OPEN_FILES_HARD.min(host.max_open_files))
        .build()
        .expect("a limit is its kind and two numbers, and all are given");
    vec![files]
}

/// -1000 to 1000.
pub fn oom_score_adj(resources: &Resources) -> Result<i32> {
    let wanted = resources.oom_score_adj;
    i32::try_from(wanted)
        .ok()
        .filter(|score| (-1000..=1000).contains(score))
        .ok_or_else(|| {
            Error::invalid(format!(
                "resources.oom_score_adj {wanted} is not between -1000 and 1000"
            ))
        })
}
