//! User namespaces: made here, joined by whoever is to live in one, and given to mounts whose
//! owners are to be seen through one.
//!
//! Invariant: who has joined one keeps the host's user id 0, with no power over the host, until
//! [`become_root`]: so it still reaches the files of the host's root that it must.

use crate::api::{Failure, FailureKind, IdMap, IdMaps};
use crate::failure::At;
use crate::parent::pair;
use crate::sys::clone::{Process, clone3, flags};
use crate::sys::descriptors;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use rustix::thread::{
    Gid, LinkNameSpaceType, Uid, move_into_link_name_space, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};
use std::fmt::Write;

/// How many ranges the kernel takes (`user_namespaces(7)`).
const MOST_RANGES: usize = 340;

/// A user namespace, held open.
#[derive(Debug)]
pub struct UserNamespace {
    /// It.
    pub fd: OwnedFd,
    /// What its ids are outside.
    pub maps: IdMaps,
}

impl IdMaps {
    /// Refuses what the kernel would refuse without a word: no range, one of no length, one that
    /// runs over the end (the last number is no id).
    ///
    /// # Errors
    /// [`FailureKind::Invalid`], with the range.
    pub fn check(&self) -> Result<(), Failure> {
        check("user", &self.uids)?;
        check("group", &self.gids)
    }

    /// What a user of the namespace is outside; `None`: nobody.
    #[must_use]
    pub fn uid(&self, inside: u32) -> Option<u32> {
        outside(&self.uids, inside)
    }

    /// What a group of the namespace is outside; `None`: none.
    #[must_use]
    pub fn gid(&self, inside: u32) -> Option<u32> {
        outside(&self.gids, inside)
    }

    /// The host's number of a user of the namespace.
    ///
    /// # Errors
    /// [`FailureKind::User`]: it has no such user.
    pub fn user(&self, inside: u32) -> Result<u32, Failure> {
        self.uid(inside).ok_or_else(|| absent("user", inside))
    }

    /// The host's number of a group of the namespace.
    ///
    /// # Errors
    /// [`FailureKind::User`]: it has no such group.
    pub fn group(&self, inside: u32) -> Result<u32, Failure> {
        self.gid(inside).ok_or_else(|| absent("group", inside))
    }
}

fn absent(kind: &str, id: u32) -> Failure {
    Failure {
        kind: FailureKind::User,
        ..Failure::invalid(
            format!("look {kind} {id} up"),
            format!("the pod's user namespace has no {kind} {id}"),
        )
    }
}

fn check(kind: &str, ranges: &[IdMap]) -> Result<(), Failure> {
    let step = || format!("check the {kind} ids of the user namespace");
    if ranges.is_empty() || ranges.len() > MOST_RANGES {
        let cause = format!("{} ranges are not 1 to {MOST_RANGES}", ranges.len());
        return Err(Failure::invalid(step(), cause));
    }
    let fits = |first: u32, length: u32| length > 0 && first.checked_add(length).is_some();
    let odd = ranges
        .iter()
        .find(|range| !fits(range.inside, range.length) || !fits(range.outside, range.length));
    match odd {
        None => Ok(()),
        Some(odd) => Err(Failure::invalid(
            step(),
            format!(
                "{} ids from {} ({} outside) do not fit",
                odd.length, odd.inside, odd.outside
            ),
        )),
    }
}

fn outside(ranges: &[IdMap], inside: u32) -> Option<u32> {
    ranges.iter().find_map(|range| {
        let offset = inside.checked_sub(range.inside)?;
        (offset < range.length).then(|| range.outside.checked_add(offset))?
    })
}

/// The text that `/proc/PID/uid_map` takes.
fn text(ranges: &[IdMap]) -> String {
    let mut text = String::new();
    for range in ranges {
        let IdMap {
            inside,
            outside,
            length,
        } = range;
        let _ = writeln!(text, "{inside} {outside} {length}");
    }
    text
}

/// Makes a user namespace: a process is born in one, and goes away once it is held open.
///
/// # Errors
/// [`FailureKind::Invalid`] for ids that cannot be; else what the kernel says.
pub fn make(maps: &IdMaps) -> Result<UserNamespace, Failure> {
    maps.check()?;
    let step = || "make a user namespace".to_owned();
    let (gate, inner) = pair()?;
    let born = clone3(flags::NEWUSER, None, || wait_for_end(&inner))
        .at(FailureKind::System, step)
        .map_err(explain)?;
    drop(inner);
    let made = map_and_open(&born, maps);
    drop(gate);
    let wait = || waitid(WaitId::PidFd(born.pidfd.as_fd()), WaitIdOptions::EXITED);
    rustix::io::retry_on_intr(wait).at(FailureKind::System, step)?;
    Ok(UserNamespace {
        fd: made?,
        maps: maps.clone(),
    })
}

