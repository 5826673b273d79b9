//! Ranges of addresses, made complete and checked.
//!
//! Invariant: both ends of a [`Range`] and its gateway are of the subnet's family, and its first
//! address is not above its last.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Deserialize;

use crate::result::{Cidr, address as address_or_empty};

/// A range as the configuration has it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct RawRange {
    pub(crate) subnet: Option<Cidr>,
    #[serde(deserialize_with = "address_or_empty")]
    range_start: Option<IpAddr>,
    #[serde(deserialize_with = "address_or_empty")]
    range_end: Option<IpAddr>,
    #[serde(deserialize_with = "address_or_empty")]
    gateway: Option<IpAddr>,
}

/// Addresses that may be given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) subnet: Cidr,
    pub(crate) first: IpAddr,
    pub(crate) last: IpAddr,
    pub(crate) gateway: IpAddr,
}

/// Ranges of one family that serve one address together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RangeSet(pub(crate) Vec<Range>);

impl RawRange {
    fn complete(&self) -> Result<Range, String> {
        let subnet = self.subnet.ok_or("a range has no \"subnet\"")?;
        let longest = if subnet.addr.is_ipv4() { 32 } else { 128 };
        if subnet.prefix > longest - 2 {
            return Err(format!("Network {subnet} too small to allocate from"));
        }
        let network = subnet.masked();
        if network != subnet {
            return Err(format!(
                "Network has host bits set. For a subnet mask of length {} the network address is {}",
                subnet.prefix, network.addr
            ));
        }
        let lowest = next(subnet.addr);
        let range = Range {
            subnet,
            first: self.range_start.map_or(lowest, canonical),
            last: self.range_end.map_or_else(|| last_of(subnet), canonical),
            gateway: self.gateway.map_or(lowest, canonical),
        };
        range.check()
    }
}

impl Range {
    fn check(self) -> Result<Self, String> {
        for (key, addr) in [("RangeStart", self.first), ("RangeEnd", self.last)] {
            if !self.subnet.contains(addr) {
                return Err(format!("{key} {addr} not in network {}", self.subnet));
            }
        }
        match number(self.first) <= number(self.last) {
            true => Ok(self),
            false => Err(format!(
                "RangeEnd {} not in network {}",
                self.last, self.subnet
            )),
        }
    }

    pub(crate) fn contains(&self, addr: IpAddr) -> bool {
        self.subnet.contains(addr)
            && (number(self.first)..=number(self.last)).contains(&number(addr))
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.first)
            || self.contains(other.last)
            || other.contains(self.first)
            || other.contains(self.last)
    }
}

impl RangeSet {
    pub(crate) fn new(raw: &[RawRange]) -> Result<Self, String> {
        if raw.is_empty() {
            return Err("empty range set".to_owned());
        }
        let ranges: Vec<_> = raw
            .iter()
            .map(RawRange::complete)
            .collect::<Result<_, _>>()?;
        let is_ipv4 = ranges[0].first.is_ipv4();
        if ranges.iter().any(|range| range.first.is_ipv4() != is_ipv4) {
            return Err("mixed address families".to_owned());
        }
        for (at, one) in ranges.iter().enumerate() {
            if let Some(other) = ranges[at + 1..].iter().find(|other| one.overlaps(other)) {
                return Err(format!("subnets {one} and {other} overlap"));
            }
        }
        Ok(Self(ranges))
    }

    pub(crate) fn of(&self, addr: IpAddr) -> Option<&Range> {
        self.0.iter().find(|range| range.contains(addr))
    }

    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.0
            .iter()
            .any(|one| other.0.iter().any(|two| one.overlaps(two)))
    }

    /// Every address once but the gateways, beginning after `last`, with its range: who crashes in a
    /// loop does not get the same address until all others had their turn.
    pub(crate) fn turn(&self, last: Option<IpAddr>) -> impl Iterator<Item = (IpAddr, &Range)> {
        let start = last.and_then(|last| {
            self.0
                .iter()
                .position(|range| range.contains(last))
                .map(|at| (at, last))
        });
        let (from, above) = start.unwrap_or((0, self.0[0].first));
        let is_new = start.is_none();
        let head = self.0[from..=from]
            .iter()
            .flat_map(move |range| walk(range, above, range.last).skip(usize::from(!is_new)));
        let others = self.0[from + 1..].iter().chain(&self.0[..from]);
        let middle = others.flat_map(|range| walk(range, range.first, range.last));
        let again = self.0[from..=from].iter().filter(move |_| !is_new);
        let tail = again.flat_map(move |range| walk(range, range.first, above));
        let all = head.chain(middle).chain(tail);
        all.filter(|(addr, range)| *addr != range.gateway)
    }
}

