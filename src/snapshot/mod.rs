//! Snapshots: what a container's root is mounted from.
//!
//! The port is [`Snapshotter`]; the adapter [`Overlay`] gives overlayfs mounts of the [`Layers`]
//! below a writable directory of the container's own. Invariants: nobody mounts here, the shim
//! does; a writable directory is fresh for each container and mounted once, so `volatile` is safe:
//! it does not outlive the boot.

mod borrowed;
mod complete;
mod error;
pub mod fakes;
mod footing;
mod home;
mod inventory;
mod layers;
mod lower;
mod points;
mod projects;
mod record;
mod relocate;
mod replace;
#[cfg(test)]
mod tests;
mod trash;
mod verify;
mod verity;
mod walk;
mod whiteouts;

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::Path,
    sync::Arc,
};

use corten_shim::api::RootfsMount;

use self::error::io_error;
pub use self::{
    error::Error,
    layers::{Layers, Leaving, Place, Staged},
    projects::Projects,
    record::LayerRecord,
    trash::Trash,
    verify::{Deviation, Difference, Stop, Verified},
};
use crate::{id::ChainId, trees, unpack::Usage};

/// The writable directory of a container.
const UPPER: &str = "upper";
/// What overlayfs works in; on the same file system.
const WORK: &str = "work";
/// How many lower layers overlayfs takes (`OVL_MAX_STACK`).
const MOST_LAYERS: usize = 500;
/// The unit of `st_blocks`, whatever the file system's own (`stat(2)`).
const STAT_BLOCK: u64 = 512;

/// Gives containers their root file systems.
pub trait Snapshotter: Send + Sync {
    /// Whether roots can be made here, as far as can be told beforehand.
    ///
    /// # Errors
    /// The reason.
    fn ready(&self) -> Result<(), String>;

    /// A fresh writable root on these layers (bottom first), its writable part in `directory`, which is
    /// made where it is absent.
    ///
    /// # Errors
    /// `Missing` where a layer is not there; what the kernel refuses.
    fn prepare(&self, directory: &Path, layers: &[ChainId]) -> Result<Vec<RootfsMount>, Error>;

    /// A read-only view of these layers (bottom first), as image volumes want it.
    ///
    /// # Errors
    /// `Missing` where a layer is not there.
    fn view(&self, layers: &[ChainId]) -> Result<Vec<RootfsMount>, Error>;

    /// Takes the writable part in `directory` away: at once in name, in the background on disk.
    ///
    /// # Errors
    /// Where it cannot be renamed.
    fn remove(&self, directory: &Path) -> Result<(), Error>;

    /// What the writable part in `directory` takes. Walks it.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn usage(&self, directory: &Path) -> Result<Usage, Error>;

    /// The same as the file system counts it, at once and to the byte, with what overlayfs needs for itself;
    /// `None` where it does not.
    fn counted(&self, directory: &Path) -> Option<Usage>;
}

/// Roots made of overlayfs.
#[derive(Debug, Clone)]
pub struct Overlay {
    layers: Arc<Layers>,
    projects: Arc<Projects>,
    footing: Result<(), String>,
}

impl Overlay {
    /// Roots on these layers, the writable ones in this directory and counted by these projects.
    #[must_use]
    pub fn new(layers: Arc<Layers>, projects: Projects, writable: &Path) -> Self {
        let footing = footing::check(layers.directory(), writable);
        let projects = Arc::new(projects);
        Self {
            layers,
            projects,
            footing,
        }
    }

    /// The options that name the layers, topmost first.
    fn lower(&self, layers: &[ChainId]) -> Result<Vec<String>, Error> {
        let trees = self.layers.trees(layers)?;
        let option = |tree: &Path| format!("lowerdir+={}", tree.display());
        Ok(trees.iter().map(|tree| option(tree)).collect())
    }

    fn empty(&self) -> String {
        format!("lowerdir+={}", self.layers.empty().display())
    }
}

