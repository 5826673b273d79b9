//! TLS for clients: a certificate and its key, and whose clients are let in; read again when their
//! files change.
//!
//! Files that change into something unusable are told in the log, and the last good ones stay in
//! force: a half-written certificate must not end `kubectl exec` on the node.
//!
//! Invariant: the files are looked at off the event loop, at most once a second, when a client comes;
//! storage that hangs holds no client up for longer than a moment.

use super::websocket::Io;
use crate::error::{Context, Error, Kind, Result};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How long the files are taken to be as they were.
const LOOK: Duration = Duration::from_secs(1);
/// How long a client waits for a look at them.
const GLANCE: Duration = Duration::from_millis(500);

/// What a connection keeps of what its client does not take, in bytes: half of what a record can have.
const KEPT: usize = 8 * 1024;
/// The most that TLS holds of a session, in bytes: what its client does not take; a record that was read
/// and not taken yet, as it came (RFC 8446, 5.2); and the place for the next one, which rustls lets grow to
/// the next power of two and gives back when it is empty. There is no setting for the last two.
#[cfg(test)]
pub(super) const MOST_HELD: usize = KEPT + (16 * 1024 + 256) + 32 * 1024;

/// A connection, which keeps no more than its part of what a session may.
pub fn bounded<T: AsyncRead + AsyncWrite + Send + Unpin + 'static>(mut client: TlsStream<T>) -> Io {
    client.get_mut().1.set_buffer_limit(Some(KEPT));
    Box::new(client)
}

/// Where the files are.
#[derive(Debug, Clone)]
pub struct Files {
    /// The certificate and the rest of its chain, PEM.
    pub cert: PathBuf,
    /// The private key, PEM.
    pub key: PathBuf,
    /// Who signs clients' certificates, PEM; `None`: clients need none.
    pub client_ca: Option<PathBuf>,
}

/// What tells one state of a file from another: device, inode, size, and when it was changed.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

impl Files {
    fn stamps(&self) -> Vec<Stamp> {
        let files = [&self.cert, &self.key];
        files
            .into_iter()
            .chain(&self.client_ca)
            .map(|file| stamp(file))
            .collect()
    }

    fn read(&self) -> Result<ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder
            .with_safe_default_protocol_versions()
            .context(Kind::Internal, || "set up TLS".to_owned())?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(file) => {
                let roots = Arc::new(roots(file)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
                builder.with_client_cert_verifier(
                    verifier.context(Kind::FailedPrecondition, || {
                        format!("use the client CA {}", file.display())
                    })?,
                )
            }
        };
        let chain = certificates(&self.cert)?;
        let key = PrivateKeyDer::from_pem_file(&self.key);
        let key = key.context(Kind::FailedPrecondition, || {
            format!("read the key {}", self.key.display())
        })?;
        let mut config =
            builder
                .with_single_cert(chain, key)
                .context(Kind::FailedPrecondition, || {
                    let (cert, key) = (self.cert.display(), self.key.display());
                    format!("use the certificate {cert} with the key {key}")
                })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn stamp(file: &Path) -> Stamp {
    let meta = std::fs::metadata(file).ok()?;
    let changed = (meta.ctime(), meta.ctime_nsec());
    Some((meta.dev(), meta.ino(), meta.size(), changed.0, changed.1))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read = || format!("read the certificates in {}", file.display());
    let found =
        CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = found.context(Kind::FailedPrecondition, read)?;
    match found.is_empty() {
        true => Err(Error::precondition(format!("{}: there is none", read()))),
        false => Ok(found),
    }
}

fn roots(file: &Path) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots
            .add(certificate)
            .context(Kind::FailedPrecondition, || {
                format!("use the client CA {}", file.display())
            })?;
    }
    Ok(roots)
}

/// Who lets TLS clients in.
pub struct Acceptor {
    files: Files,
    current: Arc<Mutex<Current>>,
}

struct Current {
    acceptor: TlsAcceptor,
    stamps: Vec<Stamp>,
    looked: Instant,
    /// Somebody looks, and has not come back.
    looking: bool,
}

impl Acceptor {
    /// With these files.
    ///
    /// # Errors
    /// `FailedPrecondition` where one cannot be used; it is named.
    pub async fn new(files: Files) -> Result<Self> {
        let (stamps, config) = read(files.clone()).await?;
        let current = Current {
            acceptor: TlsAcceptor::from(Arc::new(config?)),
            stamps,
            looked: Instant::now(),
            looking: false,
        };
        let current = Arc::new(Mutex::new(current));
        Ok(Self { files, current })
    }

    /// How the next client is let in.
    pub async fn current(&self) -> TlsAcceptor {
        if let Some(stamps) = self.last_seen() {
            let look = look(self.files.clone(), stamps, Arc::clone(&self.current));
            // Where it takes longer the last good files are in force, and it goes on.
            let _ = tokio::time::timeout(GLANCE, tokio::spawn(look)).await;
        }
        locked(&self.current).acceptor.clone()
    }

    /// What was seen last, where it is time to look again.
    fn last_seen(&self) -> Option<Vec<Stamp>> {
        let mut current = locked(&self.current);
        let due = !current.looking && current.looked.elapsed() >= LOOK;
        current.looking |= due;
        due.then(|| current.stamps.clone())
    }
}

fn locked(current: &Mutex<Current>) -> MutexGuard<'_, Current> {
    current.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks whether the files have changed, and takes them up.
async fn look(files: Files, seen: Vec<Stamp>, current: Arc<Mutex<Current>>) {
    let found = change(files, &seen).await;
    let mut current = locked(&current);
    current.looking = false;
    current.looked = Instant::now();
    let Some((stamps, config)) = found else {
        return;
    };
    // What cannot be used is not tried again before it changes.
    current.stamps = stamps;
    match config {
        Ok(config) => {
            current.acceptor = TlsAcceptor::from(Arc::new(config));
            tracing::info!("the files of [streaming] TLS have changed, and are in force");
        }
        Err(error) => tracing::error!(
            error = %error.chain(),
            "the files of [streaming] TLS have changed and cannot be used; the last ones stay in force"
        ),
    }
}

/// The files, where they are not as they were seen.
async fn change(files: Files, seen: &[Stamp]) -> Option<(Vec<Stamp>, Result<ServerConfig>)> {
    let looked = files.clone();
    let stamps = tokio::task::spawn_blocking(move || looked.stamps()).await;
    let stamps = stamps.ok().filter(|stamps| stamps != seen)?;
    let found = read(files).await;
    Some(found.unwrap_or_else(|error| (stamps, Err(error))))
}

/// The files' state, looked at before they are read: what changes meanwhile is seen the next time.
async fn read(files: Files) -> Result<(Vec<Stamp>, Result<ServerConfig>)> {
    let read = tokio::task::spawn_blocking(move || (files.stamps(), files.read()));
    read.await
        .context(Kind::Internal, || "read the files of TLS".to_owned())
}

#[cfg(test)]
pub(super) mod tests;
