//! Sysctls: only those of a namespace that is the pod's own. All others are the node's, and a pod
//! that sets one changes every other pod.

use super::check::{refuse, text};
use crate::error::Result;
use crate::model::sandbox::{NamespaceMode, NamespaceOptions};
use std::collections::{BTreeMap, HashMap};

const FIELD: &str = "config.linux.sysctls";

/// System V IPC's (`ipc_namespaces(7)`).
const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// The sysctls by their dotted names.
///
/// # Errors
/// `InvalidArgument` where one is not of a namespace that the pod has for itself.
pub fn sysctls(
    asked: HashMap<String, String>,
    namespaces: &NamespaceOptions,
) -> Result<BTreeMap<String, String>> {
    let one = |(name, value): (String, String)| {
        let name = dotted(&name);
        allowed(&name, namespaces)?;
        Ok((name, text(value, FIELD)?))
    };
    asked.into_iter().map(one).collect()
}

/// `net/ipv4/ip_forward` is `net.ipv4.ip_forward`; a dot within a slashed name (an interface such
/// as `eth0.5`) becomes a slash, as sysctl(8) has it.
fn dotted(name: &str) -> String {
    let first = name.find(['.', '/']);
    if first.is_none_or(|at| name.as_bytes()[at] == b'.') {
        return name.to_owned();
    }
    let swap = |c| match c {
        '/' => '.',
        '.' => '/',
        other => other,
    };
    name.chars().map(swap).collect()
}

fn allowed(name: &str, namespaces: &NamespaceOptions) -> Result<()> {
    let part = |p: &str| !p.is_empty() && p != "/" && !p.contains("//");
    if !name.split('.').all(part) || name.contains(['\0', '\n', ' ']) {
        return Err(refuse(FIELD, format!("{name:?} is no sysctl's name")));
    }
    let owner = match name {
        _ if name.starts_with("net.") => namespaces.network,
        _ if IPC.contains(&name) || name.starts_with("fs.mqueue.") => namespaces.ipc,
        _ => return Err(refuse(FIELD, format!("{name} is the node's, not a pod's"))),
    };
    match owner {
        NamespaceMode::Node => Err(refuse(
            FIELD,
            format!("{name} would change the node: the pod has its namespace from there"),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, namespaces: &NamespaceOptions) -> Result<BTreeMap<String, String>> {
        sysctls(
            HashMap::from([(name.to_owned(), "1".to_owned())]),
            namespaces,
        )
    }

    #[test]
    fn only_the_pods_own_namespaces_can_be_set() {
        let own = NamespaceOptions::default();
        let host = NamespaceOptions {
            network: NamespaceMode::Node,
            ipc: NamespaceMode::Node,
            ..NamespaceOptions::default()
        };
        for name in [
            "net.ipv4.ip_forward",
            "kernel.shm_rmid_forced",
            "fs.mqueue.msg_max",
        ] {
            assert!(check(name, &own).is_ok(), "{name}");
            assert!(check(name, &host).is_err(), "{name}");
        }
        for name in [
            "kernel.core_pattern",
            "vm.swappiness",
            "kernel.hostname",
            "fs.file-max",
        ] {
            assert!(check(name, &own).is_err(), "{name}");
        }
    }

    #[test]
    fn names_cannot_lead_elsewhere() {
        let own = NamespaceOptions::default();
        for name in [
            "net/../kernel/core_pattern",
            "net...kernel.core_pattern",
            "net.",
            "net.a\nb",
        ] {
            assert!(check(name, &own).is_err(), "{name}");
        }
    }

    #[test]
    fn slashes_are_dots() {
        let all = check(
            "net/ipv4/conf/eth0.5/forwarding",
            &NamespaceOptions::default(),
        )
        .unwrap();
        assert_eq!(
            all.keys().next().unwrap(),
            "net.ipv4.conf.eth0/5.forwarding"
        );
    }
}
