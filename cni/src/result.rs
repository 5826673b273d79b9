//! What an ADD answered, in one model for every version, and its way back to JSON.
//!
//! ```text
//! plugin's stdout ── same version as the chain ──▶ kept as it is ──▶ prevResult, cache
//!                └── another version ──▶ model ──▶ written anew ─┘
//! ```
//!
//! Invariant: [`AddResult::json`] is always in the chain's version and says so in `cniVersion`;
//! the index of an address into the interfaces is always in range.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::version::Version;

/// The result of the last plugin of a chain.
#[derive(Clone, Debug, PartialEq)]
pub struct AddResult {
    /// Every interface that was made, those on the host too.
    pub interfaces: Vec<Interface>,
    /// The addresses, in the plugins' order.
    pub ips: Vec<IpConfig>,
    /// The routes inside the namespace.
    pub routes: Vec<Route>,
    /// What the network says about name resolution.
    pub dns: Dns,
    json: String,
}

/// One network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Interface {
    /// Its name where it lives.
    pub name: String,
    /// Its hardware address, empty where there is none.
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "nullable"
    )]
    pub mac: String,
    /// Its MTU in bytes, where it was told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The namespace's path, empty for an interface of the host.
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "nullable"
    )]
    pub sandbox: String,
    /// The socket of a user-space interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket_path: Option<String>,
    /// The PCI device behind it.
    #[serde(rename = "pciID", skip_serializing_if = "Option::is_none")]
    pub pci_id: Option<String>,
}

/// One address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpConfig {
    /// The address and the prefix of its subnet.
    pub address: Cidr,
    /// The subnet's gateway.
    #[serde(
        default,
        deserialize_with = "address",
        skip_serializing_if = "Option::is_none"
    )]
    pub gateway: Option<IpAddr>,
    /// Index into [`AddResult::interfaces`].
    #[serde(
        default,
        deserialize_with = "index",
        skip_serializing_if = "Option::is_none"
    )]
    pub interface: Option<usize>,
}

/// One route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Where to.
    pub dst: Cidr,
    /// The next hop; without one the gateway of the addresses serves.
    #[serde(
        default,
        deserialize_with = "address",
        skip_serializing_if = "Option::is_none"
    )]
    pub gw: Option<IpAddr>,
    /// Path MTU in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Segment size to advertise in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advmss: Option<u32>,
    /// Lower is preferred.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// Routing table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// 0 global, 253 link, 254 host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u32>,
}

/// Name resolution as the network has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dns {
    /// Servers, the preferred first.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// The local domain.
    #[serde(
        deserialize_with = "nullable",
        skip_serializing_if = "String::is_empty"
    )]
    pub domain: String,
    /// Search domains.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Resolver options.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

/// An address with the length of its prefix, written `10.1.0.5/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// The address itself, host bits and all.
    pub addr: IpAddr,
    /// 0 to 32, or to 128.
    pub prefix: u8,
}

/// The keys of a result as they are on the wire.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Wire {
    #[serde(deserialize_with = "nullable")]
    cni_version: String,
    #[serde(deserialize_with = "nullable")]
    interfaces: Vec<Interface>,
    #[serde(deserialize_with = "nullable")]
    ips: Vec<IpConfig>,
    #[serde(deserialize_with = "nullable")]
    routes: Vec<Route>,
    #[serde(deserialize_with = "nullable")]
    dns: Dns,
}

// === impl AddResult ===

impl AddResult {
    /// Reads a plugin's answer, for a chain that speaks `chain`. The error is a sentence.
    pub(crate) fn parse(bytes: &[u8], chain: Version) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "it is no UTF-8".to_owned())?;
        let wire: Wire = serde_json::from_str(text).map_err(|error| error.to_string())?;
        check_indexes(&wire)?;
        let spoken = spoken_version(&wire.cni_version)?;
        let mut result = Self {
            interfaces: wire.interfaces,
            ips: wire.ips,
            routes: wire.routes,
            dns: wire.dns,
            json: String::new(),
        };
        result.json = match spoken {
            Some(version) if version == chain => text.trim().to_owned(),
            Some(_) => result.written_in(chain).to_string(),
            None => stamped(text, chain)?,
        };
        Ok(result)
    }

    /// The result as JSON text in the chain's version, with the keys that only plugins know.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// The addresses of the container's interface `ifname`, in the plugins' order. An address that
    /// names no interface is the container's; one on an interface of the host is not.
    pub fn addresses<'a>(&'a self, ifname: &'a str) -> impl Iterator<Item = Cidr> + 'a {
        let inside = move |ip: &&IpConfig| match ip.interface {
            None => true,
            Some(index) => {
                let interface = &self.interfaces[index];
                !interface.sandbox.is_empty() && interface.name == ifname
            }
        };
        self.ips.iter().filter(inside).map(|ip| ip.address)
    }

    /// The lists of an answer as they are written in this version.
    pub(crate) fn of(answer: crate::bundled::Answer, version: Version) -> Map<String, Value> {
        let result = Self {
            interfaces: answer.interfaces,
            ips: answer.ips,
            routes: answer.routes,
            dns: answer.dns,
            json: String::new(),
        };
        result.lists(version)
    }

    fn written_in(&self, version: Version) -> Value {
        let mut keys = self.lists(version);
        keys.insert("cniVersion".to_owned(), version.as_str().into());
        keys.insert("dns".to_owned(), json!(self.dns));
        Value::Object(keys)
    }

    fn lists(&self, version: Version) -> Map<String, Value> {
        let mut keys = Map::new();
        keys.insert(
            "interfaces".to_owned(),
            list(&self.interfaces, |it| interface(it, version)),
        );
        keys.insert(
            "ips".to_owned(),
            list(&self.ips, |it| ip_config(it, version)),
        );
        keys.insert("routes".to_owned(), list(&self.routes, |it| json!(it)));
        keys
    }
}

