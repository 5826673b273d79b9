//! Seccomp filters, ready to be loaded: a profile is compiled once here, so that no container start
//! pays for it (10 ms with libseccomp's tree).
//!
//! ```text
//! LinuxSeccomp → hash ─known─▶ DIRECTORY/HASH.bpf
//!                  └─new──▶ libseccomp → program → ENOSYS prelude before it → DIRECTORY/HASH.bpf
//! ```
//!
//! Invariant: a file in the directory is whole and never changes: it was written beside its name,
//! synced and renamed, and its name is the hash of all that it was made from, the versions of the
//! compilers included.

mod compile;
mod prelude;
#[cfg(test)]
mod tests;

use crate::error::{Error, Kind};
use libseccomp::error::SeccompError;
use oci_spec::runtime::LinuxSeccomp;
use sha2::{Digest as _, Sha256};
use std::collections::HashSet;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The length of one instruction, a `sock_filter` of the kernel's filter.h.
const INSTRUCTION: usize = 8;
/// The most instructions that the kernel takes (`BPF_MAXINSNS`).
const MOST_INSTRUCTIONS: usize = 4096;
/// Changes when this module makes another program of the same profile.
const FORMAT: u32 = 1;

/// Compiled filters, kept on disk.
#[derive(Debug)]
pub struct Filters {
    directory: PathBuf,
    known: Mutex<HashSet<PathBuf>>,
}

impl Filters {
    /// Kept in this directory, which is made when it is needed.
    #[must_use]
    pub fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            known: Mutex::default(),
        }
    }

    /// The file of the filter: an array of `sock_filter` in the machine's byte order. Compiles on
    /// first use and may then take tens of milliseconds: to be called on a thread for that.
    ///
    /// # Errors
    /// Where the profile cannot be compiled, or the disk refuses.
    pub fn filter(&self, seccomp: &LinuxSeccomp) -> Result<PathBuf, SeccompFilterError> {
        let path = self.directory.join(file_name(seccomp)?);
        // Held while compiling: who wants the same filter at the same time waits for it.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains(&path) && path.exists() {
            return Ok(path);
        }
        if !is_whole(&path) {
            save(&path, &program(seccomp)?).map_err(SeccompFilterError::io("write", &path))?;
        }
        known.insert(path.clone());
        Ok(path)
    }
}

/// The bytes of the filter of this section.
fn program(seccomp: &LinuxSeccomp) -> Result<Vec<u8>, SeccompFilterError> {
    let compiled = compile::compile(seccomp)?;
    let mut program = prelude::before(seccomp);
    program.extend(compiled);
    match program.len() / INSTRUCTION {
        length if length > MOST_INSTRUCTIONS => Err(SeccompFilterError::TooLong { length }),
        _ => Ok(program),
    }
}

fn file_name(seccomp: &LinuxSeccomp) -> Result<String, SeccompFilterError> {
    let section = serde_json::to_vec(seccomp).map_err(|e| SeccompFilterError::Section {
        source: io::Error::other(e),
    })?;
    let mut hash = Sha256::new();
    hash.update(format!("{FORMAT} {}\n", compile::version()?));
    hash.update(section);
    let hex: String = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
    Ok(format!("{hex}.bpf"))
}

fn is_whole(path: &Path) -> bool {
    let whole = |length: usize| length > 0 && length.is_multiple_of(INSTRUCTION);
    fs::metadata(path).is_ok_and(|meta| usize::try_from(meta.len()).is_ok_and(whole))
}

fn save(path: &Path, program: &[u8]) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    // The lock in `Filters` keeps others from the same name.
    let beside = path.with_extension("new");
    let mut file = fs::File::create(&beside)?;
    file.write_all(program)?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
pub enum SeccompFilterError {
    /// libseccomp refuses.
    #[error("compile the seccomp profile: {step}")]
    Compile {
        /// At which step.
        step: String,
        /// What it says.
        #[source]
        source: SeccompError,
    },
    /// The profile names what this build does not know.
    #[error("seccomp profile: {what} is not supported")]
    Unsupported {
        /// What it names.
        what: String,
    },
    /// The kernel takes no such program.
    #[error(
        "the seccomp profile makes {length} instructions; the kernel takes {MOST_INSTRUCTIONS}"
    )]
    TooLong {
        /// How many.
        length: usize,
    },
    /// The section cannot be written as JSON.
    #[error("write the seccomp section as JSON")]
    Section {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The disk refuses.
    #[error("{operation} seccomp filter {}", path.display())]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl SeccompFilterError {
    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Unsupported { .. } | Self::TooLong { .. } => Kind::InvalidArgument,
            Self::Compile { .. } | Self::Section { .. } | Self::Io { .. } => Kind::Internal,
        }
    }

    fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            operation,
            path,
            source,
        }
    }
}

impl From<SeccompFilterError> for Error {
    fn from(error: SeccompFilterError) -> Self {
        Error::new(error.kind(), "make the container's seccomp filter").caused_by(error)
    }
}
