//! libcni's result cache: one file for an attachment that exists, `results/NETWORK-ID-IFNAME`.
//!
//! The format is libcni's (`cniCacheV1`), so that what one runtime wrote another can undo.
//!
//! Invariant: a file in `results/` is whole. It is written beside that directory and renamed into
//! it; no fsync, since after a crash of the machine no namespace is left that it could speak of.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::args::{Attachment, Capabilities};
use crate::conf::NetworkList;
use crate::error::Error;
use crate::result::AddResult;

const KIND: &str = "cniCacheV1";

/// An attachment as the cache remembers it: enough to DEL it with nothing else at hand.
#[derive(Clone, Debug, PartialEq)]
pub struct CachedAttachment {
    /// The network's name.
    pub network: String,
    /// The configuration that ADD ran with, for [`NetworkList::from_bytes`].
    pub config: Vec<u8>,
    /// Who, where and with what.
    pub attachment: Attachment,
}

/// The directory of the cache.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    root: PathBuf,
}

/// The file's keys, in libcni's order.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    kind: String,
    #[serde(default)]
    container_id: String,
    #[serde(default)]
    config: String,
    #[serde(default)]
    if_name: String,
    #[serde(default)]
    network_name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    netns: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cni_args: Option<Vec<(String, String)>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    capability_args: Option<Capabilities>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    result: Option<Box<RawValue>>,
}

// === impl Cache ===

impl Cache {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Remembers what an ADD answered.
    pub(crate) fn write(
        &self,
        list: &NetworkList,
        attachment: &Attachment,
        result: &AddResult,
    ) -> Result<(), Error> {
        let path = self.path(list.name(), attachment);
        let text = serde_json::to_vec(&File::new(list, attachment, result))
            .map_err(|error| invalid(&path, format!("cannot be written: {error}")))?;
        self.replace(&path, &text)
            .map_err(|source| cache_io(&path, "write", source))
    }

    /// The result of the ADD in the version of `list`; `None` where there is no file.
    pub(crate) fn result(
        &self,
        list: &NetworkList,
        attachment: &Attachment,
    ) -> Result<Option<AddResult>, Error> {
        let path = self.path(list.name(), attachment);
        let Some(file) = read(&path)? else {
            return Ok(None);
        };
        let Some(raw) = file.result else {
            return Ok(None);
        };
        AddResult::parse(raw.get().as_bytes(), list.version())
            .map(Some)
            .map_err(|reason| invalid(&path, format!("the result in it is none: {reason}")))
    }

    /// Forgets the attachment; a file that is not there is forgotten already.
    pub(crate) fn remove(&self, list: &NetworkList, attachment: &Attachment) -> Result<(), Error> {
        let path = self.path(list.name(), attachment);
        match fs::remove_file(&path) {
            Err(error) if !is_absent(&error) => Err(cache_io(&path, "remove", error)),
            _ => Ok(()),
        }
    }

    /// Every attachment that is remembered, in the order of the file names. Files that are no
    /// cache files are passed over.
    pub(crate) fn attachments(&self) -> Result<Vec<CachedAttachment>, Error> {
        let directory = self.root.join("results");
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if is_absent(&error) => return Ok(Vec::new()),
            Err(error) => return Err(cache_io(&directory, "read", error)),
        };
        let mut paths: Vec<_> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect();
        paths.sort();
        let read = |path: &PathBuf| read(path).ok().flatten()?.into_attachment();
        Ok(paths.iter().filter_map(read).collect())
    }

    /// Both names are checked before they come here: no part of them leaves the directory.
    fn path(&self, network: &str, attachment: &Attachment) -> PathBuf {
        let Attachment {
            container_id,
            ifname,
            ..
        } = attachment;
        self.root
            .join("results")
            .join(format!("{network}-{container_id}-{ifname}"))
    }

    fn replace(&self, path: &Path, text: &[u8]) -> io::Result<()> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let draft = self
            .root
            .join(format!(".result-{}-{number}", std::process::id()));
        make_directory(&self.root.join("results"))?;
        let written = write_private(&draft, text).and_then(|()| fs::rename(&draft, path));
        if written.is_err() {
            // The first error is the one to tell; the draft is only litter.
            let _ = fs::remove_file(&draft);
        }
        written
    }
}

fn make_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

/// Writes a file that is its owner's alone, anew.
pub(crate) fn write_private(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text)
}

fn read(path: &Path) -> Result<Option<File>, Error> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(cache_io(path, "read", error)),
    };
    let file: File = serde_json::from_slice(&text)
        .map_err(|error| invalid(path, format!("it is no cache file: {error}")))?;
    match file.kind.as_str() {
        KIND => Ok(Some(file)),
        kind => Err(invalid(path, format!("its kind is {kind:?}, not {KIND:?}"))),
    }
}

/// No such file, or no directory that it could be in.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

fn cache_io(path: &Path, action: &'static str, source: io::Error) -> Error {
    Error::CacheIo {
        path: path.to_owned(),
        action,
        source,
    }
}

fn invalid(path: &Path, reason: String) -> Error {
    Error::CacheInvalid {
        path: path.to_owned(),
        reason,
    }
}

// === impl File ===

impl File {
    fn new(list: &NetworkList, attachment: &Attachment, result: &AddResult) -> Self {
        let it = attachment.clone();
        let netns = it
            .netns
            .map(|path| path.to_string_lossy().into_owned())
            .unwrap_or_default();
        Self {
            kind: KIND.to_owned(),
            container_id: it.container_id,
            config: BASE64.encode(list.bytes()),
            if_name: it.ifname,
            network_name: list.name().to_owned(),
            netns,
            cni_args: Some(it.args).filter(|args| !args.is_empty()),
            capability_args: Some(it.capabilities).filter(|args| !args.is_empty()),
            result: RawValue::from_string(result.json().to_owned()).ok(),
        }
    }

    fn into_attachment(self) -> Option<CachedAttachment> {
        let config = BASE64.decode(&self.config).ok()?;
        let attachment = Attachment {
            container_id: self.container_id,
            netns: Some(self.netns)
                .filter(|path| !path.is_empty())
                .map(PathBuf::from),
            ifname: self.if_name,
            args: self.cni_args.unwrap_or_default(),
            capabilities: self.capability_args.unwrap_or_default(),
        };
        let is_whole = !self.network_name.is_empty() && attachment.check().is_ok();
        is_whole.then_some(CachedAttachment {
            network: self.network_name,
            config,
            attachment,
        })
    }
}

#[cfg(test)]
mod tests;
