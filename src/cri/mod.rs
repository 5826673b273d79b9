//! The gRPC edge of the CRI: each RPC is decoded, handed to the engine, and its answer encoded.
//!
//! Invariant: beside `admin`, this is the only module that names tonic or generated types, and no
//! such type goes further in. Nothing is decided here.

mod deadline;
mod followed;
pub mod health;
mod image_service;
mod parts;
pub mod request;
pub mod response;
mod runtime_service;
pub mod server;
pub mod status;
pub mod trace;

pub use tonic::service::Routes;

use crate::engine::Engine;
use corten_proto::runtime::v1::image_service_server::ImageServiceServer;
use corten_proto::runtime::v1::runtime_service_server::RuntimeServiceServer;
use image_service::ImagesOf;
use runtime_service::Runtime;
use server::LARGEST_MESSAGE;
use std::sync::Arc;

/// Both services of the CRI over an engine.
#[must_use]
pub fn routes(engine: &Arc<Engine>) -> Routes {
    let runtime = RuntimeServiceServer::new(Runtime::new(Arc::clone(engine)))
        .max_decoding_message_size(LARGEST_MESSAGE)
        .max_encoding_message_size(LARGEST_MESSAGE);
    let images = ImageServiceServer::new(ImagesOf::new(Arc::clone(engine)))
        .max_decoding_message_size(LARGEST_MESSAGE)
        .max_encoding_message_size(LARGEST_MESSAGE);
    Routes::new(runtime).add_service(images)
}
