//! Connections that the kernel remembers, where a port's owner has changed.
//!
//! UDP has no end: a client that goes on sending keeps its old way through the address translation
//! until what is remembered of it is deleted.

use rustix::io::Errno;
use rustix::net::netlink;

use super::Socket;
use super::message::{ACK, DUMP, Message, attribute};

const SUBSYSTEM: u16 = 1 << 8;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;
const TUPLE_ORIG: u16 = 1;
const TUPLE_PROTO: u16 = 2;
const PROTO_NUM: u16 = 1;
const PROTO_DST_PORT: u16 = 3;
const UDP: u8 = 17;

/// Forgets what is remembered of datagrams to this port of the host.
pub(crate) fn forget_udp(port: u16, is_ipv4: bool) -> Result<(), Errno> {
    let header = [if is_ipv4 { 2 } else { 10 }, 0, 0, 0];
    let mut socket = Socket::open(Some(netlink::NETFILTER))?;
    let entries = socket.ask(&Message::new(GET, DUMP, &header))?;
    for (_, body) in &entries {
        let Some(tuple) = body.get(4..).and_then(|attrs| attribute(attrs, TUPLE_ORIG)) else {
            continue;
        };
        if leads_to(tuple, port) {
            let mut message = Message::new(DELETE, ACK, &header);
            message.attr(TUPLE_ORIG | 0x8000, tuple);
            match socket.change(message) {
                // It ended by itself meanwhile.
                Err(Errno::NOENT) => {}
                outcome => outcome?,
            }
        }
    }
    Ok(())
}

fn leads_to(tuple: &[u8], port: u16) -> bool {
    let Some(proto) = attribute(tuple, TUPLE_PROTO) else {
        return false;
    };
    attribute(proto, PROTO_NUM) == Some(&[UDP])
        && attribute(proto, PROTO_DST_PORT) == Some(&port.to_be_bytes())
}
