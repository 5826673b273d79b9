//! The files of a cgroup: where they are in each version, and how they say numbers.

use super::{CgroupError, below_root};
use crate::model::hierarchies::Hierarchies;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A cgroup, and where the hierarchies are.
pub struct Place<'a> {
    /// The hierarchies.
    pub at: &'a Hierarchies,
    /// Its path below each root.
    pub path: &'a str,
}

/// A cgroup's directory in the hierarchy of one controller.
pub enum Directory {
    /// Of version 1.
    Legacy(PathBuf),
    /// Of version 2.
    Unified(PathBuf),
}

impl<'a> Place<'a> {
    /// Reads the cgroup at this path below every root; one that is not there is `Missing`.
    pub fn reading<T>(
        at: &'a Hierarchies,
        cgroup: &'a str,
        read: impl FnOnce(&Self) -> Result<T, CgroupError>,
    ) -> Result<T, CgroupError> {
        let path = below_root(cgroup)?;
        let place = Self { at, path };
        read(&place).map_err(|error| match place.exists() {
            true => error,
            false => CgroupError::Missing(cgroup.to_owned()),
        })
    }

    /// Version 1 where the controller is there, else version 2.
    pub fn of(&self, controller: &str) -> Result<Directory, CgroupError> {
        if let Some(root) = self.at.legacy(controller) {
            return Ok(Directory::Legacy(root.join(self.path)));
        }
        let root = self.at.unified.as_ref().ok_or(CgroupError::NoHierarchy)?;
        Ok(Directory::Unified(root.join(self.path)))
    }

    fn exists(&self) -> bool {
        self.at.roots().any(|root| root.join(self.path).is_dir())
    }
}

/// A file of lines that are a word, a blank and a number.
pub struct Table {
    path: PathBuf,
    text: String,
}

impl Table {
    /// Reads the file.
    pub fn read(path: PathBuf) -> Result<Self, CgroupError> {
        let text = text(&path)?;
        Ok(Self { path, text })
    }

    /// The number after this word.
    pub fn get(&self, key: &str) -> Result<u64, CgroupError> {
        let value = self.text.lines().find_map(|line| {
            let (word, value) = line.split_once(' ')?;
            (word == key).then_some(value)
        });
        parse(&self.path, value.unwrap_or_default())
    }
}

/// What a file says.
pub fn text(path: &Path) -> Result<String, CgroupError> {
    fs::read_to_string(path).map_err(CgroupError::io("read", path))
}

/// A file that is a number.
pub fn number(path: &Path) -> Result<u64, CgroupError> {
    parse(path, text(path)?.trim())
}

/// Text of a file that is to be a number.
pub fn parse(path: &Path, text: &str) -> Result<u64, CgroupError> {
    text.parse().map_err(|_| CgroupError::Format {
        path: path.to_owned(),
        text: text.to_owned(),
    })
}

/// A limit: version 2 says `max` where there is none, version 1 a number no machine has.
pub fn limit(path: &Path) -> Result<Option<u64>, CgroupError> {
    const NO_MACHINE_HAS: u64 = 1 << 62;
    match text(path)?.trim() {
        "max" => Ok(None),
        text => Ok(Some(parse(path, text)?).filter(|limit| *limit < NO_MACHINE_HAS)),
    }
}

/// `None` where the file is not there.
pub fn if_there<T>(result: Result<T, CgroupError>) -> Result<Option<T>, CgroupError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(CgroupError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
