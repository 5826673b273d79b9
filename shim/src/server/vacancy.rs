//! A shim that was started before its container is known, so that nobody waits for its start.
//!
//! Invariant: it has no name that another could have: it listens nowhere. When its container comes
//! it takes its id, also where others read it, its arguments.

use super::{Options, Shim};
use crate::api::{ANY, Failure};
use crate::title;
use std::path::{Path, PathBuf};

/// Where a shim is to listen once it has a container.
#[derive(Debug)]
pub struct Vacancy(PathBuf);

impl Shim<'_> {
    /// Listens, or leaves that for when the container is known.
    pub(super) fn take_place(&mut self, options: &Options) -> Result<(), Failure> {
        match options.id == ANY {
            true => self.vacancy = Some(Vacancy(options.socket.clone())),
            false => self.listen(&options.socket)?,
        }
        Ok(())
    }

    /// Whether it is the shim of this container, or may become it.
    pub(super) fn can_be_the_shim_of(&self, id: &str) -> Result<(), Failure> {
        match (&self.vacancy, self.id == id) {
            (Some(_), _) => checked(id),
            (None, true) => Ok(()),
            (None, false) => Err(Failure::invalid("create", "the id is another shim's")),
        }
    }

    /// As [`Shim::can_be_the_shim_of`]; becomes it.
    pub(super) fn be_the_shim_of(&mut self, id: &str) -> Result<(), Failure> {
        self.can_be_the_shim_of(id)?;
        if let Some(Vacancy(socket)) = &self.vacancy {
            self.listen(&named(socket, id))?;
            self.vacancy = None;
            // Nothing depends on it but who looks at the list of processes.
            let _ = title::name(id);
            id.clone_into(&mut self.id);
        }
        Ok(())
    }
}

fn checked(id: &str) -> Result<(), Failure> {
    let digits = id.bytes().all(|byte| byte.is_ascii_hexdigit());
    match digits && id.len() == ANY.len() && id != ANY {
        true => Ok(()),
        false => Err(Failure::invalid("create", "the id is not 64 hex digits")),
    }
}

/// The name of the socket is a beginning of the id.
fn named(socket: &Path, id: &str) -> PathBuf {
    let length = socket.file_name().map_or(0, std::ffi::OsStr::len);
    socket.with_file_name(&id[..length.min(id.len())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_named_by_the_beginning_of_the_id() {
        let id = "a1".repeat(32);
        let socket = Path::new("/run/corten/shims").join(&ANY[..32]);
        let named = named(&socket, &id);
        assert_eq!(named, Path::new("/run/corten/shims").join(&id[..32]));
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for odd in ["", "../../../etc", &"g".repeat(64), &"a".repeat(65), ANY] {
            checked(odd).unwrap_err();
        }
        checked(&"0a".repeat(32)).unwrap();
    }
}
