//! The keys of `[images]`: which images stay, what their layers may hold, and who judges them.
//!
//! Invariant: no value turns a protection off by accident; verifiers are off where their directory
//! is not there.

use super::path;
use super::raw::{self, ConfigError, Key, RawConfig};
use super::streaming::duration;
use crate::model::image_policy::{DeviceNodes, UnpackPolicy};
use std::path::PathBuf;
use std::time::Duration;

/// Less than this refuses images that are good: text compresses as much.
const LEAST_RATIO: u64 = 10;
/// Each is started for every pull and every container.
const MOST_VERIFIERS: u64 = 100;

/// What is special about some images, and what all of them have to keep to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImagesConfig {
    /// Patterns of references that garbage collection leaves alone.
    pub pinned: Vec<String>,
    /// Blobs of layers stay beside what is unpacked of them.
    pub keep_blobs: bool,
    /// Files of layers are sealed by fs-verity where the file system can.
    pub fs_verity: bool,
    /// What layers may hold.
    pub unpacking: UnpackPolicy,
    /// Who judges images.
    pub verifiers: VerifiersConfig,
}

/// Programs that judge images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiersConfig {
    /// The directory of the programs. It may be absent.
    pub bin_dir: PathBuf,
    /// So many of them are asked, in the order of their names.
    pub max_verifiers: usize,
    /// One that takes longer has refused.
    pub per_verifier_timeout: Duration,
}

pub(super) fn resolve(raw: &RawConfig) -> Result<ImagesConfig, ConfigError> {
    let ratio = &raw::IMAGES_MAX_DECOMPRESSION_RATIO;
    let most = &raw::VERIFIERS_MAX_VERIFIERS;
    Ok(ImagesConfig {
        pinned: raw.list(&raw::IMAGES_PINNED),
        keep_blobs: raw.flag(&raw::IMAGES_KEEP_BLOBS),
        fs_verity: raw.flag(&raw::IMAGES_FS_VERITY),
        unpacking: UnpackPolicy {
            ratio: number(raw, ratio, LEAST_RATIO, u64::MAX, "must be 10 or more")?,
            devices: device_nodes(raw)?,
            ..UnpackPolicy::default()
        },
        verifiers: VerifiersConfig {
            bin_dir: path(raw, &raw::VERIFIERS_BIN_DIR)?,
            max_verifiers: number(raw, most, 1, MOST_VERIFIERS, "must be from 1 to 100")? as usize,
            per_verifier_timeout: timeout(raw)?,
        },
    })
}

fn number(
    raw: &RawConfig,
    key: &'static Key,
    least: u64,
    most: u64,
    reason: &str,
) -> Result<u64, ConfigError> {
    let number = raw.text(key).and_then(|text| text.parse().ok());
    number
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| raw.refuse(key, reason))
}

fn device_nodes(raw: &RawConfig) -> Result<DeviceNodes, ConfigError> {
    let key = &raw::IMAGES_DEVICE_NODES;
    match raw.text(key).as_deref() {
        Some("allow") => Ok(DeviceNodes::Allow),
        Some("refuse") => Ok(DeviceNodes::Refuse),
        _ => Err(raw.refuse(key, "must be \"allow\" or \"refuse\"")),
    }
}

fn timeout(raw: &RawConfig) -> Result<Duration, ConfigError> {
    let key = &raw::VERIFIERS_PER_VERIFIER_TIMEOUT;
    match duration(raw, key)? {
        Duration::ZERO => Err(raw.refuse(key, "leaves no time for a verdict")),
        time => Ok(time),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    fn load(text: &str) -> Result<ImagesConfig, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("corten.toml");
        std::fs::write(&file, text).unwrap();
        let config = Config::load(Some(&file));
        config.map(|c| c.images).map_err(|e| e.to_string())
    }

    #[test]
    fn rules_are_read() {
        let config = load("").unwrap();
        assert_eq!(config.unpacking, UnpackPolicy::default());
        assert!(!config.keep_blobs);
        assert!(load("[images]\nkeep_blobs = true").unwrap().keep_blobs);
        assert!(!config.fs_verity);
        assert!(load("[images]\nfs_verity = true").unwrap().fs_verity);
        assert_eq!(config.verifiers.max_verifiers, 10);
        assert_eq!(
            config.verifiers.per_verifier_timeout,
            Duration::from_secs(10)
        );
        let text = "[images]\nmax_decompression_ratio = 50\ndevice_nodes = 'refuse'\n[verifiers]\nbin_dir = '/v'\nmax_verifiers = 3\nper_verifier_timeout = '500ms'\n";
        let config = load(text).unwrap();
        let unpacking = UnpackPolicy {
            ratio: 50,
            devices: DeviceNodes::Refuse,
            ..UnpackPolicy::default()
        };
        let verifiers = VerifiersConfig {
            bin_dir: "/v".into(),
            max_verifiers: 3,
            per_verifier_timeout: Duration::from_millis(500),
        };
        assert_eq!((config.unpacking, config.verifiers), (unpacking, verifiers));
    }

    #[test]
    fn rules_that_mean_nothing_are_refused() {
        for (text, reason) in [
            ("[images]\nmax_decompression_ratio = 1", "10 or more"),
            ("[images]\nkeep_blobs = 'true'", "true or false"),
            ("[images]\ndevice_nodes = 'skip'", "\"allow\" or \"refuse\""),
            ("[verifiers]\nmax_verifiers = 0", "from 1 to 100"),
            ("[verifiers]\nper_verifier_timeout = '0s'", "no time"),
            ("[verifiers]\nbin_dir = 'here'", "absolute"),
        ] {
            let refusal = load(text).unwrap_err();
            assert!(refusal.contains(reason), "{text}: {refusal}");
        }
    }
}
