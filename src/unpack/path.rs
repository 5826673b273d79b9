//! Names of tar entries, cleaned once and then trusted to stay beneath the layer's root.
//!
//! Invariant: an [`EntryPath`] is relative, has no `.`, `..`, empty or overlong component and no
//! NUL. Symbolic links on the way are the kernel's matter (`RESOLVE_IN_ROOT` in `root.rs`).

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::PathBuf};

use super::error::Error;

/// PATH_MAX without the terminating NUL.
const LONGEST_PATH: usize = 4095;
/// NAME_MAX.
const LONGEST_NAME: usize = 255;
/// Components of a path. A layer that makes each of them costs the square of this.
const DEEPEST: usize = 256;

/// A path inside a layer: components joined by `/`, empty for the root itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(super) struct EntryPath(Vec<u8>);

impl EntryPath {
    /// Cleans the name of an entry or the target of a hard link: leading slashes and `.` go, `..`
    /// is refused.
    pub fn parse(raw: &[u8]) -> Result<Self, Error> {
        let mut clean = Vec::with_capacity(raw.len());
        let mut depth = 0;
        for part in raw.split(|byte| *byte == b'/') {
            if part.is_empty() || part == b"." {
                continue;
            }
            if part == b".." || part.len() > LONGEST_NAME || part.contains(&0) {
                return Err(Error::name(raw));
            }
            if !clean.is_empty() {
                clean.push(b'/');
            }
            clean.extend_from_slice(part);
            depth += 1;
        }
        if clean.len() > LONGEST_PATH || depth > DEEPEST {
            return Err(Error::name(raw));
        }
        Ok(Self(clean))
    }

    /// Whether this is the layer's root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The path of the directory that holds this entry; empty for the root.
    pub fn parent(&self) -> &[u8] {
        match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => &self.0[..slash],
            None => &[],
        }
    }

    /// The last component; empty for the root.
    pub fn name(&self) -> &[u8] {
        match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => &self.0[slash + 1..],
            None => &self.0,
        }
    }

    /// The bytes of the path.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// As a path, for records and messages.
    pub fn to_path(&self) -> PathBuf {
        to_path(&self.0)
    }
}

/// Bytes as a path, for records and messages.
pub(super) fn to_path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(raw: &str) -> Option<String> {
        let path = EntryPath::parse(raw.as_bytes()).ok()?;
        Some(String::from_utf8(path.0).unwrap())
    }

    #[test]
    fn names_are_cleaned() {
        assert_eq!(clean("./etc//passwd").as_deref(), Some("etc/passwd"));
        assert_eq!(clean("/abs/./x/").as_deref(), Some("abs/x"));
        assert_eq!(clean("./").as_deref(), Some(""));
    }

    #[test]
    fn names_that_leave_the_root_are_refused() {
        for raw in ["..", "a/../b", "../../etc/passwd", "a/..", "/.."] {
            assert_eq!(clean(raw), None, "{raw}");
        }
        assert_eq!(clean(&"x".repeat(256)), None);
        assert_eq!(clean(&"x/".repeat(3000)), None);
        assert_eq!(clean(&"x/".repeat(DEEPEST + 1)), None);
        assert!(clean(&"x/".repeat(DEEPEST)).is_some());
        assert!(EntryPath::parse(b"a\0b").is_err());
    }

    #[test]
    fn parent_and_name_split_at_the_last_slash() {
        let path = EntryPath::parse(b"a/b/c").unwrap();
        assert_eq!((path.parent(), path.name()), (&b"a/b"[..], &b"c"[..]));
        let top = EntryPath::parse(b"a").unwrap();
        assert_eq!((top.parent(), top.name()), (&b""[..], &b"a"[..]));
    }
}
