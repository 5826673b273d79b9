//! The server on the Unix socket, for the CRI and whatever else is served beside it.
//!
//! Invariant: a socket that somebody answers on is never taken away from him.

use super::deadline::DeadlineLayer;
use super::trace::TraceLayer;
use crate::error::{Context, Error, Kind, Result};
use std::fs::Permissions;
use std::future::Future;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::service::Routes;
use tonic::transport::Server;

/// The largest message in either direction, in bytes: what the kubelet's client takes.
pub const LARGEST_MESSAGE: usize = 16 << 20;

/// Opens the socket for root and its group.
///
/// It is bound under another name and renamed when its mode is right, so that nobody finds it with
/// a wrong one, and an old one is replaced without a gap.
///
/// # Errors
/// `FailedPrecondition` where something answers there or it is no socket; `Internal` otherwise.
pub fn listen(endpoint: &Path) -> Result<UnixListener> {
    let failed = || format!("listen on {}", endpoint.display());
    is_free(endpoint)?;
    if let Some(directory) = endpoint.parent() {
        std::fs::create_dir_all(directory).context(Kind::Internal, failed)?;
    }
    let new = beside(endpoint);
    remove_if_there(&new).context(Kind::Internal, failed)?;
    let listener = UnixListener::bind(&new).context(Kind::Internal, failed)?;
    std::fs::set_permissions(&new, Permissions::from_mode(0o660))
        .context(Kind::Internal, failed)?;
    std::fs::rename(&new, endpoint).context(Kind::Internal, failed)?;
    Ok(listener)
}

fn beside(endpoint: &Path) -> PathBuf {
    let mut name = endpoint.as_os_str().to_owned();
    name.push("~");
    PathBuf::from(name)
}

fn remove_if_there(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Nothing is at the path, or a socket that nobody answers on.
fn is_free(endpoint: &Path) -> Result<()> {
    let taken = |why: &str| Err(Error::precondition(format!("{} {why}", endpoint.display())));
    match std::fs::symlink_metadata(endpoint) {
        Err(_) => return Ok(()),
        Ok(found) if !found.file_type().is_socket() => return taken("is no socket"),
        Ok(_) => {}
    }
    match UnixStream::connect(endpoint) {
        Ok(_) => taken("is served by another process: is a daemon running already?"),
        Err(_) => Ok(()),
    }
}

/// Serves until `stop`, and then until each call that runs has its answer.
///
/// # Errors
/// `Internal` where the socket fails.
pub async fn serve(
    listener: UnixListener,
    routes: Routes,
    stop: impl Future<Output = ()>,
) -> Result<()> {
    let calls = UnixListenerStream::new(listener);
    let mut server = Server::builder().layer(TraceLayer).layer(DeadlineLayer);
    let served = server
        .add_routes(routes)
        .serve_with_incoming_shutdown(calls, stop);
    served.await.context(Kind::Internal, || "serve".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_is_for_root_and_its_group() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/c.sock");
        let _listener = listen(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        assert!(!beside(&path).exists());
    }

    #[tokio::test]
    async fn only_a_dead_socket_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.sock");
        let first = listen(&path).unwrap();
        assert_eq!(listen(&path).unwrap_err().kind(), Kind::FailedPrecondition);
        drop(first);
        assert!(path.exists());
        let _second = listen(&path).unwrap();
        assert!(UnixStream::connect(&path).is_ok());
    }

    #[tokio::test]
    async fn a_file_is_no_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.sock");
        std::fs::write(&path, "precious").unwrap();
        assert_eq!(listen(&path).unwrap_err().kind(), Kind::FailedPrecondition);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }
}
