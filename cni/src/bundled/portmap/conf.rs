//! What portmap is asked, checked, and the pod's address in the previous result.

use std::net::IpAddr;

use serde::Deserialize;

use crate::bundled::call::Call;
use crate::bundled::fault::Outcome;
use crate::bundled::filter::rule::Protocol;
use crate::bundled::filter::{self, Backend};
use crate::error::PluginError;
use crate::result::{AddResult, Cidr};

/// Kubernetes has 14 and 15, Calico 20 to 31.
const DEFAULT_MARK_BIT: i64 = 13;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    #[serde(default)]
    backend: Option<String>,
    #[serde(default)]
    snat: Option<bool>,
    #[serde(default)]
    masq_all: bool,
    #[serde(default)]
    mark_masq_bit: Option<i64>,
    #[serde(default)]
    external_set_mark_chain: Option<String>,
    #[serde(default, rename = "conditionsV4")]
    conditions_v4: Option<Vec<String>>,
    #[serde(default, rename = "conditionsV6")]
    conditions_v6: Option<Vec<String>>,
    #[serde(default)]
    runtime_config: RuntimeConfig,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RuntimeConfig {
    port_mappings: Option<Vec<RawMapping>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawMapping {
    #[serde(default)]
    host_port: i64,
    #[serde(default)]
    container_port: i64,
    #[serde(default)]
    protocol: String,
    #[serde(default, rename = "hostIP")]
    host_ip: String,
}

/// A port of the host that leads to one of the pod.
pub(crate) struct Mapping {
    pub(crate) host_port: u16,
    pub(crate) port: u16,
    pub(crate) protocol: Protocol,
    /// As the runtime spells it: the reference plugin has a rule for each spelling.
    pub(crate) spelling: String,
    /// Only at this address of the host, which may be any of its family.
    pub(crate) host_ip: Option<IpAddr>,
}

impl Mapping {
    pub(crate) fn is_for(&self, is_ipv4: bool) -> bool {
        self.host_ip.is_none_or(|ip| ip.is_ipv4() == is_ipv4)
    }

    /// The address to which alone it applies.
    pub(crate) fn at(&self) -> Option<IpAddr> {
        self.host_ip.filter(|ip| !ip.is_unspecified())
    }
}

/// Checked.
pub(crate) struct Conf {
    backend: Option<String>,
    pub(crate) snat: bool,
    pub(crate) masq_all: bool,
    pub(crate) mark: u32,
    pub(crate) external_set_mark_chain: Option<String>,
    conditions: [Vec<String>; 2],
    pub(crate) mappings: Vec<Mapping>,
}

impl Conf {
    pub(crate) fn read(call: &Call<'_>) -> Outcome<Self> {
        let wire: Wire = call.conf()?;
        let refuse = |msg: &str| {
            Err(PluginError::internal(format!(
                "failed to parse config: {msg}"
            )))
        };
        if wire.mark_masq_bit.is_some() && wire.external_set_mark_chain.is_some() {
            return refuse("Cannot specify externalSetMarkChain and markMasqBit");
        }
        let bit = wire.mark_masq_bit.unwrap_or(DEFAULT_MARK_BIT);
        let Some(mark) = u32::try_from(bit)
            .ok()
            .and_then(|bit| 1_u32.checked_shl(bit))
        else {
            return refuse("MasqMarkBit must be between 0 and 31");
        };
        let raw = wire.runtime_config.port_mappings.unwrap_or_default();
        let conf = Self {
            backend: wire.backend,
            snat: wire.snat.unwrap_or(true),
            masq_all: wire.masq_all,
            mark,
            external_set_mark_chain: wire.external_set_mark_chain,
            conditions: [
                wire.conditions_v4.unwrap_or_default(),
                wire.conditions_v6.unwrap_or_default(),
            ],
            mappings: raw.iter().map(mapping).collect::<Outcome<_>>()?,
        };
        conf.check_backend().map(|()| conf)
    }

    pub(crate) fn conditions(&self, is_ipv4: bool) -> &[String] {
        &self.conditions[usize::from(!is_ipv4)]
    }

    /// The backend that is asked for; else nftables only where this host has no iptables.
    pub(crate) fn by_nftables(&self) -> Outcome<bool> {
        match self.backend.as_deref() {
            Some(backend) => Ok(backend == "nftables"),
            None if self.speaks_iptables() => Ok(false),
            None => Ok(filter::host_backend()? == Backend::None),
        }
    }

    /// True where there is a condition in the words of iptables.
    fn speaks_iptables(&self) -> bool {
        let words = |list: &Vec<String>| {
            list.first()
                .is_some_and(|word| word.starts_with(['-', '!']))
        };
        self.external_set_mark_chain.is_some() || self.conditions.iter().any(words)
    }

    fn speaks_nftables(&self) -> bool {
        let words = |list: &Vec<String>| {
            list.first()
                .is_some_and(|word| !word.is_empty() && !word.starts_with(['-', '!']))
        };
        self.conditions.iter().any(words)
    }

    fn check_backend(&self) -> Outcome<()> {
        let wrong = match self.backend.as_deref() {
            Some("iptables") => self.speaks_nftables().then_some("nftables"),
            Some("nftables") => self.speaks_iptables().then_some("iptables"),
            Some(other) => {
                return Err(PluginError::internal(format!(
                    "unrecognized backend {other:?}"
                )));
            }
            None if !self.speaks_nftables() || self.by_nftables()? => None,
            None => Some("nftables"),
        };
        wrong.map_or(Ok(()), |wrong| {
            let msg = format!(
                "another backend was requested but configuration contains {wrong}-specific options: \
                 conditionsV4, conditionsV6 or externalSetMarkChain"
            );
            Err(PluginError::internal(msg))
        })
    }
}

fn mapping(raw: &RawMapping) -> Outcome<Mapping> {
    let port = |what: &str, number: i64| {
        let given = u16::try_from(number).ok().filter(|port| *port > 0);
        given.ok_or_else(|| PluginError::internal(format!("Invalid {what} port number: {number}")))
    };
    let protocol = Protocol::parse(&raw.protocol.to_ascii_lowercase());
    let no_protocol = || PluginError::internal(format!("Invalid protocol: {:?}", raw.protocol));
    let host_ip = Some(raw.host_ip.as_str()).filter(|text| !text.is_empty());
    let host_ip = host_ip.map(|text| {
        text.parse()
            .map_err(|_| PluginError::internal(format!("Invalid host IP address: {text:?}")))
    });
    Ok(Mapping {
        port: port("container", raw.container_port)?,
        host_port: port("host", raw.host_port)?,
        protocol: protocol.ok_or_else(no_protocol)?,
        spelling: raw.protocol.clone(),
        host_ip: host_ip.transpose()?,
    })
}

/// The pod's first address of each family.
pub(crate) fn pod_addresses(result: &AddResult, ifname: &str) -> Vec<Cidr> {
    let is_pods = |index: Option<usize>| {
        let interface = index.and_then(|index| result.interfaces.get(index));
        interface.is_none_or(|it| it.name == ifname && !it.sandbox.is_empty())
    };
    let own = || {
        result
            .ips
            .iter()
            .filter(|ip| is_pods(ip.interface))
            .map(|ip| ip.address)
    };
    let first = |is_ipv4| own().find(|cidr| cidr.addr.is_ipv4() == is_ipv4);
    [first(true), first(false)].into_iter().flatten().collect()
}
