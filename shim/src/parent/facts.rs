//! What this process may hand on to a container.

use crate::api::{Failure, FailureKind};
use crate::failure::At;
use crate::init::process::FileId;
use crate::plan::process::{Limit, Powers, RLIMITS};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, capabilities, capability_is_in_bounding_set};

/// The resource limits in the order of [`RLIMITS`].
pub const RESOURCES: [Resource; RLIMITS.len()] = [
    Resource::Cpu,
    Resource::Fsize,
    Resource::Data,
    Resource::Stack,
    Resource::Core,
    Resource::Rss,
    Resource::Nproc,
    Resource::Nofile,
    Resource::Memlock,
    Resource::As,
    Resource::Locks,
    Resource::Sigpending,
    Resource::Msgqueue,
    Resource::Nice,
    Resource::Rtprio,
    Resource::Rttime,
];

/// How readily the kernel kills this process for memory (`oom_score_adj`, −1000 to 1000). What cannot
/// be asked counts as 0.
#[must_use]
pub fn oom_score() -> i32 {
    let text = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// Asks the kernel what this process has. What cannot be asked counts as absent.
#[must_use]
pub fn powers() -> Powers {
    let own = capabilities(None).map_or((0, 0), |sets| {
        (sets.permitted.bits(), sets.effective.bits())
    });
    Powers {
        bounding: bounding() & own.0,
        may_raise_limits: own.1 & CapabilitySet::SYS_RESOURCE.bits() != 0,
        hard_limits: RESOURCES.map(|resource| getrlimit(resource).maximum.unwrap_or(u64::MAX)),
    }
}

/// Raises this process's hard limits to those of a container, where it may: whoever lives in a user
/// namespace never may, and only lowers what it was born with.
pub fn raise_limits(wanted: &[Limit]) {
    for limit in wanted {
        let resource = RESOURCES[limit.resource];
        let own = getrlimit(resource);
        let most = (limit.hard != u64::MAX).then_some(limit.hard);
        let higher = own
            .maximum
            .is_some_and(|own| most.is_none_or(|most| most > own));
        if higher {
            // What is refused here is told when the limit is set.
            let current = own.current;
            let _ = setrlimit(
                resource,
                Rlimit {
                    current,
                    maximum: most,
                },
            );
        }
    }
}

fn bounding() -> u64 {
    let has = |bit: &u64| {
        let capability = CapabilitySet::from_bits_retain(*bit);
        capability_is_in_bounding_set(capability).unwrap_or(false)
    };
    (0..64)
        .map(|number| 1 << number)
        .take_while(|bit| *bit < 1 << 41)
        .filter(has)
        .fold(0, |set, bit| set | bit)
}

/// Which file this program is. Asked while `/proc` is the host's.
///
/// # Errors
/// What `stat` says.
pub fn own_program() -> Result<FileId, Failure> {
    let stat = rustix::fs::stat("/proc/self/exe")
        .at(FailureKind::System, || "look at the own program".to_owned())?;
    Ok((stat.st_dev, stat.st_ino))
}