fn check_indexes(wire: &Wire) -> Result<(), String> {
    let count = wire.interfaces.len();
    match wire
        .ips
        .iter()
        .find(|ip| ip.interface.is_some_and(|index| index >= count))
    {
        Some(ip) => Err(format!(
            "{} is on an interface that is not listed",
            ip.address
        )),
        None => Ok(()),
    }
}

fn spoken_version(text: &str) -> Result<Option<Version>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let unknown = |text| format!("its cniVersion {text:?} is not known here");
    text.parse().map(Some).map_err(unknown)
}

/// Some plugins leave the version out; then it is the one they were given.
fn stamped(text: &str, version: Version) -> Result<String, String> {
    let mut value: Map<String, Value> =
        serde_json::from_str(text).map_err(|error| error.to_string())?;
    value.insert("cniVersion".to_owned(), version.as_str().into());
    Ok(Value::Object(value).to_string())
}

fn list<T>(items: &[T], write: impl Fn(&T) -> Value) -> Value {
    items.iter().map(write).collect()
}

/// `mtu`, `socketPath` and `pciID` are of 1.1; 1.0 has the same form and ignores them.
fn interface(it: &Interface, version: Version) -> Value {
    match version >= Version::V1_0_0 {
        true => json!(it),
        false => json!(Interface {
            mtu: None,
            socket_path: None,
            pci_id: None,
            ..it.clone()
        }),
    }
}

/// Before 1.0 each address names its own family.
fn ip_config(it: &IpConfig, version: Version) -> Value {
    let mut value = json!(it);
    if version < Version::V1_0_0 {
        value["version"] = if it.address.addr.is_ipv4() { "4" } else { "6" }.into();
    }
    value
}

// === impl Cidr ===

impl Cidr {
    /// The address alone: 32 or 128 bits of it.
    pub(crate) fn host(addr: IpAddr) -> Self {
        let prefix = if addr.is_ipv4() { 32 } else { 128 };
        Self { addr, prefix }
    }

    /// The network's mask.
    pub(crate) fn mask(self) -> Vec<u8> {
        let length: u8 = if self.addr.is_ipv4() { 4 } else { 16 };
        let byte = |at: u8| {
            let bits = self.prefix.saturating_sub(at * 8).min(8);
            u8::MAX.checked_shl(u32::from(8 - bits)).unwrap_or(0)
        };
        (0..length).map(byte).collect()
    }

    /// Without its host bits.
    pub(crate) fn masked(self) -> Self {
        let kept = |shift: u32, bits: u128| bits.checked_shr(shift).map_or(0, |it| it << shift);
        let addr = match self.addr {
            IpAddr::V4(addr) => {
                let shift = u32::from(32 - self.prefix);
                IpAddr::from(((u64::from(addr.to_bits()) >> shift << shift) as u32).to_be_bytes())
            }
            IpAddr::V6(addr) => {
                IpAddr::from(kept(u32::from(128 - self.prefix), addr.to_bits()).to_be_bytes())
            }
        };
        Self { addr, ..self }
    }

    /// True for every address of the network.
    pub(crate) fn contains(self, addr: IpAddr) -> bool {
        let other = Self { addr, ..self };
        addr.is_ipv4() == self.addr.is_ipv4() && other.masked().addr == self.masked().addr
    }
}

impl FromStr for Cidr {
    /// A sentence.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("{text:?} is no address with a prefix, like 10.1.0.5/16");
        let (addr, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let addr: IpAddr = addr.parse().map_err(|_| wrong())?;
        let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
        let longest = if addr.is_ipv4() { 32 } else { 128 };
        if prefix > longest {
            Err(wrong())
        } else {
            Ok(Self { addr, prefix })
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.prefix)
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

// === values that plugins write in more than one way ===

/// Go writes an empty list as `null`.
fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(d: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or_default())
}

/// Go writes no address as `""` or `null`.
pub(crate) fn address<'de, D: Deserializer<'de>>(d: D) -> Result<Option<IpAddr>, D::Error> {
    let text: Option<String> = Option::deserialize(d)?;
    let given = text.filter(|text| !text.is_empty());
    given
        .map(|text| text.parse().map_err(serde::de::Error::custom))
        .transpose()
}

/// Some plugins write no interface as -1.
fn index<'de, D: Deserializer<'de>>(d: D) -> Result<Option<usize>, D::Error> {
    let number: Option<i64> = Option::deserialize(d)?;
    Ok(number.and_then(|number| usize::try_from(number).ok()))
}

#[cfg(test)]
mod tests;
