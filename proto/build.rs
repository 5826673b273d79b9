//! Turns the .proto files into Rust: protox parses them (no protoc needed), tonic and prost write
//! messages, clients and servers. The descriptors are kept beside the code for the wire tests.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// The import root: a file's path below it is the name that others import it by.
const ROOT: &str = "proto";

/// One directory for each package.
const PACKAGES: [&str; 2] = ["proto/runtime/v1", "proto/corten/admin/v1"];

/// Messages with secrets: `src/redact.rs` gives them a `Debug` that does not show these.
const REDACTED: [&str; 2] = ["runtime.v1.AuthConfig", "corten.admin.v1.RegistryAuth"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={ROOT}");
    let descriptors = protox::compile(proto_files()?, [ROOT])?;
    fs::write(descriptor_path()?, encode_bare(descriptors.clone()))?;
    tonic_prost_build::configure()
        .skip_debug(REDACTED)
        .compile_fds(descriptors)?;
    Ok(())
}

/// Every .proto file, sorted, so that the output does not depend on the directory's order.
fn proto_files() -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut files = Vec::new();
    for package in PACKAGES {
        for entry in fs::read_dir(package)? {
            files.push(entry?.path());
        }
    }
    files.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "proto")
    });
    files.sort();
    Ok(files)
}

fn descriptor_path() -> Result<PathBuf, env::VarError> {
    Ok(Path::new(&env::var("OUT_DIR")?).join("descriptors.bin"))
}

/// Encodes the descriptors without source positions and comments, which only code generation uses.
fn encode_bare(mut descriptors: prost_types::FileDescriptorSet) -> Vec<u8> {
    for file in &mut descriptors.file {
        file.source_code_info = None;
    }
    prost::Message::encode_to_vec(&descriptors)
}
