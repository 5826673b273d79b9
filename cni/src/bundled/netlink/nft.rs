//! nftables: tables, chains and rules, changed in transactions.
//!
//! ```text
//! generation ─▶ look ─▶ decide ─▶ batch under that generation ─▶ applied
//!      ▲                                └ somebody was quicker ─▶ again
//!      └──────────────────────────────────────┘
//! ```
//!
//! Invariant: what is decided from a look at the rules is applied to those very rules, or not at
//! all; a batch is applied whole or not at all.

use std::net::IpAddr;

use rustix::io::Errno;
use rustix::net::netlink;

use super::Socket;
use super::message::{self, ACK, APPEND, CREATE, DUMP, Message, attribute, attributes};
use super::nft_facts::Facts;
use super::nft_rule::{Expressions, LIST_ELEM};
use super::route::octets;

const SUBSYSTEM: u16 = 10 << 8;
const NEWTABLE: u16 = SUBSYSTEM;
const NEWCHAIN: u16 = SUBSYSTEM | 3;
const GETCHAIN: u16 = SUBSYSTEM | 4;
const DELCHAIN: u16 = SUBSYSTEM | 5;
const NEWRULE: u16 = SUBSYSTEM | 6;
const GETRULE: u16 = SUBSYSTEM | 7;
const DELRULE: u16 = SUBSYSTEM | 8;
const GETGEN: u16 = SUBSYSTEM | 16;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// Somebody else is quicker each time only if he is at it without a pause.
const TRIES: u32 = 1000;

/// Whose packets a table sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Inet = 1,
    Ip = 2,
    Ip6 = 10,
    Bridge = 7,
}

/// A rule that is there.
pub(crate) struct Rule {
    pub(crate) handle: u64,
    /// The chain that it leads to.
    pub(crate) jumps: Option<String>,
    /// The comment that nft(8) shows.
    pub(crate) comment: Option<String>,
    /// What it compares with or sets.
    values: Vec<Vec<u8>>,
}

/// A hook of the kernel, and when in it.
#[derive(Clone, Copy)]
pub(crate) struct Hook {
    pub(crate) number: u32,
    pub(crate) priority: i32,
    pub(crate) kind: &'static str,
}

impl Hook {
    const fn new(number: u32, priority: i32, kind: &'static str) -> Self {
        Self {
            number,
            priority,
            kind,
        }
    }

    pub(crate) const BRIDGE_PREROUTING: Self = Self::new(0, -300, "filter");
    pub(crate) const FILTER_FORWARD: Self = Self::new(2, 0, "filter");
    pub(crate) const NAT_PREROUTING: Self = Self::new(0, -100, "nat");
    pub(crate) const NAT_OUTPUT: Self = Self::new(3, -100, "nat");
    pub(crate) const NAT_POSTROUTING: Self = Self::new(4, 100, "nat");
}

/// A table of a family.
#[derive(Clone, Copy)]
pub(crate) struct Table {
    pub(crate) family: Family,
    pub(crate) name: &'static str,
}

/// Changes that are made together.
#[derive(Default)]
pub(crate) struct Changes {
    messages: Vec<Message>,
}

impl Changes {
    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Made unless it is there.
    pub(crate) fn table(&mut self, table: Table, comment: &str) {
        let mut message = table.message(NEWTABLE, CREATE);
        message.text(1, table.name);
        if !comment.is_empty() {
            message.attr(6, &user_data(comment));
        }
        self.messages.push(message);
    }

    /// Made unless it is there; at a hook, or for others to lead to.
    pub(crate) fn chain(&mut self, table: Table, name: &str, hook: Option<Hook>) {
        self.commented_chain(table, name, hook, "");
    }

    pub(crate) fn commented_chain(
        &mut self,
        table: Table,
        name: &str,
        hook: Option<Hook>,
        comment: &str,
    ) {
        let mut message = table.message(NEWCHAIN, CREATE);
        message.text(1, table.name).text(3, name);
        if let Some(hook) = hook {
            message.nest(4, |inner| {
                inner.be32(1, hook.number);
                inner.be32(2, hook.priority.cast_unsigned());
            });
            message.be32(5, 1).text(7, hook.kind);
        }
        if !comment.is_empty() {
            message.attr(12, &user_data(comment));
        }
        self.messages.push(message);
    }

    /// At the end of the chain.
    pub(crate) fn append(&mut self, table: Table, chain: &str, rule: &Expressions) {
        self.rule(table, chain, rule, CREATE | APPEND);
    }

