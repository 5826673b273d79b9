//! Where an export goes: a tar into a file or a pipe, or a directory.
//!
//! The tar is the plain format of POSIX.1-1988 with GNU's way of writing the sizes that are too large
//! for it. Invariant: a file or directory of the name that was asked for is whole: it is written beside
//! its place first.

use crate::error::{Context, Error, Kind, Result};
use std::fs::{self, File};
use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// A tar's unit.
const BLOCK: usize = 512;
/// The first size that eleven octal digits cannot say.
const LARGE: u64 = 1 << 33;

/// An archive that is being written.
pub(super) enum Archive {
    /// A tar.
    Tar(Tar),
    /// A directory with the members as files.
    Folder(Folder),
}

/// A tar on its way.
pub(super) struct Tar {
    out: File,
    /// Where it is written, and where it belongs; `None`: it goes where it belongs at once.
    place: Option<(PathBuf, PathBuf)>,
    folders: Vec<String>,
    /// Bytes that the last member still gets, and what fills its last block.
    left: (u64, usize),
}

/// A directory on its way.
pub(super) struct Folder {
    at: PathBuf,
    place: PathBuf,
    member: Option<File>,
}

impl Archive {
    /// A tar to this file, or to stdout.
    ///
    /// # Errors
    /// `InvalidArgument` for a terminal; where the file cannot be made.
    pub fn tar(to: Option<&Path>) -> Result<Self> {
        let (out, place) = match to {
            None => (stdout()?, None),
            // A pipe or a device stays what it is.
            Some(path) if path.exists() && !path.is_file() => {
                let opened = File::options().write(true).open(path);
                (opened.context(Kind::Internal, || writing(path))?, None)
            }
            Some(path) => {
                let beside = beside(path);
                let made = File::create(&beside).context(Kind::Internal, || writing(&beside))?;
                (made, Some((beside, path.to_owned())))
            }
        };
        Ok(Self::Tar(Tar {
            out,
            place,
            folders: Vec::new(),
            left: (0, 0),
        }))
    }

    /// A directory that is not there yet, or empty.
    ///
    /// # Errors
    /// `InvalidArgument` where there is something; where it cannot be made.
    pub fn folder(place: &Path) -> Result<Self> {
        if fs::read_dir(place).is_ok_and(|mut inside| inside.next().is_some()) || place.is_file() {
            return Err(Error::invalid(format!(
                "{} is there and not an empty directory",
                place.display()
            )));
        }
        let at = beside(place);
        fs::create_dir_all(&at).context(Kind::Internal, || writing(&at))?;
        Ok(Self::Folder(Folder {
            at,
            place: place.to_owned(),
            member: None,
        }))
    }

    /// Begins a member.
    ///
    /// # Errors
    /// Where it cannot be written; `Internal` where its name would lead elsewhere.
    pub fn member(&mut self, name: &str, size: u64) -> Result<()> {
        let fits = name.len() < 100 && name.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if !fits {
            return Err(Error::internal(format!(
                "the daemon names a member {name:?}"
            )));
        }
        let began = match self {
            Self::Tar(tar) => tar.member(name, size),
            Self::Folder(folder) => folder.member(name),
        };
        began.context(Kind::Internal, || format!("write {name}"))
    }

    /// Adds bytes to the member that began last.
    ///
    /// # Errors
    /// Where they cannot be written.
    pub fn data(&mut self, bytes: &[u8]) -> Result<()> {
        let written = match self {
            Self::Tar(tar) => tar.data(bytes),
            Self::Folder(folder) => folder.data(bytes),
        };
        written.context(Kind::Internal, || "write the archive".to_owned())
    }

    /// Puts it in its place.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn end(self) -> Result<()> {
        let ended = match self {
            Self::Tar(tar) => tar.end(),
            Self::Folder(folder) => folder.end(),
        };
        ended.context(Kind::Internal, || "write the archive".to_owned())
    }

    /// Takes back what was written beside its place.
    pub fn abandon(self) {
        // Whoever abandons it has a better error to tell.
        let _ = match self {
            Self::Tar(tar) => tar.place.map_or(Ok(()), |(at, _)| fs::remove_file(at)),
            Self::Folder(folder) => fs::remove_dir_all(folder.at),
        };
    }
}

impl Tar {
    fn member(&mut self, name: &str, size: u64) -> std::io::Result<()> {
        self.pad()?;
        for (at, _) in name.match_indices('/') {
            let folder = name[..=at].to_owned();
            if !self.folders.contains(&folder) {
                self.out.write_all(&header(&folder, 0, b'5'))?;
                self.folders.push(folder);
            }
        }
        // The cast cannot lose: it is less than a block.
        let over = (size % BLOCK as u64) as usize;
        self.left = (size, (BLOCK - over) % BLOCK);
        self.out.write_all(&header(name, size, b'0'))
    }

