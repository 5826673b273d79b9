//! `corten.admin.v1`: what a person asks the daemon itself, on the socket of the CRI.
//!
//! Invariant: no type of the wire goes further in, and nothing is decided here.

mod encode;
mod service;
mod watch;

pub use service::{About, Service};
