//! The pod's link: its settings, addresses and routes, as an IPAM plugin gave them.

use std::net::{IpAddr, Ipv6Addr};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::answer::Answer;
use super::fault::{Doing, Outcome};
use super::netlink::Socket;
use super::netlink::message::Message;
use super::netlink::route::{DAD_FAILED, TENTATIVE, UP, add_address, add_route, set_link};
use super::netns::{self, Netns};
use super::sysctl;
use crate::error::PluginError;
use crate::result::{AddResult, Route};

/// For IPv6 addresses to be found nobody else's.
const SETTLE_LIMIT: Duration = Duration::from_secs(5);
const SETTLE_PAUSE: Duration = Duration::from_millis(5);

/// How the link is to behave.
pub(crate) struct Manners {
    /// Waits until its IPv6 addresses are nobody else's.
    pub(crate) detects_duplicates: bool,
    /// Tells its neighbours of its address when it comes up.
    pub(crate) announces: bool,
}

/// Gives the link `ifname` of the namespace the answer's addresses and routes.
pub(crate) fn configure(
    netns: &Netns,
    ifname: &str,
    answer: &Answer,
    manners: &Manners,
) -> Outcome<Socket> {
    let mut links = netns.inside(|| {
        set(ifname, answer, manners)?;
        netns::links()
    })?;
    let what = || format!("failed to lookup {ifname:?}");
    let link = links
        .link(ifname)
        .doing(what)?
        .ok_or_else(|| PluginError::internal(what()))?;
    let mut steps: Vec<(String, Message)> = Vec::new();
    for ip in &answer.ips {
        let what = format!("failed to add IP addr {} to {ifname:?}", ip.address);
        steps.push((what, add_address(link.index, ip.address)));
    }
    steps.push((
        format!("failed to set {ifname:?} UP"),
        set_link(link.index, UP, UP),
    ));
    let has_ipv6 = answer.ips.iter().any(|ip| ip.address.addr.is_ipv6());
    if has_ipv6 {
        run(&mut links, std::mem::take(&mut steps))?;
        settle(&mut links, link.index, ifname)?;
    }
    for route in &answer.routes {
        let gateway = route.gw.or_else(|| gateway(answer, route));
        let what = format!(
            "failed to add route '{} via {gateway:?} dev {ifname}'",
            route.dst
        );
        steps.push((what, add_route(link.index, route, gateway)));
    }
    run(&mut links, steps)?;
    Ok(links)
}

/// What must be set before the link comes up.
fn set(ifname: &str, answer: &Answer, manners: &Manners) -> Outcome<()> {
    if manners.detects_duplicates {
        sysctl::try_write(&format!("net/ipv6/conf/{ifname}/enhanced_dad"), "1");
    }
    let dad = if manners.detects_duplicates { "1" } else { "0" };
    sysctl::try_write(&format!("net/ipv6/conf/{ifname}/accept_dad"), dad);
    if manners.announces {
        sysctl::try_write(&format!("net/ipv4/conf/{ifname}/arp_notify"), "1");
    }
    match answer.ips.iter().any(|ip| ip.address.addr.is_ipv6()) {
        true => enable_ipv6(ifname),
        false => Ok(()),
    }
}

/// Addresses stay when the link goes down.
fn enable_ipv6(ifname: &str) -> Outcome<()> {
    for name in ["lo", ifname] {
        let key = format!("net/ipv6/conf/{name}/disable_ipv6");
        if sysctl::read(&key).is_ok_and(|value| value != "0") {
            sysctl::write(&key, "0")
                .doing(|| format!("failed to enable IPv6 for interface {name:?} ({key})"))?;
        }
    }
    sysctl::write(&format!("net/ipv6/conf/{ifname}/keep_addr_on_down"), "1")
        .doing(|| format!("failed to enable keep_addr_on_down for interface {ifname:?}"))
}

/// The first gateway of the route's family.
fn gateway(answer: &Answer, route: &Route) -> Option<IpAddr> {
    let gateways = answer.ips.iter().filter_map(|ip| ip.gateway);
    gateways
        .into_iter()
        .find(|it| it.is_ipv4() == route.dst.addr.is_ipv4())
}

fn run(links: &mut Socket, steps: Vec<(String, Message)>) -> Outcome<()> {
    let (what, messages): (Vec<_>, Vec<_>) = steps.into_iter().unzip();
    links.run(&messages).map_err(|(at, error)| {
        let what = what.get(at).cloned().unwrap_or_default();
        PluginError::internal(format!("{what}: {error}"))
    })
}

fn settle(links: &mut Socket, index: u32, ifname: &str) -> Outcome<()> {
    let deadline = Instant::now() + SETTLE_LIMIT;
    let any = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    loop {
        let found = links
            .addresses(index, any)
            .doing(|| "could not list addresses".to_owned())?;
        if let Some(failed) = found.iter().find(|it| it.flags & DAD_FAILED != 0) {
            let msg = format!(
                "link {ifname} has address {} in DADFAILED state",
                failed.cidr.addr
            );
            return Err(PluginError::internal(format!(
                "failed to settle addresses for {ifname:?}: {msg}"
            )));
        }
        // A link that stays down has addresses that nobody can be asked about.
        if found.iter().all(|it| it.flags & TENTATIVE == 0) || Instant::now() > deadline {
            return Ok(());
        }
        sleep(SETTLE_PAUSE);
    }
}

/// Every address and route of the result is there.
pub(crate) fn check(links: &mut Socket, ifname: &str, result: &AddResult) -> Outcome<()> {
    let what = || format!("Cannot find container link {ifname}");
    let link = links
        .link(ifname)
        .doing(what)?
        .ok_or_else(|| PluginError::internal(what()))?;
    for ip in &result.ips {
        let found = links
            .addresses(link.index, ip.address.addr)
            .doing(|| "list addresses".to_owned())?;
        if !found.iter().any(|it| it.cidr == ip.address) {
            return Err(PluginError::internal(format!(
                "Failed to match addr {} on interface {ifname}",
                ip.address
            )));
        }
    }
    for route in result.routes.iter().filter(|route| route.table.is_none()) {
        let found = links
            .routes(route.dst.addr)
            .doing(|| "list routes".to_owned())?;
        let is_it = |(dst, gw): &(_, Option<IpAddr>)| {
            *dst == route.dst.masked() && route.gw.is_none_or(|wanted| *gw == Some(wanted))
        };
        if !found.iter().any(is_it) {
            return Err(PluginError::internal(format!(
                "Expected Route {} not found",
                route.dst
            )));
        }
    }
    Ok(())
}
