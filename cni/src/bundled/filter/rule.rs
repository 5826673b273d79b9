//! A rule of iptables.

use std::net::IpAddr;

use crate::bundled::netlink::nft_rule::{Compare, Expressions, Side, Way};
use crate::result::Cidr;

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Protocol {
    Sctp,
    Tcp,
    Udp,
}

impl Protocol {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "tcp" => Some(Self::Tcp),
            "udp" => Some(Self::Udp),
            "sctp" => Some(Self::Sctp),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

/// More that a packet must be, in the order of the rule.
#[derive(Clone, Debug)]
pub(crate) enum Match {
    Comment(String),
    /// To one of these ports, 15 at most.
    Ports(Vec<u16>),
    /// To an address of this host.
    ToThisHost,
    /// Has all bits of the mark.
    Marked(u32),
    /// Comes in by this link.
    In(String),
    /// Goes out by this link.
    Out(String),
    /// Goes out by another link than this.
    OutElsewhere(String),
    /// Of a connection that is there, or belongs to one.
    Established,
    /// Words for iptables(8), which alone understands them.
    Raw(Vec<String>),
}

/// What is done with the packet.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Chain(String),
    Accept,
    Drop,
    Return,
    Masquerade,
    /// Sets all bits of the mark.
    Mark(u32),
    Dnat(IpAddr, u16),
}

/// A rule.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) protocol: Option<Protocol>,
    pub(crate) source: Option<Cidr>,
    pub(crate) destination: Option<Cidr>,
    /// To anywhere but the destination.
    pub(crate) elsewhere: Option<Cidr>,
    pub(crate) port: Option<u16>,
    pub(crate) matches: Vec<Match>,
    pub(crate) target: Target,
}

impl Rule {
    pub(crate) fn to(target: Target) -> Self {
        Self {
            protocol: None,
            source: None,
            destination: None,
            elsewhere: None,
            port: None,
            matches: Vec::new(),
            target,
        }
    }

    pub(crate) fn with(mut self, more: Match) -> Self {
        self.matches.push(more);
        self
    }

    /// True where only iptables(8) can write it.
    pub(crate) fn needs_program(&self) -> bool {
        self.matches.iter().any(|it| matches!(it, Match::Raw(_)))
    }

    /// The words after `-A CHAIN`.
    pub(crate) fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        let mut say = |list: &[&str]| words.extend(list.iter().map(|word| (*word).to_owned()));
        if let Some(net) = self.source {
            say(&["-s", &net.to_string()]);
        }
        if let Some(net) = self.destination {
            say(&["-d", &net.to_string()]);
        }
        if let Some(net) = self.elsewhere {
            say(&["!", "-d", &net.to_string()]);
        }
        if let Some(protocol) = self.protocol {
            say(&["-p", protocol.name()]);
        }
        if let Some(port) = self.port {
            say(&["--dport", &port.to_string()]);
        }
        for more in &self.matches {
            words.extend(more.words());
        }
        words.extend(self.target.words());
        words
    }

    /// As the nft variant of iptables writes it.
    pub(crate) fn expressions(&self, is_ipv4: bool) -> Expressions {
        let mut rule = Expressions::default();
        if let Some(protocol) = self.protocol {
            rule.compat_protocol(protocol.number());
        }
        if let Some(net) = self.source {
            rule.address(Side::Source, Compare::Equal, net);
        }
        if let Some(net) = self.destination {
            rule.address(Side::Destination, Compare::Equal, net);
        }
        if let Some(net) = self.elsewhere {
            rule.address(Side::Destination, Compare::Other, net);
        }
        if let (Some(protocol), Some(port)) = (self.protocol, self.port) {
            port_match(&mut rule, protocol, port);
        }
        for more in &self.matches {
            more.express(&mut rule);
        }
        rule.counter();
        self.target.express(&mut rule, is_ipv4);
        rule
    }
}

/// Where in `struct xt_sctp_info` they are: after four ports, the map of chunks, and how to match it.
const SCTP_CHUNK_TYPES: usize = 8 + 256 + 4;

/// As every version of the program reads it: the match that it has for the protocol.
fn port_match(rule: &mut Expressions, protocol: Protocol, port: u16) {
    let ports = [0, u16::MAX, port, port];
    let mut info: Vec<u8> = ports.iter().flat_map(|it| it.to_ne_bytes()).collect();
    match protocol {
        Protocol::Tcp => {
            info.extend([0; 4]);
            rule.xt_match("tcp", 0, info);
        }
        Protocol::Udp => {
            info.extend([0; 2]);
            rule.xt_match("udp", 0, info);
        }
        // `struct xt_sctp_info`: here the destination's ports come first, and a word at its end says
        // that only these count. The types of chunks are those that iptables(8) writes for none.
        Protocol::Sctp => {
            let mut info: Vec<u8> = [port, port, 0, 0].map(u16::to_ne_bytes).concat();
            info.resize(SCTP_CHUNK_TYPES, 0);
            info.extend([[0xff, 0, 0]; 4].concat());
            info.extend([0, 2, 0].map(u32::to_ne_bytes).concat());
            rule.xt_match("sctp", 0, info);
        }
    }
}

