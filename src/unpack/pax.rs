//! Extended headers: PAX records (`len key=value\n`), of which a container's layer needs few.
//!
//! Source: POSIX.1-2017 pax interchange format; `SCHILY.xattr.*` and `GNU.sparse.*` as star and
//! GNU tar write them.

use super::error::Error;

/// The prefix of records that carry an extended attribute.
const XATTR: &[u8] = b"SCHILY.xattr.";

/// What the extended headers say of the next entry; they outrank its own header.
#[derive(Debug, Default, Clone)]
pub(super) struct Extended {
    /// `path`, or a GNU long name.
    pub path: Option<Vec<u8>>,
    /// `linkpath`, or a GNU long link name.
    pub link: Option<Vec<u8>>,
    /// `size` of the data in the archive.
    pub size: Option<u64>,
    /// `uid`.
    pub uid: Option<u32>,
    /// `gid`.
    pub gid: Option<u32>,
    /// `mtime` as seconds and nanoseconds.
    pub mtime: Option<(i64, u32)>,
    /// Extended attributes in the order of the header.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// What `GNU.sparse.*` says.
    pub sparse: SparseRecords,
}

/// The records that GNU tar adds for a sparse file in its formats 0.0, 0.1 and 1.0.
#[derive(Debug, Default, Clone)]
pub(super) struct SparseRecords {
    /// `GNU.sparse.major`: 1 puts the map before the data.
    pub major: Option<u64>,
    /// `GNU.sparse.name`: the file's real name in 0.1 and 1.0.
    pub name: Option<Vec<u8>>,
    /// `GNU.sparse.realsize` (1.0) or `GNU.sparse.size` (0.x).
    pub real_size: Option<u64>,
    /// Offset and length of each piece of data (0.0 and 0.1).
    pub map: Vec<(u64, u64)>,
    /// A 0.0 offset whose length has not come yet.
    pending: Option<u64>,
}

impl Extended {
    /// Takes in one extended header's body.
    pub fn parse(&mut self, body: &[u8]) -> Result<(), Error> {
        let mut rest = body;
        while !rest.is_empty() {
            let (key, value, after) = split_record(rest)?;
            self.apply(key, value)?;
            rest = after;
        }
        Ok(())
    }

    fn apply(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        match key {
            b"path" => self.path = given(value, |name| Ok(name.to_vec()))?,
            b"linkpath" => self.link = given(value, |name| Ok(name.to_vec()))?,
            b"size" => self.size = given(value, number)?,
            b"uid" => self.uid = given(value, id)?,
            b"gid" => self.gid = given(value, id)?,
            b"mtime" => self.mtime = given(value, time)?,
            _ => return self.apply_prefixed(key, value),
        }
        Ok(())
    }

    fn apply_prefixed(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        if let Some(name) = key.strip_prefix(XATTR) {
            self.xattrs.push((name.to_vec(), value.to_vec()));
        } else if let Some(name) = key.strip_prefix(b"GNU.sparse.") {
            self.sparse.apply(name, value)?;
        }
        Ok(())
    }
}

impl SparseRecords {
    /// Whether the entry is a sparse file.
    pub fn is_sparse(&self) -> bool {
        self.real_size.is_some()
    }

    fn apply(&mut self, name: &[u8], value: &[u8]) -> Result<(), Error> {
        match name {
            b"major" => self.major = Some(number(value)?),
            b"name" => self.name = Some(value.to_vec()),
            b"realsize" | b"size" => self.real_size = Some(number(value)?),
            b"offset" => self.pending = Some(number(value)?),
            b"numbytes" => {
                let offset = self
                    .pending
                    .take()
                    .ok_or_else(|| malformed("sparse length without an offset"))?;
                self.map.push((offset, number(value)?));
            }
            b"map" => self.map = parse_map(value)?,
            _ => {}
        }
        Ok(())
    }
}

/// `offset,length,offset,length…` of format 0.1.
fn parse_map(value: &[u8]) -> Result<Vec<(u64, u64)>, Error> {
    let numbers = value
        .split(|byte| *byte == b',')
        .map(number)
        .collect::<Result<Vec<_>, _>>()?;
    if numbers.len() % 2 != 0 {
        return Err(malformed("sparse map of odd length"));
    }
    Ok(numbers
        .chunks_exact(2)
        .map(|pair| (pair[0], pair[1]))
        .collect())
}

