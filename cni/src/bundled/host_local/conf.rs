//! What host-local is asked: its ranges, and which addresses somebody wants.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::range::{RangeSet, RawRange, canonical};
use crate::bundled::call::Call;
use crate::bundled::fault::Outcome;
use crate::error::PluginError;
use crate::result::Route;

const DATA_DIR: &str = "/var/lib/cni/networks";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    ipam: Option<Ipam>,
    #[serde(default)]
    runtime_config: RuntimeConfig,
    #[serde(default)]
    args: Option<Args>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ipam {
    #[serde(default)]
    ranges: Option<Vec<Vec<RawRange>>>,
    /// One range, as configurations had it first.
    #[serde(flatten)]
    single: RawRange,
    #[serde(default)]
    routes: Option<Vec<Route>>,
    #[serde(default)]
    data_dir: String,
    #[serde(default)]
    resolv_conf: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RuntimeConfig {
    ip_ranges: Option<Vec<Vec<RawRange>>>,
    ips: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Args {
    cni: Option<CniArgs>,
}

#[derive(Deserialize)]
struct CniArgs {
    #[serde(default)]
    ips: Option<Vec<String>>,
}

/// Checked.
pub(crate) struct Conf {
    pub(crate) directory: PathBuf,
    pub(crate) ranges: Vec<RangeSet>,
    pub(crate) routes: Vec<Route>,
    pub(crate) wanted: Vec<IpAddr>,
    pub(crate) resolv_conf: String,
}

impl Conf {
    pub(crate) fn read(call: &Call<'_>) -> Outcome<Self> {
        let wire: Wire = call.conf()?;
        let missing = || PluginError::internal("IPAM config missing 'ipam' key");
        let ipam = wire.ipam.ok_or_else(missing)?;
        let mut wanted: Vec<String> = call.env.argument(&["IP"], "IP")?.into_iter().collect();
        wanted.extend(wire.args.and_then(|it| it.cni?.ips).unwrap_or_default());
        wanted.extend(wire.runtime_config.ips.unwrap_or_default());
        let mut raw = wire.runtime_config.ip_ranges.unwrap_or_default();
        if ipam.single.subnet.is_some() {
            raw.push(vec![ipam.single]);
        }
        raw.extend(ipam.ranges.unwrap_or_default());
        let data_dir = Some(ipam.data_dir).filter(|dir| !dir.is_empty());
        Ok(Self {
            directory: PathBuf::from(data_dir.as_deref().unwrap_or(DATA_DIR)).join(&call.name),
            ranges: ranges(&raw)?,
            routes: ipam.routes.unwrap_or_default(),
            wanted: wanted
                .iter()
                .map(|text| address(text))
                .collect::<Outcome<_>>()?,
            resolv_conf: ipam.resolv_conf,
        })
    }
}

fn ranges(raw: &[Vec<RawRange>]) -> Outcome<Vec<RangeSet>> {
    if raw.is_empty() {
        return Err(PluginError::internal("no IP ranges specified"));
    }
    let one = |(at, set): (usize, &Vec<RawRange>)| {
        RangeSet::new(set)
            .map_err(|why| PluginError::internal(format!("invalid range set {at}: {why}")))
    };
    let sets: Vec<_> = raw.iter().enumerate().map(one).collect::<Outcome<_>>()?;
    for (at, set) in sets.iter().enumerate() {
        let above = sets.iter().enumerate().skip(at + 1);
        if let Some((other, _)) = above.clone().find(|(_, other)| set.overlaps(other)) {
            return Err(PluginError::internal(format!(
                "range set {at} overlaps with {other}"
            )));
        }
    }
    Ok(sets)
}

/// With or without a prefix, which says nothing here.
fn address(text: &str) -> Outcome<IpAddr> {
    let alone = text.split_once('/').map_or(text, |(addr, _)| addr);
    alone
        .parse()
        .map(canonical)
        .map_err(|_| PluginError::internal(format!("invalid IP address {text}")))
}
