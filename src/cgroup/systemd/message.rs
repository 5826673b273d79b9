//! D-Bus messages, as far as two methods and one signal need them (D-Bus specification, "Message
//! Protocol" and "Marshaling").
//!
//! Invariant: numbers are in this machine's byte order, and so must a peer's be: it is on this machine.

use std::io::{self, ErrorKind};

/// How long a message may be: the specification's own limit is 128 MiB, and PID 1 sends none of that.
const LONGEST: usize = 16 << 20;
/// The part of a header that tells how long the whole is.
pub const FIXED: usize = 16;
const BYTE_ORDER: u8 = if cfg!(target_endian = "little") {
    b'l'
} else {
    b'B'
};

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageKind {
    /// A method is called.
    Call = 1,
    /// It has returned.
    Return = 2,
    /// It has failed.
    Error = 3,
    /// Something has happened.
    Signal = 4,
}

/// A message that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// What it is.
    pub kind: MessageKind,
    /// Which call it answers.
    pub answers: u32,
    /// The name of the signal.
    pub member: String,
    /// The name of the error.
    pub error: String,
    body: Vec<u8>,
}

/// The fields of a header, by their codes.
mod field {
    pub const PATH: u8 = 1;
    pub const INTERFACE: u8 = 2;
    pub const MEMBER: u8 = 3;
    pub const ERROR_NAME: u8 = 4;
    pub const REPLY_SERIAL: u8 = 5;
    pub const DESTINATION: u8 = 6;
    pub const SIGNATURE: u8 = 8;
}

/// Values, one after the other, each at its place.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    /// `y`
    pub fn byte(&mut self, value: u8) {
        self.0.push(value);
    }

    /// `u`
    pub fn number(&mut self, value: u32) {
        self.align(4);
        self.0.extend(value.to_ne_bytes());
    }

    /// `t`
    pub fn long(&mut self, value: u64) {
        self.align(8);
        self.0.extend(value.to_ne_bytes());
    }

    /// `b`
    pub fn flag(&mut self, value: bool) {
        self.number(u32::from(value));
    }

    /// `s` and `o`
    pub fn text(&mut self, value: &str) {
        self.number(u32::try_from(value.len()).unwrap_or(u32::MAX));
        self.0.extend(value.as_bytes());
        self.byte(0);
    }

    /// `g`
    pub fn signature(&mut self, value: &str) {
        self.byte(u8::try_from(value.len()).unwrap_or(u8::MAX));
        self.0.extend(value.as_bytes());
        self.byte(0);
    }

    /// `a…` of what is aligned to 4 or 8. Its length does not count what aligns the first element.
    pub fn array(&mut self, align: usize, elements: impl FnOnce(&mut Self)) {
        self.number(0);
        let length = self.0.len() - 4;
        self.align(align);
        let first = self.0.len();
        elements(self);
        let bytes = u32::try_from(self.0.len() - first).unwrap_or(u32::MAX);
        if let Some(place) = self.0.get_mut(length..length + 4) {
            place.copy_from_slice(&bytes.to_ne_bytes());
        }
    }

    /// `(sv)`
    pub fn property(&mut self, name: &str, signature: &str, value: impl FnOnce(&mut Self)) {
        self.align(8);
        self.text(name);
        self.signature(signature);
        value(self);
    }

    fn field(&mut self, code: u8, signature: &str, value: &str) {
        self.align(8);
        self.byte(code);
        self.signature(signature);
        match signature {
            "g" => self.signature(value),
            _ => self.text(value),
        }
    }
}

