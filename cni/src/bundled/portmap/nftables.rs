//! Port mappings as rules of nftables, each with the container's id as its comment.
//!
//! ```text
//! cni_hostport: prerouting, output ─ to this host ─▶ hostports_all ─▶ hostip_hostports, hostports
//!               masquerading: from the pod itself or from this host
//! ```

use rustix::io::Errno;

use super::conf::{Conf, Mapping};
use crate::bundled::call::Call;
use crate::bundled::fault::{Doing, Outcome};
use crate::bundled::netlink::nft::{self, Changes, Family, Hook, Rules, Table};
use crate::bundled::netlink::nft_rule::{Compare, Expressions, Side};
use crate::error::PluginError;
use crate::result::Cidr;

const ALL: &str = "hostports_all";
/// Older versions put rules there; newer ones only lead to it.
const HOST_IP: &str = "hostip_hostports";
const HOST_PORTS: &str = "hostports";
const MASQUERADING: &str = "masquerading";
/// nft(8) reads no longer ones.
const LONGEST_COMMENT: usize = 128;

fn table(is_ipv4: bool) -> Table {
    let family = if is_ipv4 { Family::Ip } else { Family::Ip6 };
    Table::new(family, "cni_hostport")
}

pub(crate) fn add(call: &Call<'_>, conf: &Conf, pod: Cidr) -> Outcome<()> {
    if !conf.conditions(pod.addr.is_ipv4()).is_empty() {
        return Err(PluginError::new(
            PluginError::UNSUPPORTED_FIELD,
            "conditionsV4 and conditionsV6 are understood with the backend \"iptables\" only: \
             use the reference plugin for conditions in the words of nft",
        ));
    }
    let (id, table) = (call.env.container_id.as_str(), table(pod.addr.is_ipv4()));
    if id.len() > LONGEST_COMMENT {
        // It is the rules' comment, by which they are found again.
        let msg = format!(
            "the container id is longer than {LONGEST_COMMENT} bytes, which nftables does not keep"
        );
        return Err(PluginError::internal(msg));
    }
    let added = nft::change(|rules, changes| {
        let stale = own_rules(rules, table, id, pod)?;
        frame(changes, table, conf.snat);
        for (chain, rule) in &stale {
            changes.delete(table, chain, rule);
        }
        let own = conf
            .mappings
            .iter()
            .filter(|mapping| mapping.is_for(pod.addr.is_ipv4()));
        for mapping in own {
            changes.append(table, HOST_PORTS, &dnat(mapping, pod).finish(id));
        }
        for rule in masquerades(conf, pod) {
            changes.append(table, MASQUERADING, &rule.finish(id));
        }
        Ok(())
    });
    added.doing(|| "unable to set up nftables rules for port mappings".to_owned())
}

/// What an ADD before this one has made for the same address. (By its comment alone it could be of the
/// container's link in another network.)
fn own_rules(
    rules: &mut Rules,
    table: Table,
    id: &str,
    pod: Cidr,
) -> Result<Vec<(&'static str, nft::Rule)>, Errno> {
    let mut all = Vec::new();
    for chain in [HOST_PORTS, MASQUERADING] {
        let own = owned(rules, table, chain, |comment| comment == id)?;
        let own = own.into_iter().filter(|rule| rule.names(pod.addr));
        all.extend(own.map(|rule| (chain, rule)));
    }
    Ok(all)
}

/// Table and chains, as they are for all pods.
fn frame(changes: &mut Changes, table: Table, snat: bool) {
    changes.table(table, "CNI portmap plugin");
    for chain in [HOST_PORTS, HOST_IP, ALL] {
        changes.chain(table, chain, None);
    }
    changes.flush(table, ALL);
    for chain in [HOST_IP, HOST_PORTS] {
        let mut rule = Expressions::default();
        rule.jump(chain);
        changes.append(table, ALL, &rule);
    }
    for (chain, hook) in [
        ("prerouting", Hook::NAT_PREROUTING),
        ("output", Hook::NAT_OUTPUT),
    ] {
        changes.chain(table, chain, Some(hook));
        changes.flush(table, chain);
        let mut rule = Expressions::default();
        rule.local_destination().jump(ALL);
        changes.append(table, chain, &rule);
    }
    if snat {
        changes.chain(table, MASQUERADING, Some(Hook::NAT_POSTROUTING));
    }
}

/// A rule that is still to be given its owner.
struct Owned(Expressions);

impl Owned {
    fn finish(mut self, id: &str) -> Expressions {
        self.0.comment(id);
        self.0
    }
}

fn dnat(mapping: &Mapping, pod: Cidr) -> Owned {
    let mut rule = Expressions::default();
    if let Some(host) = mapping.at() {
        rule.address(Side::Destination, Compare::Equal, Cidr::host(host));
    }
    rule.protocol(mapping.protocol.number())
        .destination_port(mapping.host_port)
        .dnat(pod.addr, mapping.port);
    Owned(rule)
}

fn masquerades(conf: &Conf, pod: Cidr) -> Vec<Owned> {
    let own = Cidr::host(pod.addr);
    let local = Cidr::host(std::net::Ipv4Addr::LOCALHOST.into());
    let sources = match (conf.snat, pod.addr.is_ipv4()) {
        (false, _) => vec![],
        (true, true) => vec![own, local],
        (true, false) => vec![own],
    };
    let rule = |source| {
        let mut rule = Expressions::default();
        rule.address(Side::Source, Compare::Equal, source)
            .address(Side::Destination, Compare::Equal, own)
            .masquerade();
        Owned(rule)
    };
    sources.into_iter().map(rule).collect()
}

pub(crate) fn del(call: &Call<'_>) -> Outcome<()> {
    let id = &call.env.container_id;
    remove_where(|comment| comment == id)
}

/// Whose comment it is.
fn remove_where(which: impl Fn(&str) -> bool) -> Outcome<()> {
    for is_ipv4 in [true, false] {
        let table = table(is_ipv4);
        let removed = nft::take_back(|rules, changes| {
            for chain in [HOST_PORTS, HOST_IP, MASQUERADING] {
                for rule in owned(rules, table, chain, &which)? {
                    changes.delete(table, chain, &rule);
                }
            }
            Ok(())
        });
        removed.doing(|| "error deleting nftables rules".to_owned())?;
    }
    Ok(())
}

fn owned(
    rules: &mut Rules,
    table: Table,
    chain: &str,
    which: impl Fn(&str) -> bool,
) -> Result<Vec<nft::Rule>, Errno> {
    let all = rules.of(table, chain)?.into_iter();
    Ok(all
        .filter(|rule| rule.comment.as_deref().is_some_and(&which))
        .collect())
}

pub(crate) fn check(call: &Call<'_>, conf: &Conf, pod: Cidr) -> Outcome<()> {
    let is_ipv4 = pod.addr.is_ipv4();
    let ports = conf
        .mappings
        .iter()
        .filter(|mapping| mapping.is_for(is_ipv4))
        .count();
    let wanted = [
        (HOST_PORTS, ports),
        (MASQUERADING, masquerades(conf, pod).len()),
    ];
    let what = || "look at the rules of port mappings".to_owned();
    let mut rules = Rules::open().doing(what)?;
    for (chain, count) in wanted {
        let id = &call.env.container_id;
        let found =
            owned(&mut rules, table(is_ipv4), chain, |comment| comment == id).doing(what)?;
        if found.len() < count {
            return Err(PluginError::internal(format!(
                "missing hostport rules in {chain:?} chain"
            )));
        }
    }
    Ok(())
}
