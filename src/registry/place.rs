//! A line of a file, for telling a person what says so.

use std::{
    fmt,
    path::{Path, PathBuf},
};

/// A line of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
}

impl Place {
    /// The line of a byte of a file's text.
    #[must_use]
    pub fn at(file: &Path, text: &str, byte: usize) -> Self {
        let before = &text.as_bytes()[..byte.min(text.len())];
        Self {
            file: file.into(),
            line: 1 + before.iter().filter(|byte| **byte == b'\n').count(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}
