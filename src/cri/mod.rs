//! The gRPC edge of the CRI: each RPC is decoded, handed to the engine, and its answer encoded.
//!
//! Invariant: beside `admin`, this is the only module that names tonic or generated types, and no
//! such type goes further in. Nothing is decided here.

pub mod request;
pub mod response;
pub mod server;
pub mod status;
pub mod trace;
