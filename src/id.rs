//! Names of things, parsed once and trusted from then on.
//!
//! Invariant: past this module no name is a bare string.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use std::fmt;
use std::str::FromStr;

/// Hexadecimal digits by value.
const HEX: [char; 16] = [
    '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
];

/// An id of 64 lower-case hex digits drawn from the operating system's random source.
fn random_hex() -> String {
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes).expect("the kernel's random source answers once it is seeded");
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn is_hex(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// A new one that nobody has.
            #[must_use]
            pub fn random() -> Self {
                Self(random_hex())
            }

            /// Its text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self> {
                if is_hex(text, 64) {
                    return Ok(Self(text.to_owned()));
                }
                Err(Error::invalid(format!(concat!("{:?} is no ", $what, " id: 64 hex digits"), text)))
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(text: String) -> Result<Self> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

random_id!(
    /// The name of a pod sandbox.
    SandboxId,
    "sandbox"
);
random_id!(
    /// The name of a container.
    ContainerId,
    "container"
);

/// A content digest, `sha256:` and 64 hex digits (the OCI image specification's descriptor digest).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    const PREFIX: &str = "sha256:";

    /// Of 64 hex digits.
    ///
    /// # Errors
    /// `InvalidArgument` where they are not that.
    pub fn from_hex(hex: &str) -> Result<Self> {
        format!("{}{hex}", Self::PREFIX).parse()
    }

    /// Of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::finish(sha2::Sha256::new_with_prefix(bytes))
    }

    /// Of what went into the hash.
    #[must_use]
    pub fn finish(hash: sha2::Sha256) -> Self {
        let mut text = String::with_capacity(Self::PREFIX.len() + 64);
        text.push_str(Self::PREFIX);
        for byte in hash.finalize() {
            text.push(HEX[usize::from(byte >> 4)]);
            text.push(HEX[usize::from(byte & 15)]);
        }
        Self(text)
    }

    /// The hex digits alone: safe as a file name.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.0[Self::PREFIX.len()..]
    }

    /// The whole text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Digest {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        match text.strip_prefix(Self::PREFIX) {
            Some(hex) if is_hex(hex, 64) => Ok(Self(text.to_owned())),
            _ => Err(Error::invalid(format!(
                "{text:?} is no digest: sha256: and 64 hex digits"
            ))),
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of an image on this node: the digest of its configuration.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ImageId(pub Digest);

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of a stack of layers: the OCI image specification's chain id.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ChainId(pub Digest);

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A reference to an image in a registry, in its full form: `docker.io/library/busybox:1.36`,
/// `registry.k8s.io/pause@sha256:…`, or both a tag and a digest.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageRef {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl ImageRef {
    /// The registry's host, and its port where one was given.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path below the registry, such as `library/busybox`.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; `latest` where neither a tag nor a digest was given.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, where the reference has one: it decides over the tag.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Registry and repository without tag and digest.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The same name with this digest and no tag: how a digest is listed.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }
}

impl FromStr for ImageRef {
    type Err = Error;

    /// Reads a reference as the field's tools do: no registry means `docker.io`, one component
    /// there means `library/`, and neither tag nor digest means `latest`.
    fn from_str(text: &str) -> Result<Self> {
        let bad = |why: &str| Error::invalid(format!("image reference {text:?}: {why}"));
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>()?)),
            None => (text, None),
        };
        let (name, tag) = split_tag(rest);
        let (registry, path) = split_registry(name);
        let repository = match path.contains('/') || registry != "docker.io" {
            true => path.to_owned(),
            false => format!("library/{path}"),
        };
        if !registry_is_valid(registry) {
            return Err(bad("the registry is no host name"));
        }
        if !repository_is_valid(&repository) {
            return Err(bad(
                "the repository must be lower-case words joined by / . _ -",
            ));
        }
        if tag.is_some_and(|t| !tag_is_valid(t)) {
            return Err(bad("the tag must be at most 128 of letters, digits, _ . -"));
        }
        let tag = tag
            .map(str::to_owned)
            .or_else(|| digest.is_none().then(|| "latest".to_owned()));
        Ok(Self {
            registry: registry.to_owned(),
            repository,
            tag,
            digest,
        })
    }
}

