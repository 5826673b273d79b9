//! `ingressPolicy`: who may open a connection to the pods of a bridge.
//!
//! ```text
//! FORWARD ─▶ CNI-ISOLATION-STAGE-1 ─ from the bridge to elsewhere ─▶ CNI-ISOLATION-STAGE-2 ─ to a bridge ─▶ dropped
//!                    └ isolated: from the bridge to itself ─▶ dropped
//! ```

use super::{FILTER, FORWARD};
use crate::bundled::fault::Outcome;
use crate::bundled::filter::placed::{self, Placed};
use crate::bundled::filter::rule::{Match, Rule, Target};
use crate::error::PluginError;
use crate::result::AddResult;

const STAGE_1: &str = "CNI-ISOLATION-STAGE-1";
const STAGE_2: &str = "CNI-ISOLATION-STAGE-2";

/// Who may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    Open,
    SameBridge,
    Isolated,
}

impl Policy {
    pub(super) fn parse(text: &str) -> Outcome<Self> {
        match text {
            "" | "open" => Ok(Self::Open),
            "same-bridge" => Ok(Self::SameBridge),
            "isolated" => Ok(Self::Isolated),
            other => Err(PluginError::internal(format!(
                "unknown ingress policy: {other:?}: there are \"open\", \"same-bridge\" and \"isolated\""
            ))),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::SameBridge => "same-bridge",
            Self::Isolated => "isolated",
        }
    }
}

/// For the bridge, which is the first interface of the result, and the families of its addresses.
pub(super) fn add(policy: &Policy, result: &AddResult) -> Outcome<()> {
    if *policy == Policy::Open {
        return Ok(());
    }
    let bridge = result.interfaces.first().map(|it| it.name.as_str());
    let Some(bridge) = bridge.filter(|name| !name.is_empty()) else {
        let msg = format!(
            "interface needs to be set for ingress policy {:?}, make sure to chain \"firewall\" plugin with \"bridge\"",
            policy.name()
        );
        return Err(PluginError::internal(msg));
    };
    let rules = rules(*policy, bridge);
    for is_ipv4 in [true, false] {
        let mut ips = result.ips.iter();
        if ips.any(|ip| ip.address.addr.is_ipv4() == is_ipv4) {
            placed::ensure(FILTER, is_ipv4, &[STAGE_1, STAGE_2], &rules)?;
        }
    }
    Ok(())
}

/// In the order in which they are made, each first one before those that are there.
fn rules(policy: Policy, bridge: &str) -> Vec<Placed> {
    let own = format!("ingressPolicy: {}", policy.name());
    let (shared, bridge) = ("ingressPolicy: same-bridge|isolated", bridge.to_owned());
    let from = Match::In(bridge.clone());
    let to_stage = |stage: &str| Rule::to(Target::Chain(stage.to_owned()));
    let to_elsewhere = to_stage(STAGE_2)
        .with(from.clone())
        .with(Match::OutElsewhere(bridge.clone()));
    let to_itself = Rule::to(Target::Drop)
        .with(from)
        .with(Match::Out(bridge.clone()));
    let to_any = Rule::to(Target::Drop).with(Match::Out(bridge));
    let first = |chain, rule, comment| placed(chain, true, rule, comment);
    let last = |chain| placed(chain, false, Rule::to(Target::Return), shared);
    let mut all = vec![
        first(FORWARD, to_stage(STAGE_1), shared),
        first(STAGE_1, to_elsewhere, &own),
    ];
    if policy == Policy::Isolated {
        all.push(first(STAGE_1, to_itself, &own));
    }
    all.extend([last(STAGE_1), first(STAGE_2, to_any, shared), last(STAGE_2)]);
    all
}

fn placed(chain: &str, is_first: bool, rule: Rule, why: &str) -> Placed {
    let comment = format!("CNI firewall plugin rules ({why})");
    Placed {
        chain: chain.to_owned(),
        is_first,
        rule: rule.with(Match::Comment(comment)),
    }
}
