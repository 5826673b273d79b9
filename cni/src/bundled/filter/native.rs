//! Chains of iptables' nft variant, by netlink.

use rustix::io::Errno;

use super::{Chain, Parents};
use crate::bundled::netlink::nft::{self, Changes, Family, Hook, Rules, Table};

pub(super) fn table(name: &'static str, is_ipv4: bool) -> Table {
    let family = if is_ipv4 { Family::Ip } else { Family::Ip6 };
    Table::new(family, name)
}

/// The chains that the kernel itself leads to.
pub(super) fn hook(table: &str, chain: &str) -> Option<Hook> {
    match (table, chain) {
        ("filter", "FORWARD") => Some(Hook::FILTER_FORWARD),
        ("nat", "PREROUTING") => Some(Hook::NAT_PREROUTING),
        ("nat", "OUTPUT") => Some(Hook::NAT_OUTPUT),
        ("nat", "POSTROUTING") => Some(Hook::NAT_POSTROUTING),
        _ => None,
    }
}

/// All chains, or none.
pub(crate) fn apply(name: &'static str, is_ipv4: bool, chains: &[Chain]) -> Result<(), Errno> {
    let table = table(name, is_ipv4);
    nft::change(|rules, changes| {
        changes.table(table, "");
        for chain in chains {
            apply_one(table, chain, rules, changes)?;
        }
        Ok(())
    })
}

fn apply_one(
    table: Table,
    chain: &Chain,
    rules: &mut Rules,
    changes: &mut Changes,
) -> Result<(), Errno> {
    let is_ipv4 = table.family == Family::Ip;
    let there = rules.of(table, &chain.name)?.len();
    demand(table, &chain.name, rules, changes)?;
    if !chain.is_shared && there > 0 {
        changes.flush(table, &chain.name);
    }
    if !chain.is_shared || there == 0 {
        for rule in &chain.rules {
            changes.append(table, &chain.name, &rule.expressions(is_ipv4));
        }
    }
    for parent in chain.parents() {
        demand(table, parent, rules, changes)?;
        let leading = leading_to(rules, table, parent, &chain.name)?;
        if chain.is_shared && !leading.is_empty() {
            continue;
        }
        for old in &leading {
            changes.delete(table, parent, old);
        }
        for entry in chain.entries.iter().filter(|entry| entry.parent == parent) {
            let rule = entry.rule.expressions(is_ipv4);
            match entry.is_first {
                true => changes.prepend(table, parent, &rule),
                false => changes.append(table, parent, &rule),
            }
        }
    }
    Ok(())
}

/// The chain is made where it is missing. One that is there would get the policy of a new one, and the kernel
/// holds up whoever closes a socket of netfilter next until it has let go of what was there (two waits for
/// all processors, 8 ms).
fn demand(
    table: Table,
    chain: &str,
    rules: &mut Rules,
    changes: &mut Changes,
) -> Result<(), Errno> {
    if !rules.has_chain(table, chain)? {
        changes.chain(table, chain, hook(table.name, chain));
    }
    Ok(())
}

/// The chain, and every rule of its parents that leads to it.
pub(crate) fn remove(
    name: &'static str,
    is_ipv4: bool,
    chain: &str,
    parents: Parents<'_>,
) -> Result<(), Errno> {
    let table = table(name, is_ipv4);
    nft::take_back(|rules, changes| {
        if !rules.has_chain(table, chain)? {
            return Ok(());
        }
        for parent in parents {
            for rule in leading_to(rules, table, parent, chain)? {
                changes.delete(table, parent, &rule);
            }
        }
        changes.delete_chain(table, chain);
        Ok(())
    })
}

/// What is missing.
pub(crate) fn missing(
    name: &'static str,
    is_ipv4: bool,
    chain: &Chain,
) -> Result<Option<String>, Errno> {
    let (table, mut rules) = (table(name, is_ipv4), Rules::open()?);
    if !rules.has_chain(table, &chain.name)? {
        return Ok(Some(format!(
            "chain {} not found in iptables table {name}",
            chain.name
        )));
    }
    if rules.of(table, &chain.name)?.len() < chain.rules.len() {
        return Ok(Some(format!(
            "rules in chain {} not found in table {name}",
            chain.name
        )));
    }
    for parent in chain.parents() {
        let wanted = chain
            .entries
            .iter()
            .filter(|entry| entry.parent == parent)
            .count();
        if leading_to(&mut rules, table, parent, &chain.name)?.len() < wanted {
            return Ok(Some(format!(
                "rule to {} in chain {parent} not found in table {name}",
                chain.name
            )));
        }
    }
    Ok(None)
}

fn leading_to(
    rules: &mut Rules,
    table: Table,
    parent: &str,
    chain: &str,
) -> Result<Vec<nft::Rule>, Errno> {
    let all = rules.of(table, parent)?.into_iter();
    Ok(all
        .filter(|rule| rule.jumps.as_deref() == Some(chain))
        .collect())
}
