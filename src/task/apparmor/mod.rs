//! AppArmor profiles: the one that Corten brings is loaded at its start, and loaded again where
//! somebody has unloaded it; those of others must be there.
//!
//! ```text
//! corten-default ─ apparmor_parser --replace ─▶ kernel ─▶ .../apparmor/profiles: "NAME (MODE)"
//! ```
//!
//! Invariant: no profile is compiled or changed but `corten-default`, and nothing is written to
//! disk: the parser reads the profile from its input and keeps no cache.

#[cfg(test)]
mod tests;

use crate::error::{Error, Kind};
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// The name of the profile that Corten brings.
pub const DEFAULT: &str = "corten-default";
/// Its text.
const PROFILE: &str = include_str!("corten-default");
/// Where Debian, Ubuntu, openSUSE and Arch have the parser.
const PARSERS: [&str; 3] = [
    "/usr/sbin/apparmor_parser",
    "/sbin/apparmor_parser",
    "/usr/bin/apparmor_parser",
];
/// What is loaded; readable by root.
const LOADED: &str = "/sys/kernel/security/apparmor/profiles";

/// The node's profiles.
#[derive(Debug, Clone)]
pub struct Profiles {
    parsers: Vec<PathBuf>,
    loaded: PathBuf,
}

impl Default for Profiles {
    fn default() -> Self {
        Self {
            parsers: PARSERS.iter().map(PathBuf::from).collect(),
            loaded: PathBuf::from(LOADED),
        }
    }
}

impl Profiles {
    /// Loads `corten-default`, in place of an older one. Takes some tens of milliseconds: to be
    /// called on a thread for that.
    ///
    /// # Errors
    /// Where there is no parser, or it or the kernel refuses.
    pub fn load_default(&self) -> Result<(), AppArmorError> {
        let parser = self.parsers.iter().find(|parser| parser.is_file());
        let parser = parser.ok_or(AppArmorError::NoParser)?;
        let failed = |source| AppArmorError::Run {
            parser: parser.clone(),
            source,
        };
        let output = feed(parser).map_err(failed)?;
        match output.status.success() {
            true => Ok(()),
            false => Err(AppArmorError::Refused {
                said: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            }),
        }
    }

    /// Makes sure that a container can enter this profile. To be called on a thread for blocking
    /// work.
    ///
    /// # Errors
    /// Where it is not loaded; `corten-default` is loaded first.
    pub fn ready(&self, name: &str) -> Result<(), AppArmorError> {
        match self.is_loaded(name)? {
            true => Ok(()),
            false if name == DEFAULT => self.load_default(),
            false => Err(AppArmorError::NotLoaded {
                name: name.to_owned(),
            }),
        }
    }

    /// A stack or a profile of a policy namespace is no line of the list: the kernel judges it when
    /// it is entered. So it does where the list cannot be read because securityfs is not mounted.
    fn is_loaded(&self, name: &str) -> Result<bool, AppArmorError> {
        if name.contains("//") || name.starts_with(':') {
            return Ok(true);
        }
        match fs::read_to_string(&self.loaded) {
            Ok(list) => Ok(list.lines().any(|line| profile_of(line) == Some(name))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(source) => Err(AppArmorError::List {
                path: self.loaded.clone(),
                source,
            }),
        }
    }
}

/// The name in a line of the list; names may have spaces and brackets of their own.
fn profile_of(line: &str) -> Option<&str> {
    line.rsplit_once(" (").map(|(name, _)| name)
}

fn feed(parser: &Path) -> io::Result<Output> {
    let mut child = Command::new(parser)
        .args(["--replace", "--skip-cache"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let fed = give(&mut child);
    let output = child.wait_with_output()?;
    // A parser that ended before it had read all says why in its own words.
    match (fed, output.status.success()) {
        (Err(error), true) => Err(error),
        _ => Ok(output),
    }
}

fn give(child: &mut Child) -> io::Result<()> {
    match child.stdin.take() {
        Some(mut input) => input.write_all(PROFILE.as_bytes()),
        None => Err(io::ErrorKind::BrokenPipe.into()),
    }
}

/// Why a profile cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum AppArmorError {
    /// The node has AppArmor, but not its tools.
    #[error(
        "load the AppArmor profile {DEFAULT}: apparmor_parser is not there; install the package apparmor"
    )]
    NoParser,
    /// The parser cannot be run.
    #[error("load the AppArmor profile {DEFAULT}: run {}", parser.display())]
    Run {
        /// Which one.
        parser: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The parser or the kernel refuses.
    #[error("load the AppArmor profile {DEFAULT}: apparmor_parser says: {said}")]
    Refused {
        /// What it says.
        said: String,
    },
    /// The list cannot be read.
    #[error("read {}", path.display())]
    List {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nobody has loaded it.
    #[error(
        "the AppArmor profile {name:?} is not loaded on this node; load it with apparmor_parser, aa-status lists what is"
    )]
    NotLoaded {
        /// Which one.
        name: String,
    },
}

impl AppArmorError {
    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::NoParser | Self::NotLoaded { .. } => Kind::FailedPrecondition,
            Self::Run { .. } | Self::Refused { .. } | Self::List { .. } => Kind::Internal,
        }
    }
}

impl From<AppArmorError> for Error {
    fn from(error: AppArmorError) -> Self {
        Error::new(error.kind(), "find the container's AppArmor profile").caused_by(error)
    }
}
