//! The daemon as a whole: the real `corten` and `corten-shim`, the reference CNI plugins, a real
//! kernel, and a client that speaks CRI over the socket.
//!
//! Each case runs in a node of its own (`tests/lib/node`: own mounts, network, processes, cgroups and
//! `/run`, `/etc`, `/var/lib`), with a daemon of its own. After a warm-up pod the node is looked
//! over; when the case is done and its pods are removed, it is looked over again: what is there
//! now and was not before fails the case.
//!
//! ```text
//! #[test] ──▶ node::in_a_node ──▶ tests/lib/node ──▶ this program, this one test
//!                                                     └─ daemon, image, warm-up, first look
//!                                                        └─ the case ──▶ pods removed, second look
//! ```
//!
//! Invariant: no case waits for a time to pass in the hope that something has happened by then.
//! Conditions are awaited, each with a deadline.

#![expect(clippy::unwrap_used, reason = "a test says what must hold by failing")]

mod cri;
mod daemon;
mod image;
mod leftovers;
mod network;

mod node;
mod pods;
mod processes;
mod wait;
mod websocket;

#[path = "../images/fault_registry.rs"]
#[expect(dead_code, reason = "another program plays more of its faults")]
mod fault_registry;

mod artifacts;
mod bundled_plugins;
mod cdi;
mod creates;
mod deep_images;
mod ends;
mod events;
mod exec;
mod exports;
mod half_made;
mod healthchecks;
mod hostile;
mod image_volumes;
mod life;
mod limits;
mod lists;
mod logs;
mod metrics;
mod namespaces;
mod network_stays;
mod overlay_root;
mod pod_network;
mod restart;
mod resumed_pulls;
mod sessions;
mod shim_lost;
mod split_root;
mod stats;
mod userns;
mod verifiers;
mod volumes;
