//! The per-container process of Corten, and the protocol that the daemon speaks with it.
//!
//! The daemon uses [`api`] (the messages) and [`packet`] (how one travels), and of [`sys`] the calls that
//! count and seal its own files, for which it needs no process; everything else is the program's own. See `README.md` for how data flows through it.

pub mod api;
pub mod bundle;
pub mod cgroup;
pub mod cgroups;
pub mod confine;
pub mod dial;
pub mod exec;
pub mod failpoint;
pub mod failure;
pub mod filesystem;
pub mod hooks;
pub mod init;
pub mod io;
pub mod laps;
pub mod packet;
pub mod parent;
pub mod pause;
pub mod plan;
pub mod reaper;
pub mod record;
pub mod root;
pub mod sandbox;
pub mod seccomp;
pub mod server;
pub mod stat;
pub mod state;
pub mod sync;
pub mod sys;
pub mod title;
pub mod user;
pub mod userns;

#[cfg(test)]
mod fakes;
