//! Layers made byte by byte, as no one builder makes them: every kind of entry, every way to write
//! a long name, a large number or a hole, and every way to compress.

use std::io::Write;

use corten::id::Digest;
use serde_json::json;

/// An entry of a tar.
#[derive(Clone)]
pub struct Item {
    name: Vec<u8>,
    kind: u8,
    link: Vec<u8>,
    content: Vec<u8>,
    mode: u32,
    owner: (u64, u64),
    time: i64,
    device: (u32, u32),
    pax: Vec<(String, Vec<u8>)>,
    sparse: Option<(u64, Vec<(u64, u64)>)>,
}

impl Item {
    fn new(kind: u8, name: &str, mode: u32) -> Self {
        Self {
            name: name.into(),
            kind,
            link: vec![],
            content: vec![],
            mode,
            owner: (0, 0),
            time: 1_000_000_000,
            device: (0, 0),
            pax: vec![],
            sparse: None,
        }
    }

    pub fn owned(mut self, uid: u64, gid: u64) -> Self {
        self.owner = (uid, gid);
        self
    }

    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    pub fn time(mut self, seconds: i64) -> Self {
        self.time = seconds;
        self
    }

    /// A PAX record of this entry.
    pub fn pax(mut self, key: &str, value: &[u8]) -> Self {
        self.pax.push((key.to_owned(), value.to_vec()));
        self
    }

    pub fn xattr(self, name: &str, value: &[u8]) -> Self {
        self.pax(&format!("SCHILY.xattr.{name}"), value)
    }

    fn linked(mut self, to: &str) -> Self {
        self.link = to.into();
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![];
        if !self.pax.is_empty() {
            let records = self.pax.iter().map(|(key, value)| record(key, value));
            let body = records.collect::<Vec<_>>().concat();
            bytes.extend(plain(b'x', b"PaxHeaders/x", &body));
        }
        for (kind, name) in [(b'L', &self.name), (b'K', &self.link)] {
            if name.len() > 100 {
                bytes.extend(plain(kind, b"././@LongLink", &[name, &b"\0"[..]].concat()));
            }
        }
        bytes.extend(self.header());
        bytes.extend(padded(&self.content));
        bytes
    }

    /// The same entry with its holes as zeros, where it is of kind `S`.
    fn whole(&self) -> Self {
        let mut whole = self.clone();
        if let (Some((size, pieces)), b'S') = (&self.sparse, self.kind) {
            let mut data = self.content.chunks(512);
            whole.kind = b'0';
            whole.content = vec![0; usize::try_from(*size).unwrap()];
            for (at, length) in pieces {
                let at = usize::try_from(*at).unwrap();
                let to = at + usize::try_from(*length).unwrap();
                whole.content[at..to].copy_from_slice(data.next().unwrap());
            }
        }
        whole
    }

    fn header(&self) -> Vec<u8> {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::new(self.kind));
        header.set_mode(self.mode);
        header.set_uid(self.owner.0);
        header.set_gid(self.owner.1);
        header.set_size(self.content.len() as u64);
        header.set_device_major(self.device.0).unwrap();
        header.set_device_minor(self.device.1).unwrap();
        let old = header.as_old_mut();
        let (name, link) = (self.name.len().min(100), self.link.len().min(100));
        old.name[..name].copy_from_slice(&self.name[..name]);
        old.linkname[..link].copy_from_slice(&self.link[..link]);
        old.mtime = number(self.time);
        if let (Some((size, pieces)), b'S') = (&self.sparse, self.kind) {
            let gnu = header.as_gnu_mut().unwrap();
            gnu.realsize = number(size.cast_signed());
            for (slot, (offset, length)) in gnu.sparse.iter_mut().zip(pieces) {
                slot.offset = number(offset.cast_signed());
                slot.numbytes = number(length.cast_signed());
            }
        }
        header.set_cksum();
        header.as_bytes().to_vec()
    }
}

/// Octal where it fits, else base-256, as GNU tar writes what is negative.
fn number(value: i64) -> [u8; 12] {
    let mut field = [0; 12];
    if let Ok(value @ 0..0o777_7777_7777) = u64::try_from(value) {
        field[..11].copy_from_slice(format!("{value:011o}").as_bytes());
        return field;
    }
    field = [if value < 0 { 0xff } else { 0 }; 12];
    field[4..].copy_from_slice(&value.to_be_bytes());
    field[0] |= 0x80;
    field
}

fn plain(kind: u8, name: &[u8], content: &[u8]) -> Vec<u8> {
    let mut item = Item::new(kind, "", 0o644);
    item.name = name.to_vec();
    item.content = content.to_vec();
    [item.header(), padded(content)].concat()
}

fn padded(content: &[u8]) -> Vec<u8> {
    let mut content = content.to_vec();
    content.resize(content.len().next_multiple_of(512), 0);
    content
}

fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let bare = key.len() + value.len() + 3;
    let mut length = bare + 1;
    while length != bare + length.to_string().len() {
        length += 1;
    }
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

pub fn file(name: &str, content: &[u8]) -> Item {
    let mut item = Item::new(b'0', name, 0o644);
    item.content = content.to_vec();
    item
}

pub fn directory(name: &str) -> Item {
    Item::new(b'5', &format!("{name}/"), 0o755)
}

pub fn symlink(name: &str, to: &str) -> Item {
    Item::new(b'2', name, 0o777).linked(to)
}

pub fn hard_link(name: &str, to: &str) -> Item {
    Item::new(b'1', name, 0o644).linked(to)
}

