//! What proves to a registry who asks.
//!
//! Invariant: nothing here can be shown: `Debug` names the kind of secret, never the secret.

use crate::error::{Error, Result};

/// Credentials for a registry, from the CRI or a file. They are never shown.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// What they are.
    pub secret: Secret,
    /// The only host that they are for, without scheme and path; `None`: whoever serves the image.
    pub server: Option<String>,
}

/// What proves who asks.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub enum Secret {
    /// Nothing.
    #[default]
    Anonymous,
    /// User name and password.
    Password(String, String),
    /// A refresh token, to be exchanged at the token server.
    IdentityToken(String),
    /// A bearer token, sent as it is.
    RegistryToken(String),
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.secret {
            Secret::Anonymous => "anonymous",
            Secret::Password(..) => "password",
            Secret::IdentityToken(_) => "identity token",
            Secret::RegistryToken(_) => "registry token",
        };
        f.debug_struct("Credentials")
            .field("secret", &kind)
            .field("server", &self.server)
            .finish()
    }
}

impl Credentials {
    /// Credentials that are for `server` only: a host, or a URL whose scheme and path do not
    /// matter. Empty means for any.
    #[must_use]
    pub fn new(secret: Secret, server: &str) -> Self {
        let host = server.split_once("://").map_or(server, |(_, rest)| rest);
        let host = host.split('/').next().unwrap_or_default();
        let host = if host == "index.docker.io" {
            "docker.io"
        } else {
            host
        };
        Self {
            secret,
            server: (!host.is_empty()).then(|| host.to_owned()),
        }
    }

    /// User name and password from the `auth` field: base64 of `user:password`.
    ///
    /// # Errors
    /// `InvalidArgument` where it is not that; the field itself is not repeated.
    pub fn decode(auth: &str) -> Result<Secret> {
        use base64::Engine as _;
        let bad =
            || Error::invalid("the auth field of the credentials is no base64 of user:password");
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(auth.trim())
            .map_err(|_| bad())?;
        let text = String::from_utf8(bytes).map_err(|_| bad())?;
        let (user, password) = text.split_once(':').ok_or_else(bad)?;
        // Docker pads the password with NULs.
        Ok(Secret::Password(
            user.to_owned(),
            password.trim_end_matches('\0').to_owned(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_read_and_not_shown() {
        let secret = Credentials::decode("dXNlcjpwYTpzcw==").unwrap();
        assert!(secret == Secret::Password("user".into(), "pa:ss".into()));
        assert!(Credentials::decode("dXNlcg==").is_err());
        let credentials = Credentials::new(secret, "https://index.docker.io/v1/");
        assert_eq!(credentials.server.as_deref(), Some("docker.io"));
        assert!(!format!("{credentials:?}").contains("pa:ss"));
    }
}
