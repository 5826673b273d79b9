//! `host-local`: addresses out of ranges, kept on this host's disk.
//!
//! Invariant: two calls at once never give one address twice, whichever of Corten's and the
//! reference plugin they are: they share the lock.

pub(crate) mod conf;
pub(crate) mod range;
mod store;

use std::fs;
use std::net::IpAddr;

use conf::Conf;
use range::{Range, RangeSet};
use store::Store;

use super::answer::Answer;
use super::call::{Call, valid_attachments};
use super::fault::{Doing, Outcome};
use crate::error::PluginError;
use crate::result::{Cidr, Dns, IpConfig};

/// Gives an address out of each set of ranges.
pub(crate) fn add(call: &Call<'_>) -> Outcome<Answer> {
    let conf = Conf::read(call)?;
    let mut answer = Answer {
        routes: conf.routes.clone(),
        ..Answer::default()
    };
    if !conf.resolv_conf.is_empty() {
        answer.dns = dns(&conf.resolv_conf)?;
    }
    let store = Store::lock(&conf.directory)?;
    if let Err(fault) = allocate(call, &conf, &store, &mut answer.ips) {
        // Just what this call reserved: what its owner had before stays his.
        let reserved: Vec<_> = answer.ips.iter().map(|ip| ip.address.addr).collect();
        store.release_these(&reserved)?;
        return Err(fault);
    }
    Ok(answer)
}

/// Puts each address into `ips` once it is reserved.
fn allocate(call: &Call<'_>, conf: &Conf, store: &Store, ips: &mut Vec<IpConfig>) -> Outcome<()> {
    let mut wanted = conf.wanted.clone();
    for (at, set) in conf.ranges.iter().enumerate() {
        let position = wanted.iter().position(|addr| set.of(*addr).is_some());
        let asked = position.map(|position| wanted.remove(position));
        let given = match asked {
            Some(addr) => requested(call, store, (at, set), addr),
            None => next_free(call, store, (at, set)),
        };
        let (addr, range) = given.map_err(|why| {
            PluginError::internal(format!("failed to allocate for range {at}: {}", why.msg))
        })?;
        ips.push(IpConfig {
            address: Cidr {
                addr,
                prefix: range.subnet.prefix,
            },
            gateway: Some(range.gateway),
            interface: None,
        });
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let left: Vec<_> = wanted.iter().map(ToString::to_string).collect();
    let msg = format!("failed to allocate all requested IPs: {}", left.join(" "));
    Err(PluginError::internal(msg))
}

fn requested<'r>(
    call: &Call<'_>,
    store: &Store,
    (at, set): (usize, &'r RangeSet),
    addr: IpAddr,
) -> Outcome<(IpAddr, &'r Range)> {
    let range = set
        .of(addr)
        .ok_or_else(|| PluginError::internal(format!("{addr} not in range set {set}")))?;
    if addr == range.gateway {
        return Err(PluginError::internal(format!(
            "requested ip {addr} is subnet's gateway"
        )));
    }
    let owner = store::owner(&call.env.container_id, &call.env.ifname);
    match store.reserve(addr, &owner, at)? {
        true => Ok((addr, range)),
        false => Err(PluginError::internal(format!(
            "requested IP address {addr} is not available in range set {set}"
        ))),
    }
}

fn next_free<'r>(
    call: &Call<'_>,
    store: &Store,
    (at, set): (usize, &'r RangeSet),
) -> Outcome<(IpAddr, &'r Range)> {
    let (id, ifname) = (&call.env.container_id, &call.env.ifname);
    let owned = store.owned(id, ifname)?;
    if let Some(addr) = owned.iter().find(|addr| set.of(**addr).is_some()) {
        return Err(PluginError::internal(format!(
            "{addr} has been allocated to {id}, duplicate allocation is not allowed"
        )));
    }
    let owner = store::owner(id, ifname);
    for (addr, range) in set.turn(store.last_reserved(at)) {
        if store.reserve(addr, &owner, at)? {
            return Ok((addr, range));
        }
    }
    Err(PluginError::internal(format!(
        "no IP addresses available in range set: {set}"
    )))
}

/// Gives the owner's addresses back.
pub(crate) fn del(call: &Call<'_>) -> Outcome<()> {
    let conf = Conf::read(call)?;
    Store::lock(&conf.directory)?.release(&call.env.container_id, &call.env.ifname)
}

/// The owner has an address.
pub(crate) fn check(call: &Call<'_>) -> Outcome<()> {
    let conf = Conf::read(call)?;
    let store = Store::lock(&conf.directory)?;
    let id = &call.env.container_id;
    match store.owned(id, &call.env.ifname)?.is_empty() {
        true => Err(PluginError::internal(format!(
            "host-local: Failed to find address added by container {id}"
        ))),
        false => Ok(()),
    }
}

/// Gives back what belongs to no attachment that is there.
pub(crate) fn gc(call: &Call<'_>) -> Outcome<()> {
    let conf = Conf::read(call)?;
    Store::lock(&conf.directory)?.keep(&valid_attachments(call)?)
}

/// The configuration can be read: there is nothing else that an ADD would wait for.
pub(crate) fn status(call: &Call<'_>) -> Outcome<()> {
    Conf::read(call).map(drop)
}

fn dns(path: &str) -> Outcome<Dns> {
    let text = fs::read_to_string(path).doing(|| format!("read {path}"))?;
    let mut dns = Dns::default();
    for line in text.lines().map(str::trim) {
        let mut words = line.split_whitespace().map(str::to_owned);
        match (words.next().as_deref(), words.next()) {
            (Some("nameserver"), Some(first)) => dns.nameservers.push(first),
            (Some("domain"), Some(first)) => dns.domain = first,
            (Some("search"), Some(first)) => dns.search.extend([first].into_iter().chain(words)),
            (Some("options"), Some(first)) => dns.options.extend([first].into_iter().chain(words)),
            _ => {}
        }
    }
    Ok(dns)
}
