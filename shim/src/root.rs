//! Paths inside a container's root file system, whose content is hostile.
//!
//! Every path goes through `openat2` with `RESOLVE_IN_ROOT`: a symbolic link of the image, absolute
//! or with any number of `..`, ends inside the root, and no link of procfs is followed.
//!
//! Invariant: no path of a container is ever opened by name from here on; what is made is made
//! below a directory that is held open.

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, fstatfs};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read};

/// How many dangling symbolic links are followed while directories are made.
const MOST_LINKS: usize = 40;
/// How often `openat2` is asked again when something was renamed under it.
const MOST_TRIES: usize = 128;

/// The root directory of a container.
#[derive(Debug)]
pub struct Root(OwnedFd);

/// What a mount needs at its destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A directory.
    Directory,
    /// Anything that is no directory.
    File,
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Root {
    /// The directory is the root from here on.
    #[must_use]
    pub fn new(directory: OwnedFd) -> Self {
        Self(directory)
    }

    /// Opens a path inside the root, following links inside the root.
    ///
    /// # Errors
    /// What `openat2` says.
    pub fn open(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::CLOEXEC;
        for _ in 1..MOST_TRIES {
            match rustix::fs::openat2(&self.0, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN) => {}
                other => return other,
            }
        }
        rustix::fs::openat2(&self.0, path, flags, Mode::empty(), resolve)
    }

    /// Names a path inside the root without opening it.
    ///
    /// # Errors
    /// What `openat2` says.
    pub fn find(&self, path: &str) -> Result<OwnedFd, Errno> {
        self.open(path, OFlags::PATH)
    }

    /// As [`Root::find`], for a path that no symbolic link may be a part of.
    ///
    /// # Errors
    /// What `openat2` says; `LOOP` for a link.
    pub fn find_plain(&self, path: &str) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        rustix::fs::openat2(&self.0, path, flags, Mode::empty(), resolve)
    }

    /// Reads a regular file up to `most` bytes; more is cut off. What is no regular file is not
    /// even opened: that alone can do something to a device.
    ///
    /// # Errors
    /// What the kernel says; `InvalidInput` for what is no regular file.
    pub fn read(&self, path: &str, most: u64) -> io::Result<Vec<u8>> {
        let found = self.find(path)?;
        if kind(&found)? != FileType::RegularFile {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "is no regular file",
            ));
        }
        let mut content = Vec::new();
        let file = File::from(reopen(&found)?);
        file.take(most).read_to_end(&mut content)?;
        Ok(content)
    }

    /// Finds the destination of a mount, and makes what is missing of it.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn destination(&self, path: &str, target: Target) -> Result<OwnedFd, Errno> {
        match self.find(path) {
            Err(Errno::NOENT) => {}
            other => return other,
        }
        match target {
            Target::Directory => self.make_directory(path, Mode::from_raw_mode(0o755)),
            Target::File => self.make_file(path),
        }
    }

    /// Makes a directory and those above it, as far as they are missing.
    ///
    /// A link of the image that leads to nothing is followed by hand, so that what it names is made
    /// (`/var/run` → `/run` in an image without `/run`).
    ///
    /// # Errors
    /// What the kernel says; `LOOP` for too many links.
    pub fn make_directory(&self, path: &str, mode: Mode) -> Result<OwnedFd, Errno> {
        self.make_last(path, mode)
            .or_else(|_| self.make_each(path, mode))
    }

    /// Mostly only the last directory is missing.
    fn make_last(&self, path: &str, mode: Mode) -> Result<OwnedFd, Errno> {
        let (parent, name) = split(path)?;
        let parent = self.open(&parent, OFlags::PATH | OFlags::DIRECTORY)?;
        rustix::fs::mkdirat(&parent, &*name, mode)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&parent, &*name, flags, Mode::empty())
    }

    fn make_each(&self, path: &str, mode: Mode) -> Result<OwnedFd, Errno> {
        let mut rest: Vec<String> = parts(path);
        let mut done = String::new();
        let mut links = 0;
        while !rest.is_empty() {
            let name = rest.remove(0);
            let next = join(&done, &name);
            match self.open(&next, OFlags::PATH | OFlags::DIRECTORY) {
                Ok(_) => done = next,
                Err(Errno::NOENT) => match self.make_one(&done, &name, mode)? {
                    None => done = next,
                    Some(link) => {
                        links += 1;
                        if links > MOST_LINKS {
                            return Err(Errno::LOOP);
                        }
                        if link.starts_with('/') {
                            done.clear();
                        }
                        let mut from_link = parts(&link);
                        from_link.append(&mut rest);
                        rest = from_link;
                    }
                },
                Err(error) => return Err(error),
            }
        }
        let all = if done.is_empty() { "/" } else { &done };
        self.open(all, OFlags::PATH | OFlags::DIRECTORY)
    }

    /// Makes one directory; where a dangling link is in its place, returns what the link says.
    fn make_one(&self, parent: &str, name: &str, mode: Mode) -> Result<Option<String>, Errno> {
        let parent = if parent.is_empty() { "/" } else { parent };
        let parent = self.open(parent, OFlags::PATH | OFlags::DIRECTORY)?;
        match rustix::fs::mkdirat(&parent, name, mode) {
            Ok(()) => Ok(None),
            Err(Errno::EXIST) => {
                let link = rustix::fs::readlinkat(&parent, name, Vec::new())?;
                link.into_string().map(Some).map_err(|_| Errno::ILSEQ)
            }
            Err(error) => Err(error),
        }
    }

    /// Makes an empty file and the directories above it. A dangling link in its place is an error:
    /// a file is made only where it was asked for.
    fn make_file(&self, path: &str) -> Result<OwnedFd, Errno> {
        let (parent, name) = self.parent(path)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&parent, &*name, flags, Mode::from_raw_mode(0o644));
        file.map(drop)?;
        rustix::fs::openat(
            &parent,
            &*name,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )
    }

    /// The directory that a path is in, made where it is missing, and the path's last part.
    ///
    /// # Errors
    /// What the kernel says; `INVAL` for a path without a last part.
    pub fn parent(&self, path: &str) -> Result<(OwnedFd, String), Errno> {
        let (parent, name) = split(path)?;
        let directory = match self.open(&parent, OFlags::PATH | OFlags::DIRECTORY) {
            Err(Errno::NOENT) => self.make_directory(&parent, Mode::from_raw_mode(0o755)),
            other => other,
        }?;
        Ok((directory, name))
    }
}

