//! What a layer's tree was when it was unpacked: a line for each name, in a file beside the tree.
//!
//! ```text
//! layers/HEX/inventory   zstd of: length (u32, little endian), an Entry in postcard, …
//! record.json            its SHA-256
//! ```
//! It takes about 20 bytes a file. Invariant: entries are in the order of `walk`.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read, Seek, Write},
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::Path,
};

use rustix::{
    fs::{self, FileType, Mode, OFlags, Stat},
    io::Errno,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    borrowed::Known,
    verify::Stop,
    walk::{Place, walk},
};
use crate::{
    id::Digest,
    unpack::{self, Contents, Sum, Usage},
};

/// Its file in the layer's directory.
pub(super) const INVENTORY: &str = "inventory";
/// Levels above it make the file little smaller and take several times as long.
const LEVEL: i32 = 1;
/// What a reader takes for one entry at most: a path and a sparse file's pieces.
const LARGEST: u32 = 64 << 20;
/// Files are read in pieces of this size.
const BUFFER: usize = 256 * 1024;
/// The unit of `st_blocks`, whatever the file system's own (`stat(2)`).
const STAT_BLOCK: u64 = 512;

/// What a name was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// From the root of the tree; empty for the root.
    pub path: Vec<u8>,
    /// Type and permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The rest, by type.
    pub what: What,
}

/// What differs from type to type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum What {
    /// A directory, a pipe or a socket.
    Plain,
    /// A file: its size, XXH3 of its content, and for a sparse one the pieces that this is of.
    File(u64, u64, Option<Vec<(u64, u64)>>),
    /// A symbolic link: XXH3 of where it leads.
    Link(u64),
    /// A device: its number.
    Device(u64),
}

impl Entry {
    /// What is at a place. What was neither written by the layer nor is `borrowed` from one whose
    /// inventory says what it is, is read.
    fn of(place: &Place<'_>, contents: &Contents, borrowed: &Known) -> Result<Self, Errno> {
        let stat = &place.stat;
        if let Some(Some(entry)) = borrowed.get(&stat.st_ino) {
            return Ok(Self {
                path: place.path.to_vec(),
                ..entry.clone()
            });
        }
        let what = match place.kind() {
            FileType::RegularFile => file(place, contents.get(stat.st_ino))?,
            FileType::Symlink => What::Link(link(place)?),
            FileType::CharacterDevice | FileType::BlockDevice => What::Device(stat.st_rdev),
            _ => What::Plain,
        };
        Ok(Self {
            path: place.path.to_vec(),
            mode: stat.st_mode,
            uid: stat.st_uid,
            gid: stat.st_gid,
            what,
        })
    }
}

fn file(place: &Place<'_>, known: Option<&unpack::Content>) -> Result<What, Errno> {
    let (sum, pieces) = match known {
        Some(content) => (content.sum, content.pieces.clone()),
        None => (read_sum(&open(place)?, None, &Stop::default())?.0, None),
    };
    Ok(What::File(size(&place.stat), sum, pieces))
}

/// The size that `stat` tells.
pub(super) fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// The sum of a link's target.
pub(super) fn link(place: &Place<'_>) -> Result<u64, Errno> {
    let target = fs::readlinkat(place.parent, place.name, Vec::new())?;
    Ok(Sum::of(target.to_bytes()))
}

/// Opens a file that a walk has shown; whatever has taken its name meanwhile is not waited for.
pub(super) fn open(place: &Place<'_>) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    fs::openat(place.parent, place.name, flags, Mode::empty())
}

/// The sum of a file's content, or of its pieces, and the bytes that were read; `CANCELED` where it is
/// to stop.
pub(super) fn read_sum(
    file: &OwnedFd,
    pieces: Option<&[(u64, u64)]>,
    stop: &Stop,
) -> Result<(u64, u64), Errno> {
    let (mut sum, mut read, mut buffer) = (Sum::default(), 0, vec![0; BUFFER]);
    for (offset, length) in pieces.unwrap_or(&[(0, u64::MAX)]) {
        let (mut at, end) = (*offset, offset.saturating_add(*length));
        while at < end {
            if stop.is_asked() {
                return Err(Errno::CANCELED);
            }
            let most = usize::try_from(end - at).map_or(BUFFER, |left| left.min(BUFFER));
            let count = rustix::io::pread(file, &mut buffer[..most], at)?;
            if count == 0 {
                break;
            }
            sum.add(&buffer[..count]);
            at += count as u64;
            read += count as u64;
        }
    }
    Ok((sum.value(), read))
}

