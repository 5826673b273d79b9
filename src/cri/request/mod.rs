//! The way in: messages of the CRI become the model's types, and whatever cannot be right is
//! refused here, with the field's name.
//!
//! Invariant: all checks of shape live here, and only here; what depends on state or on this node
//! is the engine's to judge. Nothing of the host is looked at.

pub mod check;
pub mod container;
pub mod filter;
pub mod image;
pub mod mount;
pub mod node;
pub mod resources;
pub mod sandbox;
pub mod security;
pub mod signal;
pub mod stream;
pub mod sysctl;
pub mod time;

#[cfg(test)]
mod tests;
