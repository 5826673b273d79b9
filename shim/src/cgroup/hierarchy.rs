//! The cgroup hierarchies of this host, and one directory in one of them.

use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

/// How often a directory that is still busy is tried again: a process that was killed is not yet
/// gone when its parent has heard of it.
const TRIES: u32 = 60;
/// What is read of the mounts at once: what the kernel gives at once, or more.
const PIECE: usize = 8 << 10;
/// The longest pause between two tries.
const PAUSE: Duration = Duration::from_millis(50);

/// Which interface a hierarchy has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Version {
    /// One of several, with its own controllers.
    V1,
    /// The unified one.
    V2,
}

/// Where a hierarchy is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    version: Version,
    mountpoint: PathBuf,
    controllers: Vec<String>,
}

/// A cgroup's directory in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    /// Which interface it has.
    pub version: Version,
    /// Its controllers; a v1 hierarchy may have a name instead (`name=systemd`). On v2 those that
    /// the root has.
    pub controllers: Vec<String>,
    /// Where its hierarchy is mounted.
    pub mountpoint: PathBuf,
    /// The directory.
    pub path: PathBuf,
}

impl Mount {
    /// The directory of a cgroup in this hierarchy.
    #[must_use]
    pub fn directory(self, relative: &str) -> Directory {
        let path = self.mountpoint.join(relative);
        Directory {
            version: self.version,
            controllers: self.controllers,
            mountpoint: self.mountpoint,
            path,
        }
    }
}

/// Finds the hierarchies in this process's mounts.
///
/// # Errors
/// What reading says; `Unsupported` where there are none.
pub fn mounts() -> io::Result<Vec<Mount>> {
    match KNOWN.get() {
        Some(known) => Ok(known.clone()),
        None => look(),
    }
}

/// Looks now, for whoever asks later in this process or in one that it forks: a host does not change
/// its hierarchies. What is wrong is told to who asks.
pub fn look_ahead() {
    if let Ok(found) = look() {
        let _ = KNOWN.set(found);
    }
}

static KNOWN: OnceLock<Vec<Mount>> = OnceLock::new();

fn look() -> io::Result<Vec<Mount>> {
    let mounts = std::fs::File::open("/proc/self/mountinfo")?;
    let mut mounts = BufReader::with_capacity(PIECE, mounts);
    let mut found = first_of_each(&mut mounts, number_of_hierarchies())?;
    for mount in found
        .iter_mut()
        .filter(|mount| mount.version == Version::V2)
    {
        let controllers = available(&mount.mountpoint)?;
        mount.controllers = controllers
            .split_ascii_whitespace()
            .map(str::to_owned)
            .collect();
    }
    if found.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "no cgroup hierarchy is mounted",
        ));
    }
    Ok(found)
}

/// How many the kernel has, mounted or not: a line each (cgroups(7)).
fn number_of_hierarchies() -> usize {
    let own = std::fs::read("/proc/self/cgroup");
    own.map_or(usize::MAX, |lines| {
        lines.split_inclusive(|&byte| byte == b'\n').count()
    })
}

/// Reads the lines of mounts until there are so many hierarchies: they were mounted at boot, and a node of many
/// pods has hundreds of mounts behind them. One that is mounted several times counts where it is mounted first.
fn first_of_each(mounts: &mut impl BufRead, wanted: usize) -> io::Result<Vec<Mount>> {
    let mut found: Vec<Mount> = Vec::new();
    let mut line = Vec::new();
    while found.len() < wanted && mounts.read_until(b'\n', &mut line)? > 0 {
        // A mount whose place is no text is nothing that is looked for.
        let text = std::str::from_utf8(line.trim_ascii_end());
        if let Some(mount) = text.ok().and_then(parse_line) {
            let known = |other: &Mount| {
                other.version == mount.version && other.controllers == mount.controllers
            };
            if !found.iter().any(known) {
                found.push(mount);
            }
        }
        line.clear();
    }
    Ok(found)
}

fn parse_line(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let mut fields = before.split(' ').skip(3);
    let (root, mountpoint) = (fields.next()?, fields.next()?);
    let mut after = after.split(' ');
    let (kind, _source, options) = (after.next()?, after.next()?, after.next()?);
    let version = match kind {
        "cgroup" => Version::V1,
        "cgroup2" => Version::V2,
        _ => return None,
    };
    let controllers = match version {
        Version::V1 => v1_controllers(options),
        Version::V2 => Vec::new(),
    };
    // Somebody's view of a part of a hierarchy is not the hierarchy.
    (root == "/").then(|| Mount {
        version,
        mountpoint: mountpoint.into(),
        controllers,
    })
}

