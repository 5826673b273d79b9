//! Corten: the daemon of a Kubernetes container runtime.
//!
//! # Code map
//! - [`config`]: what the files say, what is true, what this kernel can.
//! - [`cli`], [`daemon`], [`log`]: the command line, the process and its log.
//! - [`cri`], [`admin`]: the gRPC edge. Decode, call the engine, encode.
//! - [`stream`]: the HTTP edge of exec, attach and port-forward. [`metrics`]: what is counted.
//! - [`engine`]: the use cases, one verb a file.
//! - [`model`]: pure data and decisions.
//! - [`task`], [`network`], [`snapshot`], [`content`], [`registry`], [`store`], [`cgroup`]: ports,
//!   each a small trait with one real adapter.
//! - [`unpack`]: a stream of bytes and a directory become a layer.
//! - [`verifier`]: a port too: whether an image may be used.
//! - [`trees`]: walks and deletes trees that containers made, of any depth.
//! - [`id`], [`error`]: what all of them speak of.
//! - [`failpoint`]: faults on purpose, in tests only.
//!
//! # Architecture invariants
//! - Only `cri` and `admin` name tonic or generated types; they do not know each other.
//! - `model` does no I/O, is not async and has no clock.
//! - Adapters never import each other: the engine joins them.
//! - The daemon never calls mount, clone, setns or unshare: that is the shim's work.
//! - Nothing is made before the record that says so is on disk.

pub mod admin;
pub mod cgroup;
pub mod cli;
pub mod config;
pub mod content;
pub mod cri;
pub mod daemon;
pub mod engine;
pub mod error;
pub mod failpoint;
pub mod id;
pub mod log;
pub mod metrics;
pub mod model;
pub mod network;
pub mod registry;
pub mod snapshot;
pub mod store;
pub mod stream;
pub mod task;
pub mod trees;
pub mod unpack;
pub mod verifier;
