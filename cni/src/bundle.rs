//! The bundled plugins as a caller has them: a directory of links to the program `corten-cni`, one for each
//! plugin, which is searched like any other directory of plugins.
//!
//! So a plugin that is no part of Corten finds them as well, by `CNI_PATH`: `host-local` for its
//! addresses, or `bridge` that it hands its work on to.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

use crate::bundled::Kind;
use crate::conf::Plugin;

/// The bundled plugins, found on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    program: PathBuf,
    directory: PathBuf,
}

impl Bundle {
    /// Puts a link for each plugin that `program` is into `directory`, which is made where it is missing.
    ///
    /// # Errors
    /// What the file system says.
    pub fn lay_out(program: PathBuf, directory: PathBuf) -> io::Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&directory)?;
        for name in Self::names() {
            link(&program, &directory, name)?;
        }
        Ok(Self { program, directory })
    }

    /// The types of the bundled plugins.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Kind::ALL.into_iter().map(Kind::name)
    }

    /// The directory of the links.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The program that is all of them.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// True where `path`, which was found for the plugin, is the bundled one, and its IPAM plugin is
    /// bundled too or it has none.
    pub(crate) fn is_whole(&self, plugin: &Plugin, path: &Path) -> bool {
        let ipam = plugin.ipam();
        path.parent() == Some(&self.directory)
            && ipam.is_none_or(|kind| Self::names().any(|name| name == kind))
    }
}

/// Replaced by rename, so that there is one at every moment.
fn link(program: &Path, directory: &Path, name: &str) -> io::Result<()> {
    let path = directory.join(name);
    if fs::read_link(&path).is_ok_and(|target| target == program) {
        return Ok(());
    }
    let draft = directory.join(format!(".{name}.new"));
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(program, &draft)?;
    fs::rename(&draft, &path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_link_for_each_plugin_and_it_leads_to_the_newest_program() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("a/b");
        for program in ["/one", "/two", "/two"] {
            let bundle = Bundle::lay_out(program.into(), place.clone()).unwrap();
            assert_eq!(bundle.directory(), place);
            for name in ["bridge", "host-local", "loopback", "portmap"] {
                let target = fs::read_link(place.join(name)).unwrap();
                assert_eq!(target, Path::new(program));
            }
        }
        assert_eq!(fs::read_dir(&place).unwrap().count(), Kind::ALL.len());
    }
}
