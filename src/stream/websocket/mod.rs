//! WebSocket as Kubernetes uses it: a number of channels in one connection, or another protocol's
//! bytes through it.
//!
//! ```text
//! bytes ─ frames (RFC 6455) ┬ channels (whose bytes they are) ─ connection (where they go)
//!                           └ tunnel (the other protocol's connection)
//! ```
//!
//! Invariant: the first two do no I/O, so that anything can be thrown at them.

pub mod channels;
mod connection;
pub mod frames;
mod route;
mod tunnel;

pub use connection::{Close, Duplex, Io, Over, READ, Receiver, Sender, open};
pub use route::Route;
pub use tunnel::Tunnel;
