//! `portmap`: ports of the host lead to ports of the pod.
//!
//! Invariant: DEL takes back what either backend made, whatever the configuration says by then.

pub(crate) mod conf;
mod iptables;
mod nftables;

use conf::{Conf, pod_addresses};

use super::call::Call;
use super::fault::{Doing, Outcome};
use super::filter::rule::Protocol;
use super::netlink::conntrack;
use super::{netns, sysctl};
use crate::result::Cidr;

/// Gives the previous result on.
pub(crate) fn add(call: &Call<'_>) -> Outcome<String> {
    let conf = Conf::read(call)?;
    let (text, result) = call.required_prev_result("must be called as chained plugin")?;
    if conf.mappings.is_empty() {
        return Ok(text);
    }
    for pod in pod_addresses(&result, &call.env.ifname) {
        match conf.by_nftables()? {
            true => nftables::add(call, &conf, pod)?,
            false => iptables::add(call, &conf, pod)?,
        }
        forget_old_ways(&conf, pod);
        if conf.snat && pod.addr.is_ipv4() {
            route_from_localhost(pod)?;
        }
    }
    Ok(text)
}

/// A client that goes on sending datagrams would go on to where the port led before.
fn forget_old_ways(conf: &Conf, pod: Cidr) {
    let udp = conf
        .mappings
        .iter()
        .filter(|mapping| mapping.protocol == Protocol::Udp);
    for mapping in udp {
        if let Err(error) = conntrack::forget_udp(mapping.host_port, pod.addr.is_ipv4()) {
            // The port leads to the pod all the same.
            eprintln!(
                "old connections to port {} stay: {error}",
                mapping.host_port
            );
        }
    }
}

/// A packet from 127.0.0.1 may leave by the link that leads to the pod.
fn route_from_localhost(pod: Cidr) -> Outcome<()> {
    let what = || {
        format!(
            "unable to enable route_localnet: find the way to {}",
            pod.addr
        )
    };
    let mut links = netns::links()?;
    let way = links.way_to(pod.addr).doing(what)?;
    let link = way
        .map(|index| links.link_at(index))
        .transpose()
        .doing(what)?
        .flatten();
    let Some(link) = link else { return Ok(()) };
    let name = format!("net/ipv4/conf/{}/route_localnet", link.name);
    sysctl::ensure(&name, "1").doing(|| format!("unable to enable route_localnet: write {name}"))
}

/// Nothing is no error.
pub(crate) fn del(call: &Call<'_>) -> Outcome<()> {
    let conf = Conf::read(call)?;
    if conf.mappings.is_empty() {
        return Ok(());
    }
    iptables::del(call)?;
    nftables::del(call)
}

pub(crate) fn check(call: &Call<'_>) -> Outcome<()> {
    let conf = Conf::read(call)?;
    let (_, result) = call.required_prev_result("Required prevResult missing")?;
    if conf.mappings.is_empty() {
        return Ok(());
    }
    for pod in pod_addresses(&result, &call.env.ifname) {
        match conf.by_nftables()? {
            true => nftables::check(call, &conf, pod)?,
            false => iptables::check(call, &conf, pod)?,
        }
    }
    Ok(())
}

/// The configuration can be read, and there is a backend for it.
pub(crate) fn status(call: &Call<'_>) -> Outcome<()> {
    Conf::read(call).map(drop)
}
