//! `corten`: argv to a running daemon.
fn main() {}
