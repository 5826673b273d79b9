//! The adapter: one request to one host after the other, until one answers.

use std::{
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use reqwest::{
    Client, Response, StatusCode, Url,
    header::{ACCEPT, HeaderMap, HeaderValue},
};
use serde::Deserialize;
use tracing::{debug, warn};

use super::{
    BlobStream, Error, Fetched, Givers, Registry, Route,
    ahead::Budget,
    auth::{Asker, Authorizations, Scope},
    client::{self, Clients, place, with_authorization},
    hosts::{self, Endpoint},
    keyring::{Keyring, Places},
    pace::{Bandwidth, Pace},
    patience::{Patience, Rounds, retry_after},
    registries_conf::RegistriesConf,
    route, stream,
};
use crate::{
    id::{self, Digest, ImageRef},
    model::{
        credentials::{Credentials, Secret},
        image::{Descriptor, LARGEST_MANIFEST, MANIFEST_TYPES},
    },
};

/// A host that was tried with TLS and has none is not tried again for each layer of an image.
const TRIAL_PAUSE: Duration = Duration::from_secs(20);

/// How registries are reached.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Folders with `HOST/hosts.toml`; the first that knows the host counts.
    pub config_paths: Vec<PathBuf>,
    /// A `registries.conf`, with its drop-ins; `None`: there is none to read.
    pub registries_conf: Option<PathBuf>,
    /// Files with the node's own credentials.
    pub auth_files: Vec<PathBuf>,
    /// Programs that know credentials for any host.
    pub credential_helpers: Vec<String>,
    /// A request that makes no progress for this long is given up.
    pub progress_timeout: Duration,
    /// The bytes a second that all downloads together may take; `None`: as many as there are.
    pub bandwidth_limit: Option<u64>,
    /// The first pause after a round in which no host had time; the next ones double.
    pub first_pause: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            config_paths: Vec::new(),
            registries_conf: None,
            auth_files: Vec::new(),
            credential_helpers: Vec::new(),
            progress_timeout: Duration::from_secs(60),
            bandwidth_limit: None,
            first_pause: Duration::from_millis(500),
        }
    }
}

/// Registries over HTTP. Clones share connections and tokens.
#[derive(Clone)]
pub struct HttpRegistry {
    shared: Arc<Shared>,
}

struct Shared {
    settings: RwLock<Settings>,
    /// What registries.conf said when it was read last.
    conf: RwLock<Arc<RegistriesConf>>,
    keyring: Keyring,
    clients: Clients,
    authorizations: Authorizations,
    patience: Patience,
    bandwidth: Bandwidth,
    parts: Budget,
}

