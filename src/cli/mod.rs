//! The command line: what can be asked, and by which words.
//!
//! ```text
//! corten [serve]                                   the daemon
//! corten config default|check|show                 its files; no daemon is needed
//! corten status                                    asks the daemon over its socket
//! corten image list|pull|import|remove|check       the same
//! corten first-pod run|remove                      proves the node with a pod
//! ```
//!
//! Invariant: no option that a configuration file could hold better.

mod ask;
pub mod config;
mod first_pod;
mod image;
mod progress;
mod status;
mod table;

pub use first_pod::{FirstPodVerb, first_pod};
pub use image::{ImageVerb, image};
pub use status::{StatusArguments, status};

use crate::config::{Config, socket_path};
use crate::error::{Context, Error, Kind, Result};
use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};

/// Corten runs containers for Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "corten", version, disable_help_subcommand = true)]
pub struct Arguments {
    /// Configuration file; FILE.d/*.toml are read after it.
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,

    /// What to do; without a word, serve.
    #[command(subcommand)]
    pub verb: Option<Verb>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run the daemon.
    Serve,
    /// Look at the configuration files.
    Config {
        /// How.
        #[command(subcommand)]
        verb: config::ConfigVerb,
    },
    /// Show the daemon, its node and what it holds.
    Status(StatusArguments),
    /// Prove the node with a pod of its own.
    FirstPod {
        /// Socket of the daemon to ask; by default the configuration's.
        #[arg(long, value_name = "SOCKET", global = true)]
        endpoint: Option<String>,
        /// What.
        #[command(subcommand)]
        verb: FirstPodVerb,
    },
    /// Look after the images of the node.
    Image {
        /// Socket of the daemon to ask; by default the configuration's.
        #[arg(long, value_name = "SOCKET", global = true)]
        endpoint: Option<String>,
        /// How.
        #[command(subcommand)]
        verb: ImageVerb,
    },
}

/// The socket to ask: the one that was named, else the configuration's.
///
/// # Errors
/// `InvalidArgument` where it is none, or the configuration is wrong.
pub fn endpoint(named: Option<&str>, config: Option<&Path>) -> Result<PathBuf> {
    match named {
        Some(text) => socket_path(text)
            .ok_or_else(|| Error::invalid(format!("{text:?} is no unix:// address"))),
        None => Config::load(config)
            .map(|config| config.endpoint)
            .context(Kind::InvalidArgument, || "configuration".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_words_are_in_order() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn only_what_asks_a_daemon_takes_an_endpoint() {
        let taken = |words: &str| Arguments::try_parse_from(words.split(' ')).is_ok();
        assert!(taken("corten status --endpoint /a"));
        assert!(taken("corten image list --endpoint /a --output json"));
        assert!(!taken("corten serve --endpoint /a"));
        assert!(!taken("corten config show --endpoint /a"));
        assert!(taken("corten --config /a"));
    }

    #[test]
    fn an_endpoint_is_named_or_the_configurations() {
        let named = endpoint(Some("unix:///a.sock"), None).unwrap();
        assert_eq!(named, Path::new("/a.sock"));
        assert!(endpoint(Some("a.sock"), None).is_err());
    }
}
