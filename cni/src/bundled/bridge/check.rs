//! CHECK: everything is as the ADD left it.

use super::conf::Conf;
use crate::bundled::call::Call;
use crate::bundled::fault::{Doing, Outcome};
use crate::bundled::netlink::Socket;
use crate::bundled::netlink::route::Link;
use crate::bundled::netns::{self, Netns};
use crate::bundled::{ipam, pod_link};
use crate::error::PluginError;
use crate::result::{AddResult, Interface};

pub(crate) fn check(call: &Call<'_>) -> Outcome<()> {
    let conf = Conf::read(call)?;
    let netns = Netns::open(&call.env.netns)?;
    if !conf.ipam.is_empty() {
        ipam::check(&conf.ipam, call)?;
    }
    let (_, result) = call.required_prev_result("Required prevResult missing")?;
    let mut host = netns::links()?;
    let bridge = check_bridge(&mut host, &conf, &result)?;
    let mut inside = netns.links()?;
    let pods = check_pods(&mut inside, call, &result)?;
    check_pair(&mut host, &result, &bridge, &pods)?;
    pod_link::check(&mut inside, &call.env.ifname, &result)
}

fn told<'r>(result: &'r AddResult, name: &str, sandbox: &str) -> Option<&'r Interface> {
    let mut all = result.interfaces.iter();
    all.find(|it| it.name == name && it.sandbox == sandbox)
}

/// The link that the result tells of, with the same hardware address.
fn same_link(links: &mut Socket, told: &Interface) -> Outcome<Link> {
    let name = &told.name;
    let missing = || format!("Interface name {name} not found");
    let link = links
        .link(name)
        .doing(missing)?
        .ok_or_else(|| PluginError::internal(missing()))?;
    match told.mac.is_empty() || told.mac == link.mac {
        true => Ok(link),
        false => Err(PluginError::internal(format!(
            "Interface {name} Mac doesn't match: {}",
            told.mac
        ))),
    }
}

fn check_bridge(host: &mut Socket, conf: &Conf, result: &AddResult) -> Outcome<Link> {
    let missing = || {
        format!(
            "CNI created bridge {} in host namespace was not found",
            conf.bridge
        )
    };
    let told = told(result, &conf.bridge, "").ok_or_else(|| PluginError::internal(missing()))?;
    let link = same_link(host, told)?;
    let name = &link.name;
    if link.kind != "bridge" {
        let msg = format!("Interface {name} does not have link type of bridge");
        return Err(PluginError::internal(msg));
    }
    let is_promisc = link.promiscuity != 0;
    match is_promisc == conf.promisc {
        true => Ok(link),
        false => Err(PluginError::internal(format!(
            "Bridge interface {name} configured Promisc Mode {} doesn't match current state: {is_promisc}",
            conf.promisc
        ))),
    }
}

fn check_pods(inside: &mut Socket, call: &Call<'_>, result: &AddResult) -> Outcome<Link> {
    let (name, netns) = (&call.env.ifname, &call.env.netns);
    let Some(told) = told(result, name, netns) else {
        let msg = format!("Sandbox in prevResult doesn't match configured netns: {netns}");
        return Err(PluginError::internal(msg));
    };
    let link = same_link(inside, told)?;
    match link.kind.as_str() {
        "veth" => Ok(link),
        _ => Err(PluginError::internal(format!(
            "Error: Container interface {name} not of type veth"
        ))),
    }
}

fn check_pair(host: &mut Socket, result: &AddResult, bridge: &Link, pods: &Link) -> Outcome<()> {
    let on_host = result
        .interfaces
        .iter()
        .filter(|it| it.sandbox.is_empty() && it.name != bridge.name);
    for told in on_host {
        let link = same_link(host, told)?;
        if link.kind == "veth"
            && link.peer == pods.index
            && pods.peer == link.index
            && link.master == bridge.index
        {
            return Ok(());
        }
    }
    let msg = format!("CNI veth created for bridge {} was not found", bridge.name);
    Err(PluginError::internal(msg))
}
