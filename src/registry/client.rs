//! HTTP clients, one for all hosts that are connected to in the same way, and redirects followed
//! by hand: what may be sent where is decided here and not by the HTTP library.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use reqwest::{
    Certificate, Client, Identity, Response, Url,
    header::{AUTHORIZATION, HeaderMap, LOCATION},
    redirect::Policy,
};

use super::{Error, hosts::Connection};

/// Connecting takes at most this unless `dial_timeout` says otherwise.
const DIAL_TIMEOUT: Duration = Duration::from_secs(30);
/// As many redirects as browsers follow at the least.
const MOST_REDIRECTS: usize = 10;

/// The clients by how they connect; they keep their connections open for the next request.
#[derive(Default)]
pub(super) struct Clients {
    known: Mutex<HashMap<Connection, Client>>,
}

impl Clients {
    /// The client for a kind of connection.
    pub fn get(&self, connection: &Connection, place: &str) -> Result<Client, Error> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = known.get(connection) {
            return Ok(client.clone());
        }
        let failed = |source| Error::Transport {
            operation: "prepare the connection to",
            place: place.to_owned(),
            source,
        };
        let client = build(connection).map_err(failed)?;
        known.insert(connection.clone(), client.clone());
        Ok(client)
    }
}

fn build(connection: &Connection) -> Result<Client, reqwest::Error> {
    // Another part of the process may have chosen the same provider before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .user_agent(concat!("corten/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .connect_timeout(connection.dial_timeout.unwrap_or(DIAL_TIMEOUT))
        .tcp_nodelay(true)
        // One stream's default window of 64 KiB would hold every layer back.
        .http2_adaptive_window(true);
    if connection.plain {
        // A node without CA certificates can still use a registry without TLS.
        return builder.tls_certs_only([]).build();
    }
    for authority in &connection.authorities {
        builder = builder.tls_certs_merge(Certificate::from_pem_bundle(authority)?);
    }
    if let Some(identity) = &connection.identity {
        builder = builder.identity(Identity::from_pem(identity)?);
    }
    builder
        .tls_danger_accept_invalid_certs(connection.skip_verify)
        .build()
}

/// GETs `url` and follows redirects. `headers` go everywhere, `own` (credentials and what the
/// configuration adds) only to the origin that was asked.
pub(super) async fn get(
    client: &Client,
    url: Url,
    headers: &HeaderMap,
    own: &HeaderMap,
) -> Result<Response, Error> {
    let origin = url.origin();
    let mut at = url;
    for _ in 0..=MOST_REDIRECTS {
        let mut request = client.get(at.clone()).headers(headers.clone());
        if at.origin() == origin {
            request = request.headers(own.clone());
        }
        let response = request
            .send()
            .await
            .map_err(|source| unreachable(&at, source))?;
        match target(&at, &response)? {
            Some(next) => {
                if next.host() != at.host() {
                    let addresses = addresses(&next).await;
                    named(&at, &next, &addresses)?;
                }
                at = next;
            }
            None => return Ok(response),
        }
    }
    Err(Error::Redirect {
        place: place(&at),
        target: String::new(),
        reason: "more than 10 in a row",
    })
}

/// The answer to a request, if its head comes in time.
pub(super) async fn within<T>(
    patience: Duration,
    url: &Url,
    asked: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let answer = tokio::time::timeout(patience, asked).await;
    answer.unwrap_or_else(|_| {
        Err(Error::Stalled {
            place: place(url),
            seconds: patience.as_secs(),
            bytes: 0,
        })
    })
}

fn unreachable(url: &Url, source: reqwest::Error) -> Error {
    Error::Transport {
        operation: "reach",
        place: place(url),
        source: source.without_url(),
    }
}

/// Where a response sends us, if it does.
fn target(from: &Url, response: &Response) -> Result<Option<Url>, Error> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let location = response
        .headers()
        .get(LOCATION)
        .map(|value| String::from_utf8_lossy(value.as_bytes()));
    let location = location.unwrap_or_default();
    let refused = |reason| Error::Redirect {
        place: place(from),
        target: location.chars().take(200).collect(),
        reason,
    };
    let to = from.join(&location).map_err(|_| refused("no valid URL"))?;
    check(from, &to).map_err(refused)?;
    Ok(Some(to))
}