/// Words of a v1 mount that are no controllers.
fn v1_controllers(options: &str) -> Vec<String> {
    let other = |word: &&str| {
        matches!(
            *word,
            "rw" | "ro"
                | "xattr"
                | "noprefix"
                | "clone_children"
                | "cpuset_v2_mode"
                | "favordynmods"
                | "none"
        )
    };
    let words = options
        .split(',')
        .filter(|word| !other(word) && !word.starts_with("release_agent="));
    words.map(str::to_owned).collect()
}

impl Directory {
    /// The name of its mount point: `cpu,cpuacct`, or what a v1 hierarchy is named.
    #[must_use]
    pub fn name(&self) -> String {
        self.mountpoint
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default()
    }

    /// The single controllers of a hierarchy that has several, by which it is also looked for.
    #[must_use]
    pub fn aliases(&self) -> &[String] {
        match self.controllers.as_slice() {
            [] | [_] => &[],
            several => several,
        }
    }

    /// Makes the directory and those above it.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn make(&self) -> io::Result<()> {
        match self.version {
            Version::V1
                if self
                    .controllers
                    .iter()
                    .any(|controller| controller == "cpuset") =>
            {
                self.make_cpuset()
            }
            Version::V1 => make_all(&self.path),
            Version::V2 => self.make_unified(),
        }
    }

    /// The directories from below the mount point down to this one.
    fn line(&self) -> Vec<&Path> {
        let mut line: Vec<_> = self
            .path
            .ancestors()
            .take_while(|path| *path != self.mountpoint)
            .collect();
        line.reverse();
        line
    }

    /// A new v1 cpuset has no CPUs and no memory, and takes no process: it gets its parent's.
    fn make_cpuset(&self) -> io::Result<()> {
        make_all(&self.path)?;
        for file in ["cpuset.cpus", "cpuset.mems"] {
            self.inherit(&self.path, file)?;
        }
        Ok(())
    }

    /// Gives a cpuset what its parent has, which may have to be given it first.
    fn inherit(&self, path: &Path, file: &str) -> io::Result<String> {
        let own = std::fs::read_to_string(path.join(file))?;
        let parent = path.parent().filter(|_| path != self.mountpoint);
        match (own.trim(), parent) {
            ("", Some(parent)) => {
                let given = self.inherit(parent, file)?;
                super::write(&path.join(file), &given)?;
                Ok(given)
            }
            (own, _) => Ok(own.to_owned()),
        }
    }

    /// A v2 cgroup has the controllers that its parent lets through. Mostly it does already: only a
    /// cgroup that lacks some has those above it looked at, from the top.
    fn make_unified(&self) -> io::Result<()> {
        make_all(&self.path)?;
        if missing(&self.controllers, &available(&self.path)?).is_empty() {
            return Ok(());
        }
        let mut parent = self.mountpoint.as_path();
        for path in self.line() {
            let available = available(parent)?;
            let mut own = self.controllers.iter();
            if !own.any(|controller| has(&available, controller)) {
                return Ok(());
            }
            self.let_through(parent, &available);
            parent = path;
        }
        Ok(())
    }

    /// All at once, or one by one where the kernel refuses one of them: what cannot be let through is
    /// missed only by a limit that needs it.
    fn let_through(&self, parent: &Path, available: &str) {
        let file = parent.join("cgroup.subtree_control");
        let now = std::fs::read_to_string(&file).unwrap_or_default();
        let mut missing = missing(&self.controllers, &now);
        missing.retain(|word| has(available, &word[1..]));
        if missing.is_empty() || super::write(&file, &missing.join(" ")).is_ok() {
            return;
        }
        if missing.len() > 1 {
            for controller in missing {
                let _ = super::write(&file, &controller);
            }
        }
    }

    /// Removes the directory and those below it, as far as they are idle, and waits for nobody.
    ///
    /// # Errors
    /// What the kernel says: `ResourceBusy` while there are processes.
    pub fn remove_now(&self) -> io::Result<()> {
        match remove_one(&self.path) {
            Err(Errno::BUSY | Errno::NOTEMPTY) => {}
            other => return Ok(other?),
        }
        // Those below come last in the list.
        for path in self.all()?.iter().rev() {
            remove_one(path)?;
        }
        Ok(())
    }

    /// As [`Directory::remove_now`], for a caller who may wait: for those who were killed.
    ///
    /// # Errors
    /// What the kernel says: `ResourceBusy` when processes are left after a while.
    pub fn remove(&self) -> io::Result<()> {
        let mut pause = Duration::from_micros(200);
        for _ in 0..TRIES {
            match self.remove_now() {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                    std::thread::sleep(pause);
                }
                other => return other,
            }
            pause = (pause * 2).min(PAUSE);
        }
        self.remove_now()
    }

    /// This directory and all below it.
    ///
    /// # Errors
    /// What reading says.
    pub fn all(&self) -> io::Result<Vec<PathBuf>> {
        let mut found = vec![self.path.clone()];
        let mut next = 0;
        while let Some(path) = found.get(next).cloned() {
            found.extend(subdirectories(&path)?);
            next += 1;
        }
        Ok(found)
    }
}

