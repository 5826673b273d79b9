//! The addresses that are given, as files: `DATADIR/NETWORK/ADDRESS` names its owner.
//!
//! Files and lock are those of the reference plugin, so that either gives back what the other gave.
//!
//! Invariant: everything is read and written below the lock, which is flock(2) on `lock`.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::bundled::fault::{Doing, Outcome};
use crate::cache::write_private;

/// The network's directory, locked.
pub(crate) struct Store {
    directory: PathBuf,
    /// Released when it is closed.
    _lock: File,
}

impl Store {
    /// Waits for others to be done.
    pub(crate) fn lock(directory: &Path) -> Outcome<Self> {
        let what = || format!("lock the addresses in {}", directory.display());
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(directory)
            .doing(what)?;
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o750);
        let lock = options.open(directory.join("lock")).doing(what)?;
        flock(&lock, FlockOperation::LockExclusive).doing(what)?;
        let directory = directory.to_owned();
        Ok(Self {
            directory,
            _lock: lock,
        })
    }

    /// False where it is somebody's already.
    pub(crate) fn reserve(&self, addr: IpAddr, owner: &str, set: usize) -> Outcome<bool> {
        let what = || format!("reserve {addr} in {}", self.directory.display());
        let path = self.directory.join(addr.to_string());
        let mut options = OpenOptions::new();
        let mut file = match options.write(true).create_new(true).mode(0o600).open(&path) {
            // Files are made and filled below the lock: one that is empty is nobody's, but was left by
            // a call that was killed between the two.
            Err(error) if error.kind() == ErrorKind::AlreadyExists && is_empty(&path) => {
                OpenOptions::new().write(true).open(&path).doing(what)?
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(false),
            opened => opened.doing(what)?,
        };
        if let Err(error) = file.write_all(owner.as_bytes()) {
            // An address without an owner could never be given back.
            let _ = fs::remove_file(&path);
            return Err(error).doing(what);
        }
        write_private(&self.last(set), addr.to_string().as_bytes()).doing(what)?;
        Ok(true)
    }

    pub(crate) fn last_reserved(&self, set: usize) -> Option<IpAddr> {
        fs::read_to_string(self.last(set)).ok()?.parse().ok()
    }

    /// The addresses of this owner; also those of plugins before 0.7, which wrote the id alone.
    pub(crate) fn owned(&self, container_id: &str, ifname: &str) -> Outcome<Vec<IpAddr>> {
        let owner = owner(container_id, ifname);
        let own = self.all()?.into_iter();
        let own = own.filter(|(_, text)| *text == owner || text == container_id);
        Ok(own
            .filter_map(|(path, _)| path.file_name()?.to_str()?.parse().ok())
            .collect())
    }

    /// Gives back what the owner has; nothing is no error.
    pub(crate) fn release(&self, container_id: &str, ifname: &str) -> Outcome<()> {
        let all = self.all()?;
        let of = |wanted: &str| all.iter().filter(|(_, text)| text == wanted).count();
        let exact = owner(container_id, ifname);
        let wanted = if of(&exact) > 0 {
            exact.as_str()
        } else {
            container_id
        };
        self.release_where(&all, |text| text == wanted)
    }

    /// Gives back these addresses, whose owner the caller is.
    pub(crate) fn release_these(&self, addresses: &[IpAddr]) -> Outcome<()> {
        for addr in addresses {
            remove(&self.directory.join(addr.to_string()))?;
        }
        Ok(())
    }

    /// Gives back what nobody of `kept` has, and empty files. Files that name no interface are left alone:
    /// whose they are cannot be told.
    pub(crate) fn keep(&self, kept: &[(String, String)]) -> Outcome<()> {
        let owners: Vec<_> = kept.iter().map(|(id, ifname)| owner(id, ifname)).collect();
        let all = self.all()?;
        self.release_where(&all, |text| {
            text.is_empty() || text.contains("\r\n") && !owners.iter().any(|owner| owner == text)
        })
    }

    fn release_where(
        &self,
        all: &[(PathBuf, String)],
        which: impl Fn(&str) -> bool,
    ) -> Outcome<()> {
        for (path, _) in all.iter().filter(|(_, text)| which(text)) {
            remove(path)?;
        }
        Ok(())
    }

    /// The files of addresses, and whose they are.
    fn all(&self) -> Outcome<Vec<(PathBuf, String)>> {
        let what = || format!("read the addresses in {}", self.directory.display());
        let entries = fs::read_dir(&self.directory).doing(what)?;
        let paths = entries.flatten().map(|entry| entry.path());
        let is_address = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.parse::<IpAddr>().is_ok())
        };
        let read = |path: PathBuf| {
            let text = fs::read_to_string(&path).ok()?;
            Some((path, text.trim().to_owned()))
        };
        Ok(paths.filter(is_address).filter_map(read).collect())
    }

    fn last(&self, set: usize) -> PathBuf {
        self.directory.join(format!("last_reserved_ip.{set}"))
    }
}

fn is_empty(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|file| file.is_file() && file.len() == 0)
}

fn remove(path: &Path) -> Outcome<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.doing(|| format!("give back the address {}", path.display())),
    }
}

/// What a file says of its owner.
pub(crate) fn owner(container_id: &str, ifname: &str) -> String {
    format!("{container_id}\r\n{ifname}")
}
