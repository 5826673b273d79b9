//! The HTTP edge: exec, attach and port-forward for whoever holds a token.
//!
//! ```text
//!            server       TLS, requests, tokens; negotiate: what will be spoken
//!              │
//!     ┌────────┴────────┐
//!  over_spdy      over_websocket    which stream or channel is what
//!     │    (tunnel) ◀───┤
//!   spdy            websocket       frames; nothing of Kubernetes
//!     └────────┬────────┘
//!   remote_command, port_forward    streams of a client, joined with those of a process or a pod;
//!              │                    one logic for all transports
//!            source                 the engine
//! ```
//! Beside them: `watch` ends a session from outside of it, `end` is how it ended, `account` tells it
//! to the log and the figures, as `refusal` does of what becomes no session.
//!
//! Invariants: back-pressure goes from end to end: what a client does not take is not read from its
//! process or pod. The bytes that a session holds are at most 256 KiB, with TLS too, and however many
//! connections it forwards: one buffer for each direction and what its transport keeps (`tests` adds it
//! up). A forwarded connection besides that is a task and a socket. A session's end is told once.

mod account;
mod end;
mod negotiate;
mod newcomers;
mod outlet;
mod over_spdy;
mod over_websocket;
mod pairs;
mod port_forward;
mod refusal;
mod remote_command;
mod resize;
mod server;
mod socket;
mod source;
pub mod spdy;
mod tls;
mod upload;
mod watch;
pub mod websocket;

#[cfg(test)]
mod tests;

pub use server::{Control, Server, Settings, Times};
pub use tls::Files;
