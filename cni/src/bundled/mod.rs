//! The bundled plugins, in one program: each is what the reference plugin of its name is, in its
//! configuration, results, errors, rules and files, so that a node can change from one to the other
//! with pods running.
//!
//! ```text
//! corten-cni (as `bridge`, or `corten-cni plugin bridge`) ─▶ call ─▶ one plugin ─▶ stdout
//! corten-cni chain ─▶ a call for each plugin of a list ────────────────┘    │
//!                                                                        │
//!                                  netlink: route, nft ◀─────────────────┴──▶ filter: rules of iptables
//! ```
//!
//! Invariant: one thread, and no other program but for what only it can do: rules of a host whose
//! iptables(8) is the legacy one, and IPAM plugins that are not bundled.

mod answer;
mod bandwidth;
mod bridge;
mod call;
pub(crate) mod chain;
mod fault;
mod filter;
mod firewall;
mod host_local;
mod ipam;
mod keys;
mod loopback;
mod masquerade;
mod netlink;
mod netns;
mod pod_link;
mod portmap;
mod program;
mod ptp;
mod sysctl;
mod tuning;
mod veth;

pub(crate) use answer::Answer;
pub use program::main;
pub(crate) use program::{VERB_CHAIN, VERB_SWEEP};

use call::Call;
use fault::Outcome;

use crate::error::PluginError;
use crate::version::Version;

/// A plugin that is bundled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Bandwidth,
    Bridge,
    Firewall,
    HostLocal,
    Loopback,
    Portmap,
    Ptp,
    Tuning,
}

impl Kind {
    /// Every one.
    pub(crate) const ALL: [Self; 8] = [
        Self::Bandwidth,
        Self::Bridge,
        Self::Firewall,
        Self::HostLocal,
        Self::Loopback,
        Self::Portmap,
        Self::Ptp,
        Self::Tuning,
    ];

    /// The plugin's `type`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bandwidth => "bandwidth",
            Self::Bridge => "bridge",
            Self::Firewall => "firewall",
            Self::HostLocal => "host-local",
            Self::Loopback => "loopback",
            Self::Portmap => "portmap",
            Self::Ptp => "ptp",
            Self::Tuning => "tuning",
        }
    }

    pub(crate) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// What the call's command asks for; of an ADD the result, as JSON.
    fn run(self, call: &Call<'_>) -> Outcome<Option<String>> {
        match call.env.command.as_str() {
            "ADD" => self.add(call).map(Some),
            "DEL" => self.del(call).map(|()| None),
            "CHECK" => self.check(call).map(|()| None),
            "STATUS" => self.status(call).map(|()| None),
            "GC" => self.gc(call).map(|()| None),
            other => {
                let msg = format!("unknown CNI_COMMAND: {other}");
                Err(PluginError::new(PluginError::INVALID_ENVIRONMENT, msg))
            }
        }
    }

    /// The versions of configurations that the plugin takes.
    pub(crate) fn versions(self) -> &'static [Version] {
        match self {
            Self::Firewall => &Version::ALL[2..],
            _ => &Version::ALL,
        }
    }

    /// The result, as JSON.
    fn add(self, call: &Call<'_>) -> Outcome<String> {
        call.demand_version(self.versions())?;
        let answer = match self {
            Self::Bridge => bridge::add(call)?,
            Self::HostLocal => host_local::add(call)?,
            Self::Ptp => ptp::add(call)?,
            Self::Bandwidth => return bandwidth::add(call),
            Self::Firewall => return firewall::add(call),
            Self::Loopback => return loopback::add(call),
            Self::Portmap => return portmap::add(call),
            Self::Tuning => return tuning::add(call),
        };
        Ok(answer.to_json(call.version))
    }

    fn del(self, call: &Call<'_>) -> Outcome<()> {
        call.demand_version(self.versions())?;
        match self {
            Self::Bandwidth => bandwidth::del(call),
            Self::Bridge => bridge::del(call),
            Self::Firewall => firewall::del(call),
            Self::HostLocal => host_local::del(call),
            Self::Loopback => loopback::del(call),
            Self::Portmap => portmap::del(call),
            Self::Ptp => ptp::del(call),
            Self::Tuning => tuning::del(call),
        }
    }

    fn check(self, call: &Call<'_>) -> Outcome<()> {
        call.demand_version(self.versions())?;
        match self {
            Self::Bandwidth => bandwidth::check(call),
            Self::Bridge => bridge::check(call),
            Self::Firewall => firewall::check(call),
            Self::HostLocal => host_local::check(call),
            Self::Loopback => loopback::check(call),
            Self::Portmap => portmap::check(call),
            Self::Ptp => ptp::check(call),
            Self::Tuning => tuning::check(call),
        }
    }

    fn status(self, call: &Call<'_>) -> Outcome<()> {
        match self {
            Self::Bridge => bridge::status(call),
            Self::HostLocal => host_local::status(call),
            Self::Bandwidth | Self::Firewall | Self::Loopback | Self::Tuning => Ok(()),
            Self::Ptp => ptp::status(call),
            Self::Portmap => portmap::status(call),
        }
    }

    fn gc(self, call: &Call<'_>) -> Outcome<()> {
        match self {
            Self::Bridge => bridge::gc(call),
            Self::HostLocal => host_local::gc(call),
            Self::Ptp => ptp::gc(call),
            // Of what these leave it cannot be told which network it is of, and so whose GC may end it.
            Self::Bandwidth | Self::Firewall | Self::Loopback | Self::Portmap | Self::Tuning => {
                Ok(())
            }
        }
    }
}
