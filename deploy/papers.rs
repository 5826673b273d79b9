//! Writes what a package says of the command line: `cargo run --example papers DIRECTORY` makes
//! `man/*.1`, one page for each verb, and `completions/` for bash, zsh and fish.
//!
//! An example, so that what writes them is a dependency of tests only and nothing of it is in a daemon.

use clap::{Command, CommandFactory};
use clap_complete::{Shell, generate_to};
use clap_mangen::Man;
use corten::cli::Arguments;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

/// Whose shells Debian has places for.
const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Fish, Shell::Zsh];

fn main() -> Result<(), Box<dyn Error>> {
    let out = std::env::args_os().nth(1).map(PathBuf::from);
    let out = out.ok_or("usage: papers DIRECTORY")?;
    let (man, completions) = (out.join("man"), out.join("completions"));
    fs::create_dir_all(&man)?;
    fs::create_dir_all(&completions)?;
    SHELLS.iter().try_for_each(|shell| {
        generate_to(*shell, &mut Arguments::command(), "corten", &completions).map(drop)
    })?;
    let mut command = Arguments::command();
    command.build();
    write_pages(&command, &man)
}

/// The page of a command, and those of its verbs: `corten-image-pull.1` tells of `corten image pull`.
fn write_pages(command: &Command, directory: &Path) -> Result<(), Box<dyn Error>> {
    let verbs = command.get_subcommands();
    verbs
        .filter(|verb| !verb.is_hide_set())
        .try_for_each(|verb| write_pages(verb, directory))?;
    // No date: the same command line makes the same page.
    let source = concat!("Corten ", env!("CARGO_PKG_VERSION"));
    let page = Man::new(command.clone()).source(source).manual("Corten");
    page.generate_to(directory)?;
    Ok(())
}