impl Match {
    fn words(&self) -> Vec<String> {
        let words: &[&str] = match self {
            Self::Comment(text) => &["-m", "comment", "--comment", text],
            Self::Ports(ports) => {
                let ports: Vec<_> = ports.iter().map(ToString::to_string).collect();
                &["-m", "multiport", "--destination-ports", &ports.join(",")]
            }
            Self::ToThisHost => &["-m", "addrtype", "--dst-type", "LOCAL"],
            Self::Marked(mark) => &["-m", "mark", "--mark", &format!("{mark:#x}/{mark:#x}")],
            Self::In(link) => &["-i", link],
            Self::Out(link) => &["-o", link],
            Self::OutElsewhere(link) => &["!", "-o", link],
            Self::Established => &["-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED"],
            Self::Raw(words) => return words.clone(),
        };
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn express(&self, rule: &mut Expressions) {
        match self {
            Self::Comment(text) => {
                let mut info = text.clone().into_bytes();
                info.truncate(255);
                info.resize(256, 0);
                rule.xt_match("comment", 0, info);
            }
            Self::Ports(ports) => {
                let count = u8::try_from(ports.len()).expect("15 at most");
                let mut info = vec![1, count];
                info.extend(
                    (0..15).flat_map(|at| ports.get(at).copied().unwrap_or(0).to_ne_bytes()),
                );
                info.extend([0; 16]);
                rule.xt_match("multiport", 1, info);
            }
            Self::ToThisHost => {
                let (any, local) = (0_u16, 1_u16 << 2);
                let info = [any.to_ne_bytes(), local.to_ne_bytes()].concat();
                rule.xt_match("addrtype", 1, [info, vec![0; 4]].concat());
            }
            Self::Marked(mark) => {
                let info = [mark.to_ne_bytes(), mark.to_ne_bytes(), [0; 4]].concat();
                rule.xt_match("mark", 1, info);
            }
            Self::In(link) => drop(rule.link(Way::In, Compare::Equal, link)),
            Self::Out(link) => drop(rule.link(Way::Out, Compare::Equal, link)),
            Self::OutElsewhere(link) => drop(rule.link(Way::Out, Compare::Other, link)),
            Self::Established => drop(rule.xt_match("conntrack", 3, established())),
            // A rule with it goes to the program: see `needs_program`.
            Self::Raw(_) => {}
        }
    }
}

impl Target {
    fn words(&self) -> Vec<String> {
        let words: &[&str] = match self {
            Self::Chain(name) => &["-j", name],
            Self::Accept => &["-j", "ACCEPT"],
            Self::Drop => &["-j", "DROP"],
            Self::Return => &["-j", "RETURN"],
            Self::Masquerade => &["-j", "MASQUERADE"],
            Self::Mark(mark) => &["-j", "MARK", "--set-xmark", &format!("{mark:#x}/{mark:#x}")],
            Self::Dnat(addr, port) => &[
                "-j",
                "DNAT",
                "--to-destination",
                &std::net::SocketAddr::new(*addr, *port).to_string(),
            ],
        };
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn express(&self, rule: &mut Expressions, is_ipv4: bool) {
        match self {
            Self::Chain(name) => rule.jump(name),
            Self::Accept => rule.accept(),
            Self::Drop => rule.discard(),
            Self::Return => rule.back(),
            Self::Masquerade => rule.xt_target("MASQUERADE", 0, any_range(is_ipv4)),
            Self::Mark(mark) => {
                let info = [mark.to_ne_bytes(), mark.to_ne_bytes()].concat();
                rule.xt_target("MARK", 2, info)
            }
            Self::Dnat(addr, port) => rule.xt_target("DNAT", 2, dnat(*addr, *port)),
        };
    }
}

/// `struct xt_conntrack_mtinfo3`: after eight addresses, two times and seven ports, what is asked for (the
/// state alone), what is inverted, and the states.
fn established() -> Vec<u8> {
    const ASKED: usize = 8 * 16 + 2 * 4 + 5 * 2;
    const LENGTH: usize = 164;
    let (state, inverted, established_and_related) = (1_u16, 0_u16, 0b110_u16);
    let mut info = vec![0; ASKED];
    info.extend(
        [state, inverted, established_and_related]
            .map(u16::to_ne_bytes)
            .concat(),
    );
    info.resize(LENGTH, 0);
    info
}

/// A range that says nothing: one of them in `struct nf_nat_ipv4_multi_range_compat`, or a
/// `struct nf_nat_range`.
fn any_range(is_ipv4: bool) -> Vec<u8> {
    match is_ipv4 {
        true => [1_u32.to_ne_bytes().to_vec(), vec![0; 16]].concat(),
        false => vec![0; 40],
    }
}

/// `struct nf_nat_range2`: an address and a port, each from and to.
fn dnat(addr: IpAddr, port: u16) -> Vec<u8> {
    let (addresses, ports) = (1_u32, 2_u32);
    let mut bytes = crate::bundled::netlink::route::octets(addr);
    bytes.resize(16, 0);
    let mut info = (addresses | ports).to_ne_bytes().to_vec();
    info.extend([bytes.clone(), bytes].concat());
    info.extend([port.to_be_bytes(), port.to_be_bytes(), [0; 2]].concat());
    info
}
