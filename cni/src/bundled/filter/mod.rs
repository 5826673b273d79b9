//! Rules as iptables(8) has them: one model, two ways into the kernel.
//!
//! ```text
//! Rule ─▶ nat ─▶ iptables is the nft variant ─▶ the same nftables rule, by netlink
//!             └▶ the legacy one, or a condition only it can read ─▶ iptables(8) is run
//! ```
//!
//! Invariant: either way leaves what `iptables-save` shows as the rule that the reference plugins
//! make, so that they find it again, and what they made is found here.

pub(crate) mod native;
pub(crate) mod placed;
pub(crate) mod program;
pub(crate) mod rule;

use std::env;
use std::path::PathBuf;
use std::process::Command;

use rule::Rule;

use super::fault::{Doing, Outcome};
use crate::error::PluginError;

/// The chains that may lead to a chain.
pub(crate) type Parents<'a> = &'a [&'a str];

/// A chain, and the rules that lead to it.
pub(crate) struct Chain {
    pub(crate) name: String,
    /// All pods' own: made once, and left there.
    pub(crate) is_shared: bool,
    pub(crate) rules: Vec<Rule>,
    pub(crate) entries: Vec<Entry>,
}

/// A rule of another chain that leads here.
pub(crate) struct Entry {
    pub(crate) parent: &'static str,
    /// Before all others.
    pub(crate) is_first: bool,
    pub(crate) rule: Rule,
}

impl Chain {
    fn parents(&self) -> Vec<&'static str> {
        let mut parents: Vec<_> = self.entries.iter().map(|entry| entry.parent).collect();
        parents.sort_unstable();
        parents.dedup();
        parents
    }

    fn needs_program(&self) -> bool {
        let entries = self.entries.iter().map(|entry| &entry.rule);
        self.rules.iter().chain(entries).any(Rule::needs_program)
    }
}

/// Makes the chains, the way that this host has its rules.
pub(crate) fn apply(table: &'static str, is_ipv4: bool, chains: &[Chain]) -> Outcome<()> {
    match host_backend()? {
        Backend::None => Err(no_backend()),
        Backend::NftVariant if !chains.iter().any(Chain::needs_program) => {
            native::apply(table, is_ipv4, chains)
                .doing(|| format!("make the rules of table {table}"))
        }
        _ => program::apply(table, is_ipv4, chains),
    }
}

/// Removes a chain and what leads to it, whichever way it was made; none is no error.
pub(crate) fn remove(table: &'static str, chain: &str, parents: Parents<'_>) -> Outcome<()> {
    let is_legacy = host_backend()? == Backend::Legacy;
    for is_ipv4 in [true, false] {
        if is_legacy {
            program::remove(table, is_ipv4, chain, parents)?;
        }
        native::remove(table, is_ipv4, chain, parents)
            .doing(|| format!("remove the chain {chain} of table {table}"))?;
    }
    Ok(())
}

/// Tells what is missing of a chain.
pub(crate) fn check(table: &'static str, is_ipv4: bool, chain: &Chain) -> Outcome<()> {
    let what = || format!("look at the chain {} of table {table}", chain.name);
    let missing = match host_backend()? {
        Backend::None => return Err(no_backend()),
        Backend::NftVariant => native::missing(table, is_ipv4, chain).doing(what)?,
        Backend::Legacy => program::missing(table, is_ipv4, chain)?,
    };
    missing.map_or(Ok(()), |why| Err(PluginError::internal(why)))
}

/// How rules get into the kernel here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    /// This host's iptables(8) writes nftables rules: so do we, by netlink.
    NftVariant,
    /// Only the program can write what it alone reads.
    Legacy,
    /// There is no iptables(8).
    None,
}

/// The variant of iptables that is installed, told by the program that the name leads to. One that is
/// there and does not say which it is may have rules all the same.
pub(crate) fn host_backend() -> Outcome<Backend> {
    let Some(path) = program_path("iptables") else {
        return Ok(Backend::None);
    };
    let target = path.canonicalize().unwrap_or(path);
    let name = target
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    if name.contains("nft") {
        return Ok(Backend::NftVariant);
    }
    if name.contains("legacy") {
        return Ok(Backend::Legacy);
    }
    // A wrapper that chooses; only it knows.
    let what = || format!("run {} --version", target.display());
    let said = Command::new(&target)
        .arg("--version")
        .output()
        .doing(what)?;
    match said.status.success() {
        true if String::from_utf8_lossy(&said.stdout).contains("nf_tables") => {
            Ok(Backend::NftVariant)
        }
        true => Ok(Backend::Legacy),
        false => Err(PluginError::internal(format!(
            "{}: {} {}",
            what(),
            said.status,
            String::from_utf8_lossy(&said.stderr).trim()
        ))),
    }
}

/// The first of that name in `PATH`.
pub(crate) fn program_path(name: &str) -> Option<PathBuf> {
    const DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let path = env::var_os("PATH").unwrap_or_else(|| DEFAULT.into());
    env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
}

/// Names a chain: the first 28 bytes of the prefix and the hash of what it is for.
pub(crate) fn chain_name(prefix: &str, of: &str) -> String {
    hashed(28, prefix, of)
}

/// `prefix` and as much of the hash of `of` as makes `length` bytes.
pub(crate) fn hashed(length: usize, prefix: &str, of: &str) -> String {
    use sha2::{Digest, Sha512};
    use std::fmt::Write;
    let mut text = prefix.to_owned();
    for byte in Sha512::digest(of.as_bytes()) {
        let _ = write!(text, "{byte:02x}");
    }
    text.truncate(length);
    text
}

pub(crate) fn no_backend() -> PluginError {
    PluginError::internal(
        "this host has no iptables: install it, or ask for the backend \"nftables\" in the configuration",
    )
}

/// Refuses a backend that there is not.
pub(crate) fn unknown_backend<T>(what: &str, name: &str) -> Outcome<T> {
    let msg = format!("unknown {what} backend {name:?}: there are \"iptables\" and \"nftables\"");
    Err(PluginError::internal(msg))
}
