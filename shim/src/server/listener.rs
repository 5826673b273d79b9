//! The socket at which a daemon that was started anew finds the shim again.

use crate::api::Failure;
use rustix::fd::OwnedFd;
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use std::path::{Path, PathBuf};

/// The longest path of a socket, in bytes: below the kernel's 108 on every architecture.
const LONGEST_PATH: usize = 100;

/// A listening socket; its file goes when this is dropped.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    path: PathBuf,
}

impl Listener {
    /// Listens at a path that only root may connect to; a file that an earlier shim has left
    /// there is replaced.
    ///
    /// # Errors
    /// A path that is too long or cannot be bound.
    pub fn bind(path: &Path) -> Result<Self, Failure> {
        let step = || format!("listen at {}", path.display());
        if path.as_os_str().len() >= LONGEST_PATH {
            let why = format!("{LONGEST_PATH} bytes or more: choose a shorter state directory");
            return Err(Failure::invalid(step(), why));
        }
        let socket = bind(path).map_err(|errno| Failure::system(step(), errno))?;
        Ok(Self {
            socket,
            path: path.to_owned(),
        })
    }

    /// The socket, to be polled.
    #[must_use]
    pub fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// The next peer that may connect, if there is one.
    #[must_use]
    pub fn accept(&self) -> Option<OwnedFd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::accept_with(&self.socket, flags).ok()?;
        let peer = sockopt::socket_peercred(&socket).ok()?;
        (peer.uid.is_root() || peer.uid == rustix::process::geteuid()).then_some(socket)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Nobody could act on a failure: the directory goes with the container.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn bind(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    let address = SocketAddrUnix::new(path)?;
    match rustix::fs::unlink(path) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno),
    }
    let before = rustix::process::umask(Mode::RWXG | Mode::RWXO);
    let bound = rustix::net::bind(&socket, &address);
    rustix::process::umask(before);
    bound?;
    rustix::net::listen(&socket, 16)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn connect(path: &Path) -> Result<OwnedFd, Errno> {
        let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
        rustix::net::connect(&socket, &SocketAddrUnix::new(path).unwrap()).map(|()| socket)
    }

    #[test]
    fn a_stale_file_is_replaced_and_the_file_goes_with_the_listener() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shim.sock");
        std::fs::write(&path, "stale").unwrap();
        let listener = Listener::bind(&path).unwrap();
        assert!(listener.accept().is_none());
        let _peer = connect(&path).unwrap();
        assert!(listener.accept().is_some());
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "only its owner may connect");
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn a_long_path_is_refused_with_words() {
        let path = PathBuf::from(format!("/tmp/{}", "x".repeat(100)));
        let refused = Listener::bind(&path).unwrap_err();
        assert!(refused.to_string().contains("shorter"), "{refused}");
    }
}
