//! What can go wrong, each said so that a person knows where to look.
//!
//! Invariant: an error names the plugin and the command, or the file; its cause is in `source` and
//! not repeated in the text.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::version::Version;

/// The operation that a plugin is asked for (`CNI_COMMAND`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Attach.
    Add,
    /// Detach.
    Del,
    /// Look whether an attachment is as its ADD left it.
    Check,
    /// Tell whether an ADD could be served now.
    Status,
    /// Release what belongs to attachments that are gone.
    Gc,
}

impl Command {
    /// The value of `CNI_COMMAND`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Status => "STATUS",
            Self::Gc => "GC",
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The error that a plugin reported: the "Error" structure of the specification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginError {
    /// Below 100 the specification's, from there on the plugin's own. 0 where none was given.
    pub code: u32,
    /// The short text.
    pub msg: String,
    /// The long text, often empty.
    pub details: String,
}

impl PluginError {
    /// 1: the plugin does not speak the version of the configuration.
    pub const INCOMPATIBLE_VERSION: u32 = 1;
    /// 3: the plugin knows no such container: nothing is left to clean up.
    pub const UNKNOWN_CONTAINER: u32 = 3;
    /// 11: something passing: the same call may succeed later.
    pub const TRY_AGAIN_LATER: u32 = 11;
    /// 50: the plugin cannot serve ADD now.
    pub const NOT_AVAILABLE: u32 = 50;
    /// 51: like 50, and attachments that exist may have lost connectivity.
    pub const LIMITED_CONNECTIVITY: u32 = 51;

    fn may_pass(&self) -> bool {
        matches!(
            self.code,
            Self::TRY_AGAIN_LATER | Self::NOT_AVAILABLE | Self::LIMITED_CONNECTIVITY
        )
    }

    fn hint(&self) -> &'static str {
        match self.code {
            Self::INCOMPATIBLE_VERSION => {
                " (the plugin is older than the configuration: lower its \"cniVersion\" or install newer plugins)"
            }
            Self::TRY_AGAIN_LATER => " (something passing: the same call may succeed later)",
            Self::NOT_AVAILABLE => {
                " (the network add-on is not ready: look at its pods or service)"
            }
            Self::LIMITED_CONNECTIVITY => {
                " (the network add-on is not ready and running pods may be cut off: look at its pods or service)"
            }
            _ => "",
        }
    }
}

impl fmt::Display for PluginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.msg)?;
        if !self.details.is_empty() {
            write!(f, "; {}", self.details)?;
        }
        if self.code != 0 {
            write!(f, " [code {}]", self.code)?;
        }
        f.write_str(self.hint())
    }
}

/// Why a directory gives no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct NoNetwork {
    /// The directory.
    pub dir: PathBuf,
    /// Why the directory itself cannot be read, where that is so.
    pub unreadable: Option<String>,
    /// The files that look like configurations, and why each is none.
    pub unusable: Vec<Unusable>,
}

/// A file that is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    /// The file's name in the directory.
    pub file: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for NoNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dir = self.dir.display();
        if let Some(reason) = &self.unreadable {
            return write!(f, "no network: cannot read {dir}: {reason}");
        }
        if self.unusable.is_empty() {
            return write!(
                f,
                "no network configuration in {dir}: install a network add-on or put a .conflist there"
            );
        }
        write!(f, "no usable network configuration in {dir}: ")?;
        let each: Vec<_> = self.unusable.iter().map(ToString::to_string).collect();
        f.write_str(&each.join("; "))
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.reason)
    }
}

