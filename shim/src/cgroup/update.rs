//! New limits for a cgroup in use: all of them, or those that were there before.
//!
//! ```text
//! read what is in force ─▶ write, in rounds ──all accepted──▶ done
//!                              └─a round without progress─▶ write back what was, in rounds
//! ```
//! Limits bound each other: memory never passes memory with swap, a quota never its parent's share
//! of the period. So what is refused waits until its neighbours are written: growing and shrinking
//! each find the order that the kernel takes, and values between the old and the new are the only
//! ones that are ever in force.
//!
//! Invariant: after a failed update every file says what it said before, or the failure names the
//! one that does not. No update kills: on v2 a memory limit below what is used would.

use super::limits::{Absence, Setting, settings};
use super::{Cgroup, Version, write};
use crate::api::{Failure, FailureKind};
use crate::bundle::{self, resources::Resources};
use crate::failure::At;
use crate::packet;
use crate::sys::clone::clone3;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

/// A file, what it says, and what it is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Change {
    path: PathBuf,
    before: String,
    after: String,
}

impl Cgroup {
    /// Writes new limits: the JSON of an OCI `LinuxResources` that holds only what changes. Parsed
    /// in a process that goes away.
    ///
    /// # Errors
    /// [`FailureKind::Invalid`] for a text that is none; [`FailureKind::State`] for less memory than
    /// is in use; else with the file and the value. Nothing has changed then.
    pub fn update(&self, resources_json: &str) -> Result<(), Failure> {
        let step = || "update the limits".to_owned();
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .at(FailureKind::System, step)?;
        let child = clone3(0, None, || {
            let result = self.update_here(resources_json);
            i32::from(packet::send(&theirs, &result, &[]).is_err())
        })
        .at(FailureKind::System, step)?;
        drop(theirs);
        let answer = packet::receive::<Result<(), Failure>>(&ours);
        let _ = rustix::io::retry_on_intr(|| {
            waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED)
        });
        let answer = answer.at(FailureKind::System, step)?;
        let killed = || Failure::invalid(step(), "the process that did it was killed");
        answer.map_or_else(|| Err(killed()), |received| received.message)
    }

    /// As [`Cgroup::update`], for a process that may keep the memory which parsing takes.
    ///
    /// # Errors
    /// As there.
    pub fn update_here(&self, resources_json: &str) -> Result<(), Failure> {
        let resources: Resources<'_> = bundle::json("the new limits", resources_json)?;
        if !resources.devices.is_empty() {
            return Err(Failure::invalid(
                "update the limits",
                "device rules of a running container do not change",
            ));
        }
        self.leaves_room(&resources)?;
        let changes = self.changes(&resources)?;
        write_all(&changes).map_err(|refused| take_back(&changes, refused))
    }

    /// On v1 the kernel refuses a limit below what cannot be reclaimed; on v2 it takes the limit
    /// and kills.
    fn leaves_room(&self, resources: &Resources<'_>) -> Result<(), Failure> {
        let limit = resources.memory.as_ref().and_then(|memory| memory.limit);
        let unified = self.controller("memory");
        let unified = unified.filter(|directory| directory.version == Version::V2);
        let (Some(limit), Some(directory)) = (limit.filter(|limit| *limit > 0), unified) else {
            return Ok(());
        };
        let file = directory.path.join("memory.current");
        let used = std::fs::read_to_string(file).unwrap_or_default();
        match used.trim().parse::<i64>() {
            Ok(used) if used > limit => Err(Failure::state(
                format!("set memory.max to {limit}"),
                format!("{used} bytes are in use, so it would kill the container"),
            )),
            _ => Ok(()),
        }
    }

    fn changes(&self, resources: &Resources<'_>) -> Result<Vec<Change>, Failure> {
        let version = |name: &str| self.controller(name).map(|directory| directory.version);
        let mut all = Vec::new();
        for setting in settings(resources, version)? {
            all.extend(self.change(&setting)?);
        }
        for (file, value) in &resources.unified {
            all.push(self.unified_change(file, value)?);
        }
        Ok(all)
    }

    /// `None` for a limit that this host may honestly lack.
    fn change(&self, setting: &Setting) -> Result<Option<Change>, Failure> {
        let path = self
            .controller(setting.controller)
            .map(|directory| setting.path(directory));
        let change = path
            .ok_or_else(|| io::Error::from(Errno::NOENT))
            .and_then(|path| Change::of(path, &setting.value));
        match change {
            Err(e) if e.kind() == io::ErrorKind::NotFound && setting.absence == Absence::IsFine => {
                Ok(None)
            }
            other => other.map(Some).at(FailureKind::System, || {
                to_set(&setting.file, &setting.value)
            }),
        }
    }

    fn unified_change(&self, file: &str, value: &str) -> Result<Change, Failure> {
        let refused = |why: &str| Failure::invalid(to_set(file, value), why);
        let unified = self.unified();
        let unified = unified.ok_or_else(|| refused("this host has no cgroup v2"))?;
        if file.contains('/') {
            return Err(refused("is no name of a cgroup's file"));
        }
        Change::of(unified.path.join(file), value).at(FailureKind::System, || to_set(file, value))
    }
}

