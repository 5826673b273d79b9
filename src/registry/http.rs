//! The adapter: one request to one host after the other, until one answers.

use std::{
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use reqwest::{
    Response, StatusCode, Url,
    header::{ACCEPT, HeaderMap, HeaderValue},
};
use serde::Deserialize;
use tracing::{debug, warn};

use super::{
    BlobStream, Error, Fetched, Registry,
    auth::{Authorizations, Scope},
    client::{self, Clients, place, with_authorization},
    hosts::{self, Endpoint},
    stream,
};
use crate::{
    id::{Digest, ImageRef},
    model::{
        credentials::{Credentials, Secret},
        image::{Descriptor, LARGEST_MANIFEST, MANIFEST_TYPES},
    },
};

/// How registries are reached.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Folders with `HOST/hosts.toml`; the first that knows the host counts.
    pub config_paths: Vec<PathBuf>,
    /// A request that makes no progress for this long is given up.
    pub progress_timeout: Duration,
}

/// Registries over HTTP. Clones share connections and tokens.
#[derive(Clone)]
pub struct HttpRegistry {
    shared: Arc<Shared>,
}

struct Shared {
    config_paths: RwLock<Vec<PathBuf>>,
    clients: Clients,
    authorizations: Authorizations,
}

impl HttpRegistry {
    /// Registries as the settings say. Nothing is opened yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let clients = Clients::new(settings.progress_timeout);
        Self {
            shared: Arc::new(Shared {
                config_paths: RwLock::new(settings.config_paths),
                clients,
                authorizations: Authorizations::default(),
            }),
        }
    }

    /// Replaces the folders, from the next request on.
    pub fn set_config_paths(&self, config_paths: Vec<PathBuf>) {
        let paths = self.shared.config_paths.write();
        *paths.unwrap_or_else(PoisonError::into_inner) = config_paths;
    }

    fn config_paths(&self) -> Vec<PathBuf> {
        let paths = self.shared.config_paths.read();
        paths.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The hosts to ask; at least one.
    pub(super) fn endpoints(
        &self,
        image: &ImageRef,
        able: impl Fn(&Endpoint) -> bool,
    ) -> Result<Vec<Endpoint>, Error> {
        let mut hosts = hosts::hosts_for(&self.config_paths(), image.registry())?;
        hosts.retain(able);
        if hosts.is_empty() {
            Err(Error::NoHost(image.registry().to_owned()))
        } else {
            Ok(hosts)
        }
    }

    /// Asks one host for `path` of the repository and answers its challenge, if it has one.
    pub(super) async fn ask(
        &self,
        host: &Endpoint,
        request: &Request<'_>,
    ) -> Result<Response, Error> {
        let url = request.url(host)?;
        let client = self.shared.clients.get(&host.connection, &place(&url))?;
        let scope = request.scope(host);
        let known = self.shared.authorizations.get(&scope);
        let own = with_authorization(&host.headers, known);
        let response = client::get(&client, url.clone(), &request.headers, &own).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return successful(response).await;
        }
        let Some(answer) = self
            .shared
            .authorizations
            .answer(&client, &response, scope)
            .await?
        else {
            return successful(response).await;
        };
        let own = with_authorization(&host.headers, Some(answer));
        successful(client::get(&client, url, &request.headers, &own).await?).await
    }

    async fn manifest_from(
        &self,
        host: &Endpoint,
        image: &ImageRef,
        credentials: &Credentials,
    ) -> Result<Fetched, Error> {
        let name = image
            .digest()
            .map(Digest::as_str)
            .or(image.tag())
            .unwrap_or("latest");
        let mut request = Request::new(image, format!("manifests/{name}"), credentials);
        request.headers.insert(
            ACCEPT,
            HeaderValue::try_from(MANIFEST_TYPES.join(", ")).expect("media types are ASCII"),
        );
        let response = self.ask(host, &request).await?;
        let place = place(response.url());
        let bytes = body(response, LARGEST_MANIFEST).await?;
        let digest = Digest::of(&bytes);
        match image.digest() {
            Some(expected) if *expected != digest => Err(Error::DigestMismatch {
                place,
                expected: expected.clone(),
                actual: digest,
            }),
            _ => Ok(Fetched { digest, bytes }),
        }
    }
}

#[async_trait]
impl Registry for HttpRegistry {
    async fn resolve(&self, image: &ImageRef, credentials: &Credentials) -> Result<Fetched, Error> {
        let by_digest = image.digest().is_some();
        let hosts = self.endpoints(image, |host| host.pull && (by_digest || host.resolve))?;
        let mut attempts = Vec::new();
        for host in &hosts {
            match self.manifest_from(host, image, credentials).await {
                Ok(fetched) => return Ok(fetched),
                Err(error) => attempts.push(note(host, error)),
            }
        }
        Err(together(attempts))
    }