/// Key, value, and what follows the record.
type Record<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// One record off the front.
fn split_record(body: &[u8]) -> Result<Record<'_>, Error> {
    let bad = || malformed("PAX record");
    let space = body.iter().position(|byte| *byte == b' ').ok_or_else(bad)?;
    let length = usize::try_from(number(&body[..space])?).map_err(|_| bad())?;
    if length <= space + 1 || length > body.len() || body[length - 1] != b'\n' {
        return Err(bad());
    }
    let record = &body[space + 1..length - 1];
    let equals = record
        .iter()
        .position(|byte| *byte == b'=')
        .ok_or_else(bad)?;
    Ok((&record[..equals], &record[equals + 1..], &body[length..]))
}

/// An empty value takes an earlier one back: the entry's own header counts again. (An empty xattr
/// is one.)
fn given<T>(
    value: &[u8],
    parse: impl FnOnce(&[u8]) -> Result<T, Error>,
) -> Result<Option<T>, Error> {
    match value.is_empty() {
        true => Ok(None),
        false => parse(value).map(Some),
    }
}

/// A decimal number.
pub(super) fn number(text: &[u8]) -> Result<u64, Error> {
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| malformed("number in an extended header"))
}

fn id(text: &[u8]) -> Result<u32, Error> {
    u32::try_from(number(text)?).map_err(|_| malformed("owner above 2^32"))
}

/// Seconds with an optional fraction, perhaps negative: `-1.5` is half a second after -2.
fn time(text: &[u8]) -> Result<(i64, u32), Error> {
    let bad = || malformed("time in an extended header");
    let text = std::str::from_utf8(text).map_err(|_| bad())?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().map_err(|_| bad())?;
    let digits: String = fraction
        .chars()
        .chain("000000000".chars())
        .take(9)
        .collect();
    let nanos: u32 = digits.parse().map_err(|_| bad())?;
    match (whole.starts_with('-'), nanos) {
        (true, 1..) => Ok((
            seconds.checked_sub(1).ok_or_else(bad)?,
            1_000_000_000 - nanos,
        )),
        _ => Ok((seconds, nanos)),
    }
}

fn malformed(what: &str) -> Error {
    Error::Malformed(what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &[u8]) -> Result<Extended, Error> {
        let mut extended = Extended::default();
        extended.parse(body).map(|()| extended)
    }

    /// A record with the length that counts itself.
    fn record(key: &str, value: &[u8]) -> Vec<u8> {
        let bare = key.len() + value.len() + 3;
        let mut length = bare + 1;
        while length != bare + length.to_string().len() {
            length += 1;
        }
        let head = format!("{length} {key}=");
        [head.as_bytes(), value, b"\n"].concat()
    }

    #[test]
    fn records_are_taken_in() {
        let body = [
            record("path", b"a b"),
            record("uid", b"3000000"),
            record("comment", b""),
        ];
        let extended = parse(&body.concat()).unwrap();
        assert_eq!(extended.path.as_deref(), Some(&b"a b"[..]));
        assert_eq!(extended.uid, Some(3_000_000));
    }

    #[test]
    fn an_empty_value_takes_back_what_was_said() {
        let body = [
            record("path", b"a"),
            record("uid", b"7"),
            record("SCHILY.xattr.user.k", b""),
            record("path", b""),
            record("uid", b""),
            record("mtime", b""),
        ];
        let extended = parse(&body.concat()).unwrap();
        assert_eq!(
            (extended.path, extended.uid, extended.mtime),
            (None, None, None)
        );
        assert_eq!(extended.xattrs, vec![(b"user.k".to_vec(), vec![])]);
    }

    #[test]
    fn xattr_values_may_hold_any_byte() {
        let extended = parse(&record("SCHILY.xattr.user.k", b"v\n=r\0w")).unwrap();
        assert_eq!(
            extended.xattrs,
            vec![(b"user.k".to_vec(), b"v\n=r\0w".to_vec())]
        );
    }

    #[test]
    fn times_before_1970_round_down() {
        assert_eq!(time(b"-1.5").unwrap(), (-2, 500_000_000));
        assert_eq!(time(b"-3").unwrap(), (-3, 0));
        assert_eq!(time(b"12.000000001999").unwrap(), (12, 1));
        assert!(time(b"1.x").is_err());
    }

    #[test]
    fn malformed_records_are_refused() {
        for body in [
            &b"5 a"[..],
            b"x a=b\n",
            b"99 a=b\n",
            b"6 a-b\n",
            b"2 ",
            b"0 a=b\n",
            b"6 a=b ",
        ] {
            assert!(parse(body).is_err(), "{body:?}");
        }
        assert!(parse(b"18 uid=4294967296\n").is_err());
    }
}