impl HttpRegistry {
    /// Registries as the settings say. Nothing is opened yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let registry = Self {
            shared: Arc::new(Shared {
                settings: RwLock::default(),
                conf: RwLock::default(),
                keyring: Keyring::default(),
                clients: Clients::default(),
                authorizations: Authorizations::default(),
                patience: Patience::default(),
                bandwidth: Bandwidth::default(),
                parts: Budget::default(),
            }),
        };
        registry.set(settings);
        registry
    }

    /// Replaces the settings: the bandwidth at once, the rest from the next request on.
    pub fn set(&self, settings: Settings) {
        self.shared.bandwidth.set(settings.bandwidth_limit);
        let known = self.shared.settings.write();
        *known.unwrap_or_else(PoisonError::into_inner) = settings;
        if let Err(error) = self.refresh() {
            warn!(
                error = crate::error::chain(&error),
                "short names mean what they did"
            );
        }
    }

    /// What registries.conf said when it was read last.
    fn conf(&self) -> Arc<RegistriesConf> {
        let conf = self.shared.conf.read();
        Arc::clone(&conf.unwrap_or_else(PoisonError::into_inner))
    }

    /// The settings in force.
    pub(super) fn settings(&self) -> Settings {
        let known = self.shared.settings.read();
        known.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What all downloads share.
    pub(super) fn bandwidth(&self) -> &Bandwidth {
        &self.shared.bandwidth
    }

    /// What blobs in parts share.
    pub(super) fn parts(&self) -> &Budget {
        &self.shared.parts
    }

    /// The hosts to ask; at least one.
    pub(super) fn endpoints(
        &self,
        image: &ImageRef,
        able: impl Fn(&Endpoint) -> bool,
    ) -> Result<Vec<Endpoint>, Error> {
        let mut hosts = self.routes(image)?;
        hosts.retain(|host| host.fits(image) && able(host));
        if hosts.is_empty() {
            Err(Error::NoHost(image.registry().to_owned()))
        } else {
            Ok(hosts)
        }
    }

    /// All hosts of the image, by what the files say now.
    fn routes(&self, image: &ImageRef) -> Result<Vec<Endpoint>, Error> {
        self.refresh()?;
        route::endpoints(&self.settings().config_paths, &self.conf(), image)
    }

    /// Asks one host for `path` of the repository and answers its challenge, if it has one.
    pub(super) async fn ask(
        &self,
        host: &Endpoint,
        request: &Request<'_>,
    ) -> Result<Response, Error> {
        let url = request.url(host)?;
        let client = self.shared.clients.get(&host.connection, &place(&url))?;
        let scope = self.scope(host, request).await;
        if let Some(left) = self.shared.patience.left(&scope.asker) {
            let place = place(&url);
            return Err(Error::Busy { place, left });
        }
        let asker = scope.asker.clone();
        let answer = self.answer(&client, &url, host, request, scope).await;
        if let Some(pause) = answer.as_ref().err().and_then(|error| pause(host, error)) {
            self.shared.patience.keep(&asker, pause);
        }
        answer
    }

    /// Who asks: whom the request names, or the node.
    async fn scope(&self, host: &Endpoint, request: &Request<'_>) -> Scope {
        let mut scope = request.scope(host);
        if scope.asker.secret == Secret::Anonymous {
            let settings = self.settings();
            let helpers = [settings.credential_helpers, self.conf().helpers.clone()];
            let places = Places {
                files: settings.auth_files,
                helpers: helpers.concat(),
            };
            let name = format!("{}/{}", host.registry, host.repository);
            scope.asker.secret = self.shared.keyring.find(&places, &name).await;
        }
        scope
    }

    async fn answer(
        &self,
        client: &Client,
        url: &Url,
        host: &Endpoint,
        request: &Request<'_>,
        scope: Scope,
    ) -> Result<Response, Error> {
        let patience = self.settings().progress_timeout;
        let known = self.shared.authorizations.get(&scope);
        let own = with_authorization(&host.headers, known);
        let asked = client::get(client, url.clone(), &request.headers, &own);
        let response = client::within(patience, url, asked).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return successful(response, patience).await;
        }
        let authorizations = &self.shared.authorizations;
        let answer = authorizations.answer(client, &response, scope, patience);
        let Some(answer) = answer.await? else {
            return successful(response, patience).await;
        };
        let own = with_authorization(&host.headers, Some(answer));
        let asked = client::get(client, url.clone(), &request.headers, &own);
        successful(client::within(patience, url, asked).await?, patience).await
    }

    /// The manifest from the first host that has it; when none had time, again after a pause.
    async fn first(
        &self,
        hosts: &[Endpoint],
        image: &ImageRef,
        digest: Option<&Digest>,
        credentials: &Credentials,
    ) -> Result<Fetched, Error> {
        let mut rounds = Rounds::new(self.settings().first_pause);
        loop {
            let mut attempts = Vec::new();
            for host in hosts {
                match self.manifest_from(host, image, digest, credentials).await {
                    Ok(fetched) => return Ok(fetched),
                    Err(error) => attempts.push(note(host, error)),
                }
            }
            match rounds.pause(&attempts) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(together(attempts)),
            }
        }
    }

    /// The manifest of this digest, or the one that the image's tag names.
    async fn manifest_from(
        &self,
        host: &Endpoint,
        image: &ImageRef,
        digest: Option<&Digest>,
        credentials: &Credentials,
    ) -> Result<Fetched, Error> {
        let name = digest.map(Digest::as_str).or(image.tag());
        let name = name.unwrap_or("latest");
        let mut request = Request::new(image, format!("manifests/{name}"), credentials);
        request.headers.insert(
            ACCEPT,
            HeaderValue::try_from(MANIFEST_TYPES.join(", ")).expect("media types are ASCII"),
        );
        let response = self.ask(host, &request).await?;
        let place = place(response.url());
        let patience = self.settings().progress_timeout;
        let bytes = body(response, LARGEST_MANIFEST, patience).await?;
        let actual = Digest::of(&bytes);
        match digest {
            Some(expected) if *expected != actual => Err(Error::DigestMismatch {
                place,
                expected: expected.clone(),
                actual,
            }),
            _ => Ok(Fetched {
                digest: actual,
                bytes,
            }),
        }
    }
}