/// The words that let through what is not let through now.
fn missing(controllers: &[String], now: &str) -> Vec<String> {
    let absent = controllers
        .iter()
        .filter(|controller| !has(now, controller));
    absent.map(|controller| format!("+{controller}")).collect()
}

fn has(words: &str, word: &str) -> bool {
    words.split_ascii_whitespace().any(|other| other == word)
}

/// The controllers that a v2 cgroup has, to use and to let through.
fn available(path: &Path) -> io::Result<String> {
    std::fs::read_to_string(path.join("cgroup.controllers"))
}

/// What is below a directory; one that is gone has nothing below it.
pub(super) fn subdirectories(path: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// One that is gone is fine.
fn remove_one(path: &Path) -> Result<(), Errno> {
    match rustix::fs::rmdir(path) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// Makes the last directory; only when that fails those above it.
fn make_all(path: &Path) -> io::Result<()> {
    match (make_one(path), path.parent()) {
        (Err(error), Some(parent)) if error.kind() == io::ErrorKind::NotFound => {
            make_all(parent)?;
            make_one(path)
        }
        (made, _) => made,
    }
}

fn make_one(path: &Path) -> io::Result<()> {
    match rustix::fs::mkdir(path, rustix::fs::Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(mountinfo: &str) -> Vec<Mount> {
        first_of_each(&mut mountinfo.as_bytes(), usize::MAX).unwrap()
    }

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
34 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset,clone_children
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
50 27 0:29 /x /mnt/part rw,relatime - cgroup cgroup rw,cpu,cpuacct
51 27 0:29 / /mnt/again rw,relatime - cgroup cgroup rw,cpu,cpuacct
";

    #[test]
    fn every_hierarchy_is_found_once() {
        let found = parse(HYBRID);
        let names: Vec<_> = found
            .iter()
            .map(|mount| mount.mountpoint.to_str().unwrap())
            .collect();
        assert_eq!(
            names,
            [
                "/sys/fs/cgroup/cpu,cpuacct",
                "/sys/fs/cgroup/cpuset",
                "/sys/fs/cgroup/systemd",
                "/sys/fs/cgroup/unified"
            ]
        );
        assert_eq!(found[0].controllers, ["cpu", "cpuacct"]);
        assert_eq!(found[2].controllers, ["name=systemd"]);
        assert_eq!(found[3].version, Version::V2);
    }

    #[test]
    fn no_more_is_read_than_is_needed() {
        let text = [b"30 1 0:1 / /\xff rw - tmpfs x rw\n", HYBRID.as_bytes()].concat();
        let mut rest = text.as_slice();
        assert_eq!(first_of_each(&mut rest, 2).unwrap(), parse(HYBRID)[..2]);
        assert!(rest.starts_with(b"40 "), "the rest is left");
    }

    #[test]
    fn only_what_is_missing_is_let_through() {
        let controllers = ["cpu", "cpuset", "memory"].map(str::to_owned);
        assert_eq!(missing(&controllers, "cpuset io\n"), ["+cpu", "+memory"]);
        assert_eq!(missing(&controllers, "memory cpu cpuset"), [""; 0]);
    }

    #[test]
    fn a_directory_knows_its_line_and_its_aliases() {
        let directory = parse(HYBRID).remove(0).directory("pods/x");
        assert_eq!(
            directory.line(),
            [
                Path::new("/sys/fs/cgroup/cpu,cpuacct/pods"),
                Path::new("/sys/fs/cgroup/cpu,cpuacct/pods/x")
            ]
        );
        assert_eq!(directory.aliases(), ["cpu", "cpuacct"]);
        assert_eq!(directory.name(), "cpu,cpuacct");
    }
}
