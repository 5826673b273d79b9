//! Whether a mount of the node can pass mounts on, as a container's volume asks.
//!
//! A bind of a private mount is private whatever is asked for: the container would run, and never
//! see what is mounted later, so it is refused instead.

use crate::error::{Context, Error, Kind, Result};
use crate::model::container::{Mount, Propagation};
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use std::path::Path;

/// Looks at the mount that the source of a volume is on.
///
/// # Errors
/// `FailedPrecondition` where it passes on less than is asked for.
pub fn check(mount: &Mount, source: &Path) -> Result<()> {
    if mount.propagation == Propagation::Private {
        return Ok(());
    }
    let failed = || {
        format!(
            "mount {}: find the mount of {}",
            mount.container_path,
            source.display()
        )
    };
    let found = statx(CWD, source, AtFlags::empty(), StatxFlags::MNT_ID);
    let id = found.context(Kind::Internal, failed)?.stx_mnt_id;
    let text = std::fs::read_to_string("/proc/self/mountinfo").context(Kind::Internal, failed)?;
    let peers = Peers::of(&text, id);
    match peers.is_enough_for(mount.propagation) {
        true => Ok(()),
        false => Err(refusal(mount, source)),
    }
}

fn refusal(mount: &Mount, source: &Path) -> Error {
    let (wanted, source) = match mount.propagation {
        Propagation::Bidirectional => ("a shared", source.display()),
        _ => ("a shared or slave", source.display()),
    };
    Error::precondition(format!(
        "mount {}: {source} is not on {wanted} mount of the node, so nothing mounted later would be passed on: \
         make the mount that it is on shared (`mount --make-rshared PATH`), or ask for no mount propagation",
        mount.container_path
    ))
}

/// Whom a mount passes events on to, and has them from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Peers {
    is_shared: bool,
    is_slave: bool,
}

impl Peers {
    /// From the text of `/proc/self/mountinfo` (proc_pid_mountinfo(5)): the optional fields come
    /// after the sixth and end with a hyphen.
    fn of(mountinfo: &str, id: u64) -> Self {
        let fields = |line: &str| {
            let mut fields = line.split(' ');
            (fields.next()?.parse() == Ok(id)).then(|| Self::from_fields(fields.skip(5)))
        };
        mountinfo.lines().find_map(fields).unwrap_or_default()
    }

    fn from_fields<'a>(fields: impl Iterator<Item = &'a str>) -> Self {
        let mut peers = Self::default();
        for field in fields.take_while(|field| *field != "-") {
            peers.is_shared |= field.starts_with("shared:");
            peers.is_slave |= field.starts_with("master:");
        }
        peers
    }

    fn is_enough_for(self, wanted: Propagation) -> bool {
        match wanted {
            Propagation::Private => true,
            Propagation::HostToContainer => self.is_shared || self.is_slave,
            Propagation::Bidirectional => self.is_shared,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
22 21 0:5 / /shared:9 rw - tmpfs shared:7 rw
23 21 0:6 / /slave rw,nosuid master:3 propagate_from:2 - tmpfs tmpfs rw
24 21 0:7 / /both rw shared:4 master:3 - tmpfs tmpfs rw
";

    fn enough(id: u64) -> [bool; 3] {
        let peers = Peers::of(MOUNTS, id);
        [
            Propagation::Private,
            Propagation::HostToContainer,
            Propagation::Bidirectional,
        ]
        .map(|wanted| peers.is_enough_for(wanted))
    }

    #[test]
    fn a_mount_passes_on_what_its_peers_allow() {
        assert_eq!(enough(21), [true, true, true]);
        assert_eq!(enough(22), [true, false, false], "names are no peers");
        assert_eq!(enough(23), [true, true, false]);
        assert_eq!(enough(24), [true, true, true]);
        assert_eq!(enough(2), [true, false, false], "one that is not there");
    }

    #[test]
    fn a_volume_is_refused_by_what_its_mount_is() {
        let of = |propagation| Mount {
            container_path: "/data".to_owned(),
            propagation,
            ..Mount::default()
        };
        let root = Path::new("/");
        check(&of(Propagation::Private), root).unwrap();
        let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let found = statx(CWD, root, AtFlags::empty(), StatxFlags::MNT_ID).unwrap();
        let peers = Peers::of(&text, found.stx_mnt_id);
        let told = check(&of(Propagation::Bidirectional), root);
        assert_eq!(told.is_ok(), peers.is_shared);
        if let Err(error) = told {
            assert_eq!(error.kind(), Kind::FailedPrecondition);
            assert!(error.chain().contains("make-rshared"), "{}", error.chain());
        }
    }
}
