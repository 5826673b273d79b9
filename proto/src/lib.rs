//! The wire: the Kubernetes CRI v1 API and `corten.admin.v1` as generated clients, servers and
//! messages.
//!
//! All types come from the `.proto` files beside this crate (see its README). Nothing here checks
//! a value or gives it a meaning: the daemon's `cri` and `admin` modules do, and no other module
//! names these types. The only code by hand is a `Debug` for messages with secrets in them.

mod redact;

/// The CRI at cri-api v0.37.0: 43 RPCs of two services.
pub mod runtime {
    /// Package `runtime.v1`.
    pub mod v1 {
        tonic::include_proto!("runtime.v1");
    }
}

/// What the command line asks of the daemon.
pub mod admin {
    /// Package `corten.admin.v1`.
    pub mod v1 {
        tonic::include_proto!("corten.admin.v1");
    }
}

/// Both packages as an encoded `google.protobuf.FileDescriptorSet`, without comments: for tests and
/// for tools that work by reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
