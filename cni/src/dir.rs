//! The configuration directory: the first usable file in lexical order is the network.
//!
//! Invariant: a directory without a network is explained file by file, so that a person who put a
//! file there learns why it is not taken.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::conf::{Head, NetworkList, Plugin};
use crate::error::{Error, NoNetwork, Unusable};

/// No configuration is larger; a file that is was put there by mistake.
const LARGEST: u64 = 1 << 20;

/// Reads the directory's network: of the `.conflist`, `.conf` and `.json` files the first in
/// lexical order that is usable.
pub fn load(dir: &Path) -> Result<NetworkList, NoNetwork> {
    let none = |unreadable, unusable| NoNetwork {
        dir: dir.to_owned(),
        unreadable,
        unusable,
    };
    let files = match files(dir, &["conflist", "conf", "json"]) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(none(Some(error.to_string()), Vec::new())),
    };
    let mut unusable = Vec::new();
    for path in files {
        match usable(&path) {
            Ok(list) => return Ok(list),
            Err(reason) => unusable.push(Unusable {
                file: name_of(&path),
                reason,
            }),
        }
    }
    Err(none(None, unusable))
}

fn usable(path: &Path) -> Result<NetworkList, String> {
    let list = read_network(path).map_err(|error| reason_only(&error))?;
    // Packages of other runtimes ship such a file; as the network it would leave pods with no
    // address and no error.
    if list.plugin_types().all(|kind| kind == "loopback") {
        return Err("it has only the loopback plugin, which gives no address".to_owned());
    }
    Ok(list)
}

/// The file is named beside the reason already.
fn reason_only(error: &Error) -> String {
    match error {
        Error::ConfInvalid { reason, .. } => reason.clone(),
        Error::ConfUnreadable { source, .. } => source.to_string(),
        other => other.to_string(),
    }
}

impl NetworkList {
    /// Reads a file, and beside a list that does not forbid it (`loadOnlyInlinedPlugins`) the
    /// plugins in `NAME/*.conf`, appended in lexical order.
    pub fn from_file(path: &Path) -> Result<Self, Error> {
        read_network(path)
    }
}

fn read_network(path: &Path) -> Result<NetworkList, Error> {
    let bytes = read(path)?;
    let origin = path.display().to_string();
    let head = Head::parse(&bytes).map_err(|reason| Error::ConfInvalid {
        origin: origin.clone(),
        reason,
    })?;
    let more = match path.parent() {
        Some(dir) if head.looks_beside => plugins_in(&dir.join(&head.name))?,
        _ => Vec::new(),
    };
    NetworkList::parse(&bytes, &origin, more)
}

fn plugins_in(dir: &Path) -> Result<Vec<Plugin>, Error> {
    let files = match files(dir, &["conf"]) {
        Ok(files) => files,
        Err(error) if is_no_directory(&error) => return Ok(Vec::new()),
        Err(source) => {
            return Err(Error::ConfUnreadable {
                path: dir.to_owned(),
                source,
            });
        }
    };
    let parse = |path: &PathBuf| {
        let origin = path.display().to_string();
        Plugin::parse(&read(path)?).map_err(|reason| Error::ConfInvalid { origin, reason })
    };
    files.iter().map(parse).collect()
}

fn is_no_directory(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// The directory's files with one of the extensions, in lexical order. Links are followed.
fn files(dir: &Path, extensions: &[&str]) -> io::Result<Vec<PathBuf>> {
    let entries: Vec<_> = fs::read_dir(dir)?.collect::<io::Result<_>>()?;
    let has_extension = |path: &PathBuf| {
        path.extension()
            .and_then(OsStr::to_str)
            .is_some_and(|ext| extensions.contains(&ext))
    };
    let mut paths: Vec<_> = entries
        .iter()
        .map(fs::DirEntry::path)
        .filter(has_extension)
        .collect();
    paths.retain(|path| !path.is_dir());
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let unreadable = |source| Error::ConfUnreadable {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    // Asked before the open, which would wait for the other end of a FIFO.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(unreadable(io::Error::other("it is no regular file")));
    }
    let file = File::open(path).map_err(unreadable)?;
    file.take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > LARGEST {
        return Err(unreadable(io::Error::other("it is larger than 1 MiB")));
    }
    Ok(bytes)
}

fn name_of(path: &Path) -> PathBuf {
    path.file_name()
        .map_or_else(|| path.to_owned(), PathBuf::from)
}

#[cfg(test)]
mod tests;
