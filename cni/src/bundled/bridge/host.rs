//! The bridge itself, and how a pod's link goes.

use rustix::io::Errno;

use super::conf::Conf;
use crate::bundled::call::Call;
use crate::bundled::fault::{Doing, Outcome};
use crate::bundled::netlink::Socket;
use crate::bundled::netlink::route::{
    IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINKINFO, IFLA_MTU, Link, PROMISC, UP,
    new_link, set_link,
};
use crate::bundled::netns::Netns;
use crate::bundled::{sysctl, veth};
use crate::error::PluginError;

const VLAN_FILTERING: u16 = 7;

/// The bridge, made where there is none, and up.
pub(crate) fn ensure_bridge(host: &mut Socket, conf: &Conf) -> Outcome<Link> {
    let name = &conf.bridge;
    let what = || format!("failed to create bridge {name:?}");
    let mut wanted = UP;
    if conf.promisc {
        wanted |= PROMISC;
    }
    let there = host.link(name).doing(what)?;
    if there.as_ref().is_none_or(|link| link.kind != "bridge") {
        create(host, conf)?;
    }
    let link = bridge(host, name)?;
    if link.flags & wanted != wanted {
        host.change(set_link(link.index, wanted, wanted))
            .doing(what)?;
    }
    Ok(link)
}

fn create(host: &mut Socket, conf: &Conf) -> Outcome<()> {
    let name = &conf.bridge;
    let mut message = new_link(0);
    message.text(IFLA_IFNAME, name);
    if conf.mtu > 0 {
        message.u32(IFLA_MTU, conf.mtu);
    }
    message.nest(IFLA_LINKINFO, |info| {
        info.text(IFLA_INFO_KIND, "bridge");
        if conf.filters_vlans {
            info.nest(IFLA_INFO_DATA, |data| {
                data.attr(VLAN_FILTERING, &[1]);
            });
        }
    });
    match host.change(message) {
        // Somebody was quicker, or the name is another link's, which is seen next.
        Err(Errno::EXIST) => {}
        made => {
            made.doing(|| format!("failed to create bridge {name:?}: could not add {name:?}"))?;
        }
    }
    // We want to own the routes for this interface.
    sysctl::try_write(&format!("net/ipv6/conf/{name}/accept_ra"), "0");
    Ok(())
}

pub(crate) fn bridge(host: &mut Socket, name: &str) -> Outcome<Link> {
    let what = || format!("could not lookup {name:?}");
    let found = host.link(name).doing(what)?;
    let link = found.ok_or_else(|| PluginError::internal(what()))?;
    match link.kind.as_str() {
        "bridge" => Ok(link),
        _ => Err(PluginError::internal(format!(
            "{name:?} already exists but is not a bridge"
        ))),
    }
}

/// A namespace that is gone took its link along.
pub(crate) fn remove_link(call: &Call<'_>) -> Outcome<()> {
    if call.env.netns.is_empty() {
        return Ok(());
    }
    let Some(netns) = Netns::find(&call.env.netns)? else {
        return Ok(());
    };
    let name = &call.env.ifname;
    let what = || format!("failed to delete {name:?}");
    let mut links = netns.links()?;
    let Some(link) = links.link(name).doing(what)? else {
        return Ok(());
    };
    match call.ending {
        Some(ending) if veth::darken(&link, ending)? => Ok(()),
        _ => links.delete_link(link.index).doing(what),
    }
}
