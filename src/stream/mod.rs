//! The HTTP edge: exec, attach and port-forward for whoever holds a token.

pub mod spdy;
