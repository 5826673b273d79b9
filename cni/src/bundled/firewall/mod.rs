//! `firewall`: what is sent to and from the pod's addresses may pass through this host.
//!
//! ```text
//! filter FORWARD ─▶ CNI-ISOLATION-STAGE-1 (ingressPolicy) ─▶ CNI-FORWARD ─▶ CNI-ADMIN, the operator's own
//!                                                                └ to the pod, of a connection; from the pod
//! ```
//!
//! Chains, rules and comments are the reference plugin's own, so that either takes back what the other
//! made. Of its two backends there is `iptables` here; firewalld is asked over D-Bus, which is not spoken.

mod ingress;

use std::net::IpAddr;

use serde::Deserialize;

use super::call::Call;
use super::fault::Outcome;
use super::filter::placed::{self, Placed};
use super::filter::rule::{Match, Rule, Target};
use crate::error::PluginError;
use crate::result::{AddResult, Cidr};
use ingress::Policy;

const FILTER: &str = "filter";
const FORWARD: &str = "FORWARD";
const OWN: &str = "CNI-FORWARD";
const ADMIN: &str = "CNI-ADMIN";

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Wire {
    backend: String,
    iptables_admin_chain_name: String,
    ingress_policy: String,
}

/// Checked.
struct Conf {
    admin: String,
    policy: Result<Policy, PluginError>,
}

impl Conf {
    /// Which policy it is may be wrong: that is told after what was to be done before.
    fn read(call: &Call<'_>) -> Outcome<Self> {
        let wire: Wire = call.conf()?;
        if wire.backend == "firewalld" {
            return Err(PluginError::new(
                PluginError::UNSUPPORTED_FIELD,
                "the backend \"firewalld\" is not spoken here: use the reference plugin, or ask for the \
                 backend \"iptables\"",
            ));
        }
        let admin = match wire.iptables_admin_chain_name.as_str() {
            "" => ADMIN.to_owned(),
            name => name.to_owned(),
        };
        Ok(Self {
            admin,
            policy: Policy::parse(&wire.ingress_policy),
        })
    }
}

/// Gives the previous result on.
pub(crate) fn add(call: &Call<'_>) -> Outcome<String> {
    let conf = Conf::read(call)?;
    let (text, result) = previous(call)?;
    for is_ipv4 in [true, false] {
        let own = pods_rules(&result, is_ipv4);
        if own.is_empty() {
            continue;
        }
        let mut rules = frame(&conf.admin);
        rules.extend(own);
        placed::ensure(FILTER, is_ipv4, &[OWN, &conf.admin], &rules)?;
    }
    ingress::add(&conf.policy?, &result)?;
    Ok(text)
}

fn previous(call: &Call<'_>) -> Outcome<(String, AddResult)> {
    call.required_prev_result("missing prevResult from earlier plugin")
}

/// What leads to the pods' chain and from it to the operator's, as it is for all pods.
fn frame(admin: &str) -> Vec<Placed> {
    let leading = |chain: &str, to: &str, comment: &str| Placed {
        chain: chain.to_owned(),
        is_first: true,
        rule: Rule::to(Target::Chain(to.to_owned())).with(Match::Comment(comment.to_owned())),
    };
    vec![
        leading(FORWARD, OWN, "CNI firewall plugin rules"),
        leading(OWN, admin, "CNI firewall plugin admin overrides"),
    ]
}

/// Of the addresses of a family.
fn pods_rules(result: &AddResult, is_ipv4: bool) -> Vec<Placed> {
    let addresses = result.ips.iter().map(|ip| ip.address.addr);
    addresses
        .filter(|addr| addr.is_ipv4() == is_ipv4)
        .flat_map(rules_of)
        .collect()
}

fn rules_of(addr: IpAddr) -> [Placed; 2] {
    let (own, accepted) = (Some(Cidr::host(addr)), Rule::to(Target::Accept));
    let answers = Rule {
        destination: own,
        ..accepted.clone().with(Match::Established)
    };
    let sent = Rule {
        source: own,
        ..accepted
    };
    [answers, sent].map(|rule| Placed {
        chain: OWN.to_owned(),
        is_first: false,
        rule,
    })
}

/// Without the previous result nothing is known to be there. What a policy made is for all pods of a
/// bridge, and stays.
pub(crate) fn del(call: &Call<'_>) -> Outcome<()> {
    let conf = Conf::read(call)?;
    if let Some((_, result)) = call.prev_result()? {
        for is_ipv4 in [true, false] {
            let own = pods_rules(&result, is_ipv4);
            if !own.is_empty() {
                placed::delete(FILTER, is_ipv4, &own)?;
            }
        }
    }
    conf.policy.map(drop)
}

pub(crate) fn check(call: &Call<'_>) -> Outcome<()> {
    let conf = Conf::read(call)?;
    let (_, result) = previous(call)?;
    for is_ipv4 in [true, false] {
        let own = pods_rules(&result, is_ipv4);
        if own.is_empty() {
            continue;
        }
        let mut rules = frame(&conf.admin);
        rules.extend(own);
        placed::check(FILTER, is_ipv4, &rules)?;
    }
    Ok(())
}
