//! Corten's bundled CNI plugins; see [`corten_cni::bundled`].

use std::process::ExitCode;

fn main() -> ExitCode {
    corten_cni::bundled::main(std::env::args_os())
}
