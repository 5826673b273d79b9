//! Seccomp filters, ready to be loaded: a profile is compiled once, and no start of a container pays
//! for it.
//!
//! ```text
//! LinuxSeccomp → hash ─known─▶ DIRECTORY/HASH.bpf
//!                  └─new──▶ compile (abi: numbers; rules: arguments) → layout → DIRECTORY/HASH.bpf
//! ```
//!
//! Invariant: a file in the directory is whole and never changes: it was written beside its name,
//! synced and renamed, and its name is the hash of all that it was made from, the compiler's version
//! and its table of numbers included.

mod abi;
mod assemble;
mod compile;
mod layout;
mod rules;
#[cfg(test)]
mod tests;

use crate::error::{Error, Kind};
use abi::Abi;
use assemble::INSTRUCTION;
use oci_spec::runtime::LinuxSeccomp;
use sha2::{Digest as _, Sha256};
use std::collections::HashSet;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

/// The most instructions that the kernel takes (`BPF_MAXINSNS`).
const MOST_INSTRUCTIONS: usize = 4096;
/// Changes when this module makes another program of the same profile; a test holds the two together.
const FORMAT: u32 = 2;

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

    /// The file of the filter: an array of `sock_filter` in the machine's byte order. Compiles and
    /// writes on first use: to be called where a disk may be waited for.
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

/// The bytes of the filter of this section, for this machine.
///
/// # Errors
/// Where the section asks for what there is not, contradicts itself, or is too long.
pub fn program(seccomp: &LinuxSeccomp) -> Result<Vec<u8>, SeccompFilterError> {
    let native = Abi::native().ok_or_else(|| SeccompFilterError::Unsupported {
        what: format!("a machine of {}", std::env::consts::ARCH),
    })?;
    program_for(seccomp, native)
}

fn program_for(seccomp: &LinuxSeccomp, native: Abi) -> Result<Vec<u8>, SeccompFilterError> {
    let program = compile::compile(seccomp, native)?;
    match program.len() / INSTRUCTION {
        length if length > MOST_INSTRUCTIONS => Err(SeccompFilterError::TooLong { length }),
        _ => Ok(program),
    }
}

fn file_name(seccomp: &LinuxSeccomp) -> Result<String, SeccompFilterError> {
    let section = serde_json::to_vec(seccomp).map_err(|e| SeccompFilterError::Section {
        source: io::Error::other(e),
    })?;
    let mut hash = compiler().clone();
    hash.update(section);
    let hex: String = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
    Ok(format!("{hex}.bpf"))
}

/// All that a filter depends on beside its section, hashed once.
fn compiler() -> &'static Sha256 {
    static COMPILER: OnceLock<Sha256> = OnceLock::new();
    COMPILER.get_or_init(|| {
        let machine = std::env::consts::ARCH;
        Sha256::new_with_prefix(format!("{FORMAT} {machine}\n{}", abi::NUMBERS))
    })
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
    /// Two rules ask the same of a call and answer differently.
    #[error("the seccomp profile has two actions for the same arguments of {call}")]
    Contradiction {
        /// The call.
        call: String,
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
            Self::Contradiction { .. } | Self::Unsupported { .. } | Self::TooLong { .. } => {
                Kind::InvalidArgument
            }
            Self::Section { .. } | Self::Io { .. } => Kind::Internal,
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
