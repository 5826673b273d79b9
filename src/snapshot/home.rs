//! The directory of a committed layer, held by a descriptor.
//!
//! Invariant: what is written goes into the directory that was opened, whatever has come in its place
//! since: a layer may be removed, pulled anew or replaced while the file system is synced.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags, fstat, openat, renameat, stat};

use super::verity::Sealed;
use super::{
    error::{Error, io_error},
    record::{LayerRecord, RECORD, UNFINISHED},
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

    /// Where it was when it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Says in its record that its files are sealed, and takes what that needs; `None` where it has been
    /// thrown away.
    pub fn note_seals(&self, sealed: &Sealed) -> Result<Option<LayerRecord>, Error> {
        let note = |record: &mut LayerRecord| {
            record.verity = Some(sealed.list.clone());
            record.usage += sealed.usage;
        };
        match self.rewrite(note, File::sync_all) {
            Ok(record) => Ok(Some(record)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("mark as sealed", &self.path)(error)),
        }
    }

    /// Says in its record that it is durable; `None` where it has been thrown away.
    pub fn mark(&self) -> Result<Option<LayerRecord>, Error> {
        match self.rewrite(|record| record.durable = true, |_| Ok(())) {
            Ok(record) => Ok(Some(record)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("mark as durable", &self.path)(error)),
        }
    }

    /// Says in its record, for good, that it is broken.
    pub fn distrust(&self) -> Result<(), Error> {
        let rewritten = self.rewrite(|record| record.distrusted = true, File::sync_all);
        let synced = rewritten.and_then(|_| self.directory.sync_all());
        synced.map_err(io_error("mark as broken", &self.path))
    }

    fn rewrite(
        &self,
        change: impl FnOnce(&mut LayerRecord),
        sync: impl FnOnce(&File) -> io::Result<()>,
    ) -> io::Result<LayerRecord> {
        let record = openat(&self.directory, RECORD, OFlags::CLOEXEC, Mode::empty())?;
        let mut record: LayerRecord = serde_json::from_reader(File::from(record))?;
        change(&mut record);
        self.put(RECORD, &serde_json::to_vec(&record)?, sync)?;
        Ok(record)
    }

    /// Writes a file of it, for good.
    pub fn write(&self, name: &str, bytes: &[u8]) -> io::Result<File> {
        self.put(name, bytes, File::sync_all)
    }

    fn put(
        &self,
        name: &str,
        bytes: &[u8],
        sync: impl FnOnce(&File) -> io::Result<()>,
    ) -> io::Result<File> {
        let unfinished = format!("{UNFINISHED}{name}");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let file = openat(
            &self.directory,
            &*unfinished,
            flags,
            Mode::from_raw_mode(0o644),
        )?;
        let mut file = File::from(file);
        file.write_all(bytes)?;
        sync(&file)?;
        renameat(&self.directory, &*unfinished, &self.directory, name)?;
        Ok(file)
    }

    /// Whether its path still leads to it. Its inode is not given to another while it is held.
    pub fn is_at_its_path(&self) -> bool {
        match (fstat(&self.directory), stat(&self.path)) {
            (Ok(own), Ok(there)) => (own.st_dev, own.st_ino) == (there.st_dev, there.st_ino),
            _ => false,
        }
    }
}
