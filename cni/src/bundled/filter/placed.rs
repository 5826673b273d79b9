//! Single rules in chains that many share: each is made once, and found again by what it is.
//!
//! Invariant: rules of others in these chains, and the policy of a chain of the kernel, stay as they are.

use std::collections::BTreeMap;

use rustix::io::Errno;

use super::native::{hook, table};
use super::program;
use super::rule::Rule;
use super::{Backend, host_backend};
use crate::bundled::fault::{Doing, Outcome};
use crate::bundled::netlink::nft::{self, Rules, Table};
use crate::bundled::netlink::nft_facts::Facts;
use crate::error::PluginError;

/// A rule and its chain.
pub(crate) struct Placed {
    pub(crate) chain: String,
    /// Before all others.
    pub(crate) is_first: bool,
    pub(crate) rule: Rule,
}

/// Makes the chains and the rules that are missing, the way that this host has its rules.
pub(crate) fn ensure(
    name: &'static str,
    is_ipv4: bool,
    chains: &[&str],
    rules: &[Placed],
) -> Outcome<()> {
    match host_backend()? {
        Backend::None => Err(no_iptables()),
        Backend::NftVariant => ensure_natively(table(name, is_ipv4), chains, rules)
            .doing(|| format!("make the rules of table {name}")),
        Backend::Legacy => program::ensure(name, is_ipv4, chains, rules),
    }
}

/// Takes the rules out, whichever way they were made; what is not there is no error.
pub(crate) fn delete(name: &'static str, is_ipv4: bool, rules: &[Placed]) -> Outcome<()> {
    if host_backend()? == Backend::Legacy {
        program::delete(name, is_ipv4, rules)?;
    }
    delete_natively(table(name, is_ipv4), rules).doing(|| format!("remove rules of table {name}"))
}

/// Tells a rule that is missing.
pub(crate) fn check(name: &'static str, is_ipv4: bool, rules: &[Placed]) -> Outcome<()> {
    let missing = match host_backend()? {
        Backend::None => return Err(no_iptables()),
        Backend::NftVariant => missing_natively(table(name, is_ipv4), rules)
            .doing(|| format!("look at the rules of table {name}"))?,
        Backend::Legacy => program::first_missing(name, is_ipv4, rules)?,
    };
    missing.map_or(Ok(()), |placed| {
        let (words, chain) = (placed.rule.words().join(" "), &placed.chain);
        let msg = format!("expected rule {words:?} not found in chain {chain} of table {name}");
        Err(PluginError::internal(msg))
    })
}

/// There is no other backend that could be asked for.
fn no_iptables() -> PluginError {
    PluginError::internal("this host has no iptables, which these rules are for: install it")
}

/// What is there of each chain.
struct Seen<'r> {
    rules: &'r mut Rules,
    table: Table,
    chains: BTreeMap<String, Vec<(nft::Rule, Facts)>>,
}

impl Seen<'_> {
    fn of(&mut self, chain: &str) -> Result<&[(nft::Rule, Facts)], Errno> {
        if !self.chains.contains_key(chain) {
            let read = self.rules.read(self.table, chain)?;
            self.chains.insert(chain.to_owned(), read);
        }
        Ok(self.chains.get(chain).map_or(&[], Vec::as_slice))
    }
}

fn facts(table: Table, placed: &Placed) -> Facts {
    let is_ipv4 = table.family == nft::Family::Ip;
    Facts::of(&placed.rule.expressions(is_ipv4))
}

fn seen(rules: &mut Rules, table: Table) -> Seen<'_> {
    let chains = BTreeMap::new();
    Seen {
        rules,
        table,
        chains,
    }
}

fn ensure_natively(table: Table, chains: &[&str], wanted: &[Placed]) -> Result<(), Errno> {
    nft::change(|rules, changes| {
        changes.table(table, "");
        let parents = wanted.iter().map(|placed| placed.chain.as_str());
        for chain in chains.iter().copied().chain(parents) {
            // One that is there keeps its policy.
            if !rules.has_chain(table, chain)? {
                changes.chain(table, chain, hook(table.name, chain));
            }
        }
        let (mut seen, mut made) = (seen(rules, table), Vec::new());
        for placed in wanted {
            let own = (&placed.chain, facts(table, placed));
            let there = seen.of(&placed.chain)?;
            if made.contains(&own) || there.iter().any(|(_, facts)| *facts == own.1) {
                continue;
            }
            made.push(own);
            let rule = placed.rule.expressions(table.family == nft::Family::Ip);
            match placed.is_first {
                true => changes.prepend(table, &placed.chain, &rule),
                false => changes.append(table, &placed.chain, &rule),
            }
        }
        Ok(())
    })
}

fn delete_natively(table: Table, unwanted: &[Placed]) -> Result<(), Errno> {
    nft::take_back(|rules, changes| {
        let mut seen = seen(rules, table);
        for placed in unwanted {
            let own = facts(table, placed);
            for (rule, facts) in seen.of(&placed.chain)? {
                if *facts == own {
                    changes.delete(table, &placed.chain, rule);
                }
            }
        }
        Ok(())
    })
}

fn missing_natively(table: Table, wanted: &[Placed]) -> Result<Option<&Placed>, Errno> {
    let mut rules = Rules::open()?;
    let mut seen = seen(&mut rules, table);
    for placed in wanted {
        let own = facts(table, placed);
        if !seen
            .of(&placed.chain)?
            .iter()
            .any(|(_, facts)| *facts == own)
        {
            return Ok(Some(placed));
        }
    }
    Ok(None)
}
