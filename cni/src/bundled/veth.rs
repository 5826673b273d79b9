//! Pairs of links, one end on the host and one in a pod.

use std::os::fd::{AsFd, AsRawFd};

use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

use super::call::Ending;
use super::fault::{Doing, Outcome};
use super::netlink::Socket;
use super::netlink::message::Message;
use super::netlink::route::{
    IFLA_ADDRESS, IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINKINFO, IFLA_MASTER,
    IFLA_MTU, IFLA_NET_NS_FD, IFLA_NUM_RX_QUEUES, IFLA_NUM_TX_QUEUES, Link, UP, link_header,
    new_link, set_link,
};
use super::netns::{self, Netns};
use super::sysctl;
use crate::error::PluginError;

const VETH_INFO_PEER: u16 = 1;
/// Names are drawn by chance.
const TRIES: u32 = 10;

/// What a pair is to be.
pub(crate) struct Pair<'a> {
    /// The end in the pod's namespace.
    pub(crate) ifname: &'a str,
    pub(crate) mac: Option<[u8; 6]>,
    /// 0: the kernel's.
    pub(crate) mtu: u32,
    /// The bridge of the host's end; 0: none.
    pub(crate) master: u32,
}

/// Makes the pair, its host's end up; gives the host's end.
///
/// One message makes all of it: a link that is made in one namespace and moved to another one costs
/// a wait for every processor.
pub(crate) fn create(host: &mut Socket, netns: &Netns, pair: &Pair<'_>) -> Outcome<Link> {
    let mut tries = 0;
    loop {
        tries += 1;
        let name = random_name()?;
        match host.change(message(&name, netns, pair)) {
            Ok(()) => return find(host, &name),
            Err(Errno::EXIST) if tries < TRIES && exists(host, &name)? => {}
            Err(Errno::EXIST) => {
                let msg = format!(
                    "container veth name ({:?}) peer provided ({name:?}) already exists",
                    pair.ifname
                );
                return Err(PluginError::internal(msg));
            }
            Err(error) => return Err(error).doing(|| "failed to make veth pair".to_owned()),
        }
    }
}

/// Takes the pair out of use: its host's end is set down. False where that end is not on this host.
///
/// For a namespace that ends: to delete a link takes two waits for every processor, which nobody has to
/// wait for when the namespace is let go.
pub(crate) fn darken(pods: &Link, ending: &Ending) -> Outcome<bool> {
    let what = || format!("set the other end of {:?} down", pods.name);
    if pods.peer == 0 {
        return Ok(false);
    }
    let mut host = netns::links()?;
    let other = host.link_at(pods.peer).doing(what)?;
    let is_it = |link: &Link| link.kind == "veth" && link.peer == pods.index;
    let Some(other) = other.filter(is_it) else {
        return Ok(false);
    };
    host.change(set_link(other.index, 0, UP)).doing(what)?;
    ending.leave(&other.name);
    Ok(true)
}

fn find(host: &mut Socket, name: &str) -> Outcome<Link> {
    // We want to own the routes for this interface.
    sysctl::try_write(&format!("net/ipv6/conf/{name}/accept_ra"), "0");
    let what = || format!("failed to lookup {name:?}");
    host.link(name)
        .doing(what)?
        .ok_or_else(|| PluginError::internal(what()))
}

fn exists(host: &mut Socket, name: &str) -> Outcome<bool> {
    let found = host
        .link(name)
        .doing(|| format!("failed to lookup {name:?}"))?;
    Ok(found.is_some())
}

fn message(name: &str, netns: &Netns, pair: &Pair<'_>) -> Message {
    let mut message = new_link(UP);
    message.text(IFLA_IFNAME, name);
    attributes_of_both(&mut message, pair);
    if pair.master > 0 {
        message.u32(IFLA_MASTER, pair.master);
    }
    message.nest(IFLA_LINKINFO, |info| {
        info.text(IFLA_INFO_KIND, "veth");
        info.nest(IFLA_INFO_DATA, |data| {
            data.nest_after(VETH_INFO_PEER, &link_header(0, 0, 0, 0), |peer| {
                peer.text(IFLA_IFNAME, pair.ifname);
                attributes_of_both(peer, pair);
                if let Some(mac) = pair.mac {
                    peer.attr(IFLA_ADDRESS, &mac);
                }
                peer.u32(IFLA_NET_NS_FD, netns.as_fd().as_raw_fd().cast_unsigned());
            });
        });
    });
    message
}

/// One queue each: the kernel's default is one a processor, which a pair has no use for.
fn attributes_of_both(message: &mut Message, pair: &Pair<'_>) {
    if pair.mtu > 0 {
        message.u32(IFLA_MTU, pair.mtu);
    }
    message
        .u32(IFLA_NUM_TX_QUEUES, 1)
        .u32(IFLA_NUM_RX_QUEUES, 1);
}

fn random_name() -> Outcome<String> {
    let mut bytes = [0; 4];
    getrandom(&mut bytes, GetRandomFlags::empty())
        .doing(|| "failed to generate random veth name".to_owned())?;
    Ok(format!("veth{:08x}", u32::from_be_bytes(bytes)))
}
