//! A container's cgroup: on v1 one directory in each hierarchy, on v2 one, on a hybrid host both.
//!
//! Invariant: a process enters by itself. Writing a foreign pid to a v1 `cgroup.procs` waits for an
//! RCU grace period (8 ms); a process that writes `0` to `tasks` does not, and on v2 one is born
//! into its cgroup.

mod block;
mod devices;
mod hierarchy;
mod kill;
mod limits;
mod network;
mod update;
mod weight;

pub use hierarchy::{Directory, Version, look_ahead};

use crate::api::{Failure, FailureKind};
use crate::failure::At;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

/// A container's cgroup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroup {
    directories: Vec<Directory>,
}

impl Cgroup {
    /// Makes the cgroup in every hierarchy of this host, or in none.
    ///
    /// # Errors
    /// As [`Cgroup::find`] and [`Cgroup::establish`].
    pub fn make(path: &str) -> Result<Self, Failure> {
        let cgroup = Self::find(path)?;
        cgroup.establish().map(|()| cgroup)
    }

    /// Makes the directories, or none.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn establish(&self) -> Result<(), Failure> {
        for directory in &self.directories {
            let made = directory.make().at(FailureKind::System, || {
                format!("make the cgroup {}", directory.path.display())
            });
            if made.is_err() {
                // One that was there before and is in use stays.
                let _ = self.remove_now();
                return made;
            }
        }
        Ok(())
    }

    /// The cgroup of this path, be it there or not.
    ///
    /// # Errors
    /// [`FailureKind::Invalid`] for a path that is not absolute or leads upwards; else what the
    /// kernel says.
    pub fn find(path: &str) -> Result<Self, Failure> {
        let relative = checked(path)?;
        let mounts = hierarchy::mounts().at(FailureKind::System, || {
            "look for the cgroup hierarchies".to_owned()
        })?;
        Ok(Self {
            directories: mounts
                .into_iter()
                .map(|mount| mount.directory(relative))
                .collect(),
        })
    }

    /// Its directories, one for each hierarchy.
    #[must_use]
    pub fn directories(&self) -> &[Directory] {
        &self.directories
    }

    /// The one directory of a host that has only cgroup v2.
    #[must_use]
    pub fn pure_v2(&self) -> Option<&Directory> {
        match self.directories.as_slice() {
            [only] if only.version == Version::V2 => Some(only),
            _ => None,
        }
    }

    /// The directory of the unified hierarchy, where the host has one.
    #[must_use]
    pub fn unified(&self) -> Option<&Directory> {
        self.directories
            .iter()
            .find(|directory| directory.version == Version::V2)
    }

    /// The directory that has a controller, and which version it is of.
    #[must_use]
    pub fn controller(&self, name: &str) -> Option<&Directory> {
        let has = |directory: &&Directory| {
            directory
                .controllers
                .iter()
                .any(|controller| controller == name)
        };
        self.directories.iter().find(has)
    }

    /// The v2 directory that a process is to be born into.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn birthplace(&self) -> Result<Option<OwnedFd>, Failure> {
        let Some(directory) = self.unified() else {
            return Ok(None);
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(&directory.path, flags, Mode::empty())
            .map(Some)
            .at(FailureKind::System, || {
                format!("open the cgroup {}", directory.path.display())
            })
    }

    /// Moves this process into the v1 directories.
    ///
    /// # Errors
    /// What the kernel says, with the file.
    pub fn enter(&self) -> Result<(), Failure> {
        self.entrance()?.enter()
    }

    /// The way into the v1 directories, for a process that is to lose no time there.
    ///
    /// # Errors
    /// What the kernel says, with the file.
    pub fn entrance(&self) -> Result<Entrance, Failure> {
        let v1 = |directory: &&Directory| directory.version == Version::V1;
        let opened = self.directories.iter().filter(v1).map(|directory| {
            let path = directory.path.join("tasks");
            let tasks = open(&path);
            let tasks = tasks.at(FailureKind::System, || format!("open {}", path.display()))?;
            Ok((path, tasks))
        });
        opened.collect::<Result<_, _>>().map(Entrance)
    }

    /// Makes a cgroup below this one, in the hierarchy that is asked for a container's processes.
    /// Returns where a process enters that is in both, and the nested cgroup alone.
    ///
    /// # Errors
    /// What the kernel says; `NotFound` on a host without cgroups.
    pub fn nest(&self, name: &str) -> io::Result<(Self, Self)> {
        let census = self.census().ok_or(io::ErrorKind::NotFound)?;
        let nested = Directory {
            path: census.path.join(name),
            ..census.clone()
        };
        rustix::fs::mkdir(&nested.path, Mode::from_raw_mode(0o755))?;
        let replaced = |directory: &Directory| {
            if directory == census {
                nested.clone()
            } else {
                directory.clone()
            }
        };
        let both = self.directories.iter().map(replaced).collect();
        Ok((
            Self { directories: both },
            Self {
                directories: vec![nested],
            },
        ))
    }

    /// The cgroups directly below this one, in the hierarchy that [`Cgroup::nest`] makes them in.
    ///
    /// # Errors
    /// What reading says.
    pub fn nested(&self) -> io::Result<Vec<PathBuf>> {
        self.census().map_or(Ok(Vec::new()), |census| {
            hierarchy::subdirectories(&census.path)
        })
    }

    /// Removes the cgroup and whatever cgroups the container made below it, as far as that can be
    /// done at once. What is already gone is fine.
    ///
    /// # Errors
    /// What the kernel says: `ResourceBusy` while there are processes.
    pub fn remove_now(&self) -> io::Result<()> {
        self.remove_each(Directory::remove_now)
    }

    /// As [`Cgroup::remove_now`], for a caller who may wait.
    ///
    /// # Errors
    /// What the kernel says: `ResourceBusy` when processes are left after a while.
    pub fn remove(&self) -> io::Result<()> {
        self.remove_each(Directory::remove)
    }

    fn remove_each(&self, remove: fn(&Directory) -> io::Result<()>) -> io::Result<()> {
        let mut first = Ok(());
        for directory in &self.directories {
            let removed = remove(directory);
            if first.is_ok() {
                first = removed;
            }
        }
        first
    }
}

/// The way into a cgroup's v1 directories: their `tasks`. A v2 one is entered by being born there.
#[derive(Debug, Default)]
pub struct Entrance(Vec<(PathBuf, OwnedFd)>);

impl Entrance {
    /// Moves this process into them.
    ///
    /// # Errors
    /// What the kernel says, with the file.
    pub fn enter(self) -> Result<(), Failure> {
        self.0.iter().try_for_each(|(path, tasks)| {
            write_to(tasks, "0").at(FailureKind::System, || format!("enter {}", path.display()))
        })
    }

    /// Its descriptors.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().map(|(_, tasks)| tasks.as_fd())
    }
}

fn checked(path: &str) -> Result<&str, Failure> {
    let relative = path.trim_matches('/');
    let odd = relative
        .split('/')
        .any(|part| matches!(part, "" | "." | ".."));
    if !path.starts_with('/') || odd {
        return Err(Failure::invalid(
            "plan the cgroup",
            format!("{path} is no absolute path of a cgroup"),
        ));
    }
    Ok(relative)
}

/// Writes a file of a cgroup in one call, as the kernel wants it.
fn write(path: &Path, text: &str) -> io::Result<()> {
    write_to(&open(path)?, text)
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

fn write_to(file: &OwnedFd, text: &str) -> io::Result<()> {
    rustix::io::retry_on_intr(|| rustix::io::write(file, text.as_bytes()))?;
    Ok(())
}