impl Change {
    fn of(path: PathBuf, after: &str) -> io::Result<Self> {
        Ok(Self {
            before: std::fs::read_to_string(&path)?,
            after: after.to_owned(),
            path,
        })
    }

    fn step(&self) -> String {
        let file = self.path.file_name().unwrap_or_default().to_string_lossy();
        to_set(&file, &self.after)
    }

    /// The same file, the other way.
    fn reversed(&self) -> Self {
        Self {
            path: self.path.clone(),
            before: self.after.clone(),
            after: self.before.clone(),
        }
    }

    /// A file with several lines takes one at a time.
    fn write(&self) -> io::Result<()> {
        match self.after.trim_end() {
            "" => write(&self.path, "\n"),
            text => text.lines().try_for_each(|line| write(&self.path, line)),
        }
    }

    fn is_undone(&self) -> bool {
        std::fs::read_to_string(&self.path).is_ok_and(|now| now == self.before)
    }
}

fn to_set(file: &str, value: &str) -> String {
    format!("set {file} to {value}")
}

/// Writes in rounds, for as long as a round gets something accepted; the failure is the first of
/// the last round.
fn write_all(changes: &[Change]) -> Result<(), Failure> {
    let mut left: Vec<&Change> = changes.iter().collect();
    loop {
        let mut refused = Vec::new();
        let mut first = None;
        for change in &left {
            if let Err(failure) = change.write().at(FailureKind::System, || change.step()) {
                refused.push(*change);
                first.get_or_insert(failure);
            }
        }
        match first {
            None => return Ok(()),
            Some(failure) if refused.len() == left.len() => return Err(failure),
            Some(_) => left = refused,
        }
    }
}

/// Makes all files say again what they said.
fn take_back(changes: &[Change], mut refused: Failure) -> Failure {
    let done = changes.iter().filter(|change| !change.is_undone());
    let back: Vec<Change> = done.rev().map(Change::reversed).collect();
    // What could not be written is told by the look at the files.
    let _ = write_all(&back);
    for change in changes.iter().filter(|change| !change.is_undone()) {
        refused.chain.push(format!(
            "{} could not be set back to {}",
            change.path.display(),
            change.before.trim_end()
        ));
    }
    refused
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn change(path: PathBuf, after: &str) -> Change {
        Change::of(path, after).unwrap()
    }

    #[test]
    fn what_was_written_before_a_refusal_is_written_back() {
        let directory = tempfile::tempdir().unwrap();
        let (good, bad) = (directory.path().join("good"), directory.path().join("bad"));
        fs::write(&good, "1\n").unwrap();
        fs::write(&bad, "2\n").unwrap();
        let changes = [change(good.clone(), "7"), change(bad.clone(), "8")];
        // A directory in its place refuses what is written.
        fs::remove_file(&bad).unwrap();
        fs::create_dir(&bad).unwrap();
        let refused = write_all(&changes).unwrap_err();
        assert_eq!(refused.step, "set bad to 8");
        assert_eq!(fs::read_to_string(&good).unwrap(), "7\n");
        let told = take_back(&changes, refused);
        assert_eq!(fs::read_to_string(&good).unwrap(), "1\n");
        let last = told.chain.last().unwrap();
        assert!(last.contains("bad could not be set back to 2"), "{told}");
    }
}