pub fn fifo(name: &str) -> Item {
    Item::new(b'6', name, 0o600)
}

/// A device: `b'3'` of characters, `b'4'` of blocks.
pub fn device(kind: u8, name: &str, major: u32, minor: u32) -> Item {
    let mut item = Item::new(kind, name, 0o660);
    item.device = (major, minor);
    item
}

/// How a file with holes is written.
#[derive(Clone, Copy, PartialEq)]
pub enum Holes {
    /// Old GNU: kind `S`, the map in the header.
    Gnu,
    /// PAX 0.1: the map in one record.
    Pax01,
    /// PAX 1.0: the map before the data.
    Pax10,
}

/// A file of this size with 512 bytes of data at each of these (aligned) places.
pub fn sparse(name: &str, how: Holes, size: u64, places: &[u64]) -> Item {
    let pieces: Vec<_> = places.iter().map(|place| (*place, 512)).collect();
    let data: Vec<_> = places
        .iter()
        .flat_map(|place| [*place as u8; 512])
        .collect();
    let map = |between: &str| {
        let parts = pieces
            .iter()
            .map(|(at, length)| format!("{at}{between}{length}"));
        parts.collect::<Vec<_>>().join(between)
    };
    let mut item = file(name, &data);
    match how {
        Holes::Gnu => item.kind = b'S',
        Holes::Pax01 => {
            item = item.pax("GNU.sparse.size", size.to_string().as_bytes());
            item = item.pax("GNU.sparse.numblocks", pieces.len().to_string().as_bytes());
            item = item.pax("GNU.sparse.map", map(",").as_bytes());
            item = item.pax("GNU.sparse.name", name.as_bytes());
        }
        Holes::Pax10 => {
            let head = format!("{}\n{}\n", pieces.len(), map("\n"));
            item.content = [padded(head.as_bytes()), data].concat();
            item = item
                .pax("GNU.sparse.major", b"1")
                .pax("GNU.sparse.minor", b"0");
            item = item.pax("GNU.sparse.realsize", size.to_string().as_bytes());
            item = item.pax("GNU.sparse.name", name.as_bytes());
        }
    }
    item.sparse = Some((size, pieces));
    item
}

/// How a layer travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    Plain,
    Gzip,
    Zstd,
    /// One zstd frame for each 700 bytes.
    ZstdFrames,
    /// Frames, a table of contents and a footer in skippable ones.
    ZstdChunked,
    /// A gzip member for each 700 bytes, and one with nothing but an extra field.
    Estargz,
}

/// A layer: its tar and how it travels.
#[derive(Clone)]
pub struct Layer {
    pub tar: Vec<u8>,
    pub packing: Packing,
    /// The same without what umoci does not know: kind `S`.
    simple: Vec<u8>,
}

impl Layer {
    /// A layer of these entries, as gzip.
    pub fn of(items: &[Item]) -> Self {
        let tar = |item: fn(&Item) -> Vec<u8>| {
            let mut tar: Vec<u8> = items.iter().flat_map(item).collect();
            tar.extend([0; 1024]);
            tar
        };
        Self {
            tar: tar(Item::bytes),
            packing: Packing::Gzip,
            simple: tar(|item| item.whole().bytes()),
        }
    }

    /// As umoci of Debian reads it, which knows gzip and plain tars only.
    pub fn simple(&self) -> Self {
        Self {
            tar: self.simple.clone(),
            packing: Packing::Gzip,
            simple: self.simple.clone(),
        }
    }

    pub fn packed(mut self, packing: Packing) -> Self {
        self.packing = packing;
        self
    }

    pub fn diff_id(&self) -> Digest {
        Digest::of(&self.tar)
    }

    pub fn media_type(&self) -> &'static str {
        match self.packing {
            Packing::Plain => "application/vnd.oci.image.layer.v1.tar",
            Packing::Gzip | Packing::Estargz => "application/vnd.oci.image.layer.v1.tar+gzip",
            _ => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }

    /// The bytes that travel.
    pub fn blob(&self) -> Vec<u8> {
        let zstd = |part: &[u8]| zstd::encode_all(part, 1).unwrap();
        let parts = || self.tar.chunks(700);
        match self.packing {
            Packing::Plain => self.tar.clone(),
            Packing::Gzip => gzip(&self.tar),
            Packing::Zstd => zstd(&self.tar),
            Packing::ZstdFrames => parts().flat_map(zstd).collect(),
            Packing::ZstdChunked => {
                let contents = zstd(json!({"version": 1, "entries": []}).to_string().as_bytes());
                let frames = parts().flat_map(zstd).collect::<Vec<_>>();
                [frames, skippable(&contents), skippable(&[7; 64])].concat()
            }
            Packing::Estargz => [parts().flat_map(gzip).collect(), footer()].concat(),
        }
    }
}

fn skippable(content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap();
    [
        &[0x50, 0x2a, 0x4d, 0x18],
        &length.to_le_bytes()[..],
        content,
    ]
    .concat()
}

/// An empty member with the offset of the table of contents in its extra field.
fn footer() -> Vec<u8> {
    let extra = [b"SG\x16\x00".as_slice(), b"0000000000000000STARGZ"].concat();
    let mut gzip = flate2::GzBuilder::new()
        .extra(extra)
        .write(Vec::new(), flate2::Compression::none());
    gzip.flush().unwrap();
    gzip.finish().unwrap()
}

fn gzip(part: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(part).unwrap();
    gzip.finish().unwrap()
}
