//! The adapter against a server that answers as each case needs it.

use std::{
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::StreamExt;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::*;
use crate::{
    error::{Kind, Sentinel},
    model::credentials::Secret,
};

mod blobs;
mod ranges;

/// What a client sent: request line and headers, names in lower case.
#[derive(Debug, Clone)]
struct Asked {
    target: String,
    headers: String,
    body: String,
}

impl Asked {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.lines().find_map(|line| {
            line.split_once(": ")
                .filter(|(key, _)| *key == name)
                .map(|(_, value)| value)
        })
    }
}

type Answer = dyn Fn(&Asked) -> Vec<u8> + Send + Sync;

/// One request a connection, so that a cut connection is a cut answer.
struct Server {
    address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start(answer: impl Fn(&Asked) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (asked, answer): (_, Arc<Answer>) =
            (Arc::<Mutex<Vec<Asked>>>::default(), Arc::new(answer));
        let log = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&answer), Arc::clone(&log)));
            }
        });
        Self {
            address,
            asked,
            task,
        }
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    fn image(&self, rest: &str) -> ImageRef {
        format!("{}/{rest}", self.address).parse().unwrap()
    }
}

async fn serve(mut stream: TcpStream, answer: Arc<Answer>, log: Arc<Mutex<Vec<Asked>>>) {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let (line, headers) = head.split_once("\r\n").unwrap();
    let mut asked = Asked {
        target: line.split(' ').nth(1).unwrap().to_owned(),
        headers: headers.replace('\r', ""),
        body: String::new(),
    };
    let length: usize = asked
        .header("content-length")
        .map_or(0, |length| length.parse().unwrap());
    while bytes.len() < end + length {
        stream.read_buf(&mut bytes).await.unwrap();
    }
    asked.body = String::from_utf8_lossy(&bytes[end..]).into_owned();
    let reply = answer(&asked);
    log.lock().unwrap().push(asked);
    for part in reply.chunks(1 << 20) {
        // A client that has seen enough closes early.
        let _ = stream.write_all(part).await;
        if reply.len() > part.len() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn reply(status: u16, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn registry(config_paths: Vec<std::path::PathBuf>) -> HttpRegistry {
    HttpRegistry::new(Settings {
        config_paths,
        progress_timeout: Duration::from_secs(30),
        first_pause: Duration::from_millis(5),
        ..Settings::default()
    })
}

fn password() -> Credentials {
    Credentials::new(Secret::Password("me".into(), "secret".into()), "")
}

fn descriptor(bytes: &[u8]) -> Descriptor {
    let annotations = std::collections::BTreeMap::new();
    Descriptor {
        media_type: String::new(),
        digest: Digest::of(bytes),
        size: bytes.len() as u64,
        platform: None,
        annotations,
    }
}

async fn read(mut stream: BlobStream) -> Result<Vec<u8>, Error> {
    let mut all = Vec::new();
    while let Some(chunk) = stream.next().await {
        all.extend_from_slice(&chunk?);
    }
    Ok(all)
}

const BASIC: &str = "Basic bWU6c2VjcmV0";

#[tokio::test]
async fn a_token_is_fetched_once_and_used_again() {
    let server = Server::start(|asked| {
        if asked.target.starts_with("/token") {
            return reply(200, "", br#"{"access_token":"T","expires_in":300}"#);
        }
        if asked.header("authorization") == Some("Bearer T") {
            return reply(200, "", b"{}");
        }
        let realm = format!("http://{}/token", asked.header("host").unwrap());
        reply(401, &format!("www-authenticate: Bearer realm=\"{realm}\",service=\"s\",scope=\"repository:a/b:pull\"\r\n"), b"")
    })
    .await;
    let registry = registry(vec![]);
    for _ in 0..2 {
        let fetched = registry
            .resolve(&server.image("a/b:1"), &password())
            .await
            .unwrap();
        assert_eq!(fetched.digest, Digest::of(b"{}"));
    }
    let asked = server.asked();
    let targets: Vec<_> = asked.iter().map(|asked| asked.target.as_str()).collect();
    let manifest = "/v2/a/b/manifests/1";
    assert_eq!(
        targets,
        [
            manifest,
            "/token?service=s&scope=repository%3Aa%2Fb%3Apull",
            manifest,
            manifest
        ]
    );
    assert_eq!(asked[0].header("authorization"), None);
    assert_eq!(asked[1].header("authorization"), Some(BASIC));
    assert!(
        asked[0]
            .header("accept")
            .unwrap()
            .contains("oci.image.index.v1+json")
    );
    registry
        .resolve(&server.image("a/b:1"), &Credentials::default())
        .await
        .unwrap();
    assert_eq!(
        server.asked()[4].header("authorization"),
        None,
        "another's token is not used"
    );
}

#[tokio::test]
async fn an_identity_token_is_exchanged_by_post() {
    let server = Server::start(|asked| {
        if asked.target == "/token" {
            return reply(200, "", br#"{"token":"T"}"#);
        }
        match asked.header("authorization") {
            Some("Bearer T") => reply(200, "", b"{}"),
            _ => reply(
                401,
                &format!(
                    "www-authenticate: bearer realm=http://{}/token\r\n",
                    asked.header("host").unwrap()
                ),
                b"",
            ),
        }
    })
    .await;
    let credentials = Credentials::new(Secret::IdentityToken("re&fresh".into()), "");
    registry(vec![])
        .resolve(&server.image("a:1"), &credentials)
        .await
        .unwrap();
    let body = &server.asked()[1].body;
    assert!(
        body.contains("refresh_token=re%26fresh") && body.contains("scope=repository%3Aa%3Apull"),
        "{body}"
    );
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let server = Server::start(|asked| match asked.target.rsplit('/').next() {
        Some("basic") if asked.header("authorization") == Some(BASIC) => reply(200, "", b"{}"),
        Some("basic" | "wrong") => reply(401, "www-authenticate: Basic realm=\"r\"\r\n", b""),
        Some("odd") => reply(401, "www-authenticate: Negotiate\r\n", b""),
        Some("denied") => reply(
            403,
            "",
            br#"{"errors":[{"code":"DENIED","message":"not you"}]}"#,
        ),
        Some("busy") => reply(503, "", b"<html>"),
        Some("huge") => reply(200, "", &vec![b' '; 5 << 20]),
        _ => reply(404, "", b""),
    })
    .await;
    let registry = registry(vec![]);
    let kind = async |tag: &str| {
        let error = registry
            .resolve(&server.image(&format!("a:{tag}")), &password())
            .await
            .map(drop);
        error.err().map(|error| (error.kind(), error.to_string()))
    };
    assert_eq!(kind("basic").await, None);
    assert_eq!(kind("wrong").await.unwrap().0, Kind::Unauthenticated);
    assert!(kind("odd").await.unwrap().1.contains("Negotiate"));
    let place = format!("{}/v2/a/manifests", server.address);
    assert_eq!(
        kind("denied").await.unwrap(),
        (
            Kind::PermissionDenied,
            format!("{place}/denied answered 403 (DENIED: not you)")
        )
    );
    assert_eq!(
        kind("busy").await.unwrap(),
        (
            Kind::Sentinel(Sentinel::RegistryUnavailable),
            format!("{place}/busy answered 503")
        )
    );
    assert_eq!(kind("absent").await.unwrap().0, Kind::NotFound);
    assert!(
        kind("huge")
            .await
            .unwrap()
            .1
            .contains("more than 4194304 bytes")
    );
    let nobody: ImageRef = "127.0.0.1:1/a:1".parse().unwrap();
    let unreachable = registry
        .resolve(&nobody, &Credentials::default())
        .await
        .unwrap_err();
    assert_eq!(
        unreachable.kind(),
        Kind::Sentinel(Sentinel::RegistryUnavailable)
    );
}

#[tokio::test]
async fn a_manifest_must_have_the_digest_that_was_asked_for() {
    let server = Server::start(|_| reply(200, "", b"{}")).await;
    let image = server.image("a:1");
    let registry = registry(vec![]);
    assert!(
        registry
            .resolve(
                &image.with_digest(Digest::of(b"{}")),
                &Credentials::default()
            )
            .await
            .is_ok()
    );
    let other = registry
        .resolve(
            &image.with_digest(Digest::of(b"x")),
            &Credentials::default(),
        )
        .await;
    assert!(matches!(other, Err(Error::DigestMismatch { .. })));
}

#[tokio::test]
async fn credentials_do_not_travel_along_a_redirect() {
    let elsewhere = Server::start(|_| reply(200, "", b"blob")).await;
    let to = format!("location: http://{}/cdn?sig=1\r\n", elsewhere.address);
    let server = Server::start(move |asked| match asked.header("authorization") {
        Some(BASIC) => reply(307, &to, b""),
        _ => reply(401, "www-authenticate: Basic\r\n", b""),
    })
    .await;
    let stream = registry(vec![])
        .blob(&server.image("a:1"), &descriptor(b"blob"), &password())
        .await
        .unwrap();
    assert_eq!(read(stream).await.unwrap(), b"blob");
    assert_eq!(elsewhere.asked()[0].header("authorization"), None);
    let evil = Server::start(|_| reply(302, "location: file:///etc/passwd\r\n", b"")).await;
    let refused = registry(vec![])
        .blob(&evil.image("a:1"), &descriptor(b"blob"), &password())
        .await;
    assert!(matches!(refused.map(drop), Err(Error::Redirect { .. })));
}

#[tokio::test]
async fn mirrors_are_asked_first_and_passed_over_when_they_fail() {
    let missing = Server::start(|_| reply(404, "", b"")).await;
    let blobs_only = Server::start(|_| reply(200, "", b"{}")).await;
    let server = Server::start(|_| reply(200, "", b"{}")).await;
    let root = TempDir::new().unwrap();
    fs::create_dir(root.path().join("reg.test")).unwrap();
    let hosts = format!(
        "server = \"http://{}\"\n[host.\"http://{}\"]\n[host.\"http://{}\"]\ncapabilities = [\"pull\"]\n[host.\"http://{}\".header]\nx-key = \"7\"\n",
        server.address, missing.address, blobs_only.address, missing.address
    );
    fs::write(root.path().join("reg.test/hosts.toml"), hosts).unwrap();
    let registry = registry(vec![root.path().to_owned()]);
    let image: ImageRef = "reg.test/a:1".parse().unwrap();
    let named = Credentials::new(
        Secret::Password("me".into(), "secret".into()),
        "https://reg.test/v1/",
    );
    registry.resolve(&image, &named).await.unwrap();
    assert_eq!(missing.asked()[0].target, "/v2/a/manifests/1?ns=reg.test");
    assert_eq!(missing.asked()[0].header("x-key"), Some("7"));
    assert_eq!((blobs_only.asked().len(), server.asked().len()), (0, 1));
    registry
        .resolve(&image.with_digest(Digest::of(b"{}")), &named)
        .await
        .unwrap();
    assert_eq!((blobs_only.asked().len(), server.asked().len()), (1, 1));
    fs::write(
        root.path().join("reg.test/hosts.toml"),
        "server = \"http://127.0.0.1:1\"\n[host.\"http://127.0.0.1:2\"]\n",
    )
    .unwrap();
    let error = registry
        .resolve(&image, &named)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("127.0.0.1:1/")
            && error.contains("before that")
            && error.contains("127.0.0.1:2/"),
        "{error}"
    );
}

#[tokio::test]
async fn credentials_that_name_a_server_go_only_there() {
    let challenge = |_: &Asked| reply(401, "www-authenticate: Basic\r\n", b"");
    let (mirror, server) = (
        Server::start(challenge).await,
        Server::start(challenge).await,
    );
    let root = TempDir::new().unwrap();
    fs::create_dir(root.path().join("_default")).unwrap();
    fs::write(
        root.path().join("_default/hosts.toml"),
        format!("[host.\"http://{}\"]\n", mirror.address),
    )
    .unwrap();
    let registry = registry(vec![root.path().to_owned()]);
    let named = Credentials::new(
        Secret::Password("me".into(), "secret".into()),
        &server.address,
    );
    assert!(
        registry
            .resolve(&server.image("a:1"), &named)
            .await
            .is_err()
    );
    assert!(
        mirror
            .asked()
            .iter()
            .all(|asked| asked.header("authorization").is_none())
    );
    assert_eq!(
        server.asked().last().unwrap().header("authorization"),
        Some(BASIC)
    );
}