/// Why a network operation did not happen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No usable configuration in the directory.
    #[error(transparent)]
    ConfNotFound(#[from] NoNetwork),

    /// A configuration that is there cannot be used.
    #[error("network configuration {origin}: {reason}")]
    ConfInvalid {
        /// The file, or what else the bytes came from.
        origin: String,
        /// What is wrong with it and how to put it right.
        reason: String,
    },

    /// A file of the configuration cannot be read.
    #[error("reading network configuration {}", path.display())]
    ConfUnreadable {
        /// The file or directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },

    /// What the caller asked for cannot be said to a plugin.
    #[error("attachment of {container_id:?}: {reason}")]
    AttachmentInvalid {
        /// The container id as it was given.
        container_id: String,
        /// The field and what is wrong with it.
        reason: String,
    },

    /// The configuration's version has no such command, so nothing could be asked.
    #[error(
        "network {network}: version {version} of the specification has no {command}; raise \"cniVersion\" to use it"
    )]
    NotInVersion {
        /// The network's name.
        network: String,
        /// The version of its configuration.
        version: Version,
        /// What was asked for.
        command: Command,
    },

    /// No such program in any of the plugin directories.
    #[error(
        "CNI plugin {plugin} is not installed: looked in {}; install it there, or name its directory in the configuration",
        list(searched)
    )]
    PluginMissing {
        /// The plugin's `type`.
        plugin: String,
        /// The directories, in the order of the search.
        searched: Vec<PathBuf>,
    },

    /// The program is there and cannot be started.
    #[error("CNI plugin {plugin}: cannot run {} for {command}; is it an executable for this machine?", path.display())]
    PluginStart {
        /// The plugin's `type`.
        plugin: String,
        /// What was asked for.
        command: Command,
        /// The program.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },

    /// The plugin reported an error.
    #[error("CNI plugin {plugin} failed {command}: {error}")]
    PluginFailed {
        /// The plugin's `type`.
        plugin: String,
        /// What was asked for.
        command: Command,
        /// What the plugin said.
        error: PluginError,
    },

    /// The plugin exited with a failure and no error structure.
    #[error(
        "CNI plugin {plugin} failed {command} with exit code {code} and no error message; it printed: {output}"
    )]
    PluginExited {
        /// The plugin's `type`.
        plugin: String,
        /// What was asked for.
        command: Command,
        /// The exit code.
        code: i32,
        /// What it printed, cut short.
        output: String,
    },

    /// The plugin was not done in time; it and its children were killed.
    #[error(
        "CNI plugin {plugin} did not finish {command} within {after:.1?} and was killed with its children; stderr: {stderr}"
    )]
    PluginTimeout {
        /// The plugin's `type`.
        plugin: String,
        /// What was asked for.
        command: Command,
        /// How long it had run.
        after: Duration,
        /// The end of what it wrote to stderr.
        stderr: String,
    },

    /// Somebody else killed the plugin, the kernel's OOM killer for example.
    #[error("CNI plugin {plugin} was killed by signal {signal} during {command}; stderr: {stderr}")]
    PluginKilled {
        /// The plugin's `type`.
        plugin: String,
        /// What was asked for.
        command: Command,
        /// The signal's number.
        signal: i32,
        /// The end of what it wrote to stderr.
        stderr: String,
    },

    /// The plugin exited well, and what it printed is no answer.
    #[error(
        "CNI plugin {plugin} answered {command} with something that is no result: {reason}; it printed: {output}"
    )]
    PluginOutput {
        /// The plugin's `type`.
        plugin: String,
        /// What was asked for.
        command: Command,
        /// What is wrong with the answer.
        reason: String,
        /// What it printed, cut short.
        output: String,
    },

    /// The pipes to a plugin failed.
    #[error("CNI plugin {plugin}: talking to it during {command}")]
    PluginIo {
        /// The plugin's `type`.
        plugin: String,
        /// What was asked for.
        command: Command,
        /// What the kernel said.
        source: io::Error,
    },

    /// The time was over before the plugin's turn came.
    #[error("no time was left to run CNI plugin {plugin} for {command}")]
    NoTimeLeft {
        /// The plugin's `type`.
        plugin: String,
        /// What was asked for.
        command: Command,
    },

    /// GC waits for every ADD and DEL to end, and they wait for it; this one waited too long.
    #[error("{command} of network {network} waited too long for other operations on it to end")]
    Busy {
        /// The network's name.
        network: String,
        /// What was asked for.
        command: Command,
    },

    /// A file of the result cache cannot be read or written.
    #[error("CNI result cache {}: cannot {action}; is the disk full or read-only?", path.display())]
    CacheIo {
        /// The file.
        path: PathBuf,
        /// "read", "write" or "remove".
        action: &'static str,
        /// What the kernel said.
        source: io::Error,
    },

    /// A file of the result cache is no such file.
    #[error("CNI result cache {}: {reason}", path.display())]
    CacheInvalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// An ADD failed (the source), and undoing it failed too: something is left behind until a
    /// DEL succeeds. Every other error of [`crate::Client::add`] means that nothing is left.
    #[error(
        "the ADD failed and undoing it failed too ({}); call DEL again",
        joined(rollback)
    )]
    RollbackFailed {
        /// Why the ADD failed.
        source: Box<Error>,
        /// What the DELs of the chain failed with, in their order.
        rollback: Vec<Error>,
    },

    /// A plugin failed, and its IPAM plugin could not be asked by itself either: the address may
    /// still be taken.
    #[error("{failed}; and its IPAM plugin did not give the address back")]
    AddressKept {
        /// What the plugin failed with.
        failed: Box<Error>,
        /// Why the address was not given back.
        source: Box<Error>,
    },

    /// Several plugins of a chain failed an operation that goes on after a failure.
    #[error("{command} of network {network}: {}", joined(errors))]
    Several {
        /// The network's name.
        network: String,
        /// What was asked for.
        command: Command,
        /// The errors, in the order of the plugins.
        errors: Vec<Error>,
    },
}

impl Error {
    /// What the plugin said, where a plugin said something: also of the ADD below a failed
    /// rollback.
    pub fn plugin_error(&self) -> Option<&PluginError> {
        match self {
            Self::PluginFailed { error, .. } => Some(error),
            Self::RollbackFailed { source, .. } => source.plugin_error(),
            _ => None,
        }
    }

    /// True where the time ran out, in a plugin or before one.
    pub fn is_timeout(&self) -> bool {
        match self {
            Self::PluginTimeout { .. } | Self::NoTimeLeft { .. } | Self::Busy { .. } => true,
            Self::RollbackFailed { source, .. } => source.is_timeout(),
            _ => false,
        }
    }
}

impl Error {
    /// True where plugins answered, and their answer will not become another one by itself: none is
    /// missing, was killed, hung or asked for patience, and no address is kept.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::PluginFailed { error, .. } => !error.may_pass(),
            Self::PluginExited { .. } => true,
            Self::Several { errors, .. } => errors.iter().all(Self::is_refusal),
            _ => false,
        }
    }
}

fn list(paths: &[PathBuf]) -> String {
    let shown: Vec<_> = paths.iter().map(|p| p.display().to_string()).collect();
    if shown.is_empty() {
        "no directory at all".to_owned()
    } else {
        shown.join(", ")
    }
}

/// The errors with their causes: what is in this list is nobody's `source`.
fn joined(errors: &[Error]) -> String {
    let shown: Vec<_> = errors.iter().map(chain).collect();
    shown.join("; ")
}

fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
