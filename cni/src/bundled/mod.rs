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
mod bridge;
mod call;
pub(crate) mod chain;
mod fault;
mod filter;
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
mod sysctl;
mod veth;

pub(crate) use answer::Answer;
pub use program::main;
pub(crate) use program::{VERB_CHAIN, VERB_SWEEP};

use call::Call;
use fault::Outcome;

use crate::error::PluginError;

/// A plugin that is bundled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Bridge,
    HostLocal,
    Loopback,
    Portmap,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] =
        [Self::Bridge, Self::HostLocal, Self::Loopback, Self::Portmap];

    /// The plugin's `type`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::HostLocal => "host-local",
            Self::Loopback => "loopback",
            Self::Portmap => "portmap",
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

    /// The result, as JSON.
    fn add(self, call: &Call<'_>) -> Outcome<String> {
        let answer = match self {
            Self::Bridge => bridge::add(call)?,
            Self::HostLocal => host_local::add(call)?,
            Self::Loopback => return loopback::add(call),
            Self::Portmap => return portmap::add(call),
        };
        Ok(answer.to_json(call.version))
    }

    fn del(self, call: &Call<'_>) -> Outcome<()> {
        match self {
            Self::Bridge => bridge::del(call),
            Self::HostLocal => host_local::del(call),
            Self::Loopback => loopback::del(call),
            Self::Portmap => portmap::del(call),
        }
    }

    fn check(self, call: &Call<'_>) -> Outcome<()> {
        match self {
            Self::Bridge => bridge::check(call),
            Self::HostLocal => host_local::check(call),
            Self::Loopback => loopback::check(call),
            Self::Portmap => portmap::check(call),
        }
    }

    fn status(self, call: &Call<'_>) -> Outcome<()> {
        match self {
            Self::Bridge => bridge::status(call),
            Self::HostLocal => host_local::status(call),
            Self::Loopback => Ok(()),
            Self::Portmap => portmap::status(call),
        }
    }

    fn gc(self, call: &Call<'_>) -> Outcome<()> {
        match self {
            Self::Bridge => bridge::gc(call),
            Self::HostLocal => host_local::gc(call),
            // Of a mapping it cannot be told which network it is of, and so whose GC may end it.
            Self::Loopback | Self::Portmap => Ok(()),
        }
    }
}
