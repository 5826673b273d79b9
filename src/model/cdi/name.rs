//! Names of devices, `vendor.com/class=device`, and where a container asks for them.

use crate::error::{Error, Result};
use crate::model::container::ContainerConfig;
use std::fmt;

/// Keys of annotations that ask for devices begin with this.
const ANNOTATION: &str = "cdi.k8s.io/";

/// A device's full name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceName {
    /// `vendor.com/class`.
    pub kind: String,
    /// Which one.
    pub device: String,
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.kind, self.device)
    }
}

impl DeviceName {
    fn parse(text: &str) -> Option<Self> {
        let (kind, device) = text.split_once('=')?;
        (is_kind(kind) && is_device(device)).then(|| Self {
            kind: kind.to_owned(),
            device: device.to_owned(),
        })
    }
}

/// What a container asks for: by the field, which the kubelet fills for claims of resources, then by
/// annotations, which device plugins give. Each once.
///
/// # Errors
/// `InvalidArgument` for what is no name.
pub fn asked(config: &ContainerConfig) -> Result<Vec<DeviceName>> {
    let mut all = Vec::new();
    let field = config.cdi_devices.iter();
    let field = field.map(|name| ("CDI_devices", name.as_str()));
    let annotations = config.annotations.iter();
    let annotations = annotations
        .filter(|(key, _)| key.starts_with(ANNOTATION))
        .flat_map(|(key, value)| value.split(',').map(|name| (key.as_str(), name)));
    for (place, text) in field.chain(annotations) {
        let name = DeviceName::parse(text).ok_or_else(|| {
            Error::invalid(format!("{place}: {text:?} is no VENDOR/CLASS=DEVICE"))
        })?;
        if !all.contains(&name) {
            all.push(name);
        }
    }
    Ok(all)
}

/// Whether it is a `vendor/class`: of letters, digits, `_` and `-`, a vendor's of dots as well; each
/// begins with a letter and ends with a letter or a digit.
pub(super) fn is_kind(text: &str) -> bool {
    let begins = |word: &str| word.starts_with(|c: char| c.is_ascii_alphabetic());
    text.split_once('/').is_some_and(|(vendor, class)| {
        begins(vendor) && begins(class) && is_word(vendor, "_-.") && is_word(class, "_-")
    })
}

/// Whether it is a device's name: of letters, digits, `_`, `-`, `.` and `:`, a letter or a digit at both
/// ends.
pub(super) fn is_device(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric()) && is_word(text, "_-.:")
}

fn is_word(text: &str, others: &str) -> bool {
    text.ends_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || others.contains(c))
}
