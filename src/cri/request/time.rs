//! Times that a caller gives, in seconds.

use super::check::refuse;
use crate::error::Result;
use std::time::Duration;

/// How long a container may take to end; 0 or less: it is killed at once.
#[must_use]
pub fn grace(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// How long something may take; 0 is `None`: as long as it likes.
///
/// # Errors
/// `InvalidArgument` where it is negative.
pub fn optional_seconds(given: i64, field: &str) -> Result<Option<Duration>> {
    match u64::try_from(given) {
        Ok(0) => Ok(None),
        Ok(seconds) => Ok(Some(Duration::from_secs(seconds))),
        Err(_) => Err(refuse(field, format!("{given} s is negative"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grace_is_never_negative_and_a_limit_must_not_be() {
        assert_eq!(
            (grace(3), grace(0)),
            (Duration::from_secs(3), Duration::ZERO)
        );
        assert_eq!(grace(-1), Duration::ZERO);
        assert_eq!(optional_seconds(0, "timeout").unwrap(), None);
        assert_eq!(
            optional_seconds(2, "timeout").unwrap(),
            Some(Duration::from_secs(2))
        );
        assert!(optional_seconds(-1, "timeout").is_err());
    }
}
