//! What a rule that is there asks and does, so that it can be held against one that is to be.
//!
//! Invariant: rules with equal facts do the same to the same packets. Counters, registers and the order in
//! which a packet is asked are no facts; an expression that is not known here is a fact of its own, which
//! no rule of a plugin has.

use super::message::{HEADER, Message, attribute, attributes, text};
use super::nft_rule::{Expressions, LIST_ELEM};

/// Of one rule, in an order of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts(Vec<Fact>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fact {
    /// What was loaded, through which masks, how it compares, and with what.
    Compared(Loaded, Vec<u8>, Vec<u8>),
    /// A match or target of iptables, and its structure.
    Extension(String, String, Vec<u8>),
    Verdict(Vec<u8>, String),
    Unknown(String, Vec<u8>),
}

/// The attributes of a load without its register, and of what was done with it since.
type Loaded = Vec<u8>;

impl Facts {
    /// Of a rule that is to be.
    pub(crate) fn of(rule: &Expressions) -> Self {
        let mut message = Message::new(0, 0, &[]);
        rule.write(&mut message);
        let mut bytes = Vec::new();
        message.finish(0, &mut bytes);
        let attrs = bytes.get(HEADER..).unwrap_or_default();
        Self::read(attribute(attrs, 4).unwrap_or_default())
    }

    /// Of a rule's list of expressions.
    pub(super) fn read(expressions: &[u8]) -> Self {
        let mut facts = Vec::new();
        let mut loaded = Loaded::new();
        let all = attributes(expressions).filter(|(kind, _)| *kind == LIST_ELEM);
        for (_, element) in all {
            let name = attribute(element, 1).map(text).unwrap_or_default();
            let data = attribute(element, 2).unwrap_or_default();
            let get = |kind| attribute(data, kind).unwrap_or_default().to_vec();
            match name.as_str() {
                "counter" => {}
                "payload" => loaded = [b"payload", &get(2)[..], &get(3), &get(4)].concat(),
                "meta" if !get(1).is_empty() => loaded = [b"meta", &get(2)[..]].concat(),
                "bitwise" => loaded.extend([get(3), get(4), get(5)].concat()),
                "cmp" => facts.push(Fact::Compared(loaded.clone(), get(2), value(&get(3)))),
                "match" | "target" => {
                    let kind = text(&get(1));
                    let info = structure(&kind, get(3));
                    facts.push(Fact::Extension(name, kind, info));
                }
                "immediate" => facts.push(verdict(&get(2))),
                _ => facts.push(Fact::Unknown(name, data.to_vec())),
            }
        }
        facts.sort();
        Self(facts)
    }
}

/// A link's name ends where it ends, however long the field is.
fn value(data: &[u8]) -> Vec<u8> {
    let value = attribute(data, 1).unwrap_or_default();
    let is_name =
        value.len() > 4 && value.first().is_some_and(u8::is_ascii_graphic) && value.contains(&0);
    match is_name {
        true => [text(value).as_bytes(), b"\0"].concat(),
        false => value.to_vec(),
    }
}

fn structure(kind: &str, info: Vec<u8>) -> Vec<u8> {
    match kind {
        "comment" => text(&info).into_bytes(),
        _ => info,
    }
}

fn verdict(data: &[u8]) -> Fact {
    match attribute(data, 2) {
        Some(verdict) => {
            let get = |kind| attribute(verdict, kind).unwrap_or_default();
            Fact::Verdict(get(1).to_vec(), text(get(2)))
        }
        None => Fact::Unknown("immediate".to_owned(), data.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundled::filter::rule::{Match, Rule, Target};
    use crate::result::Cidr;

    fn facts(rule: &Rule) -> Facts {
        Facts::of(&rule.expressions(true))
    }

    #[test]
    fn equal_rules_have_equal_facts_whatever_their_order() {
        let rule = |first: Match, second: Match| Rule::to(Target::Accept).with(first).with(second);
        let (link, comment) = (Match::In("br0".to_owned()), Match::Comment("a".to_owned()));
        let one = facts(&rule(link.clone(), comment.clone()));
        assert_eq!(one, facts(&rule(comment, link.clone())));
        assert_ne!(
            one,
            facts(&rule(link.clone(), Match::Comment("b".to_owned())))
        );
        assert_ne!(one, facts(&rule(link, Match::Established)));
    }

    #[test]
    fn rules_that_differ_in_one_thing_differ() {
        let at = |text: &str| Rule {
            source: text.parse::<Cidr>().ok(),
            ..Rule::to(Target::Accept)
        };
        let to = |text: &str| Rule {
            destination: text.parse::<Cidr>().ok(),
            ..Rule::to(Target::Accept)
        };
        let out = |link: &str| Rule::to(Target::Drop).with(Match::Out(link.to_owned()));
        let elsewhere =
            |link: &str| Rule::to(Target::Drop).with(Match::OutElsewhere(link.to_owned()));
        let all = [
            at("10.1.2.3/32"),
            at("10.1.2.4/32"),
            at("10.1.2.3/31"),
            at("10.1.2.2/31"),
            to("10.1.2.3/32"),
            out("br0"),
            out("br01"),
            elsewhere("br0"),
            Rule::to(Target::Drop),
            Rule::to(Target::Return),
            Rule::to(Target::Chain("A".to_owned())),
            Rule::to(Target::Chain("B".to_owned())),
        ];
        for (at, one) in all.iter().enumerate() {
            for (also_at, other) in all.iter().enumerate() {
                // These two name one network.
                let is_same = at == also_at || [(2, 3), (3, 2)].contains(&(at, also_at));
                assert_eq!(facts(one) == facts(other), is_same, "{at} and {also_at}");
            }
        }
    }
}
