//! Tar headers to entries: ustar, PAX, GNU long names, base-256 numbers and sparse files.
//!
//! An own reader, because a layer is hostile input: every header that is kept in memory has a
//! limit, and numbers are checked before they are used. Invariant: between two calls of
//! [`Archive::next`] the caller has consumed exactly the data of the entry (`Entry::size` bytes);
//! `next` passes over the padding.

use super::{
    error::Error,
    pax::{Extended, number},
    stream::{BLOCK, Source, Stream},
};

/// The longest extended header that is kept; file names end at 4 KiB, xattrs at 64 KiB each.
const LONGEST_EXTENSION: u64 = 1 << 20;
/// Extended headers before one entry: each of GNU name, GNU link and PAX, and some slack.
const MOST_EXTENSIONS: u32 = 16;
/// Pieces of data in one sparse file.
const MOST_PIECES: usize = 1 << 16;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EntryKind {
    /// `0`, NUL, `7` and the sparse kinds.
    File,
    /// `1`.
    HardLink,
    /// `2`.
    Symlink,
    /// `3`.
    CharDevice,
    /// `4`.
    BlockDevice,
    /// `5`.
    Directory,
    /// `6`.
    Fifo,
}

/// One entry with its extended headers merged in.
#[derive(Debug)]
pub(super) struct Entry {
    /// The name as written.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// The target of a link, as written.
    pub link: Vec<u8>,
    /// Bytes of data that follow in the archive (a 1.0 sparse map already taken off).
    pub size: u64,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time, seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Extended attributes as written.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// For a sparse file its full size and the pieces that have data.
    pub sparse: Option<Sparse>,
}

/// The shape of a sparse file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sparse {
    /// The file's length.
    pub real_size: u64,
    /// Offset and length of each piece of data, in the order of the archive.
    pub pieces: Vec<(u64, u64)>,
}

/// A tar archive that is read front to back.
pub(super) struct Archive<R> {
    /// The bytes; entry data is read from here by the caller.
    pub stream: Stream<R>,
    padding: u64,
}

impl<R: Source> Archive<R> {
    /// An archive that starts at the stream's first byte.
    pub fn new(stream: Stream<R>) -> Self {
        Self { stream, padding: 0 }
    }

    /// The next entry; `None` at the end marker or the end of the stream.
    pub fn next(&mut self) -> Result<Option<Entry>, Error> {
        let mut extended = Extended::default();
        for _ in 0..MOST_EXTENSIONS {
            self.stream.skip(std::mem::take(&mut self.padding))?;
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            match header.kind() {
                b'x' => extended.parse(&self.extension(&header)?)?,
                b'L' => extended.path = Some(c_string(&self.extension(&header)?).to_vec()),
                b'K' => extended.link = Some(c_string(&self.extension(&header)?).to_vec()),
                // Global records carry a commit id or a default that every entry repeats.
                b'g' => drop(self.extension(&header)?),
                _ => return self.entry(&header, extended).map(Some),
            }
        }
        Err(malformed("too many extended headers before one entry"))
    }

    /// The next header block; the archive ends at a block of zeros.
    fn header(&mut self) -> Result<Option<Header>, Error> {
        match self.stream.block()? {
            Some(block) if block.iter().any(|byte| *byte != 0) => Header::checked(block).map(Some),
            _ => Ok(None),
        }
    }

    /// The body of an extended header.
    fn extension(&mut self, header: &Header) -> Result<Vec<u8>, Error> {
        let size = header.number(124, 12)?;
        if size > LONGEST_EXTENSION {
            return Err(malformed(&format!("extended header of {size} bytes")));
        }
        // The cast cannot lose: the limit is far below usize::MAX on every target.
        let mut body = vec![0; size as usize];
        self.stream.exact(&mut body)?;
        self.padding = padding(size);
        Ok(body)
    }

    fn entry(&mut self, header: &Header, mut extended: Extended) -> Result<Entry, Error> {
        let path = entry_path(header, &mut extended);
        let kind = entry_kind(header.kind(), &path)?;
        let size = if matches!(kind, EntryKind::File) {
            extended.size.map_or_else(|| header.number(124, 12), Ok)?
        } else {
            0
        };
        let mut entry = Entry {
            path,
            kind,
            link: extended
                .link
                .take()
                .unwrap_or_else(|| c_string(header.field(157, 100)).to_vec()),
            size,
            mode: (header.number(100, 8)? & 0o7777) as u32,
            uid: extended.uid.map_or_else(|| header.id(108), Ok)?,
            gid: extended.gid.map_or_else(|| header.id(116), Ok)?,
            mtime: extended.mtime.map_or_else(|| header.time(), Ok)?,
            device: header.device(kind)?,
            xattrs: std::mem::take(&mut extended.xattrs),
            sparse: None,
        };
        self.padding = padding(size);
        self.sparse(header, extended, &mut entry)?;
        Ok(entry)
    }