fn walk(range: &Range, first: IpAddr, last: IpAddr) -> impl Iterator<Item = (IpAddr, &Range)> {
    let is_ipv4 = first.is_ipv4();
    (number(first)..=number(last)).map(move |it| (address(it, is_ipv4), range))
}

/// An IPv4 address in IPv6 clothes is the IPv4 address.
pub(crate) fn canonical(addr: IpAddr) -> IpAddr {
    addr.to_canonical()
}

pub(crate) fn next(addr: IpAddr) -> IpAddr {
    address(number(addr).wrapping_add(1), addr.is_ipv4())
}

fn number(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(addr) => addr.to_bits().into(),
        IpAddr::V6(addr) => addr.to_bits(),
    }
}

fn address(number: u128, is_ipv4: bool) -> IpAddr {
    match is_ipv4 {
        true => Ipv4Addr::from_bits(u32::try_from(number & 0xffff_ffff).unwrap_or(0)).into(),
        false => Ipv6Addr::from_bits(number).into(),
    }
}

/// Without the broadcast address of IPv4.
fn last_of(subnet: Cidr) -> IpAddr {
    let (width, is_ipv4) = if subnet.addr.is_ipv4() {
        (32, true)
    } else {
        (128, false)
    };
    let hosts = u128::MAX
        .checked_shr(128 - u32::from(width - subnet.prefix))
        .unwrap_or(0);
    address((number(subnet.addr) | hosts) - u128::from(is_ipv4), is_ipv4)
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl fmt::Display for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranges: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&ranges.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> Result<RangeSet, String> {
        let raw: Vec<RawRange> = serde_json::from_str(text).unwrap();
        RangeSet::new(&raw)
    }

    fn turn(set: &RangeSet, last: Option<&str>) -> Vec<String> {
        let last = last.map(|text| text.parse().unwrap());
        set.turn(last).map(|(addr, _)| addr.to_string()).collect()
    }

    #[test]
    fn a_subnet_alone_gives_all_but_its_ends_and_its_gateway() {
        let set = set(r#"[{"subnet": "10.1.2.0/29"}]"#).unwrap();
        assert_eq!(
            turn(&set, None),
            ["10.1.2.2", "10.1.2.3", "10.1.2.4", "10.1.2.5", "10.1.2.6"]
        );
        let range = &set.0[0];
        assert_eq!(range.gateway.to_string(), "10.1.2.1");
        assert_eq!(set.to_string(), "10.1.2.1-10.1.2.6");
    }

    #[test]
    fn a_turn_begins_after_the_last_and_ends_with_it() {
        let set = set(r#"[{"subnet": "10.1.2.0/29"}, {"subnet": "10.1.3.0/24", "rangeStart": "10.1.3.8", "rangeEnd": "10.1.3.9"}]"#).unwrap();
        let order = [
            "10.1.2.5", "10.1.2.6", "10.1.3.8", "10.1.3.9", "10.1.2.2", "10.1.2.3", "10.1.2.4",
        ];
        assert_eq!(turn(&set, Some("10.1.2.4")), order);
        assert_eq!(
            turn(&set, Some("10.9.9.9")).len(),
            7,
            "a stranger begins at the beginning"
        );
    }

    #[test]
    fn ipv6_has_no_broadcast_address() {
        let set = set(r#"[{"subnet": "fd00::/126"}]"#).unwrap();
        assert_eq!(turn(&set, None), ["fd00::2", "fd00::3"]);
    }

    #[test]
    fn an_empty_address_is_none() {
        let empty =
            r#"[{"subnet": "10.1.2.0/29", "gateway": "", "rangeStart": "", "rangeEnd": ""}]"#;
        assert_eq!(set(empty), set(r#"[{"subnet": "10.1.2.0/29"}]"#));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (text, why) in [
            ("[]", "empty"),
            (r#"[{"subnet": "10.1.2.0/31"}]"#, "too small"),
            (r#"[{"subnet": "10.1.2.1/24"}]"#, "host bits"),
            (
                r#"[{"subnet": "10.1.2.0/24", "rangeStart": "10.1.3.1"}]"#,
                "RangeStart",
            ),
            (
                r#"[{"subnet": "10.1.2.0/24", "rangeEnd": "10.1.3.1"}]"#,
                "RangeEnd",
            ),
            (
                r#"[{"subnet": "10.1.2.0/24"}, {"subnet": "10.1.2.128/25"}]"#,
                "overlap",
            ),
            (
                r#"[{"subnet": "10.1.2.0/24"}, {"subnet": "fd00::/64"}]"#,
                "mixed",
            ),
        ] {
            let told = set(text).unwrap_err();
            assert!(told.contains(why), "{text}: {told}");
        }
    }
}
