//! Checks of single values: each gives the value back, or the error that names its field.

use crate::error::{Error, Result};
use std::fmt::Display;
use std::path::{Component, Path};

/// The longest name of a pod, its namespace or a container that is taken (Kubernetes: 253).
const LONGEST_NAME: usize = 253;

/// The error that a field cannot be right.
pub fn refuse(field: &str, reason: impl Display) -> Error {
    Error::invalid(format!("{field}: {reason}"))
}

/// A message that must be there.
///
/// # Errors
/// `InvalidArgument` where it is not.
pub fn required<T>(value: Option<T>, field: &str) -> Result<T> {
    value.ok_or_else(|| refuse(field, "must be given"))
}

/// An enum's value that is known.
///
/// # Errors
/// `InvalidArgument` where it is not.
pub fn known<T: TryFrom<i32>>(number: i32, field: &str) -> Result<T> {
    T::try_from(number).map_err(|_| refuse(field, format!("{number} is not a known value")))
}

/// A text without NUL, which ends a string in the kernel.
///
/// # Errors
/// `InvalidArgument` where it has one.
pub fn text(text: String, field: &str) -> Result<String> {
    match text.contains('\0') {
        true => Err(refuse(field, "must not contain NUL")),
        false => Ok(text),
    }
}

/// Texts without NUL.
///
/// # Errors
/// `InvalidArgument` where one has one.
pub fn texts(texts: Vec<String>, field: &str) -> Result<Vec<String>> {
    texts.into_iter().map(|item| text(item, field)).collect()
}

/// The id of an object, or the beginning of one. An empty one would mean any object.
///
/// # Errors
/// `InvalidArgument` where it is empty.
pub fn id(id: String, field: &str) -> Result<String> {
    match id.is_empty() {
        true => Err(refuse(field, "must be given")),
        false => Ok(id),
    }
}

/// A name: not empty, not long, and without what would end it in a path, a CNI argument or a line.
///
/// # Errors
/// `InvalidArgument` where it is not that.
pub fn name(name: String, field: &str) -> Result<String> {
    if name.is_empty() || name.len() > LONGEST_NAME {
        return Err(refuse(
            field,
            format!("must have 1 to {LONGEST_NAME} bytes"),
        ));
    }
    let plain = |c: char| !c.is_control() && !c.is_whitespace() && !"/;=\\".contains(c);
    match name.chars().all(plain) {
        true => Ok(name),
        false => Err(refuse(
            field,
            format!("{name:?} has a character that no name has"),
        )),
    }
}

/// A word for a line of a file: not empty, without blanks and line ends.
///
/// # Errors
/// `InvalidArgument` where it is not that.
pub fn word(word: String, field: &str) -> Result<String> {
    let plain = |c: char| !c.is_control() && !c.is_whitespace();
    match !word.is_empty() && word.chars().all(plain) {
        true => Ok(word),
        false => Err(refuse(field, format!("{word:?} must be one word"))),
    }
}

/// An absolute path.
///
/// # Errors
/// `InvalidArgument` where it is not that.
pub fn absolute(path: String, field: &str) -> Result<String> {
    match path.starts_with('/') {
        true => text(path, field),
        false => Err(refuse(field, format!("{path:?} must be an absolute path"))),
    }
}

/// An absolute path, or nothing.
///
/// # Errors
/// `InvalidArgument` where it is a relative path.
pub fn optional_absolute(path: String, field: &str) -> Result<String> {
    match path.is_empty() {
        true => Ok(path),
        false => absolute(path, field),
    }
}

/// A path without `..`: joined to a directory it stays below it.
///
/// # Errors
/// `InvalidArgument` where it has one.
pub fn without_parent(path: String, field: &str) -> Result<String> {
    let up = Path::new(&path)
        .components()
        .any(|c| c == Component::ParentDir);
    match up {
        true => Err(refuse(field, format!("{path:?} must not contain .."))),
        false => text(path, field),
    }
}

/// A relative path without `..`, or nothing.
///
/// # Errors
/// `InvalidArgument` where it leads elsewhere.
pub fn below(path: String, field: &str) -> Result<String> {
    match path.starts_with('/') {
        true => Err(refuse(field, format!("{path:?} must be a relative path"))),
        false => without_parent(path, field),
    }
}

/// A user or group id. -1 is "unchanged" to the kernel and no id.
///
/// # Errors
/// `InvalidArgument` where it does not fit.
pub fn user_or_group(id: i64, field: &str) -> Result<i64> {
    match u32::try_from(id) {
        Ok(number) if number != u32::MAX => Ok(id),
        _ => Err(refuse(field, format!("{id} is no user or group id"))),
    }
}
