//! The settings of the namespace's kernel: which names there are, and which are allowed on this node.
//!
//! Invariant: nothing outside of `/proc/sys/net` is read or written.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;

use regex_lite::Regex;

use crate::bundled::fault::{Doing, Outcome};
use crate::bundled::sysctl;
use crate::error::PluginError;

/// Regular expressions, one a line. Without the file all names are allowed.
const ALLOWLIST: &str = "/etc/cni/tuning/allowlist.conf";
/// In a name it stands for the pod's link.
const LINK: &str = "IFNAME";

/// Each matches one of the node's expressions.
pub(crate) fn check_allowed<'k>(keys: impl Iterator<Item = &'k String>) -> Outcome<()> {
    let text = match fs::read_to_string(ALLOWLIST) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        read => read.doing(|| format!("read {ALLOWLIST}"))?,
    };
    let allowed = Allowed::parse(&text)?;
    for key in keys {
        allowed.check(key)?;
    }
    Ok(())
}

/// `regex-lite`, since Go's expressions are of the same kind, and tables of all letters are not needed.
struct Allowed(Vec<Regex>);

impl Allowed {
    fn parse(text: &str) -> Outcome<Self> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let read = |line: &str| {
            Regex::new(line).doing(|| format!("{ALLOWLIST}: {line:?} is no regular expression"))
        };
        lines.map(read).collect::<Outcome<_>>().map(Self)
    }

    fn check(&self, key: &str) -> Outcome<()> {
        if self.0.iter().any(|it| it.is_match(key)) {
            return Ok(());
        }
        let all: Vec<_> = self.0.iter().map(Regex::as_str).collect();
        let all = all.join(" ");
        let msg = format!(
            "Sysctl {key} is not allowed. Only the following sysctls are allowed: [{all}] ({ALLOWLIST})"
        );
        Err(PluginError::internal(msg))
    }
}

/// In the namespace that the process is in.
pub(crate) fn write(sysctls: &BTreeMap<String, String>, ifname: &str) -> Outcome<()> {
    for (key, value) in sysctls {
        let name = name(key, ifname)?;
        sysctl::write(&name, value)
            .doing(|| format!("write {value:?} to the sysctl {key} (/proc/sys/{name})"))?;
    }
    Ok(())
}

pub(crate) fn check(sysctls: &BTreeMap<String, String>, ifname: &str) -> Outcome<()> {
    for (key, value) in sysctls {
        let name = name(key, ifname)?;
        let now = sysctl::read(&name).doing(|| format!("read the sysctl {key}"))?;
        // The kernel sets tabs between several.
        if !now.split_whitespace().eq(value.split_whitespace()) {
            let msg = format!(
                "Error: Tuning configured value of /proc/sys/{name} is {value}, current value is {now}"
            );
            return Err(PluginError::internal(msg));
        }
    }
    Ok(())
}

/// The file below `/proc/sys`; each dot of the key is a slash, those of a link's name are not.
fn name(key: &str, ifname: &str) -> Outcome<String> {
    let path = key.replace('.', "/").replacen(LINK, ifname, 1);
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    match parts[..] {
        ["net", _, ..] => Ok(parts.join("/")),
        _ => Err(PluginError::internal(format!(
            "invalid net sysctl key: {key:?}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_below_net() {
        let read = |key| name(key, "eth0.7").ok();
        assert_eq!(
            read("net.ipv4.conf.IFNAME.arp_filter").as_deref(),
            Some("net/ipv4/conf/eth0.7/arp_filter")
        );
        assert_eq!(
            read("net//core/somaxconn").as_deref(),
            Some("net/core/somaxconn")
        );
        for key in ["kernel.pid_max", "net", "", "/", "../net", "networks.a"] {
            assert_eq!(read(key), None, "{key:?}");
        }
        assert_eq!(name("net/IFNAME/x", "../kernel").ok(), None);
    }

    #[test]
    fn a_node_allows_what_one_of_its_lines_matches() {
        let allowed =
            Allowed::parse("^net\\.ipv4\\.conf\\.[a-z0-9]*\\.arp_filter$\n\n somaxconn \n");
        let allowed = allowed.unwrap_or_else(|error| panic!("{}", error.msg));
        for key in ["net.ipv4.conf.eth0.arp_filter", "net.core.somaxconn"] {
            assert!(allowed.check(key).is_ok(), "{key}");
        }
        for key in ["net.ipv4.conf.eth0.arp_filters", "net.ipv4.ip_forward"] {
            assert!(allowed.check(key).is_err(), "{key}");
        }
        assert!(Allowed::parse("(").is_err());
        assert!(Allowed::parse("\n").is_ok_and(|none| none.check("net.a").is_err()));
    }
}
