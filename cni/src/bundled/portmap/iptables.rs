//! Port mappings as rules of iptables.
//!
//! ```text
//! nat PREROUTING, OUTPUT ─ to this host ─▶ CNI-HOSTPORT-DNAT ─ ports ─▶ CNI-DN-hash: mark, DNAT
//! nat POSTROUTING ─▶ CNI-HOSTPORT-MASQ ─ marked ─▶ MASQUERADE
//! ```

use std::collections::BTreeMap;

use super::conf::{Conf, Mapping};
use crate::bundled::call::Call;
use crate::bundled::fault::Outcome;
use crate::bundled::filter::rule::{Match, Protocol, Rule, Target};
use crate::bundled::filter::{self, Chain, Entry, chain_name};
use crate::result::Cidr;

const TOP: &str = "CNI-HOSTPORT-DNAT";
const SET_MARK: &str = "CNI-HOSTPORT-SETMARK";
const MASQ: &str = "CNI-HOSTPORT-MASQ";
/// Before 0.9 portmap had a chain more for each container.
const OLD_TOP: &str = "CNI-HOSTPORT-SNAT";
/// What multiport takes.
const PORTS_A_RULE: usize = 15;

pub(crate) fn add(call: &Call<'_>, conf: &Conf, pod: Cidr) -> Outcome<()> {
    let mut chains = Vec::new();
    if conf.snat && conf.external_set_mark_chain.is_none() {
        chains.extend([set_mark(conf.mark), masquerading(conf.mark)]);
    }
    chains.push(top());
    chains.push(own(call, conf, pod));
    filter::apply("nat", pod.addr.is_ipv4(), &chains)
}

pub(crate) fn del(call: &Call<'_>) -> Outcome<()> {
    let of = format!("{}{}", call.name, call.env.container_id);
    filter::remove("nat", &chain_name("CNI-DN-", &of), &[TOP])?;
    filter::remove("nat", &chain_name("CNI-SN-", &of), &[OLD_TOP])
}

pub(crate) fn check(call: &Call<'_>, conf: &Conf, pod: Cidr) -> Outcome<()> {
    filter::check("nat", pod.addr.is_ipv4(), &own(call, conf, pod))
}

fn shared(name: &str, rules: Vec<Rule>, entries: Vec<Entry>) -> Chain {
    Chain {
        name: name.to_owned(),
        is_shared: true,
        rules,
        entries,
    }
}

fn set_mark(mark: u32) -> Chain {
    let comment = Match::Comment("CNI portfwd masquerade mark".to_owned());
    shared(
        SET_MARK,
        vec![Rule::to(Target::Mark(mark)).with(comment)],
        Vec::new(),
    )
}

/// Before the rules of `ipMasq`, which would keep the packet to themselves.
fn masquerading(mark: u32) -> Chain {
    let comment = Match::Comment("CNI portfwd requiring masquerade".to_owned());
    let rule = Rule::to(Target::Chain(MASQ.to_owned())).with(comment);
    let entry = Entry {
        parent: "POSTROUTING",
        is_first: true,
        rule,
    };
    shared(
        MASQ,
        vec![Rule::to(Target::Masquerade).with(Match::Marked(mark))],
        vec![entry],
    )
}

fn top() -> Chain {
    let entry = |parent| Entry {
        parent,
        is_first: false,
        rule: Rule::to(Target::Chain(TOP.to_owned())).with(Match::ToThisHost),
    };
    shared(TOP, Vec::new(), vec![entry("PREROUTING"), entry("OUTPUT")])
}

fn own(call: &Call<'_>, conf: &Conf, pod: Cidr) -> Chain {
    let name = chain_name(
        "CNI-DN-",
        &format!("{}{}", call.name, call.env.container_id),
    );
    let is_ipv4 = pod.addr.is_ipv4();
    let of_family = conf
        .mappings
        .iter()
        .filter(|mapping| mapping.is_for(is_ipv4));
    Chain {
        rules: of_family
            .flat_map(|mapping| mapping_rules(conf, pod, mapping))
            .collect(),
        entries: entries(call, conf, is_ipv4, &name),
        name,
        is_shared: false,
    }
}

fn entries(call: &Call<'_>, conf: &Conf, is_ipv4: bool, name: &str) -> Vec<Entry> {
    let comment = comment(call);
    let mut entries = Vec::new();
    let mut groups: BTreeMap<&str, (Protocol, Vec<u16>)> = BTreeMap::new();
    for mapping in &conf.mappings {
        let group = groups.entry(&mapping.spelling);
        let (_, ports) = group.or_insert((mapping.protocol, Vec::new()));
        ports.push(mapping.host_port);
    }
    for (protocol, ports) in groups.into_values() {
        for ports in ports.chunks(PORTS_A_RULE) {
            let mut rule = Rule::to(Target::Chain(name.to_owned()))
                .with(Match::Comment(comment.clone()))
                .with(Match::Ports(ports.to_vec()));
            rule.protocol = Some(protocol);
            if !conf.conditions(is_ipv4).is_empty() {
                rule = rule.with(Match::Raw(conf.conditions(is_ipv4).to_vec()));
            }
            entries.push(Entry {
                parent: TOP,
                is_first: false,
                rule,
            });
        }
    }
    entries
}

/// As long as iptables takes them.
fn comment(call: &Call<'_>) -> String {
    let mut text = format!(
        "dnat name: \"{}\" id: \"{}\"",
        call.name, call.env.container_id
    );
    if text.len() > 255 {
        text.truncate(253);
        text.push_str("...");
    }
    text
}

/// What comes from the pod itself or from this host is marked, so that the answer finds its way
/// back.
fn mapping_rules(conf: &Conf, pod: Cidr, mapping: &Mapping) -> Vec<Rule> {
    let rule = |target, source| Rule {
        protocol: Some(mapping.protocol),
        port: Some(mapping.host_port),
        destination: mapping.at().map(Cidr::host),
        source,
        ..Rule::to(target)
    };
    let set_mark = conf.external_set_mark_chain.as_deref().unwrap_or(SET_MARK);
    let mark = |source| rule(Target::Chain(set_mark.to_owned()), source);
    let mut rules = Vec::new();
    if conf.snat && conf.masq_all {
        rules.push(mark(None));
    } else if conf.snat {
        rules.push(mark(Some(pod.masked())));
        if pod.addr.is_ipv4() {
            rules.push(mark(Some(Cidr::host(std::net::Ipv4Addr::LOCALHOST.into()))));
        }
    }
    rules.push(rule(Target::Dnat(pod.addr, mapping.port), None));
    rules
}
