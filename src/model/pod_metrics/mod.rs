//! What pods and containers use, as cAdvisor tells it: the names, the labels and the units that
//! dashboards and alerts of Kubernetes are written for. The kubelet serves them at `/metrics/cadvisor`.
//!
//! Invariants: every sample has a family of [`families::ALL`], whose list never changes, and as many label
//! values as its family has keys. What the kernel does not tell has no sample; where cAdvisor's own set has
//! a 0 in its place, so has this one.
//!
//! Values are whole numbers, as the protocol has them: seconds are whole seconds.

pub mod families;
mod samples;

pub use samples::{DiskPart, of_container, of_disk, of_network, of_pod};

use crate::id::{ContainerId, SandboxId};

/// How a value behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// It only grows, until what it counts is made anew.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// What all samples of one name have in common.
#[derive(Debug, PartialEq, Eq)]
pub struct Family {
    /// The name.
    pub name: &'static str,
    /// What it measures, for a person.
    pub help: &'static str,
    /// How its values behave.
    pub behaviour: Behaviour,
    /// Its labels after those that every family has ([`BASE_KEYS`]).
    pub own_keys: &'static [&'static str],
}

/// The labels of every family: the cgroup, the runtime's name, the image, and who it is in Kubernetes.
pub const BASE_KEYS: [&str; 6] = ["id", "name", "image", "namespace", "pod", "container"];

impl Family {
    /// All its labels, in the order of a sample's values.
    pub fn keys(&self) -> impl Iterator<Item = &'static str> {
        BASE_KEYS.iter().chain(self.own_keys).copied()
    }
}

/// The values of [`BASE_KEYS`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BaseLabels {
    /// The cgroup's path.
    pub id: String,
    /// The id of the container; empty for a pod.
    pub name: String,
    /// The image; empty for a pod.
    pub image: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The container's name; empty for a pod.
    pub container: String,
}

impl BaseLabels {
    /// The values, in the keys' order.
    #[must_use]
    pub fn values(&self) -> [&str; 6] {
        [
            &self.id,
            &self.name,
            &self.image,
            &self.namespace,
            &self.pod,
            &self.container,
        ]
    }
}

/// One value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// What it is a value of.
    pub family: &'static Family,
    /// The values of the family's own labels.
    pub own: Vec<String>,
    /// The value.
    pub value: u64,
    /// When it was taken, in nanoseconds since the epoch; 0: for this answer.
    pub timestamp: i64,
}

/// What is told of one pod or container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Samples {
    /// Who it is.
    pub labels: BaseLabels,
    /// Its values.
    pub samples: Vec<Sample>,
}

/// What is told of a pod and of each of its containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodMetrics {
    /// The sandbox.
    pub id: SandboxId,
    /// Of the pod as a whole.
    pub pod: Samples,
    /// Of its living containers.
    pub containers: Vec<(ContainerId, Samples)>,
}
