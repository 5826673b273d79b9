//! rtnetlink: links, addresses and routes, as far as plugins make them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustix::io::Errno;

use super::Socket;
use super::message::{self, ACK, CREATE, DUMP, EXCL, Message, attribute, attributes};
use crate::result::{Cidr, Route};

const NEWLINK: u16 = 16;
const DELLINK: u16 = 17;
const GETLINK: u16 = 18;
const SETLINK: u16 = 19;
const NEWADDR: u16 = 20;
const DELADDR: u16 = 21;
const GETADDR: u16 = 22;
const NEWROUTE: u16 = 24;
const DELROUTE: u16 = 25;
const GETROUTE: u16 = 26;
const BRIDGE: u8 = 7;

pub(crate) const IFLA_ADDRESS: u16 = 1;
pub(crate) const IFLA_IFNAME: u16 = 3;
pub(crate) const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
pub(crate) const IFLA_MASTER: u16 = 10;
pub(crate) const IFLA_TXQLEN: u16 = 13;
const IFLA_OPERSTATE: u16 = 16;
pub(crate) const IFLA_LINKINFO: u16 = 18;
pub(crate) const IFLA_NET_NS_FD: u16 = 28;
const IFLA_PROMISCUITY: u16 = 30;
pub(crate) const IFLA_NUM_TX_QUEUES: u16 = 31;
pub(crate) const IFLA_NUM_RX_QUEUES: u16 = 32;
pub(crate) const IFLA_INFO_KIND: u16 = 1;
pub(crate) const IFLA_INFO_DATA: u16 = 2;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
pub(crate) const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTA_TABLE: u16 = 15;
const RTAX_MTU: u16 = 2;
const RTAX_ADVMSS: u16 = 8;
const MAIN_TABLE: u32 = 254;

/// Link flags.
pub(crate) const UP: u32 = 1;
pub(crate) const PROMISC: u32 = 0x100;
pub(crate) const ALLMULTI: u32 = 0x200;
/// Address flags.
pub(crate) const DAD_FAILED: u32 = 0x8;
pub(crate) const TENTATIVE: u32 = 0x40;

/// A network interface, as the kernel has it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) mac: String,
    pub(crate) kind: String,
    pub(crate) mtu: u32,
    pub(crate) flags: u32,
    pub(crate) promiscuity: u32,
    /// How many packets may wait to be sent.
    pub(crate) queue: u32,
    /// 0 where it has none.
    pub(crate) master: u32,
    /// The index of a pair's other end, in that end's namespace.
    pub(crate) peer: u32,
    /// 6: up.
    pub(crate) state: u8,
}

/// An address on a link.
pub(crate) struct Address {
    pub(crate) cidr: Cidr,
    pub(crate) flags: u32,
}

/// A message about a link: to it when `index` is one.
fn link_message(kind: u16, flags: u16, index: u32, set: u32, change: u32) -> Message {
    Message::new(kind, flags, &link_header(0, index, set, change))
}