#[async_trait]
impl Registry for HttpRegistry {
    async fn resolve(&self, image: &ImageRef, credentials: &Credentials) -> Result<Fetched, Error> {
        let by_digest = image.digest().is_some();
        let hosts = self.endpoints(image, |host| host.pull && (by_digest || host.resolve))?;
        self.first(&hosts, image, image.digest(), credentials).await
    }

    async fn manifest(
        &self,
        image: &ImageRef,
        digest: &Digest,
        credentials: &Credentials,
    ) -> Result<Fetched, Error> {
        let hosts = self.endpoints(image, |host| host.pull)?;
        self.first(&hosts, image, Some(digest), credentials).await
    }

    fn names(&self, name: &str) -> crate::error::Result<Vec<ImageRef>> {
        let Some((short, rest)) = id::short_name(name) else {
            return Ok(vec![name.parse()?]);
        };
        match self.conf().full_names(short)? {
            Some(names) => {
                let names = names.iter().map(|name| format!("{name}{rest}").parse());
                names.collect()
            }
            None => Ok(vec![name.parse()?]),
        }
    }

    fn refresh(&self) -> Result<(), Error> {
        let conf = match self.settings().registries_conf {
            Some(file) => RegistriesConf::read(&file)?,
            None => RegistriesConf::default(),
        };
        let known = self.shared.conf.write();
        *known.unwrap_or_else(PoisonError::into_inner) = Arc::new(conf);
        Ok(())
    }

    fn explain(&self, image: &ImageRef) -> Result<Vec<Route>, Error> {
        Ok(route::explain(&self.routes(image)?, image))
    }

    async fn blob_of(
        &self,
        image: &ImageRef,
        blob: &Descriptor,
        credentials: &Credentials,
        (from, givers): (u64, &Givers),
    ) -> Result<BlobStream, Error> {
        let hosts = self.endpoints(image, |host| host.pull && givers.trusts(host))?;
        let wanted = stream::Wanted {
            image: image.clone(),
            blob: blob.clone(),
            credentials: credentials.clone(),
            givers: givers.clone(),
            from,
        };
        stream::open(self.clone(), hosts, wanted).await
    }
}

/// For how long a host is not asked again after this error.
fn pause(host: &Endpoint, error: &Error) -> Option<Duration> {
    match error {
        Error::Status { .. } => error.retry_after().filter(|_| error.is_temporary()),
        Error::Transport { source, .. } if host.trial && source.is_connect() => Some(TRIAL_PAUSE),
        _ => None,
    }
}

/// A mirror that fails is passed over, and said so.
pub(super) fn note(host: &Endpoint, error: Error) -> Error {
    let mirror = host.mirror;
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
        let path = format!("{}/{}", host.repository, self.path);
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
        let address = hosts::address(&host.base);
        let meant = match &self.credentials.server {
            None => true,
            Some(server) => *server == address || (!host.mirror && server == self.image.registry()),
        };
        let secret = if meant {
            self.credentials.secret.clone()
        } else {
            Secret::Anonymous
        };
        Scope {
            asker: Asker {
                origin: host.base.origin().ascii_serialization(),
                secret,
            },
            repository: host.repository.clone(),
        }
    }
}

/// The response if it is a success, else what it says.
async fn successful(response: Response, patience: Duration) -> Result<Response, Error> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let (place, retry_after) = (place(response.url()), retry_after(&response));
    let text = body(response, 64 * 1024, patience)
        .await
        .map(|bytes| error_text(&bytes))
        .unwrap_or_default();
    Err(Error::Status {
        place,
        status: status.as_u16(),
        message: text,
        retry_after,
    })
}

/// A whole body of at most `limit` bytes, which has to make progress.
pub(super) async fn body(
    mut response: Response,
    limit: u64,
    patience: Duration,
) -> Result<Bytes, Error> {
    let mut pace = Pace::new(patience);
    let mut bytes = BytesMut::new();
    while let Some(chunk) = pace.chunk(&mut response).await? {
        if (bytes.len() + chunk.len()) as u64 > limit {
            let place = place(response.url());
            return Err(Error::TooLarge { place, limit });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.freeze())
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