    fn data(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let left = self.left.0.checked_sub(bytes.len() as u64);
        self.left.0 =
            left.ok_or_else(|| std::io::Error::other("more bytes than were announced"))?;
        self.out.write_all(bytes)
    }

    /// Ends the last member.
    fn pad(&mut self) -> std::io::Result<()> {
        let (left, padding) = std::mem::take(&mut self.left);
        if left > 0 {
            return Err(std::io::Error::other("fewer bytes than were announced"));
        }
        self.out.write_all(&[0; BLOCK][..padding])
    }

    fn end(mut self) -> std::io::Result<()> {
        self.pad()?;
        self.out.write_all(&[0; 2 * BLOCK])?;
        match self.place {
            Some((at, place)) => fs::rename(at, place),
            None => Ok(()),
        }
    }
}

impl Folder {
    fn member(&mut self, name: &str) -> std::io::Result<()> {
        let path = self.at.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        self.member = Some(File::create(path)?);
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match &mut self.member {
            Some(member) => member.write_all(bytes),
            None => Err(std::io::Error::other("bytes of no member")),
        }
    }

    fn end(self) -> std::io::Result<()> {
        fs::rename(self.at, self.place)
    }
}

/// Stdout without a buffer, where it is no terminal.
fn stdout() -> Result<File> {
    let out = std::io::stdout();
    if out.is_terminal() {
        return Err(Error::invalid(
            "an archive is not for a terminal: name a file with --to, or send it through a pipe",
        ));
    }
    let copy = out.as_fd().try_clone_to_owned();
    let copy = copy.context(Kind::Internal, || "open stdout".to_owned())?;
    Ok(File::from(copy))
}

/// Where something is written until it is whole.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}", std::process::id()))
}

fn writing(path: &Path) -> String {
    format!("write {}", path.display())
}

/// The header of a member: nobody's, of no time, so that equal images make equal archives.
fn header(name: &str, size: u64, kind: u8) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
    put(0, name.as_bytes());
    put(100, if kind == b'5' { b"0000755" } else { b"0000644" });
    put(108, b"0000000");
    put(116, b"0000000");
    match size {
        ..LARGE => put(124, format!("{size:011o}").as_bytes()),
        _ => {
            put(124, &[0x80, 0, 0, 0]);
            put(128, &size.to_be_bytes());
        }
    }
    put(136, b"00000000000");
    put(148, b"        ");
    put(156, &[kind]);
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn fill(mut archive: Archive) {
        for (name, bytes) in [("a", &b"12"[..]), ("b/c/d", &[7; BLOCK])] {
            archive.member(name, bytes.len() as u64).unwrap();
            archive.data(bytes).unwrap();
        }
        archive.end().unwrap();
    }

    #[test]
    fn a_tar_has_its_members_and_a_folder_has_them_as_files() {
        let root = tempfile::tempdir().unwrap();
        let (file, folder) = (root.path().join("x.tar"), root.path().join("x"));
        fill(Archive::tar(Some(&file)).unwrap());
        fill(Archive::folder(&folder).unwrap());
        let mut archive = tar::Archive::new(File::open(&file).unwrap());
        let mut read = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            read.push((entry.path().unwrap().display().to_string(), bytes));
        }
        let names: Vec<_> = read.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "b/", "b/c/", "b/c/d"]);
        assert_eq!(read[3].1, fs::read(folder.join("b/c/d")).unwrap());
        assert_eq!(fs::read(folder.join("a")).unwrap(), b"12");
        let left = fs::read_dir(root.path()).unwrap().count();
        assert_eq!(left, 2, "nothing beside them");
        assert!(Archive::folder(&folder).is_err(), "there is something");
    }

    #[test]
    fn what_is_not_whole_gets_no_name() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("x.tar");
        let mut archive = Archive::tar(Some(&file)).unwrap();
        archive.member("a", 5).unwrap();
        archive.data(b"12").unwrap();
        assert!(archive.member("b", 0).is_err(), "three bytes are missing");
        archive.abandon();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
        let mut archive = Archive::folder(&root.path().join("x")).unwrap();
        for name in ["../a", "/a", "a//b", "a/./b"] {
            assert!(archive.member(name, 0).is_err(), "{name}");
        }
        archive.abandon();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn sizes_of_any_length_are_read() {
        for size in [0, 0o17, LARGE - 1, LARGE, 1 << 40] {
            let block = header("a", size, b'0');
            let header = tar::Header::from_byte_slice(&block);
            assert_eq!(header.size().unwrap(), size);
            assert_eq!(header.cksum().unwrap(), {
                let blank = (0..BLOCK).map(|at| match at {
                    148..156 => 32,
                    at => u32::from(block[at]),
                });
                blank.sum::<u32>()
            });
        }
    }
}