/// A registry must not send us to files, off TLS, or to services that only the node can reach.
fn check(from: &Url, to: &Url) -> Result<(), &'static str> {
    match (from.scheme(), to.scheme()) {
        ("http", "http" | "https") | ("https", "https") => {}
        ("https", "http") => return Err("would leave TLS"),
        _ => return Err("only http and https are followed"),
    }
    if link_local(to) && !link_local(from) {
        Err("link-local addresses are not followed")
    } else {
        Ok(())
    }
}

/// What a name leads to; nothing where only a proxy knows it.
async fn addresses(url: &Url) -> Vec<IpAddr> {
    let host = (
        url.host_str().unwrap_or_default(),
        url.port_or_known_default().unwrap_or_default(),
    );
    let found = tokio::net::lookup_host(host).await;
    found.map_or_else(|_| Vec::new(), |found| found.map(|it| it.ip()).collect())
}

/// A name is no way around [`check`].
fn named(from: &Url, to: &Url, addresses: &[IpAddr]) -> Result<(), Error> {
    match addresses.iter().copied().any(is_link_local) && !link_local(from) {
        true => Err(Error::Redirect {
            place: place(from),
            target: place(to),
            reason: "its name leads to a link-local address, and these are not followed",
        }),
        false => Ok(()),
    }
}

fn link_local(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse();
    address.is_ok_and(is_link_local)
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => {
            address.is_unicast_link_local()
                || address
                    .to_ipv4_mapped()
                    .is_some_and(|v4| v4.is_link_local())
        }
    }
}

/// Host and path for messages: the query may hold a signature.
pub(super) fn place(url: &Url) -> String {
    let port = url
        .port()
        .map(|port| format!(":{port}"))
        .unwrap_or_default();
    format!("{}{port}{}", url.host_str().unwrap_or_default(), url.path())
}

/// The headers with credentials, if there are some.
pub(super) fn with_authorization(
    headers: &HeaderMap,
    value: Option<reqwest::header::HeaderValue>,
) -> HeaderMap {
    let mut headers = headers.clone();
    if let Some(value) = value {
        headers.insert(AUTHORIZATION, value);
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_stay_on_the_web() {
        let allowed =
            |from: &str, to: &str| check(&from.parse().unwrap(), &to.parse().unwrap()).is_ok();
        assert!(allowed("https://r/v2/", "https://cdn/x"));
        assert!(allowed("http://r/v2/", "https://cdn/x"));
        assert!(!allowed("https://r/v2/", "http://cdn/x"));
        assert!(!allowed("http://r/", "file:///etc/passwd"));
        assert!(!allowed("http://r/", "http://169.254.169.254/latest"));
        assert!(!allowed("http://r/", "http://[fe80::1]/"));
        assert!(!allowed("http://r/", "http://[::ffff:169.254.169.254]/"));
        assert!(allowed("http://169.254.1.1/", "http://169.254.1.2/"));
    }

    #[tokio::test]
    async fn a_name_of_a_link_local_address_is_not_followed() {
        let leads = |from: &str, addresses: &[&str]| {
            let addresses: Vec<_> = addresses.iter().map(|it| it.parse().unwrap()).collect();
            let (from, to) = (from.parse().unwrap(), "http://cdn/x".parse().unwrap());
            named(&from, &to, &addresses).is_ok()
        };
        assert!(leads("http://r/", &["10.1.2.3", "::1"]) && leads("http://r/", &[]));
        assert!(!leads("http://r/", &["10.1.2.3", "169.254.169.254"]));
        assert!(!leads("http://r/", &["fe80::1"]));
        assert!(leads("http://169.254.1.1/", &["169.254.1.2"]));
        let found = addresses(&"http://localhost:7/".parse().unwrap()).await;
        assert!(found.iter().all(IpAddr::is_loopback) && !found.is_empty());
        let unknown = addresses(&"http://no.invalid/".parse().unwrap()).await;
        assert!(unknown.is_empty());
    }

    #[test]
    fn places_have_no_secrets() {
        let url = "https://user:pass@host:444/v2/x?sig=secret"
            .parse()
            .unwrap();
        assert_eq!(place(&url), "host:444/v2/x");
    }
}