impl Snapshotter for Overlay {
    fn ready(&self) -> Result<(), String> {
        self.footing.clone()
    }

    fn prepare(&self, directory: &Path, layers: &[ChainId]) -> Result<Vec<RootfsMount>, Error> {
        let mut options = self.lower(layers)?;
        match self.layers.points() {
            // Without it they are made in the writable layer.
            Some(points) if options.len() < MOST_LAYERS => {
                options.push(format!("lowerdir+={}", points.display()));
            }
            _ if options.is_empty() => options.push(self.empty()),
            _ => {}
        }
        let (upper, work) = (directory.join(UPPER), directory.join(WORK));
        for path in [&upper, &work] {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(path)
                .map_err(io_error("make", path))?;
        }
        // One for both: nothing is renamed from one project's directory into another's.
        self.projects.make(&[&upper, &work]);
        if let Some(top) = self.layers.trees(layers)?.first() {
            copy_root(top, &upper)?;
        }
        options.push(format!("upperdir={}", upper.display()));
        options.push(format!("workdir={}", work.display()));
        options.extend(["volatile".to_owned(), "index=off".to_owned()]);
        Ok(vec![overlay(options)])
    }

    fn view(&self, layers: &[ChainId]) -> Result<Vec<RootfsMount>, Error> {
        let mut options = self.lower(layers)?;
        // Overlayfs refuses less than two layers without a writable one.
        while options.len() < 2 {
            options.push(self.empty());
        }
        options.push("ro".to_owned());
        Ok(vec![overlay(options)])
    }

    fn remove(&self, directory: &Path) -> Result<(), Error> {
        self.layers.trash().throw(&directory.join(UPPER))?;
        self.layers.trash().throw(&directory.join(WORK))
    }

    fn usage(&self, directory: &Path) -> Result<Usage, Error> {
        let (upper, mut walked) = (directory.join(UPPER), Walked::default());
        match trees::visit(&upper, |stat| walked.add(stat)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io_error("walk", upper)(error))
            }
            _ => Ok(walked.usage()),
        }
    }

    fn counted(&self, directory: &Path) -> Option<Usage> {
        self.projects.usage(&directory.join(UPPER))
    }
}

/// What a walk has seen, in parts of [`WHOLE`]: of a file with several names each counts for its part, so
/// that none has to be remembered.
#[derive(Default)]
struct Walked {
    bytes: u128,
    inodes: u128,
}

/// One byte, or one inode.
const WHOLE: u128 = 1 << 32;

impl Walked {
    fn add(&mut self, stat: &rustix::fs::Stat) {
        let names = match trees::is_directory(stat) {
            true => 1,
            false => u128::from(stat.st_nlink).max(1),
        };
        let blocks = u64::try_from(stat.st_blocks).unwrap_or(0);
        self.bytes += u128::from(blocks * STAT_BLOCK) * WHOLE / names;
        self.inodes += WHOLE / names;
    }

    fn usage(&self) -> Usage {
        let whole = |parts: u128| u64::try_from((parts + WHOLE / 2) / WHOLE).unwrap_or(u64::MAX);
        Usage {
            bytes: whole(self.bytes),
            inodes: whole(self.inodes),
        }
    }
}

fn overlay(options: Vec<String>) -> RootfsMount {
    RootfsMount {
        fs_type: "overlay".to_owned(),
        source: "overlay".to_owned(),
        options,
    }
}

/// The root of an overlay shows the attributes of its writable directory, so those of the image's
/// root are copied there.
fn copy_root(from: &Path, to: &Path) -> Result<(), Error> {
    let metadata = fs::metadata(from).map_err(io_error("read", from))?;
    std::os::unix::fs::chown(to, Some(metadata.uid()), Some(metadata.gid()))
        .map_err(io_error("chown", to))?;
    let mode = fs::Permissions::from_mode(metadata.mode() & 0o7777);
    fs::set_permissions(to, mode).map_err(io_error("chmod", to))
}