    async fn blob(
        &self,
        image: &ImageRef,
        blob: &Descriptor,
        credentials: &Credentials,
    ) -> Result<BlobStream, Error> {
        let hosts = self.endpoints(image, |host| host.pull)?;
        stream::open(self.clone(), hosts, image, blob, credentials).await
    }
}

/// A mirror that fails is passed over, and said so.
pub(super) fn note(host: &Endpoint, error: Error) -> Error {
    let mirror = host.namespace.is_some();
    let host = host.base.host_str().unwrap_or_default();
    match mirror {
        true => warn!(
            host,
            error = crate::error::chain(&error),
            "mirror passed over"
        ),
        false => debug!(host, error = crate::error::chain(&error), "registry failed"),
    }
    error
}

/// The errors of all hosts as one.
pub(super) fn together(mut attempts: Vec<Error>) -> Error {
    match attempts.len() {
        1 => attempts.remove(0),
        _ => Error::All(attempts),
    }
}

/// What is asked of a host.
pub(super) struct Request<'a> {
    image: &'a ImageRef,
    path: String,
    credentials: &'a Credentials,
    /// Headers that every host gets.
    pub headers: HeaderMap,
}

impl<'a> Request<'a> {
    /// GET `path` below the image's repository.
    pub fn new(image: &'a ImageRef, path: String, credentials: &'a Credentials) -> Self {
        Self {
            image,
            path,
            credentials,
            headers: HeaderMap::new(),
        }
    }

    fn url(&self, host: &Endpoint) -> Result<Url, Error> {
        let path = format!("{}/{}", self.image.repository(), self.path);
        // A repository cannot hold a scheme (id.rs), so this stays below the base.
        let mut url = host
            .base
            .join(&format!("./{path}"))
            .map_err(|error| Error::Config {
                path: PathBuf::from(host.base.as_str()),
                reason: error.to_string(),
            })?;
        if let Some(namespace) = &host.namespace {
            url.query_pairs_mut().append_pair("ns", namespace);
        }
        Ok(url)
    }

    /// Credentials that name a server go only to it, and to the registry that they name.
    fn scope(&self, host: &Endpoint) -> Scope {
        let address = host.base.port().map_or_else(
            || host.base.host_str().unwrap_or_default().to_owned(),
            |port| format!("{}:{port}", host.base.host_str().unwrap_or_default()),
        );
        let meant = match &self.credentials.server {
            None => true,
            Some(server) => {
                *server == address || (host.namespace.is_none() && server == self.image.registry())
            }
        };
        let secret = if meant {
            self.credentials.secret.clone()
        } else {
            Secret::Anonymous
        };
        Scope {
            origin: host.base.origin().ascii_serialization(),
            repository: self.image.repository().to_owned(),
            credentials: Credentials {
                secret,
                server: None,
            },
        }
    }
}

/// The response if it is a success, else what it says.
async fn successful(response: Response) -> Result<Response, Error> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let place = place(response.url());
    let text = body(response, 64 * 1024)
        .await
        .map(|bytes| error_text(&bytes))
        .unwrap_or_default();
    Err(Error::Status {
        place,
        status: status.as_u16(),
        message: text,
    })
}

/// A whole body of at most `limit` bytes.
pub(super) async fn body(mut response: Response, limit: u64) -> Result<Bytes, Error> {
    let place = place(response.url());
    let mut bytes = BytesMut::new();
    loop {
        match response.chunk().await {
            Ok(None) => return Ok(bytes.freeze()),
            Ok(Some(chunk)) if (bytes.len() + chunk.len()) as u64 > limit => {
                return Err(Error::TooLarge { place, limit });
            }
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Err(source) => {
                return Err(Error::Transport {
                    operation: "read from",
                    place,
                    source: source.without_url(),
                });
            }
        }
    }
}

#[derive(Deserialize)]
struct RegistryErrors {
    errors: Vec<RegistryError>,
}

#[derive(Deserialize)]
struct RegistryError {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// The first error of a registry's JSON, short enough for a message.
pub(super) fn error_text(bytes: &[u8]) -> String {
    let Ok(RegistryErrors { errors }) = serde_json::from_slice(bytes) else {
        return String::new();
    };
    let text = errors
        .first()
        .map(|error| format!("{}: {}", error.code, error.message))
        .unwrap_or_default();
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}