/// A call of a method of systemd's manager.
#[must_use]
pub fn call(serial: u32, member: &str, signature: &str, body: &Writer) -> Vec<u8> {
    let mut message = Writer(vec![BYTE_ORDER, MessageKind::Call as u8, 0, 1]);
    message.number(u32::try_from(body.0.len()).unwrap_or(u32::MAX));
    message.number(serial);
    message.array(8, |fields| {
        fields.field(field::PATH, "o", "/org/freedesktop/systemd1");
        fields.field(field::DESTINATION, "s", "org.freedesktop.systemd1");
        fields.field(field::INTERFACE, "s", "org.freedesktop.systemd1.Manager");
        fields.field(field::MEMBER, "s", member);
        fields.field(field::SIGNATURE, "g", signature);
    });
    message.align(8);
    message.0.extend(&body.0);
    message.0
}

/// How many bytes follow the fixed part of a header.
///
/// # Errors
/// `InvalidData` for what is no header, or one of a message that is too long.
pub fn rest(fixed: &[u8; FIXED]) -> io::Result<usize> {
    let mut reader = Reader {
        bytes: fixed,
        at: 4,
    };
    if fixed.first() != Some(&BYTE_ORDER) || fixed.get(3) != Some(&1) {
        return Err(invalid("no message of D-Bus in this machine's byte order"));
    }
    let body = reader.number()? as usize;
    reader.number()?;
    let fields = reader.number()? as usize;
    match fields.next_multiple_of(8).checked_add(body) {
        Some(length) if length <= LONGEST => Ok(length),
        _ => Err(invalid("a message that is too long")),
    }
}

impl Received {
    /// A whole message.
    ///
    /// # Errors
    /// `InvalidData` for what is none.
    pub fn parse(bytes: &[u8]) -> io::Result<Self> {
        let mut reader = Reader { bytes, at: 4 };
        let body = reader.number()? as usize;
        let mut message = Self {
            kind: kind_of(bytes.get(1).copied().unwrap_or_default())?,
            answers: 0,
            member: String::new(),
            error: String::new(),
            body: Vec::new(),
        };
        reader.number()?;
        let end = reader.number()? as usize + FIXED;
        while reader.at < end {
            message.take_field(&mut reader)?;
        }
        reader.align(8);
        message.body = reader.take(body)?.to_vec();
        Ok(message)
    }

    fn take_field(&mut self, reader: &mut Reader<'_>) -> io::Result<()> {
        reader.align(8);
        let code = reader.byte()?;
        let signature = reader.signature()?;
        match (code, signature.as_str()) {
            (field::MEMBER, "s") => self.member = reader.text()?,
            (field::ERROR_NAME, "s") => self.error = reader.text()?,
            (field::REPLY_SERIAL, "u") => self.answers = reader.number()?,
            (_, "s" | "o") => drop(reader.text()?),
            (_, "g") => drop(reader.signature()?),
            (_, "u") => drop(reader.number()?),
            _ => return Err(invalid("a header with a field of an unknown type")),
        }
        Ok(())
    }

    /// What it holds, from the beginning.
    #[must_use]
    pub fn body(&self) -> Reader<'_> {
        Reader {
            bytes: &self.body,
            at: 0,
        }
    }
}

fn kind_of(code: u8) -> io::Result<MessageKind> {
    use MessageKind::{Call, Error, Return, Signal};
    let kinds = [Call, Return, Error, Signal];
    let found = kinds.into_iter().find(|kind| *kind as u8 == code);
    found.ok_or_else(|| invalid("a message of an unknown kind"))
}