    /// Finds the map of a sparse file, wherever its format keeps it.
    fn sparse(
        &mut self,
        header: &Header,
        extended: Extended,
        entry: &mut Entry,
    ) -> Result<(), Error> {
        let records = extended.sparse;
        let sparse = if header.kind() == b'S' {
            Sparse {
                real_size: header.number(483, 12)?,
                pieces: self.gnu_pieces(header)?,
            }
        } else if records.is_sparse() && matches!(entry.kind, EntryKind::File) {
            let real_size = records.real_size.unwrap_or(0);
            let pieces = if records.major == Some(1) {
                self.leading_map(entry)?
            } else {
                records.map
            };
            Sparse { real_size, pieces }
        } else {
            return Ok(());
        };
        sparse.check(entry.size)?;
        entry.sparse = Some(sparse);
        Ok(())
    }

    /// The map of the old GNU format: four pieces in the header, 21 in each block that follows.
    fn gnu_pieces(&mut self, header: &Header) -> Result<Vec<(u64, u64)>, Error> {
        let mut pieces = Vec::new();
        header.pieces(386, 4, &mut pieces)?;
        let mut more = header.0[482] != 0;
        while more {
            let block = self
                .stream
                .block()?
                .ok_or_else(|| malformed("ends inside a sparse map"))?;
            let block = Header(block);
            block.pieces(0, 21, &mut pieces)?;
            more = block.0[504] != 0;
        }
        Ok(pieces)
    }

    /// The map of format 1.0: decimal lines before the data, padded to a block.
    fn leading_map(&mut self, entry: &mut Entry) -> Result<Vec<(u64, u64)>, Error> {
        let mut lines = Lines {
            left: entry.size,
            buffer: Vec::new(),
            stream: &mut self.stream,
        };
        let count = usize::try_from(lines.number()?)
            .ok()
            .filter(|count| *count <= MOST_PIECES);
        let count = count.ok_or_else(|| malformed("too many pieces in a sparse file"))?;
        let mut pieces = Vec::new();
        for _ in 0..count {
            pieces.push((lines.number()?, lines.number()?));
        }
        entry.size = lines.left;
        Ok(pieces)
    }
}

/// Decimal lines read block by block.
struct Lines<'a, R> {
    left: u64,
    buffer: Vec<u8>,
    stream: &'a mut Stream<R>,
}

impl<R: Source> Lines<'_, R> {
    fn number(&mut self) -> Result<u64, Error> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return number(&line[..end]);
            }
            if self.left < BLOCK as u64 || self.buffer.len() > BLOCK {
                return Err(malformed("sparse map"));
            }
            let block = self
                .stream
                .block()?
                .ok_or_else(|| malformed("ends inside a sparse map"))?;
            self.left -= BLOCK as u64;
            self.buffer.extend_from_slice(&block);
        }
    }
}

impl Sparse {
    /// Pieces ascend, lie inside the file, and their data is what the archive holds.
    fn check(&self, size: u64) -> Result<(), Error> {
        let mut at = 0u64;
        let mut data = 0u64;
        for (offset, length) in &self.pieces {
            let end = offset
                .checked_add(*length)
                .filter(|end| *end <= self.real_size);
            let end = end
                .filter(|_| *offset >= at)
                .ok_or_else(|| malformed("sparse map"))?;
            at = end;
            data += length;
        }
        if data != size {
            return Err(malformed("sparse map does not match its data"));
        }
        Ok(())
    }
}

/// A header block.
struct Header([u8; BLOCK]);

impl Header {
    /// A block whose check sum holds.
    fn checked(block: [u8; BLOCK]) -> Result<Self, Error> {
        let header = Self(block);
        let field = 148..156;
        let sum: u64 = block
            .iter()
            .enumerate()
            .map(|(at, byte)| u64::from(if field.contains(&at) { b' ' } else { *byte }))
            .sum();
        if header.number(148, 8)? == sum {
            Ok(header)
        } else {
            Err(malformed("header check sum"))
        }
    }