fn wait_for_end(gate: &OwnedFd) -> i32 {
    // Its own copy of the other end too: whoever holds that never writes, and this ends when the
    // last one is closed.
    if descriptors::close_all_but(&[gate.as_fd()]).is_err() {
        return 1;
    }
    let _ = rustix::io::retry_on_intr(|| rustix::io::read(gate, &mut [0u8; 1]));
    0
}

fn map_and_open(born: &Process, maps: &IdMaps) -> Result<OwnedFd, Failure> {
    let write = |name: &str, ranges: &[IdMap]| {
        let path = format!("/proc/{}/{name}", born.pid);
        let step = || format!("write {:?} to {name}", text(ranges).trim_end());
        std::fs::write(path, text(ranges)).at(FailureKind::System, step)
    };
    write("uid_map", &maps.uids)?;
    write("gid_map", &maps.gids)?;
    open(&format!("/proc/{}/ns/user", born.pid))
}

/// Opens the user namespace of a path.
///
/// # Errors
/// What the kernel says.
pub fn open(path: &str) -> Result<OwnedFd, Failure> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .at(FailureKind::Invalid, || {
            format!("open the user namespace {path}")
        })
}

fn explain(failure: Failure) -> Failure {
    match failure.errno {
        libc::ENOSPC | libc::EUSERS => failure.because(
            "the limit of /proc/sys/user/max_user_namespaces is reached; raise it on the node",
        ),
        libc::EINVAL => failure.because("this kernel has no user namespaces"),
        _ => failure,
    }
}

/// Moves this process into a user namespace. It has every capability there, and none elsewhere.
///
/// # Errors
/// What the kernel says.
pub fn join(namespace: &UserNamespace) -> Result<(), Failure> {
    move_into_link_name_space(namespace.fd.as_fd(), Some(LinkNameSpaceType::User))
        .at(FailureKind::System, || "join the user namespace".to_owned())
}

/// Becomes the root of the user namespace that this process is in; its capabilities stay.
///
/// # Errors
/// What the kernel says.
pub fn become_root() -> Result<(), Failure> {
    let (uid, gid) = (Uid::ROOT, Gid::ROOT);
    set_thread_groups(&[])
        .and_then(|()| set_thread_res_gid(gid, gid, gid))
        .and_then(|()| set_thread_res_uid(uid, uid, uid))
        .at(FailureKind::System, || {
            "become the root of the user namespace".to_owned()
        })
}

/// Gives a file to a user of the namespace. Done from outside, where the file may be anybody's.
///
/// # Errors
/// What the kernel says, or that there is no such user.
pub fn give(fd: impl AsFd, maps: &IdMaps, uid: u32) -> Result<(), Failure> {
    let uid = rustix::fs::Uid::from_raw(maps.user(uid)?);
    rustix::fs::fchown(fd, Some(uid), None).at(FailureKind::System, || {
        "give the stdio to the container's user".to_owned()
    })
}

/// Whether a mount could not be mapped because of what it is of.
#[must_use]
pub fn cannot_be_mapped(failure: Failure) -> Failure {
    match Errno::from_raw_os_error(failure.errno) {
        Errno::INVAL => failure.because(
            "this kernel cannot map the owners of its file system (ext4, xfs: 5.12; btrfs: 5.15; tmpfs: 6.3; NFS never)",
        ),
        Errno::PERM => failure.because("its owners are mapped already"),
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(inside: u32, outside: u32, length: u32) -> IdMap {
        IdMap {
            inside,
            outside,
            length,
        }
    }

    fn maps(ranges: &[IdMap]) -> IdMaps {
        IdMaps {
            uids: ranges.to_vec(),
            gids: ranges.to_vec(),
        }
    }

    #[test]
    fn ids_are_found_in_their_range_and_nowhere_else() {
        let maps = maps(&[range(0, 1000, 10), range(20, 5000, 2)]);
        assert_eq!((maps.uid(0), maps.uid(9)), (Some(1000), Some(1009)));
        assert_eq!((maps.gid(21), maps.gid(22)), (Some(5001), None));
        assert_eq!((maps.uid(10), maps.uid(u32::MAX)), (None, None));
        let refused = maps.user(10).unwrap_err();
        assert_eq!(refused.kind, FailureKind::User);
        assert!(refused.to_string().contains("user 10"), "{refused}");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for ranges in [
            vec![],
            vec![range(0, 1000, 0)],
            vec![range(0, u32::MAX - 9, 10)],
            vec![range(u32::MAX - 9, 0, 10)],
            vec![range(0, 1000, 1); MOST_RANGES + 1],
        ] {
            assert!(maps(&ranges).check().is_err(), "{ranges:?}");
        }
        let all = maps(&[range(0, 1, u32::MAX - 1)]);
        all.check().unwrap();
        assert_eq!(all.uid(u32::MAX - 2), Some(u32::MAX - 1));
    }

    #[test]
    fn the_kernels_text_has_a_line_for_each_range() {
        assert_eq!(
            text(&[range(0, 1000, 5), range(9, 8, 7)]),
            "0 1000 5\n9 8 7\n"
        );
    }
}
