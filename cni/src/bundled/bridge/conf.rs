//! What bridge is asked, checked.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::bundled::call::Call;
use crate::bundled::fault::Outcome;
use crate::bundled::netlink::route::mac;
use crate::error::PluginError;
use crate::result::Dns;

const DEFAULT_BRIDGE: &str = "cni0";
const LAST_VLAN: i64 = 4094;

#[derive(Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Wire {
    bridge: String,
    is_gateway: bool,
    is_default_gateway: bool,
    force_address: bool,
    ip_masq: bool,
    ip_masq_backend: Option<String>,
    mtu: u32,
    hairpin_mode: bool,
    promisc_mode: bool,
    vlan: i64,
    vlan_trunk: Option<Vec<Trunk>>,
    preserve_default_vlan: bool,
    macspoofchk: bool,
    enabledad: bool,
    disable_container_interface: bool,
    port_isolation: bool,
    ipam: Ipam,
    dns: Option<Dns>,
    args: Option<Args>,
    runtime_config: Mac,
}

impl Default for Wire {
    fn default() -> Self {
        Self {
            bridge: DEFAULT_BRIDGE.to_owned(),
            is_gateway: false,
            is_default_gateway: false,
            force_address: false,
            ip_masq: false,
            ip_masq_backend: None,
            mtu: 0,
            hairpin_mode: false,
            promisc_mode: false,
            vlan: 0,
            vlan_trunk: None,
            preserve_default_vlan: false,
            macspoofchk: false,
            enabledad: false,
            disable_container_interface: false,
            port_isolation: false,
            ipam: Ipam::default(),
            dns: None,
            args: None,
            runtime_config: Mac::default(),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Ipam {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Args {
    #[serde(default)]
    cni: Mac,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Mac {
    mac: String,
}

#[derive(Deserialize)]
struct Trunk {
    #[serde(rename = "minID")]
    min_id: Option<i64>,
    #[serde(rename = "maxID")]
    max_id: Option<i64>,
    id: Option<i64>,
}

/// What a port of the bridge is like.
#[derive(Clone, Default)]
pub(crate) struct Port {
    pub(crate) hairpin: bool,
    pub(crate) isolated: bool,
    /// 0: none.
    pub(crate) vlan: u16,
    pub(crate) trunk: BTreeSet<u16>,
    pub(crate) keeps_default_vlan: bool,
    pub(crate) mac: Option<[u8; 6]>,
}

/// Checked.
pub(crate) struct Conf {
    pub(crate) bridge: String,
    pub(crate) is_gateway: bool,
    pub(crate) is_default_gateway: bool,
    pub(crate) force_address: bool,
    pub(crate) masquerades: bool,
    pub(crate) masquerade_backend: Option<String>,
    /// 0: the kernel's.
    pub(crate) mtu: u32,
    pub(crate) promisc: bool,
    pub(crate) port: Port,
    pub(crate) detects_duplicates: bool,
    pub(crate) leaves_interface_down: bool,
    /// Empty: no addresses.
    pub(crate) ipam: String,
    pub(crate) dns: Option<Dns>,
    pub(crate) filters_vlans: bool,
    pub(crate) checks_mac: bool,
}

impl Conf {
    pub(crate) fn read(call: &Call<'_>) -> Outcome<Self> {
        let wire: Wire = call.conf()?;
        let refuse = |msg: String| Err(PluginError::internal(msg));
        let Some(vlan) = vlan(wire.vlan, 0) else {
            return refuse(format!(
                "invalid VLAN ID {} (must be between 0 and {LAST_VLAN})",
                wire.vlan
            ));
        };
        let filters_vlans = vlan != 0 || wire.vlan_trunk.is_some();
        let dns = wire.dns.filter(|dns| *dns != Dns::default());
        Ok(Self {
            port: Port {
                hairpin: wire.hairpin_mode,
                isolated: wire.port_isolation,
                vlan,
                trunk: trunk(&wire.vlan_trunk.unwrap_or_default())
                    .map_err(PluginError::internal)?,
                keeps_default_vlan: wire.preserve_default_vlan,
                mac: wanted_mac(call, wire.args, wire.runtime_config)?,
            },
            bridge: wire.bridge,
            is_gateway: wire.is_gateway || wire.is_default_gateway,
            is_default_gateway: wire.is_default_gateway,
            force_address: wire.force_address,
            masquerades: wire.ip_masq,
            masquerade_backend: wire.ip_masq_backend,
            mtu: wire.mtu,
            promisc: wire.promisc_mode,
            detects_duplicates: wire.enabledad,
            leaves_interface_down: wire.disable_container_interface,
            ipam: wire.ipam.kind,
            dns,
            filters_vlans,
            checks_mac: wire.macspoofchk,
        })
    }

    /// What cannot be had together, for ADD.
    pub(crate) fn check(&self) -> Outcome<()> {
        let refuse = |msg| Err(PluginError::internal(msg));
        if !self.ipam.is_empty() && self.leaves_interface_down {
            return refuse("cannot use IPAM when DisableContainerInterface flag is set");
        }
        if self.port.hairpin && self.promisc {
            return refuse("cannot set hairpin mode and promiscuous mode at the same time");
        }
        Ok(())
    }
}

/// The capability goes before `args`, and that before `CNI_ARGS`.
fn wanted_mac(call: &Call<'_>, args: Option<Args>, runtime: Mac) -> Outcome<Option<[u8; 6]>> {
    let args = args.map_or_else(String::new, |args| args.cni.mac);
    let env = call.env.argument(&["MAC"], "MAC")?.unwrap_or_default();
    let given = [runtime.mac, args, env]
        .into_iter()
        .find(|text| !text.is_empty());
    let Some(text) = given else { return Ok(None) };
    let read = mac(&text);
    read.map(Some)
        .ok_or_else(|| PluginError::internal(format!("address {text}: invalid MAC address")))
}

fn vlan(number: i64, least: i64) -> Option<u16> {
    u16::try_from(number)
        .ok()
        .filter(|_| (least..=LAST_VLAN).contains(&number))
}

fn trunk(list: &[Trunk]) -> Result<BTreeSet<u16>, String> {
    let mut all = BTreeSet::new();
    let read = |key: &str, number| {
        vlan(number, 1).ok_or_else(|| format!("incorrect trunk {key} parameter"))
    };
    for item in list {
        match (item.min_id, item.max_id) {
            (Some(min), Some(max)) => {
                let (min, max) = (read("minID", min)?, read("maxID", max)?);
                if max < min {
                    return Err("minID is greater than maxID in trunk parameter".to_owned());
                }
                all.extend(min..=max);
            }
            (None, None) => {}
            (None, Some(_)) => {
                return Err(
                    "minID and maxID should be configured simultaneously, minID is missing"
                        .to_owned(),
                );
            }
            (Some(_), None) => {
                return Err(
                    "minID and maxID should be configured simultaneously, maxID is missing"
                        .to_owned(),
                );
            }
        }
        if let Some(id) = item.id {
            all.insert(read("id", id)?);
        }
    }
    Ok(all)
}
