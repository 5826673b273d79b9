//! Times that a caller gives, in seconds.

use super::check::refuse;
use crate::error::Result;
use std::time::Duration;

/// How long to wait.
///
/// # Errors
/// `InvalidArgument` where it is negative.
pub fn seconds(seconds: i64, field: &str) -> Result<Duration> {
    let whole = u64::try_from(seconds);
    whole
        .map(Duration::from_secs)
        .map_err(|_| refuse(field, format!("{seconds} s is negative")))
}

/// How long something may take; 0 is `None`: as long as it likes.
///
/// # Errors
/// `InvalidArgument` where it is negative.
pub fn optional_seconds(given: i64, field: &str) -> Result<Option<Duration>> {
    Ok(Some(seconds(given, field)?).filter(|limit| !limit.is_zero()))
}