    fn field(&self, at: usize, length: usize) -> &[u8] {
        &self.0[at..at + length]
    }

    fn kind(&self) -> u8 {
        self.0[156]
    }

    /// An unsigned number: octal text, or base-256 when the first bit is set.
    fn number(&self, at: usize, length: usize) -> Result<u64, Error> {
        u64::try_from(self.signed(at, length)?).map_err(|_| malformed("negative number"))
    }

    fn signed(&self, at: usize, length: usize) -> Result<i64, Error> {
        let field = self.field(at, length);
        if field[0] & 0x80 == 0 {
            octal(field)
        } else {
            base256(field)
        }
    }

    fn id(&self, at: usize) -> Result<u32, Error> {
        u32::try_from(self.number(at, 8)?).map_err(|_| malformed("owner above 2^32"))
    }

    fn time(&self) -> Result<(i64, u32), Error> {
        Ok((self.signed(136, 12)?, 0))
    }

    fn device(&self, kind: EntryKind) -> Result<(u32, u32), Error> {
        if !matches!(kind, EntryKind::CharDevice | EntryKind::BlockDevice) {
            return Ok((0, 0));
        }
        Ok((self.id(329)?, self.id(337)?))
    }

    /// Offset and length pairs of the old GNU sparse format.
    fn pieces(&self, at: usize, count: usize, into: &mut Vec<(u64, u64)>) -> Result<(), Error> {
        for piece in 0..count {
            let here = at + piece * 24;
            if self.0[here] == 0 {
                break;
            }
            into.push((self.number(here, 12)?, self.number(here + 12, 12)?));
        }
        if into.len() > MOST_PIECES {
            return Err(malformed("too many pieces in a sparse file"));
        }
        Ok(())
    }
}

/// The name: extended header, or prefix and name of ustar.
fn entry_path(header: &Header, extended: &mut Extended) -> Vec<u8> {
    if let Some(path) = extended.sparse.name.take().or_else(|| extended.path.take()) {
        return path;
    }
    let name = c_string(header.field(0, 100));
    // GNU headers ("ustar  ") use the room of the prefix for other things.
    let prefix = c_string(header.field(345, 155));
    if header.field(257, 6) != b"ustar\0" || prefix.is_empty() {
        return name.to_vec();
    }
    [prefix, b"/", name].concat()
}

fn entry_kind(flag: u8, path: &[u8]) -> Result<EntryKind, Error> {
    Ok(match flag {
        // Before POSIX a directory was a file whose name ends in a slash.
        0 | b'0' if path.ends_with(b"/") => EntryKind::Directory,
        0 | b'0' | b'7' | b'S' => EntryKind::File,
        b'1' => EntryKind::HardLink,
        b'2' => EntryKind::Symlink,
        b'3' => EntryKind::CharDevice,
        b'4' => EntryKind::BlockDevice,
        b'5' => EntryKind::Directory,
        b'6' => EntryKind::Fifo,
        other => {
            return Err(malformed(&format!(
                "entry of unknown type {:?}",
                char::from(other)
            )));
        }
    })
}

fn octal(field: &[u8]) -> Result<i64, Error> {
    let digits = c_string(field).trim_ascii();
    if digits.is_empty() {
        return Ok(0);
    }
    std::str::from_utf8(digits)
        .ok()
        .and_then(|digits| i64::from_str_radix(digits, 8).ok())
        .ok_or_else(|| malformed("octal number"))
}

/// Two's complement, big endian, the first bit being the mark.
fn base256(field: &[u8]) -> Result<i64, Error> {
    let negative = field[0] & 0x40 != 0;
    let mut value: i128 = if negative { -1 } else { 0 };
    for (at, byte) in field.iter().enumerate() {
        let byte = if at == 0 && !negative {
            byte & 0x7f
        } else {
            *byte
        };
        value = (value << 8) | i128::from(byte);
    }
    i64::try_from(value).map_err(|_| malformed("number out of range"))
}

fn c_string(field: &[u8]) -> &[u8] {
    let end = field
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(field.len());
    &field[..end]
}

fn padding(size: u64) -> u64 {
    let block = BLOCK as u64;
    (block - size % block) % block
}

fn malformed(what: &str) -> Error {
    Error::Malformed(what.to_owned())
}
