//! The keys of `[registry]`: where registries are described, and how much may be fetched at once.
//!
//! Invariant: a limit of nothing is no configuration: a node that fetches nothing is a mistake.

use super::raw::{self, ConfigError, RawConfig};
use super::streaming::duration;
use super::{path, paths};
use std::path::PathBuf;
use std::time::Duration;

/// More layers at once only hold each other back.
const MOST_DOWNLOADS: usize = 64;
/// Less than this a second is a mistake in the unit.
const LEAST_BANDWIDTH: u64 = 16 * 1024;

/// How registries are found and used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryConfig {
    /// Trees of `hosts.toml` files; the first that knows a registry counts.
    pub config_path: Vec<PathBuf>,
    /// A `registries.conf`; its drop-ins are beside it. It may be absent.
    pub registries_conf: PathBuf,
    /// Files with credentials for pulls without any. They may be absent.
    pub auth_files: Vec<PathBuf>,
    /// Names of programs `docker-credential-NAME` that are asked after the files.
    pub credential_helpers: Vec<String>,
    /// Layers that are fetched and unpacked at the same time, of all images together. Each holds
    /// about 3 MiB in memory.
    pub max_concurrent_downloads: usize,
    /// Bytes a second that all downloads together may take; `None`: as many as there are.
    pub bandwidth_limit: Option<u64>,
    /// A registry that makes no progress for this long is given up.
    pub progress_timeout: Duration,
}

pub(super) fn resolve(raw: &RawConfig) -> Result<RegistryConfig, ConfigError> {
    Ok(RegistryConfig {
        config_path: paths(raw, &raw::REGISTRY_CONFIG_PATH)?,
        registries_conf: path(raw, &raw::REGISTRY_REGISTRIES_CONF)?,
        auth_files: paths(raw, &raw::REGISTRY_AUTH_FILES)?,
        credential_helpers: raw.list(&raw::REGISTRY_CREDENTIAL_HELPERS),
        max_concurrent_downloads: downloads(raw)?,
        bandwidth_limit: bandwidth(raw)?,
        progress_timeout: progress_timeout(raw)?,
    })
}

fn downloads(raw: &RawConfig) -> Result<usize, ConfigError> {
    let key = &raw::REGISTRY_MAX_CONCURRENT_DOWNLOADS;
    let number = raw.text(key).and_then(|text| text.parse().ok());
    number
        .filter(|number| (1..=MOST_DOWNLOADS).contains(number))
        .ok_or_else(|| raw.refuse(key, "must be from 1 to 64"))
}

fn bandwidth(raw: &RawConfig) -> Result<Option<u64>, ConfigError> {
    let key = &raw::REGISTRY_BANDWIDTH_LIMIT;
    let Some(text) = raw.text(key) else {
        return Ok(None);
    };
    match parse_size(&text) {
        None => Err(raw.refuse(
            key,
            "must be bytes a second, such as \"500KiB\" or \"20MB\"",
        )),
        Some(rate) if rate < LEAST_BANDWIDTH => {
            Err(raw.refuse(key, "is less than 16 KiB a second"))
        }
        rate => Ok(rate),
    }
}

fn progress_timeout(raw: &RawConfig) -> Result<Duration, ConfigError> {
    let key = &raw::REGISTRY_PROGRESS_TIMEOUT;
    match duration(raw, key)? {
        time if time < Duration::from_secs(1) => Err(raw.refuse(key, "is less than a second")),
        time => Ok(time),
    }
}

/// A whole number with a unit: B, kB, MB, GB of a thousand, KiB, MiB, GiB of 1024.
fn parse_size(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..end].parse().ok()?;
    let unit = match text[end..].trim_start() {
        "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    fn load(text: &str) -> Result<RegistryConfig, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("corten.toml");
        std::fs::write(&file, format!("[registry]\n{text}")).unwrap();
        let config = Config::load(Some(&file));
        config.map(|c| c.registry).map_err(|e| e.to_string())
    }

    #[test]
    fn limits_are_read() {
        let config = load("").unwrap();
        assert_eq!(config.max_concurrent_downloads, 8);
        assert_eq!(config.bandwidth_limit, None);
        assert_eq!(config.progress_timeout, Duration::from_secs(60));
        let config = load("max_concurrent_downloads = 3\nbandwidth_limit = '2 MiB'\n").unwrap();
        assert_eq!(config.max_concurrent_downloads, 3);
        assert_eq!(config.bandwidth_limit, Some(2 << 20));
    }

    #[test]
    fn limits_that_leave_nothing_are_refused() {
        for (text, reason) in [
            ("max_concurrent_downloads = 0", "from 1 to 64"),
            ("max_concurrent_downloads = 65", "from 1 to 64"),
            ("bandwidth_limit = '20'", "bytes a second"),
            ("bandwidth_limit = '20Mbit'", "bytes a second"),
            ("bandwidth_limit = '1kB'", "less than 16 KiB"),
            ("bandwidth_limit = '99999999999999GB'", "bytes a second"),
            ("progress_timeout = '10ms'", "less than a second"),
        ] {
            let refusal = load(text).unwrap_err();
            assert!(refusal.contains(reason), "{text}: {refusal}");
        }
    }
}
