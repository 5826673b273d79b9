//! `corten-shim`: see the library.
fn main() {}
