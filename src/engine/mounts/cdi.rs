//! Devices of the Container Device Interface: which vendor's file has the one that is asked for.
//!
//! The directories are read when a container asks for a device, so there is nothing to watch, and
//! nothing to be out of date. A later directory goes before an earlier one.
//!
//! Invariant: a file that cannot be used is no reason to refuse devices of others, and is named where a
//! device is not found.

use crate::engine::looks::Looker;
use crate::error::{Context, Error, Kind, Result};
use crate::model::cdi::{self, ContainerEdits, DeviceName, DeviceNode, VendorSpec};
use crate::model::container::ContainerConfig;
use rustix::fs::{major, minor};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The largest file that is read, in bytes.
const LARGEST: u64 = 16 << 20;

/// A vendor's file.
struct Found {
    path: PathBuf,
    /// The place of its directory in the list.
    rank: usize,
    spec: VendorSpec,
}

/// What is in the directories.
#[derive(Default)]
struct Catalog {
    files: Vec<Found>,
    /// Files that cannot be used, and why.
    broken: Vec<String>,
}

/// What the devices that a container asks for change in its configuration, in the order in which it
/// is done.
///
/// # Errors
/// `InvalidArgument` for a name that is none; `NotFound` where no file has such a device, or two have;
/// else why it cannot be looked at. Messages name the files.
pub fn edits(
    config: &ContainerConfig,
    dirs: &[PathBuf],
    looker: &Looker,
) -> Result<Vec<ContainerEdits>> {
    let asked = cdi::asked(config)?;
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let catalog = Catalog::read(dirs, looker)?;
    let (mut all, mut begun) = (Vec::new(), Vec::new());
    for name in &asked {
        let (file, device) = catalog.find(name, dirs)?;
        if !begun.contains(&&file.path) {
            begun.push(&file.path);
            all.push(whole(file.spec.common(), file, looker)?);
        }
        all.push(whole(device, file, looker)?);
    }
    Ok(all)
}

impl Catalog {
    fn read(dirs: &[PathBuf], looker: &Looker) -> Result<Self> {
        let mut catalog = Self::default();
        for (rank, dir) in dirs.iter().enumerate() {
            looker.at(dir)?;
            let mut paths: Vec<_> = match fs::read_dir(dir) {
                Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => {
                    catalog.broken.push(format!("{}: {error}", dir.display()));
                    continue;
                }
            };
            paths.sort();
            for path in paths {
                match read(&path) {
                    Some(Ok(spec)) => catalog.files.push(Found { path, rank, spec }),
                    Some(Err(why)) => catalog.broken.push(format!("{}: {why}", path.display())),
                    None => {}
                }
            }
        }
        Ok(catalog)
    }

    fn find(&self, name: &DeviceName, dirs: &[PathBuf]) -> Result<(&Found, &ContainerEdits)> {
        let of_kind = self.files.iter().filter(|file| file.spec.kind == name.kind);
        let having = of_kind.filter_map(|file| Some((file, file.spec.device(&name.device)?)));
        let having: Vec<_> = having.collect();
        let best = having.iter().map(|(file, _)| file.rank).max();
        let mut best = having.iter().filter(|(file, _)| Some(file.rank) == best);
        match (best.next(), best.next()) {
            (Some(one), None) => Ok(*one),
            (Some((one, _)), Some((other, _))) => Err(Error::not_found(format!(
                "CDI device {name} is in two files, {} and {}: remove one of them",
                one.path.display(),
                other.path.display()
            ))),
            (None, _) => Err(self.unknown(name, dirs)),
        }
    }

    fn unknown(&self, name: &DeviceName, dirs: &[PathBuf]) -> Error {
        let shown: Vec<_> = dirs.iter().map(|dir| dir.display().to_string()).collect();
        let mut why = format!("no file in {} has CDI device {name}", shown.join(", "));
        for file in self.files.iter().filter(|file| file.spec.kind == name.kind) {
            let names: Vec<_> = file.spec.names().collect();
            why += &format!("; {} has {}", file.path.display(), names.join(", "));
        }
        for broken in &self.broken {
            why += &format!("; unusable: {broken}");
        }
        Error::not_found(why)
    }
}

/// `None`: it is no vendor's file.
fn read(path: &Path) -> Option<Result<VendorSpec, String>> {
    let is_json = match path.extension()?.to_str()? {
        "json" => true,
        "yaml" => false,
        _ => return None,
    };
    Some(parsed(path, is_json))
}

fn parsed(path: &Path, is_json: bool) -> Result<VendorSpec, String> {
    let metadata = fs::metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_file() || metadata.len() > LARGEST {
        return Err(format!("it is no file of at most {LARGEST} bytes"));
    }
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    let spec: VendorSpec = match is_json {
        true => serde_json::from_str(&text).map_err(|error| error.to_string())?,
        false => yaml_serde::from_str(&text).map_err(|error| error.to_string())?,
    };
    spec.check().map_err(|flaw| flaw.to_string())?;
    Ok(spec)
}

/// With what the node knows of the devices.
fn whole(edits: &ContainerEdits, file: &Found, looker: &Looker) -> Result<ContainerEdits> {
    let mut edits = edits.clone();
    for node in &mut edits.device_nodes {
        if !node.is_whole() {
            complete(node, looker)
                .map_err(|error| error.during(format!("use {}", file.path.display())))?;
        }
    }
    Ok(edits)
}

fn complete(node: &mut DeviceNode, looker: &Looker) -> Result<()> {
    let path = Path::new(node.on_node());
    looker.at(path)?;
    let failed = || format!("look at device {}", path.display());
    let metadata = fs::metadata(path).context(Kind::Internal, failed)?;
    let found = metadata.file_type();
    let kind = match () {
        () if found.is_char_device() => "c",
        () if found.is_block_device() => "b",
        () if found.is_fifo() => "p",
        () => return Err(Error::internal(failed()).caused_by("it is no device")),
    };
    let is_same = |given: &str| given == kind || given == "u" && kind == "c";
    if let Some(given) = node.kind.as_deref().filter(|given| !is_same(given)) {
        let differs = format!("it is of type {kind}, and said to be {given}");
        return Err(Error::internal(failed()).caused_by(differs));
    }
    if kind != "p" && node.major.is_none() {
        node.major = Some(major(metadata.rdev()).into());
        node.minor = Some(minor(metadata.rdev()).into());
    }
    node.kind.get_or_insert_with(|| kind.to_owned());
    Ok(())
}

#[cfg(test)]
mod tests;
