//! `bandwidth`: how much a pod may receive and send in a second.
//!
//! ```text
//! to the pod:   host's end of its pair: bucket ─▶ pod
//! from the pod: host's end ─ all that comes in ─▶ its ifb: bucket ─▶ the host
//! ```
//!
//! Invariant: what DEL has to take back has a name that is made of the network and the container alone.

mod conf;

use conf::{Conf, Limit};

use super::call::Call;
use super::fault::{Doing, Outcome};
use super::filter::hashed;
use super::netlink::Socket;
use super::netlink::route::{
    IFLA_IFNAME, IFLA_INFO_KIND, IFLA_LINKINFO, IFLA_MTU, IFLA_TXQLEN, Link, UP, new_link,
};
use super::netlink::traffic::{Bucket, add_bucket, add_ingress, redirect};
use super::netns::{self, Netns};
use crate::error::PluginError;
use crate::result::{AddResult, Interface};

/// What the kernel takes.
const LONGEST_NAME: usize = 15;
const CHAINED: &str = "must be called as chained plugin";

/// Gives the previous result on, with the link that what the pod sends goes through.
pub(crate) fn add(call: &Call<'_>) -> Outcome<String> {
    let conf = Conf::read(call)?;
    let (text, result) = call.required_prev_result(CHAINED)?;
    if conf.is_empty() {
        return Ok(text);
    }
    let mut host = netns::links()?;
    let host_end = host_end(&mut host, call, &result)?;
    if let Some(limit) = conf.to_pod {
        shape(&mut host, &host_end, limit)?;
    }
    match conf.from_pod {
        Some(limit) => {
            let ifb = divert(&mut host, call, &host_end, limit)?;
            with_link(&text, ifb)
        }
        None => Ok(text),
    }
}

/// The other end of the pod's pair, which the result tells.
fn host_end(host: &mut Socket, call: &Call<'_>, result: &AddResult) -> Outcome<Link> {
    let ifname = &call.env.ifname;
    let refuse = |msg: String| Err(PluginError::internal(msg));
    if result.interfaces.is_empty() {
        return refuse("no interfaces provided".to_owned());
    }
    let mut inside = Netns::demand(call.env)?.links()?;
    let pods = inside.link(ifname).doing(|| format!("look for {ifname}"))?;
    let Some(pods) = pods.filter(|link| link.kind == "veth" && link.peer > 0) else {
        return refuse(format!("container interface {ifname} has no veth peer"));
    };
    let at = pods.peer;
    let what = || format!("veth peer with index {at} is not in host ns");
    let found = host.link_at(at).doing(what)?;
    let link = found.ok_or_else(|| PluginError::internal(what()))?;
    let mut all = result.interfaces.iter();
    match all.any(|it| it.sandbox.is_empty() && it.name == link.name) {
        true => Ok(link),
        false => refuse("no veth peer of container interface found in host ns".to_owned()),
    }
}

fn shape(host: &mut Socket, link: &Link, limit: Limit) -> Outcome<()> {
    host.change(add_bucket(link.index, limit.bucket()))
        .doing(|| format!("create qdisc of {}", link.name))
}

/// Makes the pod's ifb, which all goes through that comes in by the host's end.
fn divert(host: &mut Socket, call: &Call<'_>, host_end: &Link, limit: Limit) -> Outcome<Link> {
    let name = ifb_name(call);
    let mut message = new_link(UP);
    message
        .text(IFLA_IFNAME, &name)
        .u32(IFLA_MTU, host_end.mtu)
        .u32(IFLA_TXQLEN, 0)
        .nest(IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_KIND, "ifb");
        });
    let what = || format!("adding link {name}");
    host.change(message).doing(what)?;
    let found = host.link(&name).doing(what)?;
    let ifb = found.ok_or_else(|| PluginError::internal(what()))?;
    host.change(add_ingress(host_end.index))
        .doing(|| format!("create ingress qdisc of {}", host_end.name))?;
    host.change(redirect(host_end.index, ifb.index))
        .doing(|| format!("add filter of {}", host_end.name))?;
    shape(host, &ifb, limit)?;
    Ok(ifb)
}

fn ifb_name(call: &Call<'_>) -> String {
    let of = format!("{}{}", call.name, call.env.container_id);
    hashed(LONGEST_NAME, "bwp", &of)
}

/// The result with one more link of the host.
fn with_link(text: &str, link: Link) -> Outcome<String> {
    let mut result: serde_json::Value =
        serde_json::from_str(text).doing(|| "could not parse prevResult".to_owned())?;
    let interface = Interface {
        name: link.name,
        mac: link.mac,
        ..Interface::default()
    };
    if let Some(all) = result["interfaces"].as_array_mut() {
        all.push(serde_json::json!(interface));
    }
    Ok(result.to_string())
}

/// The host's end of the pair goes with its other end.
pub(crate) fn del(call: &Call<'_>) -> Outcome<()> {
    Conf::read(call)?;
    let name = ifb_name(call);
    let what = || format!("failed to delete {name}");
    let mut host = netns::links()?;
    match host.link(&name).doing(what)? {
        Some(link) => host.delete_link(link.index).doing(what),
        None => Ok(()),
    }
}

pub(crate) fn check(call: &Call<'_>) -> Outcome<()> {
    let conf = Conf::read(call)?;
    let (_, result) = call.required_prev_result(CHAINED)?;
    let mut host = netns::links()?;
    let host_end = host_end(&mut host, call, &result)?;
    if let Some(limit) = conf.to_pod {
        check_bucket(&mut host, &host_end, limit)?;
    }
    if let Some(limit) = conf.from_pod {
        let name = ifb_name(call);
        let what = || format!("get ifb device {name}");
        let found = host.link(&name).doing(what)?;
        let missing = || PluginError::internal(format!("{}: Link not found", what()));
        check_bucket(&mut host, &found.ok_or_else(missing)?, limit)?;
    }
    Ok(())
}

fn check_bucket(host: &mut Socket, link: &Link, limit: Limit) -> Outcome<()> {
    let name = &link.name;
    let found = host
        .bucket(link.index)
        .doing(|| format!("list the qdiscs of {name}"))?;
    let wanted = limit.bucket();
    match found {
        Some(bucket) if bucket == wanted => Ok(()),
        Some(Bucket {
            rate,
            limit,
            buffer,
        }) => Err(PluginError::internal(format!(
            "the qdisc of {name} doesn't match: rate {rate}, limit {limit}, buffer {buffer}, configured {wanted:?}"
        ))),
        None => Err(PluginError::internal(format!(
            "Failed to find qdisc of {name}"
        ))),
    }
}
