//! Header blocks, decompressed: names with one or more values.

use bytes::{BufMut, BytesMut};

use super::CodecError;

/// The most values of all names together. Clients send four: more would only be memory, and time.
const MOST: usize = 64;

/// Names in lower case, each with its values in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, Vec<String>)>);

impl Headers {
    /// From pairs; a name that comes again gains a value.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut headers = Self::default();
        for (name, value) in pairs {
            headers.add(name, value);
        }
        headers
    }

    fn add(&mut self, name: &str, value: &str) {
        let name = name.to_ascii_lowercase();
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => values.push(value.to_owned()),
            None => self.0.push((name, vec![value.to_owned()])),
        }
    }

    /// The first value; the name's case does not matter.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// All values in order; the name's case does not matter.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let named = self.0.iter();
        let named = named.filter(move |(known, _)| known.eq_ignore_ascii_case(name));
        named.flat_map(|(_, values)| values.iter().map(String::as_str))
    }

    /// About what they take in memory, in bytes.
    #[must_use]
    pub fn cost(&self) -> usize {
        let string = size_of::<String>();
        let values = |values: &Vec<String>| values.iter().map(|value| string + value.len()).sum();
        let each = |(name, list): &(String, Vec<String>)| -> usize {
            let values: usize = values(list);
            2 * string + name.len() + values
        };
        self.0.iter().map(each).sum()
    }

    /// Reads a whole block: a count, then for each name and value a length and the bytes; values of
    /// one name are separated by NUL. Two names that are the same are an error of the sender.
    pub(super) fn parse(block: &[u8]) -> Result<Self, CodecError> {
        let mut rest = block;
        let count = number(&mut rest)?;
        let (mut headers, mut left) = (Vec::new(), MOST);
        for _ in 0..count {
            let name = name(text(&mut rest)?)?;
            let values = text(&mut rest)?;
            let number = values.bytes().filter(|byte| *byte == 0).count() + 1;
            left = left
                .checked_sub(number)
                .ok_or(CodecError::Block("more headers than anybody sends"))?;
            let values = values.split('\0').map(str::to_owned);
            if headers.iter().any(|(known, _)| *known == name) {
                return Err(CodecError::Block("a name that comes twice"));
            }
            headers.push((name, values.collect()));
        }
        if !rest.is_empty() {
            return Err(CodecError::Block("bytes after its last header"));
        }
        Ok(Self(headers))
    }

    /// The block, not compressed.
    pub(super) fn block(&self) -> BytesMut {
        let mut block = BytesMut::new();
        put_length(&mut block, self.0.len());
        for (name, values) in &self.0 {
            let values = values.join("\0");
            for text in [name, &values] {
                put_length(&mut block, text.len());
                block.put_slice(text.as_bytes());
            }
        }
        block
    }
}

/// What does not fit 32 bits does not fit a frame either: [`super::Encoder`] looks at the whole.
fn put_length(block: &mut BytesMut, length: usize) {
    block.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
}

fn number(rest: &mut &[u8]) -> Result<u32, CodecError> {
    let (number, after) = rest
        .split_first_chunk::<4>()
        .ok_or(CodecError::Block("an end inside a length"))?;
    *rest = after;
    Ok(u32::from_be_bytes(*number))
}

fn text<'a>(rest: &mut &'a [u8]) -> Result<&'a str, CodecError> {
    let length = usize::try_from(number(rest)?).unwrap_or(usize::MAX);
    let (text, after) = rest
        .split_at_checked(length)
        .ok_or(CodecError::Block("a name or value longer than itself"))?;
    *rest = after;
    std::str::from_utf8(text).map_err(|_| CodecError::Block("a name or value that is not UTF-8"))
}

fn name(text: &str) -> Result<String, CodecError> {
    match text {
        "" => Err(CodecError::Block("an empty name")),
        _ if text.bytes().any(|byte| byte.is_ascii_uppercase()) => {
            Err(CodecError::Block("a name in upper case"))
        }
        _ => Ok(text.to_owned()),
    }
}
