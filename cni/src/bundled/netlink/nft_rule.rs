//! The expressions of one nftables rule, in the order in which the kernel runs them.

use std::net::IpAddr;

use super::message::Message;
use super::nft::{Family, user_data};
use super::route::octets;
use crate::result::Cidr;

pub(crate) const LIST_ELEM: u16 = 1;
const DROP: i32 = 0;
const ACCEPT: i32 = 1;
const JUMP: i32 = -3;
const GOTO: i32 = -4;
const RETURN: i32 = -5;

/// Which address of a packet.
#[derive(Clone, Copy)]
pub(crate) enum Side {
    Source,
    Destination,
}

/// Which way of a packet through the host.
#[derive(Clone, Copy)]
pub(crate) enum Way {
    In,
    Out,
}

/// What a value is held against.
#[derive(Clone, Copy)]
pub(crate) enum Compare {
    Equal = 0,
    Other = 1,
}

/// A rule in the making.
#[derive(Default)]
pub(crate) struct Expressions {
    list: Vec<Expression>,
    /// The protocol that a match of iptables asks its rule for.
    compat_protocol: Option<u8>,
    comment: Option<String>,
}

type Fill = Box<dyn Fn(&mut Message)>;

struct Expression {
    name: &'static str,
    fill: Fill,
}

impl Expressions {
    fn push(&mut self, name: &'static str, fill: impl Fn(&mut Message) + 'static) -> &mut Self {
        self.list.push(Expression {
            name,
            fill: Box::new(fill),
        });
        self
    }

    pub(crate) fn comment(&mut self, text: &str) -> &mut Self {
        self.comment = Some(text.to_owned());
        self
    }

    /// `meta l4proto`.
    pub(crate) fn protocol(&mut self, protocol: u8) -> &mut Self {
        self.meta(16).compare(Compare::Equal, vec![protocol])
    }

    /// As rules of iptables(8) have it, whose matches ask for it.
    pub(crate) fn compat_protocol(&mut self, protocol: u8) -> &mut Self {
        self.compat_protocol = Some(protocol);
        self.protocol(protocol)
    }

    /// `meta nfproto`, where the table sees both families.
    pub(crate) fn only(&mut self, family: Family) -> &mut Self {
        self.meta(15).compare(Compare::Equal, vec![family as u8])
    }

    fn meta(&mut self, key: u32) -> &mut Self {
        self.push("meta", move |it| {
            it.be32(1, 1).be32(2, key);
        })
    }

    fn compare(&mut self, how: Compare, value: Vec<u8>) -> &mut Self {
        self.push("cmp", move |it| {
            it.be32(1, 1).be32(2, how as u32);
            it.nest(3, |data| {
                data.attr(1, &value);
            });
        })
    }

    fn payload(&mut self, base: u32, offset: u32, length: u32) -> &mut Self {
        self.push("payload", move |it| {
            it.be32(1, 1).be32(2, base).be32(3, offset).be32(4, length);
        })
    }

    /// A whole-byte prefix is compared as such, another one through its mask.
    pub(crate) fn address(&mut self, side: Side, how: Compare, net: Cidr) -> &mut Self {
        let net = net.masked();
        let bytes = octets(net.addr);
        let offset = match (side, net.addr) {
            (Side::Source, IpAddr::V4(_)) => 12,
            (Side::Destination, IpAddr::V4(_)) => 16,
            (Side::Source, IpAddr::V6(_)) => 8,
            (Side::Destination, IpAddr::V6(_)) => 24,
        };
        let whole = usize::from(net.prefix / 8);
        if net.prefix == 0 && matches!(how, Compare::Equal) {
            return self;
        }
        if net.prefix.is_multiple_of(8) && net.prefix > 0 {
            self.payload(1, offset, u32::from(net.prefix / 8));
            return self.compare(how, bytes[..whole].to_vec());
        }
        let length = u32::try_from(bytes.len()).expect("16 at most");
        self.payload(1, offset, length);
        self.mask(net.mask());
        self.compare(how, bytes)
    }

    fn mask(&mut self, mask: Vec<u8>) -> &mut Self {
        let length = u32::try_from(mask.len()).expect("16 at most");
        self.push("bitwise", move |it| {
            it.be32(1, 1).be32(2, 1).be32(3, length);
            it.nest(4, |data| {
                data.attr(1, &mask);
            });
            it.nest(5, |data| {
                data.attr(1, &vec![0; mask.len()]);
            });
        })
    }

    pub(crate) fn destination_port(&mut self, port: u16) -> &mut Self {
        self.payload(2, 2, 2)
            .compare(Compare::Equal, port.to_be_bytes().to_vec())
    }

