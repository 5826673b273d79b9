//! `Debug` for messages that carry credentials: a request can be logged whole, and no secret is in
//! the log. Whether a secret was given is shown, since that is what one asks of a failed pull.

use std::fmt;

use crate::admin::v1::RegistryAuth;
use crate::runtime::v1::AuthConfig;

impl fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthConfig")
            .field("username", &self.username)
            .field("password", &Secret(&self.password))
            .field("auth", &Secret(&self.auth))
            .field("server_address", &self.server_address)
            .field("identity_token", &Secret(&self.identity_token))
            .field("registry_token", &Secret(&self.registry_token))
            .finish()
    }
}

impl fmt::Debug for RegistryAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryAuth")
            .field("username", &self.username)
            .field("password", &Secret(&self.password))
            .field("identity_token", &Secret(&self.identity_token))
            .field("registry_token", &Secret(&self.registry_token))
            .finish()
    }
}

/// Shows only whether there is a secret.
struct Secret<'a>(&'a str);

impl fmt::Debug for Secret<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() {
            "none"
        } else {
            "redacted"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::v1::PullImageRequest as AdminPull;
    use crate::runtime::v1::PullImageRequest;

    #[test]
    fn cri_pull_shows_the_user_and_no_secret() {
        let auth = AuthConfig {
            username: "shown-user".into(),
            password: "hidden-1".into(),
            auth: "hidden-2".into(),
            server_address: "shown-server".into(),
            identity_token: "hidden-3".into(),
            registry_token: "hidden-4".into(),
        };
        let request = PullImageRequest {
            auth: Some(auth),
            ..Default::default()
        };
        assert_shows_no_secret(&format!("{request:?}"), 4);
    }

    #[test]
    fn admin_pull_shows_the_user_and_no_secret() {
        let auth = RegistryAuth {
            username: "shown-user".into(),
            password: "hidden-1".into(),
            identity_token: "hidden-2".into(),
            registry_token: String::new(),
        };
        let request = AdminPull {
            reference: "busybox".into(),
            auth: Some(auth),
        };
        assert_shows_no_secret(&format!("{request:?}"), 2);
    }

    fn assert_shows_no_secret(shown: &str, secrets: usize) {
        assert!(shown.contains("shown-user"), "{shown}");
        assert!(!shown.contains("hidden"), "{shown}");
        assert_eq!(shown.matches("redacted").count(), secrets, "{shown}");
    }
}
