//! Fakes of what the server asks of others.

pub mod parent;
