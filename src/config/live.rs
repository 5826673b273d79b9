//! The configuration in force, as long as the daemon runs.

use super::raw::ConfigError;
use super::{Changes, Config};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// The configuration in force, and the file that it is read from again.
#[derive(Debug)]
pub struct Live {
    file: Option<PathBuf>,
    config: Mutex<Arc<Config>>,
}

impl Live {
    /// Reads the files ([`Config::load`]).
    ///
    /// # Errors
    /// As there.
    pub fn load(file: Option<PathBuf>) -> Result<Self, ConfigError> {
        let config = Mutex::new(Arc::new(Config::load(file.as_deref())?));
        Ok(Self { file, config })
    }

    /// What is in force now.
    #[must_use]
    pub fn get(&self) -> Arc<Config> {
        Arc::clone(&self.lock())
    }

    /// Reads the files again; with a mistake in them the old configuration stays.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn reload(&self) -> Result<Changes, ConfigError> {
        let (config, changes) = self.get().reload(self.file.as_deref())?;
        *self.lock() = Arc::new(config);
        Ok(changes)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Arc<Config>> {
        self.config.lock().expect("nobody panics with the lock")
    }
}
