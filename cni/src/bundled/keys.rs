//! A configuration as Go's decoder reads it, since that is the reference plugins' one: a `null` says
//! nothing, and a key is the key whatever the case of its letters.
//!
//! Invariant: after [`normalise`] every key that a bundled plugin knows is spelled as it is here, and
//! none of them is `null`.

use serde_json::Value;

/// Every key that a bundled plugin reads.
const KNOWN: &[&str] = &[
    "advmss",
    "allmulti",
    "args",
    "backend",
    "bandwidth",
    "bridge",
    "capabilities",
    "cni",
    "cniVersion",
    "conditionsV4",
    "conditionsV6",
    "containerPort",
    "dataDir",
    "disableContainerInterface",
    "dns",
    "domain",
    "dst",
    "egressBurst",
    "egressRate",
    "enabledad",
    "externalSetMarkChain",
    "forceAddress",
    "gateway",
    "gw",
    "hairpinMode",
    "hostIP",
    "hostPort",
    "id",
    "ingressBurst",
    "ingressPolicy",
    "ingressRate",
    "ipam",
    "ipMasq",
    "ipMasqBackend",
    "ipRanges",
    "ips",
    "iptablesAdminChainName",
    "isDefaultGateway",
    "isGateway",
    "mac",
    "macspoofchk",
    "markMasqBit",
    "masqAll",
    "maxID",
    "minID",
    "mtu",
    "name",
    "nameservers",
    "options",
    "portIsolation",
    "portMappings",
    "preserveDefaultVlan",
    "priority",
    "promisc",
    "promiscMode",
    "protocol",
    "rangeEnd",
    "ranges",
    "rangeStart",
    "resolvConf",
    "routes",
    "runtimeConfig",
    "scope",
    "search",
    "snat",
    "subnet",
    "sysctl",
    "table",
    "txQLen",
    "type",
    "vlan",
    "vlanTrunk",
];

/// What is not the plugin's own: results, which have a reader of their own, and GC's attachments.
const OTHERS: &[&str] = &[
    "prevResult",
    "cni.dev/valid-attachments",
    "cni.dev/attachments",
];

/// At any depth; a key that is there in its own spelling goes before others.
pub(crate) fn normalise(value: &mut Value) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(normalise),
        Value::Object(keys) => {
            for (key, mut value) in std::mem::take(keys) {
                if OTHERS.contains(&key.as_str()) {
                    keys.insert(key, value);
                } else if !value.is_null() {
                    normalise(&mut value);
                    insert(keys, key, value);
                }
            }
        }
        _ => {}
    }
}

fn insert(keys: &mut serde_json::Map<String, Value>, key: String, value: Value) {
    if KNOWN.contains(&key.as_str()) {
        keys.insert(key, value);
        return;
    }
    let known = KNOWN.iter().find(|known| known.eq_ignore_ascii_case(&key));
    let key = known.map_or(key, |known| (*known).to_owned());
    keys.entry(key).or_insert(value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_key_is_one_in_any_case_and_null_is_none() {
        let mut conf = json!({
            "isgateway": true, "IPAM": {"Ranges": [[{"SUBNET": "10.1.0.0/16", "gateway": null}]]},
            "mtu": null, "Mtu": 1400, "hairpinMode": true, "HairpinMode": false, "x-other": null,
            "prevResult": {"IPs": [null]},
        });
        normalise(&mut conf);
        let wanted = json!({
            "isGateway": true, "ipam": {"ranges": [[{"subnet": "10.1.0.0/16"}]]},
            "mtu": 1400, "hairpinMode": true, "prevResult": {"IPs": [null]},
        });
        assert_eq!(conf, wanted);
    }

    #[test]
    fn no_two_keys_differ_in_case_alone() {
        let lower: std::collections::BTreeSet<_> =
            KNOWN.iter().map(|key| key.to_ascii_lowercase()).collect();
        assert_eq!(lower.len(), KNOWN.len());
    }
}
