//! The directory of a committed layer, held by a descriptor.
//!
//! Invariant: what is written goes into the directory that was opened, whatever has come in its place
//! since: a layer may be removed, pulled anew or replaced while the file system is synced.

use std::{
    fs::File,
    io::{self, Write},
    path::PathBuf,
};

use rustix::fs::{Mode, OFlags, fstat, openat, renameat, stat};

use super::{
    error::{Error, io_error},
    layers::{LayerRecord, RECORD, UNFINISHED},
};

/// A layer's directory.
pub(super) struct Home {
    directory: File,
    path: PathBuf,
}

impl Home {
    /// Opens it; `None` where it has gone.
    pub fn open(path: PathBuf) -> Result<Option<Self>, Error> {
        match File::open(&path) {
            Ok(directory) => Ok(Some(Self { directory, path })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("open", path)(error)),
        }
    }

    /// Says in its record that it is durable; `None` where it has been thrown away.
    pub fn mark(&self) -> Result<Option<LayerRecord>, Error> {
        match self.rewrite() {
            Ok(record) => Ok(Some(record)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("mark as durable", &self.path)(error)),
        }
    }

    fn rewrite(&self) -> io::Result<LayerRecord> {
        let record = openat(&self.directory, RECORD, OFlags::CLOEXEC, Mode::empty())?;
        let mut record: LayerRecord = serde_json::from_reader(File::from(record))?;
        record.durable = true;
        let unfinished = format!("{UNFINISHED}{RECORD}");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let file = openat(
            &self.directory,
            &*unfinished,
            flags,
            Mode::from_raw_mode(0o644),
        )?;
        File::from(file).write_all(&serde_json::to_vec(&record)?)?;
        renameat(&self.directory, &*unfinished, &self.directory, RECORD)?;
        Ok(record)
    }

    /// Whether its path still leads to it. Its inode is not given to another while it is held.
    pub fn is_at_its_path(&self) -> bool {
        match (fstat(&self.directory), stat(&self.path)) {
            (Ok(own), Ok(there)) => (own.st_dev, own.st_ino) == (there.st_dev, there.st_ino),
            _ => false,
        }
    }
}
