//! Credentials to Authorization headers: basic, bearer tokens from a token server, and the memory
//! of what worked, per host, repository and credentials.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use base64::Engine as _;
use reqwest::{
    Client, Response, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, WWW_AUTHENTICATE},
};
use serde::Deserialize;

use super::{
    Error,
    challenge::{self, Challenge},
    client::{self, place, with_authorization},
    patience::retry_after,
};
use crate::model::credentials::Secret;

/// Token servers that do not say how long a token lives mean this.
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// A token is not used in its last seconds: the request takes time too.
const MARGIN: Duration = Duration::from_secs(10);
/// A token server's answer is not longer than this.
const LARGEST_ANSWER: u64 = 1 << 20;

/// Who asks whom.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Asker {
    /// Scheme, host and port of the registry.
    pub origin: String,
    /// What proves who asks.
    pub secret: Secret,
}

/// For whom and what a header is good.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Scope {
    /// Who asks whom.
    pub asker: Asker,
    /// The repository.
    pub repository: String,
}

/// Headers that worked, until they expire.
#[derive(Default)]
pub(super) struct Authorizations(Mutex<HashMap<Scope, (HeaderValue, Instant)>>);

impl Authorizations {
    /// A header that should still be good.
    pub fn get(&self, scope: &Scope) -> Option<HeaderValue> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .get(scope)
            .filter(|(_, until)| *until > Instant::now())
            .map(|(value, _)| value.clone())
    }

    fn put(&self, scope: Scope, value: HeaderValue, life: Duration) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        known.retain(|_, (_, until)| *until > now);
        known.insert(
            scope,
            (
                value,
                now + life.saturating_sub(MARGIN).max(Duration::from_secs(1)),
            ),
        );
    }

    /// Answers the challenge of a 401; `None` where there is nothing to answer with.
    pub async fn answer(
        &self,
        client: &Client,
        refused: &Response,
        scope: Scope,
        patience: Duration,
    ) -> Result<Option<HeaderValue>, Error> {
        let headers = refused.headers().get_all(WWW_AUTHENTICATE);
        let texts: Vec<_> = headers
            .iter()
            .filter_map(|value| value.to_str().ok())
            .collect();
        let challenges: Vec<_> = texts
            .iter()
            .flat_map(|text| challenge::parse(text))
            .collect();
        let find = |scheme: &str| challenges.iter().find(|one| one.scheme == scheme);
        let (value, life) = if let Some(bearer) = find("bearer") {
            let token = bearer_token(client, refused.url(), bearer, &scope, patience).await?;
            (authorization("Bearer", &token.value)?, token.life)
        } else if find("basic").is_some() {
            let Secret::Password(user, password) = &scope.asker.secret else {
                return Ok(None);
            };
            (basic(user, password)?, Duration::from_secs(3600))
        } else if texts.is_empty() {
            return Ok(None);
        } else {
            return Err(Error::Challenge {
                place: place(refused.url()),
                challenge: texts.join(", "),
            });
        };
        self.put(scope, value.clone(), life);
        Ok(Some(value))
    }
}

struct Token {
    value: String,
    life: Duration,
}

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    expires_in: Option<u64>,
}

