//! A pod sandbox's configuration.

use super::check::{known, name, refuse, required, text, without_parent, word};
use super::{check, sysctl};
use crate::error::{Error, Result};
use crate::model::sandbox::{
    DnsConfig, PodMetadata, PortMapping, Protocol, SandboxConfig, SandboxSecurity,
};
use corten_proto::runtime::v1;
use std::net::IpAddr;

/// The kernel's limit of a host name (`sethostname(2)`).
const LONGEST_HOSTNAME: usize = 64;

impl TryFrom<v1::PodSandboxConfig> for SandboxConfig {
    type Error = Error;

    fn try_from(asked: v1::PodSandboxConfig) -> Result<Self> {
        let linux = asked.linux.unwrap_or_default();
        let security: SandboxSecurity = linux.security_context.unwrap_or_default().try_into()?;
        Ok(Self {
            metadata: required(asked.metadata, "config.metadata")?.try_into()?,
            hostname: hostname(asked.hostname)?,
            log_directory: log_directory(asked.log_directory)?,
            dns: asked.dns_config.map(TryInto::try_into).transpose()?,
            port_mappings: asked
                .port_mappings
                .into_iter()
                .map(TryInto::try_into)
                .collect::<Result<_>>()?,
            labels: asked.labels.into_iter().collect(),
            annotations: asked.annotations.into_iter().collect(),
            cgroup_parent: without_parent(linux.cgroup_parent, "config.linux.cgroup_parent")?,
            sysctls: sysctl::sysctls(linux.sysctls, &security.namespaces)?,
            security,
            overhead: linux.overhead.map(TryInto::try_into).transpose()?,
            resources: linux.resources.map(TryInto::try_into).transpose()?,
        })
    }
}

impl TryFrom<v1::PodSandboxMetadata> for PodMetadata {
    type Error = Error;

    fn try_from(asked: v1::PodSandboxMetadata) -> Result<Self> {
        Ok(Self {
            name: name(asked.name, "config.metadata.name")?,
            uid: name(asked.uid, "config.metadata.uid")?,
            namespace: name(asked.namespace, "config.metadata.namespace")?,
            attempt: asked.attempt,
        })
    }
}

fn hostname(hostname: String) -> Result<String> {
    let field = "config.hostname";
    if hostname.len() > LONGEST_HOSTNAME {
        return Err(refuse(
            field,
            format!("must have at most {LONGEST_HOSTNAME} bytes"),
        ));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    match hostname.chars().all(plain) {
        true => Ok(hostname),
        false => Err(refuse(field, format!("{hostname:?} is no host name"))),
    }
}

fn log_directory(path: String) -> Result<String> {
    let field = "config.log_directory";
    without_parent(check::optional_absolute(path, field)?, field)
}

impl TryFrom<v1::DnsConfig> for DnsConfig {
    type Error = Error;

    /// Each becomes a word of a line in resolv.conf.
    fn try_from(asked: v1::DnsConfig) -> Result<Self> {
        let words = |list: Vec<String>, field: &str| -> Result<Vec<String>> {
            list.into_iter().map(|item| word(item, field)).collect()
        };
        Ok(Self {
            servers: words(asked.servers, "config.dns_config.servers")?,
            searches: words(asked.searches, "config.dns_config.searches")?,
            options: words(asked.options, "config.dns_config.options")?,
        })
    }
}

impl TryFrom<v1::PortMapping> for PortMapping {
    type Error = Error;

    fn try_from(asked: v1::PortMapping) -> Result<Self> {
        Ok(Self {
            protocol: match known(asked.protocol, "config.port_mappings.protocol")? {
                v1::Protocol::Tcp => Protocol::Tcp,
                v1::Protocol::Udp => Protocol::Udp,
                v1::Protocol::Sctp => Protocol::Sctp,
            },
            container_port: port(asked.container_port, "config.port_mappings.container_port")?,
            host_port: port(asked.host_port, "config.port_mappings.host_port")?,
            host_ip: host_ip(asked.host_ip)?,
        })
    }
}

fn port(number: i32, field: &str) -> Result<u16> {
    u16::try_from(number).map_err(|_| refuse(field, format!("{number} is no port")))
}

fn host_ip(address: String) -> Result<String> {
    let field = "config.port_mappings.host_ip";
    if address.is_empty() || address.parse::<IpAddr>().is_ok() {
        return text(address, field);
    }
    Err(refuse(field, format!("{address:?} is no address")))
}
