//! Netlink messages: a header, a fixed part, attributes; built and taken apart.
//!
//! A builder of our own, since the two families that plugins speak (rtnetlink and nftables) have no
//! library in common, and those for nftables bring a C library or a runtime with them.
//!
//! Invariant: a reader never leaves its bytes, whatever lengths are in them.

/// One message, its length and number filled in when it is sent.
pub(crate) struct Message {
    bytes: Vec<u8>,
}

pub(crate) const ACK: u16 = 0x4;
pub(crate) const DUMP: u16 = 0x300;
pub(crate) const CREATE: u16 = 0x400;
pub(crate) const EXCL: u16 = 0x200;
pub(crate) const APPEND: u16 = 0x800;
const REQUEST: u16 = 0x1;
const NESTED: u16 = 0x8000;
pub(crate) const HEADER: usize = 16;

impl Message {
    /// `fixed` is the family's own header.
    pub(crate) fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | REQUEST).to_ne_bytes());
        bytes.extend_from_slice(fixed);
        Self { bytes }
    }

    pub(crate) fn attr(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = u16::try_from(4 + value.len()).expect("attributes here are short");
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.pad();
        self
    }

    pub(crate) fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        let value = [value.as_bytes(), b"\0"].concat();
        self.attr(kind, &value)
    }

    pub(crate) fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attr(kind, &value.to_ne_bytes())
    }

    /// In network order, as nftables has its numbers.
    pub(crate) fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attr(kind, &value.to_be_bytes())
    }

    /// The attributes that `fill` adds, in one.
    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        self.nest_after(kind, &[], fill)
    }

    /// The same, where a fixed part comes before the attributes.
    pub(crate) fn nest_after(
        &mut self,
        kind: u16,
        fixed: &[u8],
        fill: impl FnOnce(&mut Self),
    ) -> &mut Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(fixed);
        self.pad();
        fill(self);
        let length = u16::try_from(self.bytes.len() - start).expect("attributes here are short");
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.bytes[start + 2..start + 4].copy_from_slice(&(kind | NESTED).to_ne_bytes());
        self
    }

    /// Adds flags.
    pub(crate) fn demand(&mut self, flags: u16) {
        self.bytes[6] |= flags.to_ne_bytes()[0];
        self.bytes[7] |= flags.to_ne_bytes()[1];
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// The whole message under this number.
    pub(crate) fn finish(&self, number: u32, into: &mut Vec<u8>) {
        let start = into.len();
        into.extend_from_slice(&self.bytes);
        let length = u32::try_from(self.bytes.len()).expect("messages here are short");
        into[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        into[start + 8..start + 12].copy_from_slice(&number.to_ne_bytes());
    }
}

/// The messages in what was received: kind, flags, number, and what follows the header.
pub(crate) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, u16, u32, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
        let body = bytes.get(HEADER..length)?;
        let (kind, flags) = (u16_at(bytes, 4)?, u16_at(bytes, 6)?);
        let number = u32_at(bytes, 8)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, flags, number, body))
    })
}

/// The attributes in `bytes`: kind without its flags, and value.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let value = bytes.get(4..length)?;
        let kind = u16_at(bytes, 2)? & 0x3fff;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

pub(crate) fn attribute(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes)
        .find(|(kind, _)| *kind == wanted)
        .map(|(_, value)| value)
}

/// A text attribute without its end.
pub(crate) fn text(value: &[u8]) -> String {
    let end = value
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_is_read_again() {
        let mut message = Message::new(7, ACK, &[1, 2, 3, 4]);
        message.text(1, "abc").u32(2, 9).nest(3, |inner| {
            inner.attr(4, &[5]);
        });
        let mut bytes = Vec::new();
        message.finish(42, &mut bytes);
        let all: Vec<_> = messages(&bytes).collect();
        let [(kind, flags, number, body)] = all[..] else {
            panic!("one message: {all:?}")
        };
        assert_eq!((kind, flags, number), (7, ACK | 1, 42));
        assert_eq!(attribute(&body[4..], 1).map(text), Some("abc".to_owned()));
        assert_eq!(
            attribute(&body[4..], 2).and_then(|it| u32_at(it, 0)),
            Some(9)
        );
        let nested = attribute(&body[4..], 3).unwrap();
        assert_eq!(attribute(nested, 4), Some(&[5_u8][..]));
    }

    #[test]
    fn lengths_that_lie_end_the_reading() {
        for bytes in [&[0xff; 16][..], &[3, 0, 1, 0], &[0; 3], &[0; 64]] {
            assert_eq!(attributes(bytes).count(), 0, "{bytes:?}");
            assert_eq!(messages(bytes).count(), 0, "{bytes:?}");
        }
    }
}
