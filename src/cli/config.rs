//! `corten config`: the files, without a daemon.

use crate::config::{Config, show};
use crate::error::{Context, Kind, Result};
use clap::Subcommand;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

/// How to look at the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Print the default configuration, commented.
    Default,
    /// Read the configuration, and tell the first mistake in it.
    Check,
    /// Print what a daemon started now would do, and where each value comes from.
    Show,
}

/// Does it.
///
/// # Errors
/// `InvalidArgument` where the configuration has a mistake.
pub fn run(verb: &ConfigVerb, file: Option<&Path>) -> Result<ExitCode> {
    let load = || Config::load(file).context(Kind::InvalidArgument, || "configuration".to_owned());
    let text = match verb {
        ConfigVerb::Default => show::DEFAULT_TOML.to_owned(),
        ConfigVerb::Check => checked(&load()?),
        ConfigVerb::Show => show::to_toml(&load()?.settings),
    };
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .context(Kind::Internal, || "print".to_owned())?;
    Ok(ExitCode::SUCCESS)
}

fn checked(config: &Config) -> String {
    match config.sources.as_slice() {
        [] => "no file: all defaults\n".to_owned(),
        files => files
            .iter()
            .map(|f| format!("{} is good\n", f.display()))
            .collect(),
    }
}