pub(crate) fn link_header(family: u8, index: u32, set: u32, change: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[0] = family;
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&set.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

/// A new link with these flags; its attributes are to be added.
pub(crate) fn new_link(flags: u32) -> Message {
    link_message(NEWLINK, CREATE | EXCL | ACK, 0, flags, flags)
}

/// Changes flags of a link; its attributes may be added.
pub(crate) fn set_link(index: u32, set: u32, change: u32) -> Message {
    link_message(NEWLINK, ACK, index, set, change)
}

/// A message to a bridge's port about its place in the bridge.
pub(crate) fn port_message(index: u32, deletes: bool) -> Message {
    let kind = if deletes { DELLINK } else { SETLINK };
    Message::new(kind, ACK, &link_header(BRIDGE, index, 0, 0))
}

pub(crate) fn add_address(index: u32, cidr: Cidr) -> Message {
    let mut message = address_message(NEWADDR, CREATE | EXCL | ACK, index, cidr);
    if let (IpAddr::V4(addr), prefix @ 0..=30) = (cidr.addr, cidr.prefix) {
        let broadcast = addr.to_bits() | u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
        message.attr(IFA_BROADCAST, &broadcast.to_be_bytes());
    }
    message
}

pub(crate) fn delete_address(index: u32, cidr: Cidr) -> Message {
    address_message(DELADDR, ACK, index, cidr)
}

fn address_message(kind: u16, flags: u16, index: u32, cidr: Cidr) -> Message {
    let mut header = [family(cidr.addr), cidr.prefix, 0, 0, 0, 0, 0, 0];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    let mut message = Message::new(kind, flags, &header);
    message.attr(IFA_LOCAL, &octets(cidr.addr));
    message.attr(IFA_ADDRESS, &octets(cidr.addr));
    message
}

/// A route out of this link by `gateway`; beside another one to the same place it is one more way.
pub(crate) fn add_route(index: u32, route: &Route, gateway: Option<IpAddr>) -> Message {
    let table = route.table.unwrap_or(MAIN_TABLE);
    let short = u8::try_from(table).unwrap_or(0);
    let scope = u8::try_from(route.scope.unwrap_or(0)).unwrap_or(0);
    let (dst, boot, unicast) = (route.dst, 3, 1);
    let header = [
        family(dst.addr),
        dst.prefix,
        0,
        0,
        short,
        boot,
        scope,
        unicast,
        0,
        0,
        0,
        0,
    ];
    let mut message = Message::new(NEWROUTE, CREATE | ACK, &header);
    message.attr(RTA_DST, &octets(dst.masked().addr));
    message.u32(RTA_OIF, index);
    if let Some(gateway) = gateway {
        message.attr(RTA_GATEWAY, &octets(gateway));
    }
    if let Some(priority) = route.priority.filter(|it| *it > 0) {
        message.u32(RTA_PRIORITY, priority);
    }
    if route.table.is_some() {
        message.u32(RTA_TABLE, table);
    }
    let metrics = [(RTAX_MTU, route.mtu), (RTAX_ADVMSS, route.advmss)];
    if metrics.iter().any(|(_, value)| value.is_some()) {
        message.nest(RTA_METRICS, |inner| {
            for (kind, value) in metrics {
                value.map(|value| inner.u32(kind, value));
            }
        });
    }
    message
}

/// Takes out the route to this network that leaves by the link.
pub(crate) fn delete_route(index: u32, dst: Cidr) -> Message {
    let (main, any_scope) = (u8::try_from(MAIN_TABLE).unwrap_or(0), u8::MAX);
    let header = [
        family(dst.addr),
        dst.prefix,
        0,
        0,
        main,
        0,
        any_scope,
        0,
        0,
        0,
        0,
        0,
    ];
    let mut message = Message::new(DELROUTE, ACK, &header);
    message.attr(RTA_DST, &octets(dst.masked().addr));
    message.u32(RTA_OIF, index);
    message
}

impl Socket {
    /// `None` where there is none of that name.
    pub(crate) fn link(&mut self, name: &str) -> Result<Option<Link>, Errno> {
        let mut message = link_message(GETLINK, 0, 0, 0, 0);
        message.text(IFLA_IFNAME, name);
        match self.ask(&message) {
            Err(Errno::NODEV) => Ok(None),
            // The kernel refuses names that no link can have.
            Err(Errno::INVAL | Errno::RANGE) => Ok(None),
            replies => Ok(replies?.first().map(|(_, body)| Link::read(body))),
        }
    }

    pub(crate) fn link_at(&mut self, index: u32) -> Result<Option<Link>, Errno> {
        match self.ask(&link_message(GETLINK, 0, index, 0, 0)) {
            Err(Errno::NODEV) => Ok(None),
            replies => Ok(replies?.first().map(|(_, body)| Link::read(body))),
        }
    }

    /// Waits for the kernel to let go of it.
    pub(crate) fn delete_link(&mut self, index: u32) -> Result<(), Errno> {
        self.change(link_message(DELLINK, ACK, index, 0, 0))
    }

    /// The link's addresses of `like`'s family.
    pub(crate) fn addresses(&mut self, index: u32, like: IpAddr) -> Result<Vec<Address>, Errno> {
        let mut header = [family(like), 0, 0, 0, 0, 0, 0, 0];
        header[4..8].copy_from_slice(&index.to_ne_bytes());
        let replies = self.ask(&Message::new(GETADDR, DUMP, &header))?;
        let on_link = |body: &&(u16, Vec<u8>)| message::u32_at(&body.1, 4) == Some(index);
        let read = |body: &(u16, Vec<u8>)| Address::read(&body.1);
        Ok(replies.iter().filter(on_link).filter_map(read).collect())
    }

    /// The routes of the main table: where to, by which gateway.
    pub(crate) fn routes(&mut self, like: IpAddr) -> Result<Vec<(Cidr, Option<IpAddr>)>, Errno> {
        let header = [family(like), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let replies = self.ask(&Message::new(GETROUTE, DUMP, &header))?;
        Ok(replies
            .iter()
            .filter_map(|(_, body)| read_route(body))
            .collect())
    }

    /// The link by which the kernel would send to `addr`.
    pub(crate) fn way_to(&mut self, addr: IpAddr) -> Result<Option<u32>, Errno> {
        let length = if addr.is_ipv4() { 32 } else { 128 };
        let header = [family(addr), length, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let mut message = Message::new(GETROUTE, 0, &header);
        message.attr(RTA_DST, &octets(addr));
        match self.ask(&message) {
            Err(Errno::NETUNREACH | Errno::HOSTUNREACH) => Ok(None),
            replies => Ok(replies?
                .first()
                .and_then(|(_, body)| message::u32_at(attribute(body.get(12..)?, RTA_OIF)?, 0))),
        }
    }

    /// The VLANs of a bridge's port.
    pub(crate) fn vlans(&mut self, index: u32) -> Result<Vec<u16>, Errno> {
        const IFLA_EXT_MASK: u16 = 29;
        const IFLA_AF_SPEC: u16 = 26;
        const VLAN_INFO: u16 = 2;
        let mut message = Message::new(GETLINK, DUMP, &link_header(BRIDGE, 0, 0, 0));
        message.u32(IFLA_EXT_MASK, 2);
        let replies = self.ask(&message)?;
        let own = replies
            .iter()
            .find(|(_, body)| message::u32_at(body, 4) == Some(index));
        let spec = own.and_then(|(_, body)| attribute(body.get(16..)?, IFLA_AF_SPEC));
        let infos = attributes(spec.unwrap_or_default()).filter(|(kind, _)| *kind == VLAN_INFO);
        Ok(infos
            .filter_map(|(_, info)| message::u16_at(info, 2))
            .collect())
    }
}

impl Link {
    fn read(body: &[u8]) -> Self {
        let mut link = Self {
            index: message::u32_at(body, 4).unwrap_or(0),
            flags: message::u32_at(body, 8).unwrap_or(0),
            ..Self::default()
        };
        for (kind, value) in attributes(body.get(16..).unwrap_or_default()) {
            let number = message::u32_at(value, 0).unwrap_or(0);
            match kind {
                IFLA_IFNAME => link.name = message::text(value),
                IFLA_ADDRESS => link.mac = mac_text(value),
                IFLA_MTU => link.mtu = number,
                IFLA_LINK => link.peer = number,
                IFLA_MASTER => link.master = number,
                IFLA_PROMISCUITY => link.promiscuity = number,
                IFLA_TXQLEN => link.queue = number,
                IFLA_OPERSTATE => link.state = value.first().copied().unwrap_or(0),
                IFLA_LINKINFO => {
                    link.kind = attribute(value, IFLA_INFO_KIND)
                        .map(message::text)
                        .unwrap_or_default();
                }
                _ => {}
            }
        }
        link
    }
}

impl Address {
    fn read(body: &[u8]) -> Option<Self> {
        let prefix = *body.get(1)?;
        let attrs = body.get(8..)?;
        let addr = attribute(attrs, IFA_LOCAL).or_else(|| attribute(attrs, IFA_ADDRESS))?;
        let flags = attribute(attrs, IFA_FLAGS).and_then(|it| message::u32_at(it, 0));
        Some(Self {
            cidr: Cidr {
                addr: ip(addr)?,
                prefix,
            },
            flags: flags.unwrap_or_else(|| u32::from(body[2])),
        })
    }
}

fn read_route(body: &[u8]) -> Option<(Cidr, Option<IpAddr>)> {
    let (family, prefix) = (*body.first()?, *body.get(1)?);
    let attrs = body.get(12..)?;
    let any = if family == 2 {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    } else {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    };
    let addr = attribute(attrs, RTA_DST).and_then(ip).unwrap_or(any);
    let gateway = attribute(attrs, RTA_GATEWAY).and_then(ip);
    Some((Cidr { addr, prefix }, gateway))
}

fn family(addr: IpAddr) -> u8 {
    if addr.is_ipv4() { 2 } else { 10 }
}

pub(crate) fn octets(addr: IpAddr) -> Vec<u8> {
    match addr {
        IpAddr::V4(addr) => addr.octets().to_vec(),
        IpAddr::V6(addr) => addr.octets().to_vec(),
    }
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

pub(crate) fn mac_text(mac: &[u8]) -> String {
    let bytes: Vec<_> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(":")
}

/// A hardware address as people write it, with `:` or `-`.
pub(crate) fn mac(text: &str) -> Option<[u8; 6]> {
    let bytes: Option<Vec<u8>> = text
        .split([':', '-'])
        .map(|part| (part.len() == 2).then(|| u8::from_str_radix(part, 16).ok())?)
        .collect();
    bytes?.try_into().ok()
}
