//! `ipMasq`: what a pod sends to elsewhere leaves under the host's address.
//!
//! ```text
//! iptables, where this host has it: nat POSTROUTING -s POD -j CNI-hash, and that chain
//! nftables: inet cni_plugins_masquerade, a rule in masq_checks with the pod's comment
//! ```
//!
//! Both are the reference plugins' own, so that either takes back what the other made.

use rustix::io::Errno;

use super::call::Call;
use super::fault::{Doing, Outcome};
use super::filter::rule::{Match, Rule, Target};
use super::filter::{self, Backend, Chain, Entry, chain_name, hashed};
use super::netlink::nft::{self, Changes, Family, Hook, Rules, Table};
use super::netlink::nft_rule::{Compare, Expressions, Side};
use crate::result::Cidr;

const TABLE: Table = Table::new(Family::Inet, "cni_plugins_masquerade");
const CHECKS: &str = "masq_checks";
const POSTROUTING: &str = "POSTROUTING";
/// nft(8) reads no longer ones.
const LONGEST_COMMENT: usize = 128;

/// For these addresses of the call's pod.
pub(crate) fn add(call: &Call<'_>, backend: Option<&str>, ips: &[Cidr]) -> Outcome<()> {
    match backend {
        Some("iptables") => add_iptables(call, ips),
        Some("nftables") => add_nftables(call, ips),
        Some(other) => filter::unknown_backend("ipmasq", other),
        None if filter::host_backend()? == Backend::None => add_nftables(call, ips),
        None => add_iptables(call, ips),
    }
}

/// Whichever way they were made.
pub(crate) fn del(call: &Call<'_>) -> Outcome<()> {
    filter::remove("nat", &chain(call), &[POSTROUTING])?;
    let prefix = instance(&call.name, &call.env.ifname, &call.env.container_id);
    remove_where(|comment| comment.starts_with(&prefix))
}

/// Of this network what belongs to no attachment that is there. (Chains of iptables do not tell
/// their network.)
pub(crate) fn gc(call: &Call<'_>, valid: &[(String, String)]) -> Outcome<()> {
    let network = hashed(16, "", &call.name);
    let kept: Vec<_> = valid
        .iter()
        .map(|(id, ifname)| instance(&call.name, ifname, id))
        .collect();
    remove_where(|comment| {
        comment.starts_with(&network) && !kept.iter().any(|kept| comment.starts_with(kept.as_str()))
    })
}

fn chain(call: &Call<'_>) -> String {
    chain_name("CNI-", &format!("{}{}", call.name, call.env.container_id))
}

fn add_iptables(call: &Call<'_>, ips: &[Cidr]) -> Outcome<()> {
    let comment = format!("name: {:?} id: {:?}", call.name, call.env.container_id);
    for is_ipv4 in [true, false] {
        let of_family: Vec<_> = ips
            .iter()
            .filter(|ip| ip.addr.is_ipv4() == is_ipv4)
            .collect();
        if of_family.is_empty() {
            continue;
        }
        let mut own = Chain {
            name: chain(call),
            is_shared: false,
            rules: Vec::new(),
            entries: Vec::new(),
        };
        for ip in &of_family {
            let commented = |target| Rule::to(target).with(Match::Comment(comment.clone()));
            own.rules.push(Rule {
                destination: Some(ip.masked()),
                ..commented(Target::Accept)
            });
            let elsewhere = Some(multicast(is_ipv4));
            let masquerade = Rule {
                elsewhere,
                ..commented(Target::Masquerade)
            };
            if own.rules.len() == 1 {
                own.rules.push(masquerade);
            }
            let source = Some(Cidr::host(ip.addr));
            let rule = Rule {
                source,
                ..commented(Target::Chain(own.name.clone()))
            };
            own.entries.push(Entry {
                parent: POSTROUTING,
                is_first: false,
                rule,
            });
        }
        filter::apply("nat", is_ipv4, &[own])?;
    }
    Ok(())
}

fn multicast(is_ipv4: bool) -> Cidr {
    let text = if is_ipv4 { "224.0.0.0/4" } else { "ff00::/8" };
    text.parse().expect("a network")
}

fn add_nftables(call: &Call<'_>, ips: &[Cidr]) -> Outcome<()> {
    let own = instance(&call.name, &call.env.ifname, &call.env.container_id);
    let comment = comment(call, &own);
    let added = nft::change(|rules, changes| {
        let stale = with_comment(rules, |comment| comment.starts_with(&own))?;
        frame(changes);
        for rule in &stale {
            changes.delete(TABLE, CHECKS, rule);
        }
        for ip in ips {
            let family = if ip.addr.is_ipv4() {
                Family::Ip
            } else {
                Family::Ip6
            };
            let mut rule = Expressions::default();
            rule.only(family)
                .address(Side::Source, Compare::Equal, Cidr::host(ip.addr))
                .address(Side::Destination, Compare::Other, *ip)
                .masquerade()
                .comment(&comment);
            changes.append(TABLE, CHECKS, &rule);
        }
        Ok(())
    });
    added.doing(|| "masquerade by nftables".to_owned())
}

/// Table and chains, as they are for all pods.
fn frame(changes: &mut Changes) {
    changes.table(
        TABLE,
        "Masquerading for plugins from github.com/containernetworking/plugins",
    );
    let text = "Masquerade traffic from certain IPs to any (non-multicast) IP outside their subnet";
    changes.commented_chain(TABLE, CHECKS, None, text);
    changes.chain(TABLE, "postrouting", Some(Hook::NAT_POSTROUTING));
    changes.flush(TABLE, "postrouting");
    for (family, is_ipv4) in [(Family::Ip, true), (Family::Ip6, false)] {
        let mut rule = Expressions::default();
        rule.only(family)
            .address(Side::Destination, Compare::Equal, multicast(is_ipv4))
            .back();
        changes.append(TABLE, "postrouting", &rule);
    }
    let mut rule = Expressions::default();
    rule.go_to(CHECKS);
    changes.append(TABLE, "postrouting", &rule);
}

fn remove_where(which: impl Fn(&str) -> bool) -> Outcome<()> {
    let removed = nft::take_back(|rules, changes| {
        for rule in with_comment(rules, &which)? {
            changes.delete(TABLE, CHECKS, &rule);
        }
        Ok(())
    });
    removed.doing(|| "remove what masquerades by nftables".to_owned())
}

fn with_comment(rules: &mut Rules, which: impl Fn(&str) -> bool) -> Result<Vec<nft::Rule>, Errno> {
    let all = rules.of(TABLE, CHECKS)?.into_iter();
    Ok(all
        .filter(|rule| rule.comment.as_deref().is_some_and(&which))
        .collect())
}

fn instance(network: &str, ifname: &str, container_id: &str) -> String {
    let own = hashed(16, "", &format!("{ifname}:{container_id}"));
    format!("{}-{own}", hashed(16, "", network))
}

fn comment(call: &Call<'_>, own: &str) -> String {
    let (id, ifname) = (&call.env.container_id, &call.env.ifname);
    let mut text = format!("{own}, net: {}, if: {ifname}, id: {id}", call.name).replace('"', "");
    text.truncate(text.floor_char_boundary(LONGEST_COMMENT));
    text
}