/// The name of a reference that says no registry, and the tag or digest after it; `None` where the
/// reference has one.
#[must_use]
pub fn short_name(reference: &str) -> Option<(&str, &str)> {
    let name = reference.split('@').next().unwrap_or_default();
    let (name, _) = split_tag(name);
    let first = name.split_once('/').map(|(first, _)| first);
    let qualified = first.is_some_and(|first| first.contains(['.', ':']) || first == "localhost");
    (!qualified && !name.is_empty()).then(|| reference.split_at(name.len()))
}

fn split_tag(rest: &str) -> (&str, Option<&str>) {
    match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (rest, None),
    }
}

fn split_registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some(("index.docker.io", path)) => ("docker.io", path),
        Some((first, path)) if first.contains(['.', ':']) || first == "localhost" => (first, path),
        _ => ("docker.io", name),
    }
}

/// A name or an address, IPv6 in brackets, and perhaps a port.
fn registry_is_valid(host: &str) -> bool {
    let (name_is_valid, port) = match host.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((v6, port))) => (v6.parse::<std::net::Ipv6Addr>().is_ok(), port),
        Some(None) => (false, ""),
        None => {
            let (name, port) = host.split_at(host.find(':').unwrap_or(host.len()));
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-');
            let is_valid = !name.is_empty() && name.len() <= 255 && name.bytes().all(plain);
            (is_valid, port)
        }
    };
    let digits = port.strip_prefix(':').unwrap_or("0");
    name_is_valid
        && (port.is_empty() || port.starts_with(':'))
        && (1..=5).contains(&digits.len())
        && digits.bytes().all(|b| b.is_ascii_digit())
}

fn repository_is_valid(path: &str) -> bool {
    path.len() <= 255
        && path.split('/').all(|word| {
            let ends =
                |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
            ends(word.chars().next())
                && ends(word.chars().last())
                && word.bytes().all(|b| {
                    b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-')
                })
        })
}

fn tag_is_valid(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= 128
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

impl TryFrom<String> for ImageRef {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<ImageRef> for String {
    fn from(reference: ImageRef) -> Self {
        reference.to_string()
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_as_the_field_reads_them() {
        let full = |text: &str| text.parse::<ImageRef>().unwrap().to_string();
        assert_eq!(full("busybox"), "docker.io/library/busybox:latest");
        assert_eq!(full("busybox:1.36"), "docker.io/library/busybox:1.36");
        assert_eq!(full("user/app"), "docker.io/user/app:latest");
        assert_eq!(full("localhost/app:v1"), "localhost/app:v1");
        assert_eq!(full("localhost:5000/a/b"), "localhost:5000/a/b:latest");
        assert_eq!(
            full("index.docker.io/library/x"),
            "docker.io/library/x:latest"
        );
        assert_eq!(full("[::1]:5000/a:b"), "[::1]:5000/a:b");
        let digest = format!("registry.k8s.io/pause@sha256:{}", "a".repeat(64));
        assert_eq!(full(&digest), digest);
        let both = format!("registry.k8s.io/pause:3.9@sha256:{}", "a".repeat(64));
        assert_eq!(full(&both), both);
    }

    #[test]
    fn short_names_have_no_registry() {
        assert_eq!(short_name("app"), Some(("app", "")));
        assert_eq!(short_name("me/app:1"), Some(("me/app", ":1")));
        assert_eq!(short_name("app:1@sha256:00"), Some(("app", ":1@sha256:00")));
        for full in ["", "localhost/app", "a.io/app", "a:5000/app:1"] {
            assert_eq!(short_name(full), None, "{full}");
        }
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        for text in [
            "",
            "UPPER",
            "a/../b",
            "a@sha256:12",
            "a:",
            "a: b",
            "http://x/y",
            "a//b",
            "[::1]5a\0/a:b",
            "[::1]@evil.io/a",
            "[::1/a",
            "[x.io]/a",
            "a.io:/a",
            "a.io:80:80/a",
            "a.io:port/a",
        ] {
            assert!(text.parse::<ImageRef>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn digests_are_those_of_sha256() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").as_str(), empty);
    }

    #[test]
    fn ids_are_64_hex_digits_and_differ() {
        let id = ContainerId::random();
        assert_eq!(id.as_str().parse::<ContainerId>().unwrap(), id);
        assert_ne!(id, ContainerId::random());
        assert!("../../etc".parse::<ContainerId>().is_err());
    }
}
