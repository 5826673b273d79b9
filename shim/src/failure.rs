//! From an error of any kind to the [`Failure`] that callers get: which step, which errno, and why;
//! and the log, for those that no caller gets.

use crate::api::{Failure, FailureKind};
use rustix::io::Errno;
use std::error::Error;
use std::fmt::Arguments;
use std::io::Write;

impl Failure {
    /// A bundle or a request that cannot be right.
    pub fn invalid(step: impl Into<String>, cause: impl Into<String>) -> Self {
        Self {
            kind: FailureKind::Invalid,
            step: step.into(),
            errno: 0,
            chain: vec![cause.into()],
        }
    }

    /// A verb that does not fit the container's state.
    pub fn state(step: impl Into<String>, cause: impl Into<String>) -> Self {
        Self {
            kind: FailureKind::State,
            ..Self::invalid(step, cause)
        }
    }

    /// A step that the kernel has refused.
    pub fn system(step: impl Into<String>, errno: Errno) -> Self {
        Self {
            kind: FailureKind::System,
            errno: errno.raw_os_error(),
            ..Self::invalid(step, std::io::Error::from(errno).to_string())
        }
    }

    /// Puts a cause in front: what the error meant here.
    #[must_use]
    pub fn because(mut self, cause: impl Into<String>) -> Self {
        self.chain.insert(0, cause.into());
        self
    }
}

/// Names the step that an error happened in.
pub trait At<T> {
    /// Turns an error into a [`Failure`]; `step` is asked for its words only then.
    ///
    /// # Errors
    /// The failure, where there was an error.
    fn at(self, kind: FailureKind, step: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T> At<T> for Result<T, Errno> {
    fn at(self, kind: FailureKind, step: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(std::io::Error::from).at(kind, step)
    }
}

impl<T> At<T> for Result<T, std::io::Error> {
    fn at(self, kind: FailureKind, step: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| Failure {
            kind,
            step: step(),
            errno: error.raw_os_error().unwrap_or(0),
            chain: causes(&error),
        })
    }
}

/// Writes one line to stderr, the daemon's log. Nobody may read it any more, and that must stop
/// nothing: the print macros would end the process.
pub fn log(line: Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn causes(error: &dyn Error) -> Vec<String> {
    let mut chain = vec![error.to_string()];
    let mut source = error.source();
    while let Some(cause) = source {
        chain.push(cause.to_string());
        source = cause.source();
    }
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_errno_keeps_its_number_and_the_step_its_name() {
        let failed: Result<(), Errno> = Err(Errno::NOENT);
        let failure = failed.at(FailureKind::Mount, || "mount /x".to_owned());
        let failure = failure.unwrap_err().because("the image lacks it");
        assert_eq!(failure.errno, libc::ENOENT);
        assert_eq!(failure.chain[0], "the image lacks it");
        assert!(failure.to_string().starts_with("mount /x: the image"));
    }
}
