//! `ptp`: a pair of links between the host and the pod, with nothing in between.
//!
//! ```text
//! pod:  10.1.0.5/16 ─ 10.1.0.1 on the link ─ all else of 10.1.0.0/16 by it ─┐
//! host: 10.1.0.1/32 on the other end ─ 10.1.0.5 on the link ◀──────────────┘
//! ```
//!
//! Invariant: an ADD that fails has given its addresses back; its links go with the DEL that follows, or
//! with the namespace.

use std::net::IpAddr;

use rustix::io::Errno;
use serde::Deserialize;

use super::answer::Answer;
use super::call::{Call, valid_attachments};
use super::fault::{Doing, Outcome};
use super::netlink::Socket;
use super::netlink::message::Message;
use super::netlink::route::{Link, RTA_PREFSRC, add_address, add_route, delete_route, octets};
use super::netns::{self, Netns};
use super::pod_link::{self, Manners};
use super::veth::{self, Pair};
use super::{ipam, masquerade, sysctl};
use crate::error::PluginError;
use crate::result::{AddResult, Cidr, Dns, Interface, IpConfig, Route};

/// The pod's link among those that ptp tells.
const PODS_LINK: usize = 1;
/// Scopes of routes.
const ON_LINK: u32 = 253;
const ON_HOST: u32 = 254;

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Conf {
    ip_masq: bool,
    ip_masq_backend: Option<String>,
    /// 0: the kernel's.
    mtu: u32,
    ipam: Ipam,
    dns: Option<Dns>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Ipam {
    #[serde(rename = "type")]
    kind: String,
}

pub(crate) fn add(call: &Call<'_>) -> Outcome<Answer> {
    let conf: Conf = call.conf()?;
    let netns = Netns::demand(call.env)?;
    let mut answer = ipam::add(&conf.ipam.kind, call)?;
    let done = with_addresses(call, &conf, &netns, &mut answer);
    if done.is_err() {
        // The first error is the one to tell; the DEL that follows asks again.
        let _ = ipam::del(&conf.ipam.kind, call);
    }
    done.map(|()| answer)
}

fn with_addresses(call: &Call<'_>, conf: &Conf, netns: &Netns, answer: &mut Answer) -> Outcome<()> {
    if answer.ips.is_empty() {
        return Err(PluginError::internal(
            "IPAM plugin returned missing IP config",
        ));
    }
    let gateways: Outcome<Vec<IpAddr>> = answer.ips.iter().map(gateway).collect();
    let ends: Vec<End> = answer.ips.iter().zip(gateways?).map(End::of).collect();
    forward(&ends)?;
    let mut host = netns::links()?;
    let pair = Pair {
        ifname: &call.env.ifname,
        mac: None,
        mtu: conf.mtu,
        master: 0,
    };
    let host_end = veth::create(&mut host, netns, &pair)?;
    answer
        .ips
        .iter_mut()
        .for_each(|ip| ip.interface = Some(PODS_LINK));
    let pods = set_pods_end(call, netns, answer, &ends)?;
    set_host_end(&mut host, &host_end, &ends)?;
    if conf.ip_masq {
        let ips: Vec<_> = answer.ips.iter().map(|ip| ip.address).collect();
        masquerade::add(call, conf.ip_masq_backend.as_deref(), &ips)?;
    }
    let interface = |link: Link, sandbox: &str| Interface {
        name: link.name,
        mac: link.mac,
        sandbox: sandbox.to_owned(),
        ..Interface::default()
    };
    answer.interfaces = vec![interface(host_end, ""), interface(pods, &call.env.netns)];
    if let Some(dns) = conf.dns.as_ref().filter(|dns| **dns != Dns::default()) {
        answer.dns = dns.clone();
    }
    Ok(())
}

fn gateway(ip: &IpConfig) -> Outcome<IpAddr> {
    ip.gateway.ok_or_else(|| {
        let msg = format!(
            "the IPAM plugin gave {} without a gateway, which is the host's end of the pair: name one",
            ip.address
        );
        PluginError::internal(msg)
    })
}

/// One address of the pod, and the host's for it.
struct End {
    pod: Cidr,
    host: IpAddr,
}

impl End {
    fn of((ip, host): (&IpConfig, IpAddr)) -> Self {
        let pod = ip.address;
        Self { pod, host }
    }
}

fn forward(ends: &[End]) -> Outcome<()> {
    for (is_ipv4, key) in [
        (true, "net/ipv4/ip_forward"),
        (false, "net/ipv6/conf/all/forwarding"),
    ] {
        if ends.iter().any(|end| end.pod.addr.is_ipv4() == is_ipv4) {
            sysctl::ensure(key, "1")
                .doing(|| format!("Could not enable IP forwarding: write {key}"))?;
        }
    }
    Ok(())
}

/// The pod reaches its whole network by the host's end, and that on the link. Gives the pod's end.
fn set_pods_end(call: &Call<'_>, netns: &Netns, answer: &Answer, ends: &[End]) -> Outcome<Link> {
    let ifname = &call.env.ifname;
    let manners = Manners {
        detects_duplicates: true,
        announces: false,
    };
    let mut links = pod_link::configure(netns, ifname, answer, &manners)?;
    let what = || format!("failed to look up {ifname:?}");
    let found = links.link(ifname).doing(what)?;
    let link = found.ok_or_else(|| PluginError::internal(what()))?;
    for end in ends {
        let net = end.pod.masked();
        match links.change(delete_route(link.index, net)) {
            // An address that is a network by itself has none.
            Err(Errno::SRCH) => {}
            deleted => deleted.doing(|| format!("failed to delete route {net}"))?,
        }
        let on_link = (route(Cidr::host(end.host), ON_LINK), None);
        let by_host = (route(net, 0), Some(end.host));
        for (route, gateway) in [on_link, by_host] {
            let message = from(end.pod.addr, add_route(link.index, &route, gateway));
            links
                .change(message)
                .doing(|| format!("failed to add route {}", route.dst))?;
        }
    }
    Ok(link)
}

fn route(dst: Cidr, scope: u32) -> Route {
    Route {
        dst,
        gw: None,
        mtu: None,
        advmss: None,
        priority: None,
        table: None,
        scope: Some(scope),
    }
}

/// What is sent by the route has this address.
fn from(addr: IpAddr, mut message: Message) -> Message {
    message.attr(RTA_PREFSRC, &octets(addr));
    message
}

fn set_host_end(host: &mut Socket, link: &Link, ends: &[End]) -> Outcome<()> {
    for end in ends {
        let own = Cidr::host(end.host);
        match host.change(add_address(link.index, own)) {
            // Two networks of one gateway.
            Err(Errno::EXIST) => {}
            added => added.doing(|| format!("failed to add IP addr {own} to veth"))?,
        }
        let pods = route(Cidr::host(end.pod.addr), ON_HOST);
        match host.change(add_route(link.index, &pods, None)) {
            Err(Errno::EXIST) => {}
            added => added.doing(|| format!("failed to add route on host: {}", pods.dst))?,
        }
    }
    Ok(())
}

/// The link first and the addresses last, so that nobody else has one while this pod still answers to it,
/// or rules are about it. A namespace that is gone took its link along.
pub(crate) fn del(call: &Call<'_>) -> Outcome<()> {
    let conf: Conf = call.conf()?;
    if let Some(netns) = Netns::of_pod(call.env)? {
        let mut links = netns.links()?;
        let what = || format!("failed to delete {:?}", call.env.ifname);
        if let Some(link) = links.link(&call.env.ifname).doing(what)? {
            links.delete_link(link.index).doing(what)?;
        }
    }
    if conf.ip_masq {
        masquerade::del(call)?;
    }
    ipam::del(&conf.ipam.kind, call)
}

pub(crate) fn check(call: &Call<'_>) -> Outcome<()> {
    let conf: Conf = call.conf()?;
    let netns = Netns::demand(call.env)?;
    ipam::check(&conf.ipam.kind, call)?;
    let (_, result) = call.required_prev_result("ptp: Required prevResult missing")?;
    let mut inside = netns.links()?;
    check_link(&mut inside, call, &result)?;
    pod_link::check(&mut inside, &call.env.ifname, &result)
}

/// The pod's end is a link of a pair, with the address that was told.
fn check_link(inside: &mut Socket, call: &Call<'_>, result: &AddResult) -> Outcome<()> {
    let (name, netns) = (&call.env.ifname, &call.env.netns);
    let refuse = |msg: String| Err(PluginError::internal(msg));
    let mut all = result.interfaces.iter();
    let Some(told) = all.find(|it| it.name == *name && it.sandbox == *netns) else {
        return refuse(format!(
            "Sandbox in prevResult doesn't match configured netns: {netns}"
        ));
    };
    let found = inside.link(name).doing(|| format!("look for {name}"))?;
    let Some(link) = found else {
        return refuse(format!(
            "ptp: Container Interface name in prevResult: {name} not found"
        ));
    };
    if link.kind != "veth" {
        return refuse(format!(
            "Error: Container interface {name} not of type veth/p2p"
        ));
    }
    match told.mac.is_empty() || told.mac == link.mac {
        true => Ok(()),
        false => refuse(format!(
            "ptp: Interface {name} Mac {} doesn't match container Mac: {}",
            told.mac, link.mac
        )),
    }
}

pub(crate) fn status(call: &Call<'_>) -> Outcome<()> {
    let conf: Conf = call.conf()?;
    ipam::status(&conf.ipam.kind, call)
}

pub(crate) fn gc(call: &Call<'_>) -> Outcome<()> {
    let conf: Conf = call.conf()?;
    ipam::gc(&conf.ipam.kind, call)?;
    match conf.ip_masq {
        true => masquerade::gc(call, &valid_attachments(call)?),
        false => Ok(()),
    }
}
