//! A cgroup's share of block devices: weights, and rates that are not exceeded.

use super::Version;
use super::limits::{Setting, lacks, setting, unless_absent};
use crate::api::Failure;
use crate::bundle::resources::{BlockDevice, BlockIo};

/// What is to be written. `v1` is the version of the controller `blkio`, where there is one.
///
/// # Errors
/// A limit that cgroup v2 does not have.
pub fn settings(wanted: &BlockIo, v1: Option<Version>) -> Result<Vec<Setting>, Failure> {
    let leaf = |device: &BlockDevice| device.leaf_weight.is_some();
    if wanted.leaf_weight.is_some() || wanted.weight_device.iter().any(leaf) {
        return Err(lacks("no kernel of the last years has leaf weights"));
    }
    let mut all = Vec::new();
    match v1 {
        Some(_) => on_v1(wanted, &mut all),
        None => on_v2(wanted, &mut all),
    }
    Ok(all)
}

fn given(weight: Option<u16>) -> Option<u16> {
    weight.filter(|weight| *weight != 0)
}

/// The four lists of rates, with their names on v1 and on v2.
fn rates(wanted: &BlockIo) -> [(&[BlockDevice], &'static str, &'static str); 4] {
    [
        (
            &wanted.throttle_read_bps_device,
            "blkio.throttle.read_bps_device",
            "rbps",
        ),
        (
            &wanted.throttle_write_bps_device,
            "blkio.throttle.write_bps_device",
            "wbps",
        ),
        (
            &wanted.throttle_read_iops_device,
            "blkio.throttle.read_iops_device",
            "riops",
        ),
        (
            &wanted.throttle_write_iops_device,
            "blkio.throttle.write_iops_device",
            "wiops",
        ),
    ]
}

fn on_v1(wanted: &BlockIo, all: &mut Vec<Setting>) {
    let weight = given(wanted.weight);
    all.extend(weight.map(|weight| unless_absent(setting("blkio", "blkio.weight", weight))));
    for device in &wanted.weight_device {
        let text = given(device.weight).map(|weight| of(device, weight));
        all.extend(text.map(|text| setting("blkio", "blkio.weight_device", text)));
    }
    for (devices, file, _) in rates(wanted) {
        for device in devices {
            all.push(setting("blkio", file, of(device, device.rate)));
        }
    }
}

fn on_v2(wanted: &BlockIo, all: &mut Vec<Setting>) {
    let weight = given(wanted.weight).map(on_v2_scale);
    all.extend(weight.map(|weight| unless_absent(setting("io", "io.weight", weight))));
    for device in &wanted.weight_device {
        let text = given(device.weight).map(|weight| of(device, on_v2_scale(weight)));
        all.extend(text.map(|text| setting("io", "io.weight", text)));
    }
    for (devices, _, key) in rates(wanted) {
        for device in devices {
            let rate = match device.rate {
                0 => "max".to_owned(),
                rate => rate.to_string(),
            };
            let text = of(device, format_args!("{key}={rate}"));
            all.push(setting("io", "io.max", text));
        }
    }
}

/// 10 to 1000 becomes 1 to 10000.
fn on_v2_scale(weight: u16) -> u64 {
    1 + (u64::from(weight).saturating_sub(10)) * 9999 / 990
}

fn of(device: &BlockDevice, value: impl std::fmt::Display) -> String {
    format!("{}:{} {value}", device.major, device.minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(json: &str, v1: Option<Version>) -> Vec<String> {
        let wanted: BlockIo = serde_json::from_str(json).unwrap();
        let all = settings(&wanted, v1).unwrap();
        let line = |one: Setting| format!("{} {}", one.file, one.value);
        all.into_iter().map(line).collect()
    }

    #[test]
    fn the_same_rates_in_both_languages() {
        let json = r#"{"weight":10,"weightDevice":[{"major":8,"minor":0,"weight":1000}],
            "throttleReadBpsDevice":[{"major":8,"minor":0,"rate":7}],
            "throttleWriteIOPSDevice":[{"major":8,"minor":16,"rate":0}]}"#;
        assert_eq!(
            written(json, Some(Version::V1)),
            [
                "blkio.weight 10",
                "blkio.weight_device 8:0 1000",
                "blkio.throttle.read_bps_device 8:0 7",
                "blkio.throttle.write_iops_device 8:16 0",
            ]
        );
        assert_eq!(
            written(json, None),
            [
                "io.weight 1",
                "io.weight 8:0 10000",
                "io.max 8:0 rbps=7",
                "io.max 8:16 wiops=max",
            ]
        );
    }

    #[test]
    fn leaf_weights_are_refused() {
        let wanted: BlockIo = serde_json::from_str(r#"{"leafWeight":10}"#).unwrap();
        settings(&wanted, Some(Version::V1)).unwrap_err();
    }
}
