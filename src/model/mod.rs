//! Pure data and decisions: what pods, containers and images are, and which step may follow which.
//!
//! Invariant: no I/O, no async, no clock; imports only `id`, `error` and the OCI types. Times are
//! given by the caller in nanoseconds since the epoch.

pub mod artifact;
pub mod cdi;
pub mod cgroup_detail;
pub mod container;
pub mod credentials;
pub mod event;
pub mod health;
pub mod hierarchies;
pub mod host;
pub mod image;
pub mod image_policy;
pub mod pod_cgroup;
pub mod pod_metrics;
pub mod resources;
pub mod sandbox;
pub mod signal;
pub mod slice;
pub mod spec;
pub mod stats;
