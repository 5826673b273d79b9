//! `tuning`: settings of the pod's link and of its namespace's kernel.
//!
//! ```text
//! ADD: sysctls ─▶ the link as it is, to a file ─▶ hardware address, promiscuous, MTU, all-multicast, queue
//! DEL: the file ─▶ the link as it was ─▶ no file
//! ```
//!
//! Invariant: nothing of the link is changed before the file that says how it was is there. (Sysctls are
//! the namespace's own and end with it.)

mod backup;
mod conf;
mod sysctls;

use serde_json::Value;

use conf::Conf;

use super::call::Call;
use super::fault::{Doing, Outcome};
use super::netlink::Socket;
use super::netlink::message::Message;
use super::netlink::route::{
    ALLMULTI, IFLA_ADDRESS, IFLA_MTU, IFLA_TXQLEN, Link, PROMISC, mac, set_link,
};
use super::netns::{self, Netns};
use crate::error::PluginError;

/// What a link is to be; what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) mac: Option<String>,
    pub(crate) promisc: Option<bool>,
    pub(crate) mtu: Option<u32>,
    pub(crate) allmulti: Option<bool>,
    pub(crate) queue: Option<u32>,
}

/// A change of a link, and how it is told.
type Step = (&'static str, Message);

impl Settings {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// How the link is now in what these say.
    fn taken_from(&self, link: &Link) -> Self {
        Self {
            mac: self.mac.as_ref().map(|_| link.mac.clone()),
            promisc: self.promisc.map(|_| link.promiscuity != 0),
            mtu: self.mtu.map(|_| link.mtu),
            allmulti: self.allmulti.map(|_| link.flags & ALLMULTI != 0),
            queue: self.queue.map(|_| link.queue),
        }
    }

    fn steps(&self, link: &Link) -> Outcome<Vec<Step>> {
        let mut steps = Vec::new();
        let flag = |is_on: bool, flag| set_link(link.index, if is_on { flag } else { 0 }, flag);
        if let Some(text) = &self.mac {
            let why = || format!("invalid args {text} for MAC addr: invalid MAC address");
            let mac = mac(text).ok_or_else(|| PluginError::internal(why()))?;
            let mut message = set_link(link.index, 0, 0);
            message.attr(IFLA_ADDRESS, &mac);
            steps.push(("MAC address", message));
        }
        if let Some(is_on) = self.promisc {
            steps.push(("promiscuous mode", flag(is_on, PROMISC)));
        }
        for (value, kind, what) in [
            (self.mtu, IFLA_MTU, "MTU"),
            (self.queue, IFLA_TXQLEN, "transmit queue length"),
        ] {
            let mut message = set_link(link.index, 0, 0);
            if let Some(value) = value {
                message.u32(kind, value);
                steps.push((what, message));
            }
        }
        if let Some(is_on) = self.allmulti {
            steps.push(("all-multicast mode", flag(is_on, ALLMULTI)));
        }
        Ok(steps)
    }

    fn set(&self, links: &mut Socket, link: &Link) -> Outcome<()> {
        for (what, message) in self.steps(link)? {
            links
                .change(message)
                .doing(|| format!("failed to set the {what} of {:?}", link.name))?;
        }
        Ok(())
    }
}

/// Gives the previous result on, with the hardware address that the link has by then.
pub(crate) fn add(call: &Call<'_>) -> Outcome<String> {
    conf::refuse_doubled(call.stdin)?;
    let conf = Conf::read(call)?;
    sysctls::check_allowed(conf.sysctls.keys())?;
    let (text, _) = call.required_prev_result("Required prevResult missing")?;
    let netns = Netns::demand(call.env)?;
    let mut links = netns.inside(|| {
        sysctls::write(&conf.sysctls, &call.env.ifname)?;
        netns::links()
    })?;
    if conf.settings.is_empty() {
        return Ok(text);
    }
    let link = find(&mut links, call)?;
    backup::write(&conf, call, &conf.settings.taken_from(&link))?;
    conf.settings.set(&mut links, &link)?;
    match &conf.settings.mac {
        Some(mac) => with_mac(&text, &call.env.ifname, mac),
        None => Ok(text),
    }
}

fn find(links: &mut Socket, call: &Call<'_>) -> Outcome<Link> {
    let name = &call.env.ifname;
    let what = || format!("failed to get {name:?}");
    let found = links.link(name).doing(what)?;
    found.ok_or_else(|| PluginError::internal(format!("{}: Link not found", what())))
}

/// The result, where the link has this hardware address.
fn with_mac(text: &str, ifname: &str, mac: &str) -> Outcome<String> {
    let mut result: Value =
        serde_json::from_str(text).doing(|| "could not parse prevResult".to_owned())?;
    let interfaces = result["interfaces"].as_array_mut().into_iter().flatten();
    for interface in interfaces.filter(|it| it["name"] == ifname) {
        interface["mac"] = mac.into();
    }
    Ok(result.to_string())
}

/// What the link refuses by then is told on stderr alone: it goes with its namespace, and a pod must
/// not stay for it.
pub(crate) fn del(call: &Call<'_>) -> Outcome<()> {
    let conf = Conf::read(call)?;
    let netns = Netns::of_pod(call.env)?;
    let Some(was) = backup::read(&conf, call)? else {
        return Ok(());
    };
    let restored = match netns {
        Some(netns) => restore(&netns, call, &was),
        None => Ok(()),
    };
    if let Err(error) = restored {
        eprintln!("{:?} is not as it was: {}", call.env.ifname, error.msg);
        return Ok(());
    }
    backup::remove(&conf, call)
}

/// A link that is gone needs nothing.
fn restore(netns: &Netns, call: &Call<'_>, was: &Settings) -> Outcome<()> {
    let mut links = netns.links()?;
    let name = &call.env.ifname;
    let found = links
        .link(name)
        .doing(|| format!("failed to get {name:?}"))?;
    found.map_or(Ok(()), |link| was.set(&mut links, &link))
}

pub(crate) fn check(call: &Call<'_>) -> Outcome<()> {
    conf::refuse_doubled(call.stdin)?;
    let conf = Conf::read(call)?;
    call.required_prev_result("Required prevResult missing")?;
    let mut links = Netns::demand(call.env)?.inside(|| {
        sysctls::check(&conf.sysctls, &call.env.ifname)?;
        netns::links()
    })?;
    let link = find(&mut links, call)?;
    // A link of which nothing is said must not be promiscuous.
    let mut wanted = conf.settings.clone();
    wanted.promisc = wanted.promisc.or(Some(false));
    let mut now = wanted.taken_from(&link);
    if let (Some(a), Some(b)) = (&wanted.mac, &now.mac)
        && mac(a) == mac(b)
    {
        now.mac.clone_from(&wanted.mac);
    }
    match wanted == now {
        true => Ok(()),
        false => Err(PluginError::internal(format!(
            "Error: Tuning configured {wanted:?} for {}, current is {now:?}",
            link.name
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_tells_the_address_that_the_link_has_by_then() {
        let text = r#"{"cniVersion":"1.0.0","interfaces":[{"name":"br0","mac":"02:00:00:00:00:01"},
            {"name":"eth0","mac":"02:00:00:00:00:02","sandbox":"/n","x-more":1}]}"#;
        let value: Value =
            serde_json::from_str(&with_mac(text, "eth0", "02:00:00:00:00:07").unwrap_or_default())
                .unwrap_or_default();
        let macs = |at: usize| value["interfaces"][at]["mac"].clone();
        assert_eq!(
            (macs(0), macs(1)),
            ("02:00:00:00:00:01".into(), "02:00:00:00:00:07".into())
        );
        assert_eq!(value["interfaces"][1]["x-more"], 1);
    }
}
