//! How many files this process may have open at once.
//!
//! Each container costs the daemon a socket and a pidfd, each stream of a session another, and a
//! descriptor that cannot be taken in is lost with the packet that carried it. What `select` can
//! watch, for the sake of which the soft limit is low, nothing here needs.
//!
//! Invariant: containers get their limit from their specification, never from here.

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit to the hard one.
///
/// # Errors
/// Where the kernel refuses.
pub fn raise() -> Result<(), Errno> {
    let own = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: own.maximum,
            ..own
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let own = getrlimit(Resource::Nofile);
        let current = own.maximum.map(|hard| hard - 1);
        setrlimit(Resource::Nofile, Rlimit { current, ..own }).unwrap();
        raise().unwrap();
        assert_eq!(getrlimit(Resource::Nofile).current, own.maximum);
    }
}
