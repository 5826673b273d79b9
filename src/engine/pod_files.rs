//! The files that every container of a pod sees: `/etc/hosts`, `/etc/resolv.conf` and
//! `/etc/hostname`, made once a pod below the state directory.

use crate::error::{Context, Kind, Result};
use crate::model::sandbox::{DnsConfig, Sandbox};
use crate::model::spec::PodFiles;
use std::fs;
use std::path::Path;

/// A pod's files in its directory.
#[must_use]
pub fn at(dir: &Path) -> PodFiles {
    PodFiles {
        hosts: dir.join("hosts"),
        resolv_conf: dir.join("resolv.conf"),
        hostname: dir.join("hostname"),
    }
}

/// Writes a pod's files.
///
/// # Errors
/// Where the disk refuses.
pub fn write_all(files: &PodFiles, sandbox: &Sandbox) -> Result<()> {
    let name = hostname(sandbox);
    write(&files.hosts, &hosts(sandbox, &name))?;
    write(
        &files.resolv_conf,
        &resolv_conf(sandbox.config.dns.as_ref()),
    )?;
    write(&files.hostname, &format!("{name}\n"))?;
    match root(sandbox) {
        Some(root) => give(files, root),
        None => Ok(()),
    }
}

/// The pod's root, by the node's numbers, where it is not the node's.
fn root(sandbox: &Sandbox) -> Option<(u32, u32)> {
    let user = sandbox.config.security.namespaces.user.as_ref()?;
    Some((user.uids.first()?.host_id, user.gids.first()?.host_id))
}

/// Gives files that were just made to the pod's root, who may change them like any pod's.
fn give(files: &PodFiles, (uid, gid): (u32, u32)) -> Result<()> {
    for path in [&files.hosts, &files.resolv_conf, &files.hostname] {
        std::os::unix::fs::chown(path, Some(uid), Some(gid)).context(Kind::Internal, || {
            format!("give {} to the pod", path.display())
        })?;
    }
    Ok(())
}

/// The pod's host name: its own, or the node's.
#[must_use]
pub fn hostname(sandbox: &Sandbox) -> String {
    match sandbox.config.hostname.is_empty() {
        true => rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
        false => sandbox.config.hostname.clone(),
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).context(Kind::Internal, || format!("write {}", path.display()))
}

/// With the node's network the node's own file; else what a pod of its own needs. The kubelet
/// mounts its own over it where it manages the file.
fn hosts(sandbox: &Sandbox, name: &str) -> String {
    if sandbox.namespaces.network.is_none() {
        return fs::read_to_string("/etc/hosts").unwrap_or_default();
    }
    let mut text = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
                    fe00::0\tip6-localnet\nff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\n\
                    ff02::2\tip6-allrouters\n"
        .to_owned();
    for ip in &sandbox.ips {
        text.push_str(&format!("{ip}\t{name}\n"));
    }
    text
}

/// Without a configuration, or with an empty one, the node's own.
fn resolv_conf(dns: Option<&DnsConfig>) -> String {
    let Some(dns) = dns.filter(|dns| **dns != DnsConfig::default()) else {
        return fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    };
    let mut text = String::new();
    if !dns.searches.is_empty() {
        text.push_str(&format!("search {}\n", dns.searches.join(" ")));
    }
    for server in &dns.servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !dns.options.is_empty() {
        text.push_str(&format!("options {}\n", dns.options.join(" ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fakes::a_sandbox;

    #[test]
    fn a_pod_of_its_own_network_knows_its_name() {
        let mut sandbox = a_sandbox("web");
        sandbox.namespaces.network = Some("/run/netns/x".into());
        sandbox.ips = vec!["10.0.0.7".parse().unwrap()];
        assert!(hosts(&sandbox, "web-0").ends_with("10.0.0.7\tweb-0\n"));
    }

    #[test]
    fn resolver_lines_are_written_also_when_only_options_are_given() {
        let only_options = DnsConfig {
            options: vec!["ndots:5".into()],
            ..DnsConfig::default()
        };
        assert_eq!(resolv_conf(Some(&only_options)), "options ndots:5\n");
        let all = DnsConfig {
            servers: vec!["10.10.10.10".into()],
            searches: vec!["a.local".into(), "b.local".into()],
            options: vec!["ndots:8".into()],
        };
        let text = "search a.local b.local\nnameserver 10.10.10.10\noptions ndots:8\n";
        assert_eq!(resolv_conf(Some(&all)), text);
    }
}
