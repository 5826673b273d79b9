//! `macspoofchk`: what comes from the pod under another hardware address than its own goes nowhere.
//!
//! ```text
//! bridge nat PREROUTING ─ from the host's end ─▶ cni-br-iface-ID ─▶ …-mac ─ own address ─▶ back
//!                                                                     └────────▶ dropped
//! ```
//!
//! Chains, names and comments are the reference plugin's own.

use rustix::io::Errno;

use crate::bundled::call::Call;
use crate::bundled::fault::{Doing, Outcome};
use crate::bundled::netlink::nft::{self, Family, Hook, Rules, Table};
use crate::bundled::netlink::nft_rule::Expressions;
use crate::error::PluginError;

const TABLE: Table = Table::new(Family::Bridge, "nat");
const BASE: &str = "PREROUTING";
/// What nft(8) keeps of a comment.
const LONGEST_COMMENT: usize = 128;

/// The names of one pod's chains and the comment of its rules.
struct Names {
    link: String,
    mac: String,
    comment: String,
}

impl Names {
    fn of(call: &Call<'_>) -> Self {
        let of = format!("{}-{}", call.env.container_id, call.env.ifname);
        let link = format!("cni-br-iface-{of}");
        Self {
            mac: format!("{link}-mac"),
            link,
            comment: format!("macspoofchk-{of}"),
        }
    }
}

/// For what comes in by the link `host_end`.
pub(super) fn add(call: &Call<'_>, host_end: &str, mac: [u8; 6]) -> Outcome<()> {
    let names = Names::of(call);
    let what = || "failed to setup spoof-check".to_owned();
    if names.comment.len() > LONGEST_COMMENT {
        let why = format!("the container id makes a comment of more than {LONGEST_COMMENT} bytes");
        return Err(PluginError::internal(format!("{}: {why}", what())));
    }
    let commented = |fill: &dyn Fn(&mut Expressions)| {
        let mut rule = Expressions::default();
        fill(&mut rule);
        rule.comment(&names.comment);
        rule
    };
    let added = nft::change(|rules, changes| {
        let stale = leading(rules, &names)?;
        changes.table(TABLE, "");
        changes.chain(TABLE, BASE, Some(Hook::BRIDGE_PREROUTING));
        for chain in [&names.link, &names.mac] {
            changes.chain(TABLE, chain, None);
            changes.flush(TABLE, chain);
        }
        for old in &stale {
            changes.delete(TABLE, BASE, old);
        }
        let from_pod = commented(&|it| {
            it.input_link(host_end).jump(&names.link);
        });
        changes.append(TABLE, BASE, &from_pod);
        let all = commented(&|it| {
            it.jump(&names.mac);
        });
        changes.append(TABLE, &names.link, &all);
        let own = commented(&|it| {
            it.source_mac(mac).back();
        });
        changes.append(TABLE, &names.mac, &own);
        let others = commented(&|it| {
            it.discard();
        });
        changes.append(TABLE, &names.mac, &others);
        Ok(())
    });
    added.doing(what)
}

/// Nothing is no error.
pub(super) fn del(call: &Call<'_>) -> Outcome<()> {
    let names = Names::of(call);
    let removed = nft::take_back(|rules, changes| {
        for rule in leading(rules, &names)? {
            changes.delete(TABLE, BASE, &rule);
        }
        for chain in [&names.link, &names.mac] {
            if rules.has_chain(TABLE, chain)? {
                changes.delete_chain(TABLE, chain);
            }
        }
        Ok(())
    });
    removed.doing(|| "failed to teardown spoof-check".to_owned())
}

/// The rules that lead to the pod's chain.
fn leading(rules: &mut Rules, names: &Names) -> Result<Vec<nft::Rule>, Errno> {
    let all = rules.of(TABLE, BASE)?.into_iter();
    Ok(all
        .filter(|rule| rule.jumps.as_deref() == Some(&names.link))
        .collect())
}
