//! Names of images.

use super::check::required;
use crate::error::Result;
use corten_proto::runtime::v1;

/// The image that a request is about.
///
/// # Errors
/// `InvalidArgument` where it names none.
pub fn named(spec: Option<v1::ImageSpec>) -> Result<String> {
    let name = required(spec, "image")?.image;
    required(Some(name).filter(|name| !name.is_empty()), "image.image")
}