/// Values, as [`Writer`] writes them.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, count: usize) -> io::Result<&[u8]> {
        let end = self.at.checked_add(count);
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or_else(|| invalid("a message that is too short"))?;
        self.at += count;
        Ok(taken)
    }

    fn byte(&mut self) -> io::Result<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    /// `u`
    ///
    /// # Errors
    /// `InvalidData` where there is none.
    pub fn number(&mut self) -> io::Result<u32> {
        self.align(4);
        let bytes = self.take(4)?;
        Ok(u32::from_ne_bytes(bytes.try_into().unwrap_or_default()))
    }

    /// `s` and `o`
    ///
    /// # Errors
    /// `InvalidData` where there is none.
    pub fn text(&mut self) -> io::Result<String> {
        let length = self.number()? as usize;
        self.string(length)
    }

    fn signature(&mut self) -> io::Result<String> {
        let length = usize::from(self.byte()?);
        self.string(length)
    }

    fn string(&mut self, length: usize) -> io::Result<String> {
        let text = String::from_utf8(self.take(length)?.to_vec());
        self.byte()?;
        text.map_err(|_| invalid("a text that is none"))
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("systemd sent {what}"))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// What a fake systemd says: an answer to a call, or a signal.
    pub fn said(kind: MessageKind, answers: u32, name: &str, body: &Writer) -> Vec<u8> {
        let mut message = Writer(vec![BYTE_ORDER, kind as u8, 0, 1]);
        message.number(u32::try_from(body.0.len()).unwrap());
        message.number(7);
        message.array(8, |fields| {
            match kind {
                MessageKind::Signal => fields.field(field::MEMBER, "s", name),
                MessageKind::Error => fields.field(field::ERROR_NAME, "s", name),
                _ => {}
            }
            fields.align(8);
            fields.byte(field::REPLY_SERIAL);
            fields.signature("u");
            fields.number(answers);
        });
        message.align(8);
        message.0.extend(&body.0);
        message.0
    }

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let mut body = Writer::default();
        body.number(3);
        body.text("/org/freedesktop/systemd1/job/9");
        let bytes = said(MessageKind::Signal, 5, "JobRemoved", &body);
        let fixed = bytes.first_chunk::<FIXED>().unwrap();
        assert_eq!(rest(fixed).unwrap() + FIXED, bytes.len());
        let read = Received::parse(&bytes).unwrap();
        assert_eq!(
            (read.kind, read.answers, read.member.as_str()),
            (MessageKind::Signal, 5, "JobRemoved")
        );
        let mut values = read.body();
        assert_eq!(values.number().unwrap(), 3);
        assert_eq!(values.text().unwrap(), "/org/freedesktop/systemd1/job/9");
        values.number().unwrap_err();
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_call_begins_as_the_specification_says() {
        let mut body = Writer::default();
        body.text("a.scope");
        body.text("fail");
        let bytes = call(1, "StopUnit", "ss", &body);
        assert_eq!(&bytes[..4], b"l\x01\0\x01");
        // "a.scope" takes 4 + 8, and "fail" 4 + 5.
        assert_eq!(&bytes[4..8], &21u32.to_le_bytes());
        assert_eq!(&bytes[8..12], &1u32.to_le_bytes());
        assert_eq!(&bytes[16..20], b"\x01\x01o\0");
        assert_eq!(&bytes[20..24], &25u32.to_le_bytes());
        assert_eq!(
            bytes.len() % 8,
            21 % 8,
            "the body begins at a multiple of 8"
        );
        let read = Received::parse(&bytes).unwrap();
        assert_eq!(read.member, "StopUnit");
    }

    #[test]
    fn an_array_says_how_long_its_elements_are() {
        let mut writer = Writer::default();
        writer.array(8, |all| all.property("A", "u", |value| value.number(9)));
        // The length, 4 bytes of padding; the name 4 + 2, the signature 3, 3 bytes of padding, 4.
        assert_eq!(writer.0.len(), 8 + 16);
        assert_eq!(&writer.0[..4], &16u32.to_ne_bytes());
        assert_eq!(&writer.0[20..], &9u32.to_ne_bytes());
    }

    #[test]
    fn what_is_cut_short_or_too_long_is_refused() {
        let whole = said(MessageKind::Return, 1, "", &Writer::default());
        for end in 0..whole.len() {
            let _ = Received::parse(&whole[..end]);
        }
        Received::parse(&whole[..20]).unwrap_err();
        let mut long = *whole.first_chunk::<FIXED>().unwrap();
        long[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
        rest(&long).unwrap_err();
        rest(b"HTTP/1.1 200 OK\r").unwrap_err();
    }
}
