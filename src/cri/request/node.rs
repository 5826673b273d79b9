//! What the kubelet tells of the node.

use super::check::refuse;
use crate::error::Result;
use std::net::IpAddr;

/// The node's pod CIDRs, joined by commas; empty where the kubelet has none.
///
/// # Errors
/// `InvalidArgument` where one is not an address and a prefix length.
pub fn pod_cidr(cidrs: String) -> Result<String> {
    let is_cidr = |cidr: &str| {
        cidr.split_once('/').is_some_and(|(address, length)| {
            let limit = match address.parse() {
                Ok(IpAddr::V4(_)) => 32,
                Ok(IpAddr::V6(_)) => 128,
                Err(_) => return false,
            };
            length.parse::<u8>().is_ok_and(|length| length <= limit)
        })
    };
    match cidrs.is_empty() || cidrs.split(',').all(is_cidr) {
        true => Ok(cidrs),
        false => Err(refuse(
            "runtime_config.network_config.pod_cidr",
            format!("{cidrs:?} is no list of address/length"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cidr_is_an_address_and_a_length() {
        for good in ["", "10.244.1.0/24", "10.244.1.0/24,fd00::/64"] {
            assert_eq!(pod_cidr(good.into()).unwrap(), good);
        }
        for bad in [
            "10.244.1.0",
            "10.244.1.0/33",
            "x/24",
            "10.244.1.0/24,",
            "\"/24",
        ] {
            assert!(pod_cidr(bad.into()).is_err(), "{bad}");
        }
    }
}
