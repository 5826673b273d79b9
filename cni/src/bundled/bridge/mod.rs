//! `bridge`: a pair of links from the pod to a bridge of the host.
//!
//! ```text
//! ADD: bridge ─▶ pair, one end in the pod ─▶ addresses from IPAM ─▶ pod's end: addresses, routes
//!        └────▶ gateway's addresses on the bridge, forwarding ─▶ masquerading
//! DEL: the pod's link ─▶ its rules ─▶ addresses back to IPAM
//! ```
//!
//! Invariant: an ADD that fails has given its addresses back; its links go with the DEL that follows,
//! or with the namespace.

mod check;
pub(crate) mod conf;
mod gateway;
mod host;
mod port;
mod spoof;

pub(crate) use check::check;

use conf::Conf;

use super::answer::Answer;
use super::call::{Call, valid_attachments};
use super::fault::{Doing, Outcome};
use super::netlink::Socket;
use super::netlink::route::{Link, UP, mac, set_link};
use super::netns::{self, Netns};
use super::pod_link::{self, Manners};
use super::veth::{self, Pair};
use super::{ipam, masquerade};
use crate::error::PluginError;
use crate::result::Interface;

/// What an ADD has made so far.
struct Made {
    host: Socket,
    bridge: Link,
    netns: Netns,
    host_end: Link,
}

pub(crate) fn add(call: &Call<'_>) -> Outcome<Answer> {
    let conf = Conf::read(call)?;
    conf.check()?;
    let netns = Netns::open(&call.env.netns)?;
    let mut host = netns::links()?;
    let bridge = host::ensure_bridge(&mut host, &conf)?;
    let pair = Pair {
        ifname: &call.env.ifname,
        mac: conf.port.mac,
        mtu: conf.mtu,
        master: bridge.index,
    };
    let host_end = veth::create(&mut host, &netns, &pair)?;
    port::set(&mut host, &host_end, &conf.port)?;
    let mut made = Made {
        host,
        bridge,
        netns,
        host_end,
    };
    if conf.checks_mac {
        check_mac(call, &made)?;
    }
    let answer = with_links(call, &conf, &mut made);
    if answer.is_err() && conf.checks_mac {
        // The first error is the one to tell; the DEL that follows does it again.
        let _ = spoof::del(call);
    }
    answer
}

fn check_mac(call: &Call<'_>, made: &Made) -> Outcome<()> {
    let pods = pods_link(call, made)?;
    let mac = mac(&pods.mac)
        .ok_or_else(|| PluginError::internal(format!("{:?} has no hardware address", pods.name)))?;
    spoof::add(call, &made.host_end.name, mac)
}

fn pods_link(call: &Call<'_>, made: &Made) -> Outcome<Link> {
    let name = &call.env.ifname;
    let what = || format!("failed to lookup {name:?}");
    let found = made.netns.links()?.link(name).doing(what)?;
    found.ok_or_else(|| PluginError::internal(what()))
}

/// What there is above the links.
fn with_links(call: &Call<'_>, conf: &Conf, made: &mut Made) -> Outcome<Answer> {
    if conf.ipam.is_empty() {
        let mut answer = Answer::default();
        if !conf.leaves_interface_down {
            up(call, made)?;
        }
        return finish(call, conf, made, &mut answer).map(|()| answer);
    }
    let mut answer = ipam::add(&conf.ipam, call)?;
    let done = with_addresses(call, conf, made, &mut answer)
        .and_then(|()| finish(call, conf, made, &mut answer));
    if done.is_err() {
        // The first error is the one to tell; the DEL that follows asks again.
        let _ = ipam::del(&conf.ipam, call);
    }
    done.map(|()| answer)
}

fn with_addresses(
    call: &Call<'_>,
    conf: &Conf,
    made: &mut Made,
    answer: &mut Answer,
) -> Outcome<()> {
    if answer.ips.is_empty() {
        return Err(PluginError::internal(
            "IPAM plugin returned missing IP config",
        ));
    }
    let gateways = gateway::complete(answer, conf);
    let manners = Manners {
        detects_duplicates: conf.detects_duplicates,
        announces: true,
    };
    pod_link::configure(&made.netns, &call.env.ifname, answer, &manners)?;
    if conf.is_gateway {
        let vlan = gateway::set(&mut made.host, &made.bridge, conf, &gateways)?;
        answer.interfaces.extend(vlan);
    }
    if conf.masquerades {
        let ips: Vec<_> = answer.ips.iter().map(|ip| ip.address).collect();
        masquerade::add(call, conf.masquerade_backend.as_deref(), &ips)?;
    }
    Ok(())
}

fn up(call: &Call<'_>, made: &Made) -> Outcome<()> {
    let mut links = made.netns.links()?;
    let name = &call.env.ifname;
    let what = || format!("failed to set {name:?} up");
    let link = links
        .link(name)
        .doing(what)?
        .ok_or_else(|| PluginError::internal(what()))?;
    links.change(set_link(link.index, UP, UP)).doing(what)
}

/// Hardware addresses are looked at last: the first port of a bridge changes the bridge's, and others
/// on the host may have given the pair's end another one.
fn finish(call: &Call<'_>, conf: &Conf, made: &mut Made, answer: &mut Answer) -> Outcome<()> {
    let host_end = match conf.leaves_interface_down {
        false => port::await_up(&mut made.host, &made.host_end)?,
        true => made.host_end.clone(),
    };
    let bridge = host::bridge(&mut made.host, &conf.bridge)?;
    let pods = pods_link(call, made)?;
    let interface = |link: &Link, sandbox: &str| Interface {
        name: link.name.clone(),
        mac: link.mac.clone(),
        sandbox: sandbox.to_owned(),
        ..Interface::default()
    };
    let mut all = vec![
        interface(&bridge, ""),
        interface(&host_end, ""),
        interface(&pods, &call.env.netns),
    ];
    all.append(&mut answer.interfaces);
    answer.interfaces = all;
    if let Some(dns) = &conf.dns {
        answer.dns = dns.clone();
    }
    Ok(())
}

/// The link first and the address last, so that nobody else has it while this pod still answers to it,
/// or rules are about it.
pub(crate) fn del(call: &Call<'_>) -> Outcome<()> {
    let conf = Conf::read(call)?;
    host::remove_link(call)?;
    if conf.checks_mac {
        spoof::del(call)?;
    }
    if conf.masquerades {
        masquerade::del(call)?;
    }
    match conf.ipam.is_empty() {
        true => Ok(()),
        false => ipam::del(&conf.ipam, call),
    }
}

pub(crate) fn status(call: &Call<'_>) -> Outcome<()> {
    let conf = Conf::read(call)?;
    match conf.ipam.is_empty() {
        true => Ok(()),
        false => ipam::status(&conf.ipam, call),
    }
}

pub(crate) fn gc(call: &Call<'_>) -> Outcome<()> {
    let conf = Conf::read(call)?;
    if !conf.ipam.is_empty() {
        ipam::gc(&conf.ipam, call)?;
    }
    match conf.masquerades {
        true => masquerade::gc(call, &valid_attachments(call)?),
        false => Ok(()),
    }
}
