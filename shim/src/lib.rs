//! The per-container process of Corten, and the protocol that the daemon speaks with it.
//!
//! The daemon uses [`api`] (the messages) and [`packet`] (how one travels); everything else is
//! the program's own. See `README.md` for how data flows through it.

pub mod api;
pub mod cgroups;
pub mod failure;
pub mod io;
pub mod packet;
pub mod pause;
pub mod reaper;
pub mod record;
pub mod sandbox;
pub mod server;
pub mod stat;
pub mod sys;

#[cfg(test)]
mod fakes;