/// Opens what a descriptor names, for reading, by the link that the host's procfs has for it.
fn reopen(found: &OwnedFd) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let links = rustix::fs::open(c"/proc/self/fd", flags, Mode::empty())?;
    if fstatfs(&links)?.f_type != PROC_SUPER_MAGIC {
        return Err(Errno::NOTSUP);
    }
    let name = found.as_raw_fd().to_string();
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::openat(&links, name, flags, Mode::empty())
}

fn parts(path: &str) -> Vec<String> {
    let parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
    parts.map(str::to_owned).collect()
}

/// The path of what is above, and the last part's name.
fn split(path: &str) -> Result<(String, String), Errno> {
    let mut all = parts(path);
    let name = all.pop().filter(|name| name != "..").ok_or(Errno::INVAL)?;
    Ok((format!("/{}", all.join("/")), name))
}

fn join(parent: &str, name: &str) -> String {
    format!("{parent}/{name}")
}

/// What kind of file a descriptor is of.
///
/// # Errors
/// What `fstat` says.
pub fn kind(fd: impl AsFd) -> Result<FileType, Errno> {
    rustix::fs::fstat(fd).map(|stat| FileType::from_raw_mode(stat.st_mode))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    fn root(path: &Path) -> Root {
        Root::new(File::open(path).unwrap().into())
    }

    #[test]
    fn links_of_the_image_end_inside_the_root() {
        let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        symlink(outside.path(), inside.path().join("absolute")).unwrap();
        symlink("../../../../../../../../etc", inside.path().join("up")).unwrap();
        let root = root(inside.path());
        root.destination("/absolute/made", Target::File).unwrap();
        assert_eq!(
            outside.path().read_dir().unwrap().count(),
            0,
            "nothing was made outside"
        );
        root.make_directory("/up/x", Mode::from_raw_mode(0o755))
            .unwrap();
        assert!(inside.path().join("etc/x").is_dir());
        assert!(!Path::new("/etc/x").exists());
    }

    #[test]
    fn a_dangling_link_to_a_directory_is_made_good() {
        let inside = tempfile::tempdir().unwrap();
        std::fs::create_dir(inside.path().join("var")).unwrap();
        symlink("/run", inside.path().join("var/run")).unwrap();
        root(inside.path())
            .destination("/var/run/secrets/token", Target::Directory)
            .unwrap();
        assert!(inside.path().join("run/secrets/token").is_dir());
    }

    #[test]
    fn links_in_a_circle_end() {
        let inside = tempfile::tempdir().unwrap();
        symlink("b", inside.path().join("a")).unwrap();
        symlink("a", inside.path().join("b")).unwrap();
        assert!(
            root(inside.path())
                .destination("/a/x", Target::Directory)
                .is_err()
        );
    }

    #[test]
    fn reading_is_bounded_and_only_of_files() {
        let inside = tempfile::tempdir().unwrap();
        std::fs::write(inside.path().join("long"), "0123456789").unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            inside.path().join("pipe"),
            FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        // One without a driver (major 60 is for experiments): opening it would fail otherwise.
        let number = rustix::fs::makedev(60, 77);
        let mode = Mode::from_raw_mode(0o600);
        let device = inside.path().join("device");
        // Without root there is none, and the rest is still to hold.
        let made = rustix::fs::mknodat(
            rustix::fs::CWD,
            &device,
            FileType::CharacterDevice,
            mode,
            number,
        );
        let root = root(inside.path());
        assert_eq!(root.read("/long", 4).unwrap(), b"0123");
        let kind = |path| root.read(path, 4).unwrap_err().kind();
        assert_eq!(kind("/pipe"), io::ErrorKind::InvalidInput);
        if made.is_ok() {
            assert_eq!(kind("/device"), io::ErrorKind::InvalidInput);
        }
    }
}
