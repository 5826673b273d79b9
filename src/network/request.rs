//! What a pod asks of its network, in CNI's words: arguments and capabilities.
//!
//! Pure. The names are the field's conventions (containernetworking/cni, CONVENTIONS.md) and the
//! arguments that the kubelet's users rely on.

use crate::error::{Error, Result};
use crate::model::sandbox::{DnsConfig, PortMapping, Protocol, Sandbox};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// `CNI_ARGS` that tell a plugin which pod it serves.
pub fn arguments(sandbox: &Sandbox) -> Vec<(String, String)> {
    let pod = &sandbox.config.metadata;
    [
        ("IgnoreUnknown", "1"),
        ("K8S_POD_NAMESPACE", &pod.namespace),
        ("K8S_POD_NAME", &pod.name),
        ("K8S_POD_INFRA_CONTAINER_ID", sandbox.id.as_str()),
        ("K8S_POD_UID", &pod.uid),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .to_vec()
}

/// Capability arguments; a plugin gets those that it declares.
///
/// # Errors
/// `InvalidArgument` for a bandwidth annotation that is no quantity.
pub fn capabilities(sandbox: &Sandbox) -> Result<BTreeMap<String, Value>> {
    let config = &sandbox.config;
    let mut all = BTreeMap::new();
    let mut add = |name: &str, value: Value| all.insert(name.to_owned(), value);
    let ports = port_mappings(&config.port_mappings);
    if !ports.is_empty() {
        add("portMappings", Value::Array(ports));
    }
    if let Some(bandwidth) = bandwidth(&config.annotations)? {
        add("bandwidth", bandwidth);
    }
    if let Some(dns) = config
        .dns
        .as_ref()
        .filter(|dns| **dns != DnsConfig::default())
    {
        add(
            "dns",
            json!({"servers": dns.servers, "searches": dns.searches, "options": dns.options}),
        );
    }
    if !config.cgroup_parent.is_empty() {
        add("cgroupPath", json!(config.cgroup_parent));
    }
    add(
        "io.kubernetes.cri.pod-annotations",
        json!(config.annotations),
    );
    Ok(all)
}

fn port_mappings(mappings: &[PortMapping]) -> Vec<Value> {
    let mapped = mappings.iter().filter(|m| m.host_port != 0);
    mapped
        .map(|m| {
            let protocol = match m.protocol {
                Protocol::Tcp => "tcp",
                Protocol::Udp => "udp",
                Protocol::Sctp => "sctp",
            };
            json!({
                "hostPort": m.host_port,
                "containerPort": m.container_port,
                "protocol": protocol,
                "hostIP": m.host_ip,
            })
        })
        .collect()
}

/// The two bandwidth annotations of Kubernetes, in bits a second. The burst is the largest that
/// the plugin takes, as the field does: the rate alone is what users set.
fn bandwidth(annotations: &BTreeMap<String, String>) -> Result<Option<Value>> {
    const BURST: u64 = 2_147_483_647;
    let mut all = serde_json::Map::new();
    for direction in ["ingress", "egress"] {
        let name = format!("kubernetes.io/{direction}-bandwidth");
        let Some(text) = annotations.get(&name) else {
            continue;
        };
        let rate = quantity(text).ok_or_else(|| {
            Error::invalid(format!(
                "annotation {name}: {text:?} is no quantity such as 10M"
            ))
        })?;
        all.insert(format!("{direction}Rate"), json!(rate));
        all.insert(format!("{direction}Burst"), json!(BURST));
    }
    Ok((!all.is_empty()).then_some(Value::Object(all)))
}

/// A quantity of Kubernetes (`10M`, `1.5Gi`, `1e6`), rounded up; `None` for anything else and for
/// what is negative.
fn quantity(text: &str) -> Option<u64> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | '+' | '-'))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let number: f64 = number.parse().ok()?;
    let value = (number * factor(suffix)?).ceil();
    // The cast of what is in this range is exact enough: a rate is no account.
    (0.0..=9.0e18).contains(&value).then_some(value as u64)
}

fn factor(suffix: &str) -> Option<f64> {
    const DECIMAL: [(&str, i32); 10] = [
        ("n", -9),
        ("u", -6),
        ("m", -3),
        ("", 0),
        ("k", 3),
        ("M", 6),
        ("G", 9),
        ("T", 12),
        ("P", 15),
        ("E", 18),
    ];
    const BINARY: [(&str, i32); 6] = [
        ("Ki", 10),
        ("Mi", 20),
        ("Gi", 30),
        ("Ti", 40),
        ("Pi", 50),
        ("Ei", 60),
    ];
    let power = |table: &[(&str, i32)], base: f64| {
        table
            .iter()
            .find(|(name, _)| *name == suffix)
            .map(|(_, exponent)| base.powi(*exponent))
    };
    let exponent = || {
        suffix
            .strip_prefix(['e', 'E'])?
            .parse()
            .ok()
            .map(|e| 10f64.powi(e))
    };
    power(&DECIMAL, 10.0)
        .or_else(|| power(&BINARY, 2.0))
        .or_else(exponent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fakes::a_sandbox;

    #[test]
    fn a_port_without_a_host_port_is_not_mapped() {
        let mut sandbox = a_sandbox("web");
        let port = |host_port| PortMapping {
            protocol: Protocol::Udp,
            container_port: 53,
            host_port,
            host_ip: String::new(),
        };
        sandbox.config.port_mappings = vec![port(0), port(5353)];
        let all = capabilities(&sandbox).unwrap();
        assert_eq!(
            all["portMappings"],
            json!([{"hostPort": 5353, "containerPort": 53, "protocol": "udp", "hostIP": ""}])
        );
    }

    #[test]
    fn bandwidth_annotations_become_bits_a_second() {
        let mut sandbox = a_sandbox("web");
        let name = "kubernetes.io/egress-bandwidth";
        sandbox
            .config
            .annotations
            .insert(name.to_owned(), "10M".to_owned());
        let all = capabilities(&sandbox).unwrap();
        assert_eq!(all["bandwidth"]["egressRate"], json!(10_000_000));
        assert_eq!(all["bandwidth"].get("ingressRate"), None);
        sandbox
            .config
            .annotations
            .insert(name.to_owned(), "fast".to_owned());
        assert!(
            capabilities(&sandbox)
                .unwrap_err()
                .to_string()
                .contains(name)
        );
    }

    #[test]
    fn every_form_of_a_quantity_is_read() {
        for (text, value) in [
            ("10M", Some(10_000_000)),
            ("1.5G", Some(1_500_000_000)),
            ("1e6", Some(1_000_000)),
            ("1E3", Some(1_000)),
            ("1Ki", Some(1_024)),
            ("500m", Some(1)),
            ("7", Some(7)),
            ("2P", Some(2_000_000_000_000_000)),
            ("", None),
            ("-1M", None),
            ("1X", None),
            ("M", None),
        ] {
            assert_eq!(quantity(text), value, "{text}");
        }
    }
}
