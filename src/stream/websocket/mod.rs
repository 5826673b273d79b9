//! WebSocket as Kubernetes uses it: a number of channels in one connection, or another protocol's
//! bytes through it.
//!
//! ```text
//! bytes ─ frames (RFC 6455) ─ channels (whose bytes they are) ─ connection (where they go)
//! ```
//!
//! Invariant: the first two do no I/O, so that anything can be thrown at them.

pub mod channels;
mod connection;
pub mod frames;

pub use connection::{Close, Duplex, Io, Over, READ, Receiver, Sender, open};