    /// `fib daddr type local`.
    pub(crate) fn local_destination(&mut self) -> &mut Self {
        self.push("fib", |it| {
            it.be32(1, 1).be32(2, 3).be32(3, 2);
        });
        self.compare(Compare::Equal, 2_u32.to_ne_bytes().to_vec())
    }

    pub(crate) fn counter(&mut self) -> &mut Self {
        self.push("counter", |it| {
            it.attr(1, &[0; 8]).attr(2, &[0; 8]);
        })
    }

    pub(crate) fn jump(&mut self, chain: &str) -> &mut Self {
        self.verdict(JUMP, Some(chain.to_owned()))
    }

    pub(crate) fn go_to(&mut self, chain: &str) -> &mut Self {
        self.verdict(GOTO, Some(chain.to_owned()))
    }

    pub(crate) fn back(&mut self) -> &mut Self {
        self.verdict(RETURN, None)
    }

    pub(crate) fn discard(&mut self) -> &mut Self {
        self.verdict(DROP, None)
    }

    /// `iifname`.
    pub(crate) fn input_link(&mut self, name: &str) -> &mut Self {
        const LONGEST: usize = 16;
        let mut name = name.as_bytes().to_vec();
        name.resize(LONGEST, 0);
        self.meta(6).compare(Compare::Equal, name)
    }

    /// `iifname` or `oifname`, as rules of iptables(8) have them.
    pub(crate) fn link(&mut self, way: Way, how: Compare, name: &str) -> &mut Self {
        let key = match way {
            Way::In => 6,
            Way::Out => 7,
        };
        self.meta(key)
            .compare(how, [name.as_bytes(), b"\0"].concat())
    }

    /// `ether saddr`.
    pub(crate) fn source_mac(&mut self, mac: [u8; 6]) -> &mut Self {
        self.payload(0, 6, 6).compare(Compare::Equal, mac.to_vec())
    }

    pub(crate) fn accept(&mut self) -> &mut Self {
        self.verdict(ACCEPT, None)
    }

    fn verdict(&mut self, code: i32, chain: Option<String>) -> &mut Self {
        self.push("immediate", move |it| {
            it.be32(1, 0);
            it.nest(2, |data| {
                data.nest(2, |verdict| {
                    verdict.be32(1, code.cast_unsigned());
                    if let Some(chain) = &chain {
                        verdict.text(2, chain);
                    }
                });
            });
        })
    }

    /// Rewrites where the packet goes.
    pub(crate) fn dnat(&mut self, addr: IpAddr, port: u16) -> &mut Self {
        self.load(1, octets(addr))
            .load(2, port.to_be_bytes().to_vec());
        let family = if addr.is_ipv4() {
            Family::Ip
        } else {
            Family::Ip6
        };
        self.push("nat", move |it| {
            it.be32(1, 1).be32(2, family as u32).be32(3, 1).be32(5, 2);
        })
    }

    fn load(&mut self, register: u32, value: Vec<u8>) -> &mut Self {
        self.push("immediate", move |it| {
            it.be32(1, register);
            it.nest(2, |data| {
                data.attr(1, &value);
            });
        })
    }

    pub(crate) fn masquerade(&mut self) -> &mut Self {
        self.push("masq", |_| {})
    }

    /// A match of iptables; `info` is its structure.
    pub(crate) fn xt_match(
        &mut self,
        name: &'static str,
        revision: u32,
        info: Vec<u8>,
    ) -> &mut Self {
        self.xt("match", name, revision, info)
    }

    /// A target of iptables.
    pub(crate) fn xt_target(
        &mut self,
        name: &'static str,
        revision: u32,
        info: Vec<u8>,
    ) -> &mut Self {
        self.xt("target", name, revision, info)
    }

    fn xt(
        &mut self,
        kind: &'static str,
        name: &'static str,
        revision: u32,
        mut info: Vec<u8>,
    ) -> &mut Self {
        // The kernel's XT_ALIGN.
        info.resize(info.len().next_multiple_of(8), 0);
        self.push(kind, move |it| {
            it.text(1, name).be32(2, revision).attr(3, &info);
        })
    }

    pub(super) fn write(&self, message: &mut Message) {
        message.nest(4, |list| {
            for expression in &self.list {
                list.nest(LIST_ELEM, |it| {
                    it.text(1, expression.name);
                    it.nest(2, |data| (expression.fill)(data));
                });
            }
        });
        if let Some(protocol) = self.compat_protocol {
            message.nest(5, |compat| {
                compat.be32(1, protocol.into()).be32(2, 0);
            });
        }
        if let Some(comment) = &self.comment {
            message.attr(7, &user_data(comment));
        }
    }
}