async fn bearer_token(
    client: &Client,
    registry: &Url,
    challenge: &Challenge,
    scope: &Scope,
    patience: Duration,
) -> Result<Token, Error> {
    if let Secret::RegistryToken(token) = &scope.asker.secret {
        return Ok(Token {
            value: token.clone(),
            life: DEFAULT_LIFE,
        });
    }
    let realm = realm(registry, challenge)?;
    let failed = |reason: String| token_error(registry, &realm, reason);
    let asked = request_token(client, realm.clone(), challenge, scope);
    let response = client::within(patience, &realm, asked).await?;
    let status = response.status();
    let retry_after = retry_after(&response);
    let bytes = super::http::body(response, LARGEST_ANSWER, patience).await?;
    if matches!(status.as_u16(), 429 | 500..=599) {
        return Err(Error::Status {
            place: place(&realm),
            status: status.as_u16(),
            message: super::http::error_text(&bytes),
            retry_after,
        });
    }
    if !status.is_success() {
        return Err(failed(format!(
            "it answered {} {}",
            status.as_u16(),
            super::http::error_text(&bytes)
        )));
    }
    let answer: TokenAnswer =
        serde_json::from_slice(&bytes).map_err(|error| failed(error.to_string()))?;
    let value = if answer.token.is_empty() {
        answer.access_token
    } else {
        answer.token
    };
    if value.is_empty() {
        return Err(failed("its answer has no token".into()));
    }
    Ok(Token {
        value,
        life: answer.expires_in.map_or(DEFAULT_LIFE, Duration::from_secs),
    })
}

/// The token server's address. A registry behind TLS must not send credentials off TLS.
fn realm(registry: &Url, challenge: &Challenge) -> Result<Url, Error> {
    let text = challenge
        .parameters
        .get("realm")
        .map(String::as_str)
        .unwrap_or_default();
    let refused = |reason: &str| Error::Token {
        place: text.chars().take(200).collect(),
        host: place(registry),
        reason: reason.into(),
    };
    let realm = Url::parse(text).map_err(|_| refused("the realm is no URL"))?;
    match (registry.scheme(), realm.scheme()) {
        (_, "https") | ("http", "http") => Ok(realm),
        _ => Err(refused("the realm is not on https")),
    }
}

fn token_error(registry: &Url, realm: &Url, reason: String) -> Error {
    Error::Token {
        place: place(realm),
        host: registry.host_str().unwrap_or_default().to_owned(),
        reason,
    }
}

/// GET with basic credentials or none; POST where there is a refresh token (RFC 6749 §6).
async fn request_token(
    client: &Client,
    mut realm: Url,
    challenge: &Challenge,
    scope: &Scope,
) -> Result<Response, Error> {
    let wanted = challenge
        .parameters
        .get("scope")
        .cloned()
        .unwrap_or_else(|| format!("repository:{}:pull", scope.repository));
    let service = challenge
        .parameters
        .get("service")
        .map(String::as_str)
        .unwrap_or_default();
    if let Secret::IdentityToken(refresh) = &scope.asker.secret {
        let fields = [
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh),
            ("client_id", "corten"),
            ("service", service),
            ("scope", &wanted),
        ];
        let request = client
            .post(realm.clone())
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form(&fields));
        let sent = request.send().await;
        return sent.map_err(|source| Error::Transport {
            operation: "reach",
            place: place(&realm),
            source: source.without_url(),
        });
    }
    realm
        .query_pairs_mut()
        .append_pair("service", service)
        .append_pair("scope", &wanted);
    let own = match &scope.asker.secret {
        Secret::Password(user, password) => {
            with_authorization(&HeaderMap::new(), Some(basic(user, password)?))
        }
        _ => HeaderMap::new(),
    };
    client::get(client, realm, &HeaderMap::new(), &own).await
}

/// `application/x-www-form-urlencoded`.
fn form(fields: &[(&str, &str)]) -> String {
    let mut url = Url::parse("form:/").expect("a constant URL");
    url.query_pairs_mut().extend_pairs(fields);
    url.query().unwrap_or_default().to_owned()
}

fn basic(user: &str, password: &str) -> Result<HeaderValue, Error> {
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    authorization("Basic", &pair)
}

fn authorization(scheme: &str, value: &str) -> Result<HeaderValue, Error> {
    let mut header =
        HeaderValue::try_from(format!("{scheme} {value}")).map_err(|_| Error::Token {
            place: AUTHORIZATION.to_string(),
            host: String::new(),
            reason: "the token holds bytes that no header can carry".into(),
        })?;
    header.set_sensitive(true);
    Ok(header)
}