    /// At its beginning.
    pub(crate) fn prepend(&mut self, table: Table, chain: &str, rule: &Expressions) {
        self.rule(table, chain, rule, CREATE);
    }

    fn rule(&mut self, table: Table, chain: &str, rule: &Expressions, flags: u16) {
        let mut message = table.message(NEWRULE, flags);
        message.text(1, table.name).text(2, chain);
        rule.write(&mut message);
        self.messages.push(message);
    }

    pub(crate) fn delete(&mut self, table: Table, chain: &str, rule: &Rule) {
        let mut message = table.message(DELRULE, 0);
        message.text(1, table.name).text(2, chain);
        message.attr(3, &rule.handle.to_be_bytes());
        self.messages.push(message);
    }

    /// All of its rules.
    pub(crate) fn flush(&mut self, table: Table, chain: &str) {
        let mut message = table.message(DELRULE, 0);
        message.text(1, table.name).text(2, chain);
        self.messages.push(message);
    }

    /// With its rules.
    pub(crate) fn delete_chain(&mut self, table: Table, chain: &str) {
        self.flush(table, chain);
        let mut message = table.message(DELCHAIN, 0);
        message.text(1, table.name).text(3, chain);
        self.messages.push(message);
    }
}

impl Table {
    pub(crate) const fn new(family: Family, name: &'static str) -> Self {
        Self { family, name }
    }

    fn message(self, kind: u16, flags: u16) -> Message {
        Message::new(kind, flags, &[self.family as u8, 0, 0, 0])
    }
}

/// A look at the rules as they are.
pub(crate) struct Rules {
    socket: Socket,
}

impl Rules {
    pub(crate) fn open() -> Result<Self, Errno> {
        let socket = Socket::open(Some(netlink::NETFILTER))?;
        Ok(Self { socket })
    }

    pub(crate) fn has_chain(&mut self, table: Table, chain: &str) -> Result<bool, Errno> {
        let mut message = table.message(GETCHAIN, 0);
        message.text(1, table.name).text(3, chain);
        match self.socket.ask(&message) {
            Err(Errno::NOENT) => Ok(false),
            replies => replies.map(|_| true),
        }
    }

    /// None where there is no such chain.
    pub(crate) fn of(&mut self, table: Table, chain: &str) -> Result<Vec<Rule>, Errno> {
        let read = |attrs: &Vec<u8>| Rule::read(attrs);
        Ok(self.bodies(table, chain)?.iter().filter_map(read).collect())
    }

    /// The same, each with what it asks and does.
    pub(crate) fn read(&mut self, table: Table, chain: &str) -> Result<Vec<(Rule, Facts)>, Errno> {
        let read = |attrs: &Vec<u8>| {
            let expressions = attribute(attrs, 4).unwrap_or_default();
            Some((Rule::read(attrs)?, Facts::read(expressions)))
        };
        Ok(self.bodies(table, chain)?.iter().filter_map(read).collect())
    }

    /// The attributes of each.
    fn bodies(&mut self, table: Table, chain: &str) -> Result<Vec<Vec<u8>>, Errno> {
        let mut message = table.message(GETRULE, DUMP);
        message.text(1, table.name).text(2, chain);
        let replies = match self.socket.ask(&message) {
            Err(Errno::NOENT) => return Ok(Vec::new()),
            replies => replies?,
        };
        let in_chain = |body: &[u8]| {
            let attrs = body.get(4..)?;
            let is_ours = attribute(attrs, 1).map(message::text)? == table.name
                && attribute(attrs, 2).map(message::text)? == chain;
            is_ours.then(|| attrs.to_vec())
        };
        Ok(replies
            .iter()
            .filter_map(|(_, body)| in_chain(body))
            .collect())
    }

    fn generation(&mut self) -> Result<u32, Errno> {
        let replies = self.socket.ask(&Message::new(GETGEN, 0, &[0; 4]))?;
        let value = replies
            .first()
            .and_then(|(_, body)| attribute(body.get(4..)?, 1));
        let bytes = value.and_then(|value| value.try_into().ok());
        bytes.map(u32::from_be_bytes).ok_or(Errno::PROTO)
    }
}

/// True for what a kernel says that has no nf_tables, or not of the family that is asked for. (Where a
/// whole subsystem of netfilter is missing it says EINVAL.)
fn is_absent(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::PROTONOSUPPORT | Errno::OPNOTSUPP | Errno::AFNOSUPPORT | Errno::INVAL
    )
}

