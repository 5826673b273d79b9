//! The configuration as a person reads it: the commented default, and what is in force with the
//! place that each value came from.
//!
//! Invariant: both texts are TOML that [`Config::load`](super::Config::load) reads as it is.

use super::raw::{KEYS, Key, RawConfig, Shape};
use std::fmt::Write;

/// The default configuration, commented: what `corten config default` prints and `deploy/`
/// installs. Every key is commented out, so that a later version's default holds.
pub const DEFAULT_TOML: &str = include_str!("../../deploy/corten.toml");

/// All keys and their values as one TOML document, each with its origin in a comment.
#[must_use]
pub fn to_toml(raw: &RawConfig) -> String {
    let mut text = String::new();
    let mut open = "";
    for key in KEYS {
        let (table, name) = key.name.split_once('.').unwrap_or(("", key.name));
        if table != open {
            let _ = writeln!(text, "\n[{table}]");
            open = table;
        }
        text.push_str(&line(raw, key, name));
    }
    text
}

fn line(raw: &RawConfig, key: &Key, name: &str) -> String {
    let place = raw.origin(key).map_or_else(
        || "default".to_owned(),
        |origin| format!("{}:{}", origin.file.display(), origin.line),
    );
    match value(raw, key) {
        Some(value) => format!("{name} = {value}  # {place}\n"),
        None => format!("# {name} is not set\n"),
    }
}

fn value(raw: &RawConfig, key: &Key) -> Option<String> {
    match key.shape {
        Shape::Text => raw
            .text(key)
            .map(|text| toml::Value::from(text).to_string()),
        Shape::Count | Shape::Flag => raw.text(key),
        Shape::List => Some(toml::Value::from(raw.list(key)).to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    fn load(text: &str) -> Config {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("corten.toml");
        std::fs::write(&file, text).unwrap();
        Config::load(Some(&file)).unwrap()
    }

    fn values(config: &Config) -> Vec<Vec<String>> {
        KEYS.iter().map(|key| config.settings.list(key)).collect()
    }

    #[test]
    fn what_is_shown_can_be_read_again() {
        let config =
            load("root = '/a \"b\"'\n[cni]\nbin_dirs = ['/x', '/y']\n[images]\npinned = []\n");
        let shown = to_toml(&config.settings);
        assert!(shown.contains("corten.toml:1"), "{shown}");
        assert_eq!(values(&load(&shown)), values(&config));
    }

    /// Uncommented, each key of the default file has the default value.
    #[test]
    fn the_default_file_names_every_key_with_its_default() {
        assert_eq!(values(&load(DEFAULT_TOML)), values(&Config::default()));
        let config = load(&DEFAULT_TOML.replace("\n#", "\n").replace("\n#", "\n##"));
        for key in KEYS {
            assert!(
                config.settings.origin(key).is_some(),
                "{} is not in it",
                key.name
            );
            if !key.default.is_empty() {
                assert_eq!(config.settings.list(key), key.default);
            }
        }
    }
}
