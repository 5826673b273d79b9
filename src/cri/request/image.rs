//! Names of images, and what proves to a registry who asks.

use super::check::required;
use crate::error::{Error, Result};
use crate::model::credentials::{Credentials, Secret};
use corten_proto::runtime::v1;

/// The image that a request is about.
///
/// # Errors
/// `InvalidArgument` where it names none.
pub fn named(spec: Option<v1::ImageSpec>) -> Result<String> {
    let name = required(spec, "image")?.image;
    required(Some(name).filter(|name| !name.is_empty()), "image.image")
}

impl TryFrom<v1::AuthConfig> for Credentials {
    type Error = Error;

    /// Of several, what was made for one purpose counts before a password.
    fn try_from(asked: v1::AuthConfig) -> Result<Self> {
        let given = |text: &str| !text.is_empty();
        let secret = if given(&asked.registry_token) {
            Secret::RegistryToken(asked.registry_token)
        } else if given(&asked.identity_token) {
            Secret::IdentityToken(asked.identity_token)
        } else if given(&asked.username) {
            Secret::Password(asked.username, asked.password)
        } else if given(&asked.auth) {
            Self::decode(&asked.auth)?
        } else {
            Secret::Anonymous
        };
        Ok(Self::new(secret, &asked.server_address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_come_in_four_forms() {
        let take = |auth: v1::AuthConfig| Credentials::try_from(auth).unwrap().secret;
        let none = v1::AuthConfig::default;
        assert!(take(none()) == Secret::Anonymous);
        let user = v1::AuthConfig {
            username: "a".into(),
            password: "b".into(),
            ..none()
        };
        assert!(take(user) == Secret::Password("a".into(), "b".into()));
        let auth = v1::AuthConfig {
            auth: "YTpi".into(),
            ..none()
        };
        assert!(take(auth) == Secret::Password("a".into(), "b".into()));
        let token = v1::AuthConfig {
            username: "a".into(),
            identity_token: "t".into(),
            ..none()
        };
        assert!(take(token) == Secret::IdentityToken("t".into()));
    }

    #[test]
    fn an_image_must_be_named() {
        assert!(named(None).is_err());
        assert!(named(Some(v1::ImageSpec::default())).is_err());
    }
}
