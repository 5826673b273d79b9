//! `loopback`: brings `lo` up.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::answer::Answer;
use super::call::Call;
use super::fault::{Doing, Outcome};
use super::netlink::Socket;
use super::netlink::route::{Link, UP, set_link};
use super::netns::Netns;
use crate::error::PluginError;
use crate::result::{Interface, IpConfig};

/// The previous result passes as it is.
pub(crate) fn add(call: &Call<'_>) -> Outcome<String> {
    let mut links = Netns::open(&call.env.netns)?.links()?;
    let lo = find(&mut links)?;
    links
        .change(set_link(lo.index, UP, UP))
        .doing(|| "set lo up".to_owned())?;
    let mut ips = Vec::new();
    for family in [
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    ] {
        ips.extend(first_address(&mut links, lo.index, family)?);
    }
    if let Some((text, _)) = call.prev_result()? {
        return Ok(text);
    }
    let interface = Interface {
        name: "lo".to_owned(),
        mac: "00:00:00:00:00:00".to_owned(),
        sandbox: call.env.netns.clone(),
        ..Interface::default()
    };
    let answer = Answer {
        interfaces: vec![interface],
        ips,
        ..Answer::default()
    };
    Ok(answer.to_json(call.version))
}

fn find(links: &mut Socket) -> Outcome<Link> {
    let found = links.link("lo").doing(|| "look for lo".to_owned())?;
    found.ok_or_else(|| PluginError::internal("Link not found: lo"))
}

fn first_address(links: &mut Socket, index: u32, family: IpAddr) -> Outcome<Option<IpConfig>> {
    let found = links
        .addresses(index, family)
        .doing(|| "list the addresses of lo".to_owned())?;
    if let Some(other) = found.iter().find(|it| !it.cidr.addr.is_loopback()) {
        let addr = other.cidr.addr;
        let msg = format!("loopback interface found with non-loopback address {addr:?}");
        return Err(PluginError::internal(msg));
    }
    Ok(found.first().map(|it| IpConfig {
        address: it.cidr,
        gateway: None,
        interface: Some(0),
    }))
}

/// A namespace that is gone has no `lo`.
pub(crate) fn del(call: &Call<'_>) -> Outcome<()> {
    if call.env.netns.is_empty() {
        return Ok(());
    }
    let Some(netns) = Netns::find(&call.env.netns)? else {
        return Ok(());
    };
    let mut links = netns.links()?;
    let lo = find(&mut links)?;
    links
        .change(set_link(lo.index, 0, UP))
        .doing(|| "set lo down".to_owned())
}

pub(crate) fn check(call: &Call<'_>) -> Outcome<()> {
    let mut links = Netns::open(&call.env.netns)?.links()?;
    match find(&mut links)?.flags & UP {
        0 => Err(PluginError::internal("loopback interface is down")),
        _ => Ok(()),
    }
}