/// `None` where there is no nftables to look at. Only for a look: of a change EINVAL says that the change
/// is wrong.
fn if_there<T>(look: Result<T, Errno>) -> Result<Option<T>, Errno> {
    match look {
        Err(errno) if is_absent(errno) => Ok(None),
        look => look.map(Some),
    }
}

/// Takes back what `decide` finds; nothing to be found, and a kernel without nftables, is no error.
pub(crate) fn take_back(
    mut decide: impl FnMut(&mut Rules, &mut Changes) -> Result<(), Errno>,
) -> Result<(), Errno> {
    if if_there(Rules::open().and_then(|mut rules| rules.generation()))?.is_none() {
        return Ok(());
    }
    change(|rules, changes| if_there(decide(rules, changes)).map(Option::unwrap_or_default))
}

/// Applies what `decide` makes of the rules as they are.
pub(crate) fn change(
    mut decide: impl FnMut(&mut Rules, &mut Changes) -> Result<(), Errno>,
) -> Result<(), Errno> {
    for _ in 0..TRIES {
        let mut rules = Rules::open()?;
        let generation = rules.generation()?;
        let mut changes = Changes::default();
        decide(&mut rules, &mut changes)?;
        if changes.is_empty() {
            return Ok(());
        }
        match apply(rules.socket, generation, changes) {
            Err(Errno::RESTART | Errno::AGAIN) => {}
            applied => return applied,
        }
    }
    Err(Errno::BUSY)
}

fn apply(mut socket: Socket, generation: u32, changes: Changes) -> Result<(), Errno> {
    let header = [0, 0, 0, 10];
    let mut begin = Message::new(BATCH_BEGIN, 0, &header);
    begin.be32(1, generation);
    let mut messages = vec![begin];
    messages.extend(changes.messages);
    if let Some(last) = messages.last_mut() {
        last.demand(ACK);
    }
    messages.push(Message::new(BATCH_END, 0, &header));
    let awaited = socket.send(&messages)? - 1;
    loop {
        for (number, answer) in socket.acknowledgements()? {
            answer?;
            if number == awaited {
                return Ok(());
            }
        }
    }
}

impl Rule {
    fn read(attrs: &[u8]) -> Option<Self> {
        let handle = u64::from_be_bytes(attribute(attrs, 3)?.try_into().ok()?);
        let expressions = attribute(attrs, 4).unwrap_or_default();
        let elements = || {
            let all = attributes(expressions);
            all.filter(|(kind, _)| *kind == LIST_ELEM).map(|(_, it)| it)
        };
        Some(Self {
            handle,
            jumps: elements().filter_map(jump).next(),
            comment: attribute(attrs, 7).and_then(comment),
            values: elements().filter_map(value).collect(),
        })
    }

    /// True where it compares with this address, or sends there.
    pub(crate) fn names(&self, addr: IpAddr) -> bool {
        let wanted = octets(addr);
        self.values.contains(&wanted)
    }
}

fn value(expression: &[u8]) -> Option<Vec<u8>> {
    let place = match message::text(attribute(expression, 1)?).as_str() {
        "cmp" => 3,
        "immediate" => 2,
        _ => return None,
    };
    let data = attribute(attribute(expression, 2)?, place)?;
    attribute(data, 1).map(<[u8]>::to_vec)
}

fn jump(expression: &[u8]) -> Option<String> {
    if message::text(attribute(expression, 1)?) != "immediate" {
        return None;
    }
    let verdict = attribute(attribute(attribute(expression, 2)?, 2)?, 2)?;
    attribute(verdict, 2).map(message::text)
}

/// As nft(8) keeps texts: kind 0, length, text and its end.
pub(crate) fn user_data(comment: &str) -> Vec<u8> {
    let length = u8::try_from(comment.len() + 1).expect("comments are cut to 128 bytes");
    [&[0, length], comment.as_bytes(), b"\0"].concat()
}

fn comment(mut data: &[u8]) -> Option<String> {
    loop {
        let (kind, length) = (*data.first()?, usize::from(*data.get(1)?));
        let value = data.get(2..2 + length)?;
        if kind == 0 {
            return Some(message::text(value));
        }
        data = &data[2 + length..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_nftables_has_nothing_to_take_back() {
        for errno in [
            Errno::INVAL,
            Errno::PROTONOSUPPORT,
            Errno::OPNOTSUPP,
            Errno::AFNOSUPPORT,
        ] {
            assert_eq!(if_there::<()>(Err(errno)), Ok(None), "{errno}");
        }
        assert_eq!(if_there::<()>(Err(Errno::PERM)), Err(Errno::PERM));
        assert_eq!(if_there(Ok(7)), Ok(Some(7)));
    }
}
