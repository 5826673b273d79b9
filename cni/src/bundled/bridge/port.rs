//! A port of the bridge: the host's end of a pair.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::conf::Port;
use crate::bundled::fault::{Doing, Outcome};
use crate::bundled::netlink::Socket;
use crate::bundled::netlink::message::Message;
use crate::bundled::netlink::route::{Link, port_message};
use crate::error::PluginError;

const IFLA_PROTINFO: u16 = 12;
const IFLA_AF_SPEC: u16 = 26;
const BRPORT_MODE: u16 = 4;
const BRPORT_ISOLATED: u16 = 33;
const BRIDGE_FLAGS: u16 = 0;
const BRIDGE_VLAN_INFO: u16 = 2;
const MASTER: u16 = 1;
const PVID: u16 = 2;
const UNTAGGED: u16 = 4;
const STATE_UP: u8 = 6;
/// For the port to be up, as the reference plugin waits.
const UP_LIMIT: Duration = Duration::from_millis(2550);
const UP_PAUSE: Duration = Duration::from_micros(500);

/// Hairpin, isolation and VLANs.
pub(crate) fn set(host: &mut Socket, link: &Link, port: &Port) -> Outcome<()> {
    let name = &link.name;
    for (kind, is_on, what) in [
        (BRPORT_MODE, port.hairpin, "hairpin mode"),
        (BRPORT_ISOLATED, port.isolated, "isolation"),
    ] {
        if is_on {
            host.change(with_flag(link, kind))
                .doing(|| format!("failed to setup {what} for {name}"))?;
        }
    }
    let has_vlans = port.vlan != 0 || !port.trunk.is_empty();
    if has_vlans && !port.keeps_default_vlan {
        let what = || format!("failed to remove default vlan on interface {name:?}");
        for vlan in host.vlans(link.index).doing(what)? {
            host.change(with_vlan(link, (vlan, 0), true)).doing(what)?;
        }
    }
    let what = || format!("failed to setup vlan tag on interface {name:?}");
    let mut vlans: Vec<(u16, u16)> = port.trunk.iter().map(|vlan| (*vlan, 0)).collect();
    match port.vlan {
        0 if has_vlans => vlans.push((1, PVID | UNTAGGED)),
        0 => {}
        vlan => vlans.insert(0, (vlan, PVID | UNTAGGED)),
    }
    for vlan in vlans {
        host.change(with_vlan(link, vlan, false)).doing(what)?;
    }
    Ok(())
}

fn with_flag(link: &Link, kind: u16) -> Message {
    let mut message = port_message(link.index, false);
    message.nest(IFLA_PROTINFO, |info| {
        info.attr(kind, &[1]);
    });
    message
}

fn with_vlan(link: &Link, (vlan, flags): (u16, u16), deletes: bool) -> Message {
    let mut message = port_message(link.index, deletes);
    message.nest(IFLA_AF_SPEC, |spec| {
        spec.attr(BRIDGE_FLAGS, &MASTER.to_ne_bytes());
        let info = [flags.to_ne_bytes(), vlan.to_ne_bytes()].concat();
        spec.attr(BRIDGE_VLAN_INFO, &info);
    });
    message
}

/// The kernel sees a moment later that both ends are up; gives the link as it is then.
pub(crate) fn await_up(host: &mut Socket, link: &Link) -> Outcome<Link> {
    let deadline = Instant::now() + UP_LIMIT;
    loop {
        let now = host
            .link_at(link.index)
            .doing(|| format!("failed to lookup {:?}", link.name))?;
        match now {
            Some(now) if now.state == STATE_UP => return Ok(now),
            Some(now) if Instant::now() > deadline => {
                let msg = format!("bridge port in error state: {}", now.state);
                return Err(PluginError::internal(msg));
            }
            Some(_) => sleep(UP_PAUSE),
            None => {
                let msg = format!("the link {:?} was deleted meanwhile", link.name);
                return Err(PluginError::internal(msg));
            }
        }
    }
}
