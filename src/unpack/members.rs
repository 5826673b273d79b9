//! The members of a tar file by name, for archives that are read out of order: what `docker save`
//! and other tools write puts the table of contents anywhere.
//!
//! A compressed archive is decompressed once into a file without a name.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read, Seek, Write},
    os::unix::fs::FileExt,
    path::Path,
    sync::Arc,
};

use rustix::fs::{Mode, OFlags};

use super::{
    decompress::Decoder,
    error::Error,
    path::EntryPath,
    stream::{Stream, buffer},
    tar::{Archive, EntryKind},
};

/// Links from member to member are followed this often: `docker save` writes one.
const MOST_LINKS: usize = 4;

/// A tar file and where its members are.
#[derive(Debug)]
pub struct Members {
    file: Arc<File>,
    members: HashMap<Vec<u8>, Place>,
}

#[derive(Debug)]
enum Place {
    Data { offset: u64, length: u64 },
    Link(Vec<u8>),
}

/// The bytes of one member.
#[derive(Debug)]
pub struct Member {
    file: Arc<File>,
    offset: u64,
    left: u64,
}

impl Members {
    /// Reads the headers of the archive at `path`. A compressed one goes through a file in
    /// `scratch` that nobody sees and that ends with this value.
    ///
    /// # Errors
    /// Where it cannot be read, or is no tar.
    pub fn open(path: &Path, scratch: &Path) -> Result<Self, Error> {
        Self::of(File::open(path).map_err(reading)?, scratch)
    }

    /// The same of a file that is open.
    ///
    /// # Errors
    /// As [`Members::open`].
    pub fn of(mut file: File, scratch: &Path) -> Result<Self, Error> {
        file.rewind().map_err(reading)?;
        let file = plain(file, scratch)?;
        let members = index(&file)?;
        Ok(Self {
            file: Arc::new(file),
            members,
        })
    }

    /// A member's bytes; links are followed to other members.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Member> {
        let mut name = EntryPath::parse(name.as_bytes()).ok()?.as_bytes().to_vec();
        for _ in 0..MOST_LINKS {
            match self.members.get(&name)? {
                Place::Data { offset, length } => {
                    return Some(Member {
                        file: Arc::clone(&self.file),
                        offset: *offset,
                        left: *length,
                    });
                }
                Place::Link(target) => name.clone_from(target),
            }
        }
        None
    }
}

impl Member {
    /// Bytes that are left to read.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.left
    }
}

impl Read for Member {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let read = self.file.read_at(&mut buffer[..most], self.offset)?;
        self.offset += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

/// The file itself, or an unnamed copy without the compression.
fn plain(mut file: File, scratch: &Path) -> Result<File, Error> {
    let mut decoder = Decoder::detect(&file)?;
    let copied = match decoder {
        Decoder::Plain(_) => None,
        _ => {
            let copy = scratch_file(scratch).map_err(|error| copying(scratch, error))?;
            let mut buffer = buffer();
            while let read @ 1.. = decoder.some(&mut buffer)? {
                let written = (&copy).write_all(&buffer[..read]);
                written.map_err(|error| copying(scratch, error))?;
            }
            Some(copy)
        }
    };
    file.rewind().map_err(reading)?;
    let mut file = copied.unwrap_or(file);
    file.rewind().map_err(reading)?;
    Ok(file)
}

/// A file that nobody sees, and that ends with this value.
///
/// # Errors
/// Where it cannot be made.
pub fn scratch_file(directory: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR)?;
    Ok(File::from(file))
}

fn index(file: &File) -> Result<HashMap<Vec<u8>, Place>, Error> {
    let mut archive = Archive::new(Stream::new(Decoder::detect(file)?, u64::MAX));
    let mut members = HashMap::new();
    while let Some(entry) = archive.next()? {
        let path = EntryPath::parse(&entry.path)?;
        let place = match entry.kind {
            EntryKind::File => Place::Data {
                offset: archive.stream.position(),
                length: entry.size,
            },
            EntryKind::HardLink => Place::Link(EntryPath::parse(&entry.link)?.as_bytes().to_vec()),
            EntryKind::Symlink => Place::Link(beside(&path, &entry.link)?),
            _ => continue,
        };
        archive.stream.skip(entry.size)?;
        members.insert(path.as_bytes().to_vec(), place);
    }
    Ok(members)
}

/// The target of a relative symbolic link, as a member's name.
fn beside(path: &EntryPath, link: &[u8]) -> Result<Vec<u8>, Error> {
    let mut parts: Vec<&[u8]> = path
        .parent()
        .split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty())
        .collect();
    for part in link.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    Ok(EntryPath::parse(&parts.join(&b'/'))?.as_bytes().to_vec())
}

fn copying(scratch: &Path, source: io::Error) -> Error {
    Error::Apply {
        operation: "decompress the archive below",
        path: scratch.to_owned(),
        source,
    }
}

fn reading(source: io::Error) -> Error {
    Error::Read { offset: 0, source }
}
