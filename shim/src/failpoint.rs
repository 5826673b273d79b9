//! Faults on purpose, for tests: a named point in the code at which a test can make it fail, be
//! killed or wait. In releases the macro is nothing at all.
//!
//! The directory that `CORTEN_FAILPOINTS` names is the switchboard, for the daemon and for the shims
//! that it starts alike. A file with the point's name in it arms the point: its text is what to do,
//! `error`, `kill` (SIGKILL to the process itself) or `pause` (until the next file is gone). Who
//! passes an armed point first renames the file to `NAME.hit`, so it happens once, and a test sees
//! that it happened.
//!
//! Invariant: without the feature `failpoints`, which nothing that is installed is built with, not
//! even the names are in the program.

/// Marks a point. With the feature, an error at it returns from the function that it stands in.
#[macro_export]
macro_rules! failpoint {
    ($name:literal) => {
        #[cfg(feature = "failpoints")]
        $crate::failpoint::pass($name)?;
    };
}

#[cfg(feature = "failpoints")]
pub use armed::{Armed, Hit, pass, take};

#[cfg(feature = "failpoints")]
mod armed {
    use crate::api::Failure;
    use rustix::process::{Signal, getpid, kill_process};
    use std::path::PathBuf;
    use std::time::Duration;

    /// How often a paused process looks whether it may go on.
    pub const LOOK: Duration = Duration::from_millis(5);

    /// An armed point that was passed.
    #[derive(Debug)]
    pub enum Armed {
        /// Fail.
        Error(Hit),
        /// Wait until this file is gone.
        Pause(PathBuf),
    }

    /// The error of a point.
    #[derive(Debug)]
    pub struct Hit(String);

    impl std::fmt::Display for Hit {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "failpoint {}", self.0)
        }
    }

    impl std::error::Error for Hit {}

    impl From<Hit> for Failure {
        fn from(hit: Hit) -> Self {
            Self::state("pass a failpoint", hit.to_string())
        }
    }

    impl From<Hit> for std::io::Error {
        fn from(hit: Hit) -> Self {
            Self::other(hit)
        }
    }

    /// What is to be done at this point, now and not again; a kill is done here.
    #[must_use]
    pub fn take(name: &str) -> Option<Armed> {
        let file = PathBuf::from(std::env::var_os("CORTEN_FAILPOINTS")?).join(name);
        let wanted = std::fs::read_to_string(&file).ok()?;
        let hit = file.with_extension("hit");
        // Of two that pass at once one renames it.
        std::fs::rename(&file, &hit).ok()?;
        match wanted.trim() {
            "kill" => {
                let _ = kill_process(getpid(), Signal::KILL);
                Some(Armed::Error(Hit(name.to_owned())))
            }
            "pause" => Some(Armed::Pause(hit)),
            _ => Some(Armed::Error(Hit(name.to_owned()))),
        }
    }

    /// Passes a point in a process that may wait.
    ///
    /// # Errors
    /// Where the point is armed with one.
    pub fn pass(name: &str) -> Result<(), Hit> {
        match take(name) {
            None => Ok(()),
            Some(Armed::Error(hit)) => Err(hit),
            Some(Armed::Pause(file)) => {
                while file.exists() {
                    std::thread::sleep(LOOK);
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    /// No code can run while a program is compiled but what the compiler knows to be nothing.
    #[cfg(not(feature = "failpoints"))]
    #[test]
    fn without_the_feature_a_point_is_nothing() {
        const {
            failpoint!("a_test/nothing");
        }
    }
}
