//! What of making and starting a container is timed.

use serde::{Deserialize, Serialize};

/// How long a part of making or starting a container has taken, as the shim measures it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lap {
    /// Which part.
    pub part: Part,
    /// Microseconds.
    pub micros: u32,
}

/// A part of making or starting a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    /// Its cgroup and the limits there.
    Cgroup,
    /// Its bundle is read and planned.
    Bundle,
    /// Its root file system and the trees that are bound into it, and its user, who is looked up there.
    Root,
    /// Its init is cloned, with its namespaces.
    Clone,
    /// The init enters the cgroup and the namespaces of the pod.
    Enter,
    /// What is mounted inside, up to the change of the root.
    Mounts,
    /// The init becomes its user: limits, groups, capabilities.
    Identity,
    /// The seccomp filter is loaded, where there is one, and the stage hears of the init.
    Seccomp,
    /// Its program is executed.
    Exec,
}

impl Part {
    /// Its name, as figures are told by.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cgroup => "cgroup",
            Self::Bundle => "bundle",
            Self::Root => "root",
            Self::Clone => "clone",
            Self::Enter => "enter",
            Self::Mounts => "mounts",
            Self::Identity => "identity",
            Self::Seccomp => "seccomp",
            Self::Exec => "exec",
        }
    }
}