/// Writes the inventory of `tree` to `path`; gives its digest and what the tree takes on the disk beside
/// the layers that it has `borrowed` files from.
pub(super) fn write(
    tree: &Path,
    contents: &Contents,
    borrowed: &Known,
    path: &Path,
) -> io::Result<(Digest, Usage)> {
    let file = Hashed {
        inner: BufWriter::new(File::create(path)?),
        hash: Sha256::new(),
    };
    let mut lines = zstd::stream::write::Encoder::new(file, LEVEL)?;
    let mut measure = Measure::default();
    walk::<io::Error>(tree, |place| {
        if !borrowed.contains_key(&place.stat.st_ino) {
            measure.add(place);
        }
        let entry = Entry::of(place, contents, borrowed)?;
        let line = postcard::to_stdvec(&entry).map_err(io::Error::other)?;
        let length = u32::try_from(line.len()).map_err(io::Error::other)?;
        lines.write_all(&length.to_le_bytes())?;
        lines.write_all(&line)
    })?;
    let mut file = lines.finish()?;
    file.inner.flush()?;
    measure.beside(path)?;
    Ok((Digest::finish(file.hash), measure.usage))
}

/// What a tree takes, each inode counted once.
#[derive(Default)]
struct Measure {
    usage: Usage,
    /// Inodes with several names.
    linked: std::collections::HashSet<u64>,
}

impl Measure {
    fn add(&mut self, place: &Place<'_>) {
        let stat = &place.stat;
        let is_first = place.kind() == FileType::Directory
            || stat.st_nlink < 2
            || self.linked.insert(stat.st_ino);
        if is_first {
            self.count(stat.st_blocks.cast_unsigned() * STAT_BLOCK);
        }
    }

    /// The inventory, the directory that it is in, and the record that is still to be written there.
    fn beside(&mut self, inventory: &Path) -> io::Result<()> {
        let file = std::fs::metadata(inventory)?;
        self.count(file.blocks() * STAT_BLOCK);
        let folder = std::fs::metadata(inventory.parent().unwrap_or(inventory))?;
        self.count(folder.blocks() * STAT_BLOCK);
        self.count(folder.blksize());
        Ok(())
    }

    fn count(&mut self, bytes: u64) {
        self.usage += Usage { bytes, inodes: 1 };
    }
}

struct Hashed<W> {
    inner: W,
    hash: Sha256,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The entries of an inventory, one after the other.
pub(super) struct Entries(zstd::stream::read::Decoder<'static, BufReader<File>>);

impl Entries {
    /// Opens the file, which must have this digest.
    pub fn open(path: &Path, digest: &Digest) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let mut hash = Sha256::new();
        io::copy(&mut file, &mut HashOnly(&mut hash))?;
        let actual = Digest::finish(hash);
        if actual != *digest {
            return Err(io::Error::other(format!("it is {actual}, not {digest}")));
        }
        file.rewind()?;
        zstd::stream::read::Decoder::new(file).map(Self)
    }

    /// The next entry; `None` at the end.
    pub fn next(&mut self) -> io::Result<Option<Entry>> {
        let mut length = [0; 4];
        match self.0.read_exact(&mut length) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        let length = u32::from_le_bytes(length);
        if length > LARGEST {
            return Err(io::Error::other("an entry is too long"));
        }
        let mut line = vec![0; length as usize];
        self.0.read_exact(&mut line)?;
        postcard::from_bytes(&line)
            .map(Some)
            .map_err(io::Error::other)
    }
}

struct HashOnly<'a>(&'a mut Sha256);

impl Write for HashOnly<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
