//! The bridge as its pods' gateway: addresses, routes that lead to them, forwarding.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustix::io::Errno;

use super::conf::{Conf, Port};
use super::port;
use crate::bundled::answer::Answer;
use crate::bundled::fault::{Doing, Outcome};
use crate::bundled::host_local::range::next;
use crate::bundled::netlink::Socket;
use crate::bundled::netlink::route::{
    IFLA_ADDRESS, Link, add_address, delete_address, mac, set_link,
};
use crate::bundled::netns::Netns;
use crate::bundled::sysctl;
use crate::bundled::veth::{self, Pair};
use crate::error::PluginError;
use crate::result::{Cidr, Interface, Route};

/// The pod's link among those that bridge tells.
const PODS_LINK: usize = 2;

/// Names the pod's link, and the gateways and default routes that IPAM left to the bridge; gives the
/// addresses that the bridge needs.
pub(crate) fn complete(answer: &mut Answer, conf: &Conf) -> Vec<Cidr> {
    let mut gateways = Vec::new();
    for at in 0..answer.ips.len() {
        let ip = &mut answer.ips[at];
        ip.interface = Some(PODS_LINK);
        if conf.is_gateway && ip.gateway.is_none() {
            ip.gateway = Some(next(ip.address.masked().addr));
        }
        let (gateway, prefix) = (ip.gateway, ip.address.prefix);
        if let Some(addr) = gateway.filter(|_| conf.is_gateway) {
            gateways.push(Cidr { addr, prefix });
        }
        let default = default_net(answer.ips[at].address.addr.is_ipv4());
        let has_default = answer
            .routes
            .iter()
            .any(|route| route.dst == default && route.gw.is_some());
        if conf.is_default_gateway && !has_default {
            answer.routes.push(Route {
                dst: default,
                gw: gateway,
                mtu: None,
                advmss: None,
                priority: None,
                table: None,
                scope: None,
            });
        }
    }
    gateways
}

fn default_net(is_ipv4: bool) -> Cidr {
    let addr = match is_ipv4 {
        true => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        false => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    Cidr { addr, prefix: 0 }
}

/// Gives the bridge, or its link in the pods' VLAN, these addresses; tells that link.
pub(crate) fn set(
    host: &mut Socket,
    bridge: &Link,
    conf: &Conf,
    gateways: &[Cidr],
) -> Outcome<Option<Interface>> {
    let vlan = match conf.port.vlan {
        0 => None,
        _ => Some(ensure_vlan_link(host, bridge, conf)?),
    };
    let on = vlan.as_ref().unwrap_or(bridge);
    for gateway in gateways {
        ensure_address(host, on, *gateway, conf.force_address).doing_at(if vlan.is_some() {
            "failed to set vlan interface for bridge with addr"
        } else {
            "failed to set bridge addr"
        })?;
    }
    for (is_ipv4, key) in [
        (true, "net/ipv4/ip_forward"),
        (false, "net/ipv6/conf/all/forwarding"),
    ] {
        if gateways.iter().any(|it| it.addr.is_ipv4() == is_ipv4) {
            sysctl::ensure(key, "1")
                .doing(|| format!("failed to enable forwarding: write {key}"))?;
        }
    }
    Ok(vlan.map(|link| Interface {
        name: link.name,
        mac: link.mac,
        ..Interface::default()
    }))
}

/// Puts what was being done before the error's own words.
trait DoingAt<T> {
    fn doing_at(self, what: &str) -> Outcome<T>;
}

impl<T> DoingAt<T> for Outcome<T> {
    fn doing_at(self, what: &str) -> Outcome<T> {
        self.map_err(|error| PluginError {
            msg: format!("{what}: {}", error.msg),
            ..error
        })
    }
}

fn ensure_address(host: &mut Socket, link: &Link, wanted: Cidr, force: bool) -> Outcome<()> {
    let name = &link.name;
    let there = host
        .addresses(link.index, wanted.addr)
        .doing(|| "could not get list of IP addresses".to_owned())?;
    if there.iter().any(|it| it.cidr == wanted) {
        return Ok(());
    }
    // Of IPv6 a bridge may have several that do not overlap.
    let is_in_the_way = |other: Cidr| {
        wanted.addr.is_ipv4() || other.contains(wanted.addr) || wanted.contains(other.addr)
    };
    for other in there.iter().filter(|it| is_in_the_way(it.cidr)) {
        if !force {
            let msg = format!("{name:?} already has an IP address different from {wanted}");
            return Err(PluginError::internal(msg));
        }
        host.change(delete_address(link.index, other.cidr))
            .doing(|| format!("could not remove IP address from {name:?}"))?;
    }
    match host.change(add_address(link.index, wanted)) {
        Err(Errno::EXIST) => {}
        added => added.doing(|| format!("could not add IP address {wanted} to {name:?}"))?,
    }
    keep_mac(host, link)
}

/// Else the bridge would have the lowest one of its ports, which come and go.
fn keep_mac(host: &mut Socket, link: &Link) -> Outcome<()> {
    let what = || "could not set bridge's mac".to_owned();
    let now = host.link_at(link.index).doing(what)?;
    let Some(own) = now.and_then(|link| mac(&link.mac)) else {
        return Ok(());
    };
    let mut message = set_link(link.index, 0, 0);
    message.attr(IFLA_ADDRESS, &own);
    host.change(message).doing(what)
}

/// `BRIDGE.VLAN`: the host's own link in the VLAN.
fn ensure_vlan_link(host: &mut Socket, bridge: &Link, conf: &Conf) -> Outcome<Link> {
    use crate::bundled::netlink::route::UP;
    let name = format!("{}.{}", bridge.name, conf.port.vlan);
    let what = || format!("failed to create vlan interface: failed to find interface {name:?}");
    if let Some(link) = host.link(&name).doing(what)? {
        return Ok(link);
    }
    let pair = Pair {
        ifname: &name,
        mac: None,
        mtu: bridge.mtu,
        master: bridge.index,
    };
    let other_end = veth::create(host, &Netns::own()?, &pair)?;
    let plain = Port {
        vlan: conf.port.vlan,
        keeps_default_vlan: conf.port.keeps_default_vlan,
        ..Port::default()
    };
    port::set(host, &other_end, &plain)?;
    let link = host
        .link(&name)
        .doing(what)?
        .ok_or_else(|| PluginError::internal(what()))?;
    host.change(set_link(link.index, UP, UP))
        .doing(|| format!("failed to up {name:?}"))?;
    Ok(link)
}
