//! What the configuration files say: which keys there are, what each holds, and where each value
//! came from.
//!
//! The table of keys below is the whole language: a key that is not in it is an error that names
//! the nearest one that is, and there is no key that nothing reads.
//!
//! Invariant: this module judges shape only (known key, right type). Whether a value makes sense is
//! decided in `config`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What a key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One string.
    Text,
    /// A list of strings. A later file's list takes the place of an earlier one.
    List,
    /// One whole number.
    Count,
    /// `true` or `false`.
    Flag,
}

/// When a changed value takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// When the daemon starts.
    AtStart,
    /// At SIGHUP.
    AtReload,
}

/// One key of the configuration.
#[derive(Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name with its table's: `registry.config_path`.
    pub name: &'static str,
    /// What it holds.
    pub shape: Shape,
    /// What it holds where no file says so; for a text at most one.
    pub default: &'static [&'static str],
    /// When a changed value takes effect.
    pub takes: Takes,
}

macro_rules! keys {
    ($($constant:ident = $name:literal $shape:ident $takes:ident [$($default:literal),*];)*) => {
        $(
            #[doc = concat!("The key `", $name, "`.")]
            pub const $constant: Key = Key {
                name: $name,
                shape: Shape::$shape,
                default: &[$($default),*],
                takes: Takes::$takes,
            };
        )*
        /// Every key, in the order in which they are shown.
        pub const KEYS: &[Key] = &[$($constant),*];
    };
}

keys! {
    ENDPOINT = "endpoint" Text AtStart ["unix:///run/corten/corten.sock"];
    ROOT = "root" Text AtStart ["/var/lib/corten"];
    STATE = "state" Text AtStart ["/run/corten"];
    LOG = "log" Text AtReload ["info"];
    REGISTRY_CONFIG_PATH = "registry.config_path" List AtReload
        ["/etc/corten/certs.d", "/etc/containerd/certs.d", "/etc/containers/certs.d", "/etc/docker/certs.d"];
    REGISTRY_REGISTRIES_CONF = "registry.registries_conf" Text AtReload ["/etc/containers/registries.conf"];
    REGISTRY_AUTH_FILES = "registry.auth_files" List AtReload ["/etc/corten/auth.json"];
    REGISTRY_CREDENTIAL_HELPERS = "registry.credential_helpers" List AtReload [];
    REGISTRY_MAX_CONCURRENT_DOWNLOADS = "registry.max_concurrent_downloads" Count AtStart ["8"];
    REGISTRY_BANDWIDTH_LIMIT = "registry.bandwidth_limit" Text AtReload [];
    REGISTRY_PROGRESS_TIMEOUT = "registry.progress_timeout" Text AtReload ["60s"];
    CNI_CONF_DIR = "cni.conf_dir" Text AtStart ["/etc/cni/net.d"];
    CNI_BIN_DIRS = "cni.bin_dirs" List AtStart ["/opt/cni/bin", "/usr/lib/cni"];
    CNI_BUNDLED_PLUGINS = "cni.bundled_plugins" Text AtStart ["fallback"];
    CNI_CACHE_DIR = "cni.cache_dir" Text AtStart ["/var/lib/cni"];
    CNI_CONF_TEMPLATE = "cni.conf_template" Text AtStart [];
    CDI_SPEC_DIRS = "cdi.spec_dirs" List AtStart ["/etc/cdi", "/var/run/cdi"];
    CGROUP_DRIVER = "cgroup.driver" Text AtStart ["auto"];
    IMAGES_PINNED = "images.pinned" List AtReload [];
    IMAGES_MAX_DECOMPRESSION_RATIO = "images.max_decompression_ratio" Count AtReload ["200"];
    IMAGES_KEEP_BLOBS = "images.keep_blobs" Flag AtReload ["false"];
    IMAGES_FS_VERITY = "images.fs_verity" Flag AtStart ["false"];
    IMAGES_DEVICE_NODES = "images.device_nodes" Text AtReload ["allow"];
    VERIFIERS_BIN_DIR = "verifiers.bin_dir" Text AtReload ["/opt/containerd/image-verifier/bin"];
    VERIFIERS_MAX_VERIFIERS = "verifiers.max_verifiers" Count AtReload ["10"];
    VERIFIERS_PER_VERIFIER_TIMEOUT = "verifiers.per_verifier_timeout" Text AtReload ["10s"];
    HEALTH_IMAGE_HEALTHCHECKS = "health.image_healthchecks" Flag AtStart ["false"];
    STREAMING_ADDRESS = "streaming.address" Text AtStart ["127.0.0.1:0"];
    STREAMING_TLS_CERT = "streaming.tls_cert" Text AtStart [];
    STREAMING_TLS_KEY = "streaming.tls_key" Text AtStart [];
    STREAMING_CLIENT_CA = "streaming.client_ca" Text AtStart [];
    STREAMING_IDLE_TIMEOUT = "streaming.idle_timeout" Text AtReload ["4h"];
    STREAMING_CREATION_TIMEOUT = "streaming.creation_timeout" Text AtReload ["30s"];
    STREAMING_DRAIN = "streaming.drain" Text AtReload ["10s"];
    METRICS_ADDRESS = "metrics.address" Text AtStart [];
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
}

/// What a file says of one key. A text is a list of one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Setting {
    values: Vec<String>,
    origin: Origin,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("read {}", file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{}:{line}: not TOML: {reason}", file.display())]
    Syntax {
        /// Which file.
        file: PathBuf,
        /// Which line.
        line: usize,
        /// What the parser expected.
        reason: String,
    },
    /// The key is not one of ours.
    #[error("{}:{line}: unknown key `{key}`; did you mean `{nearest}`?", file.display())]
    UnknownKey {
        /// Which file.
        file: PathBuf,
        /// Which line.
        line: usize,
        /// The key as written.
        key: String,
        /// The known key or table that is written most alike.
        nearest: &'static str,
    },
    /// The value has the wrong type.
    #[error("{}:{line}: `{key}` is {found}, and must be {wanted}", file.display())]
    WrongType {
        /// Which file.
        file: PathBuf,
        /// Which line.
        line: usize,
        /// The key.
        key: String,
        /// The type that it has.
        found: &'static str,
        /// The type that it must have.
        wanted: &'static str,
    },
    /// The value makes no sense.
    #[error("{place}: `{key}` = {value:?}: {reason}")]
    Value {
        /// File and line, or that it is the default.
        place: String,
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
        /// Why not.
        reason: String,
    },
}

/// What all files together say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RawConfig {
    settings: BTreeMap<&'static str, Setting>,
    /// The files, in the order in which they were read.
    pub files: Vec<PathBuf>,
}

impl RawConfig {
    /// Reads a file; what it says takes the place of what earlier files said.
    ///
    /// # Errors
    /// Where it cannot be read, is no TOML, or has a key or a type that is not in the table.
    pub fn read(&mut self, file: &Path) -> Result<(), ConfigError> {
        let text = std::fs::read_to_string(file).map_err(|source| ConfigError::Read {
            file: file.to_owned(),
            source,
        })?;
        self.take(file, &text)?;
        self.files.push(file.to_owned());
        Ok(())
    }

    fn take(&mut self, file: &Path, text: &str) -> Result<(), ConfigError> {
        let source = Source { file, text };
        let table = DeTable::parse(text).map_err(|e| source.syntax(&e))?;
        source.walk(table.get_ref(), "", &mut self.settings)
    }

    /// The values of a key: those of the last file that has it, or the default.
    #[must_use]
    pub fn list(&self, key: &Key) -> Vec<String> {
        match self.settings.get(key.name) {
            Some(setting) => setting.values.clone(),
            None => key.default.iter().map(ToString::to_string).collect(),
        }
    }

    /// The value of a key that holds one; `None` where no file says so and there is no default.
    #[must_use]
    pub fn text(&self, key: &Key) -> Option<String> {
        self.list(key).into_iter().next()
    }

    /// The value of a key that is a flag.
    #[must_use]
    pub fn flag(&self, key: &Key) -> bool {
        self.text(key).as_deref() == Some("true")
    }

    /// Where the value of a key came from; `None`: it is the default.
    #[must_use]
    pub fn origin(&self, key: &Key) -> Option<&Origin> {
        self.settings.get(key.name).map(|setting| &setting.origin)
    }

    /// What is in force when `new` is read while the daemon runs: its values of the keys that can
    /// change then, and the old values of all others.
    #[must_use]
    pub fn reloaded(&self, mut new: Self) -> Self {
        for key in KEYS.iter().filter(|key| key.takes == Takes::AtStart) {
            match self.settings.get(key.name) {
                Some(old) => new.settings.insert(key.name, old.clone()),
                None => new.settings.remove(key.name),
            };
        }
        new
    }

    /// The error that a key's value makes no sense.
    #[must_use]
    pub fn refuse(&self, key: &Key, reason: impl Into<String>) -> ConfigError {
        let place = self.origin(key).map_or_else(
            || "default".to_owned(),
            |o| format!("{}:{}", o.file.display(), o.line),
        );
        ConfigError::Value {
            place,
            key: key.name,
            value: self.list(key).join(", "),
            reason: reason.into(),
        }
    }
}

/// A file's text, for telling where something is in it.
struct Source<'a> {
    file: &'a Path,
    text: &'a str,
}

impl Source<'_> {
    fn walk(
        &self,
        table: &DeTable<'_>,
        prefix: &str,
        into: &mut BTreeMap<&'static str, Setting>,
    ) -> Result<(), ConfigError> {
        for (key, value) in table {
            let name = format!("{prefix}{}", key.get_ref());
            match value.get_ref() {
                DeValue::Table(inner) if is_table(&name) => {
                    self.walk(inner, &format!("{name}."), into)?;
                }
                _ => {
                    let known = self.known(&name, &key.span())?;
                    into.insert(known.name, self.setting(known, value, &key.span())?);
                }
            }
        }
        Ok(())
    }

    fn known(&self, name: &str, span: &Range<usize>) -> Result<&'static Key, ConfigError> {
        let found = KEYS.iter().find(|key| key.name == name);
        found.ok_or_else(|| ConfigError::UnknownKey {
            file: self.file.to_owned(),
            line: self.line(span),
            key: name.to_owned(),
            nearest: nearest(name),
        })
    }

    fn setting(
        &self,
        key: &Key,
        value: &Spanned<DeValue<'_>>,
        span: &Range<usize>,
    ) -> Result<Setting, ConfigError> {
        let values = match key.shape {
            Shape::Text => value.get_ref().as_str().map(|text| vec![text.to_owned()]),
            Shape::List => value.get_ref().as_array().and_then(texts),
            Shape::Count => value.get_ref().as_integer().and_then(count),
            Shape::Flag => value.get_ref().as_bool().map(|flag| vec![flag.to_string()]),
        };
        let origin = Origin {
            file: self.file.to_owned(),
            line: self.line(span),
        };
        match values {
            Some(values) => Ok(Setting { values, origin }),
            None => Err(wrong_type(key, value.get_ref(), origin)),
        }
    }

    fn line(&self, span: &Range<usize>) -> usize {
        let before = &self.text.as_bytes()[..span.start.min(self.text.len())];
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }

    fn syntax(&self, error: &toml::de::Error) -> ConfigError {
        ConfigError::Syntax {
            file: self.file.to_owned(),
            line: self.line(&error.span().unwrap_or(0..0)),
            reason: error.message().to_owned(),
        }
    }
}

fn texts(array: &toml::de::DeArray<'_>) -> Option<Vec<String>> {
    let text = |item: &Spanned<DeValue<'_>>| item.get_ref().as_str().map(str::to_owned);
    array.iter().map(text).collect()
}

/// As it is shown; a negative one counts nothing.
fn count(integer: &toml::de::DeInteger<'_>) -> Option<Vec<String>> {
    let number = u64::from_str_radix(integer.as_str(), integer.radix()).ok()?;
    Some(vec![number.to_string()])
}

fn wrong_type(key: &Key, value: &DeValue<'_>, origin: Origin) -> ConfigError {
    ConfigError::WrongType {
        file: origin.file,
        line: origin.line,
        key: key.name.to_owned(),
        found: match value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        },
        wanted: match key.shape {
            Shape::Text => "a string",
            Shape::List => "a list of strings",
            Shape::Count => "a whole number",
            Shape::Flag => "true or false",
        },
    }
}

/// Some key is in the table of this name.
fn is_table(name: &str) -> bool {
    KEYS.iter()
        .any(|key| key.name.split_once('.').is_some_and(|(t, _)| t == name))
}

/// The key or table that is written most alike; a key without its table counts one more.
fn nearest(name: &str) -> &'static str {
    let spellings = |key: &'static Key| {
        let (table, last) = key.name.split_once('.').unwrap_or((key.name, key.name));
        [
            (key.name, key.name, 0),
            (table, table, 0),
            (last, key.name, 1),
        ]
    };
    let distance = |(spelling, _, more): &(&str, &str, usize)| edit_distance(name, spelling) + more;
    let nearest = KEYS.iter().flat_map(spellings).min_by_key(distance);
    nearest.map_or("", |(_, meant, _)| meant)
}

/// Levenshtein's distance, in bytes.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<RawConfig, ConfigError> {
        let mut raw = RawConfig::default();
        raw.take(Path::new("a.toml"), text).map(|()| raw)
    }

    fn refusal(text: &str) -> String {
        read(text).unwrap_err().to_string()
    }

    #[test]
    fn a_later_file_wins_and_each_value_knows_its_line() {
        let mut raw = read("root = '/a'\n[cni]\nbin_dirs = ['/b']\n").unwrap();
        raw.take(Path::new("b.toml"), "\nroot = '/c'\n").unwrap();
        assert_eq!(raw.text(&ROOT).as_deref(), Some("/c"));
        assert_eq!(raw.list(&CNI_BIN_DIRS), ["/b"]);
        let origin = raw.origin(&ROOT).unwrap();
        assert_eq!(
            (origin.file.as_path(), origin.line),
            (Path::new("b.toml"), 2)
        );
        assert_eq!(raw.origin(&CNI_BIN_DIRS).unwrap().line, 3);
        assert_eq!(raw.origin(&STATE), None);
    }

    #[test]
    fn an_unknown_key_names_the_place_and_the_nearest_one() {
        assert_eq!(
            refusal("\n[registry]\nconfig_paths = []\n"),
            "a.toml:3: unknown key `registry.config_paths`; did you mean `registry.config_path`?"
        );
        assert!(refusal("[regsitry]\nx = 1\n").contains("did you mean `registry`"));
        assert!(refusal("conf_dir = '/x'\n").contains("did you mean `cni.conf_dir`"));
        assert!(refusal("rot = '/x'\n").contains("did you mean `root`"));
    }

    #[test]
    fn a_wrong_type_names_both_types() {
        assert_eq!(
            refusal("root = 3\n"),
            "a.toml:1: `root` is an integer, and must be a string"
        );
        assert!(refusal("[images]\npinned = 'x'\n").contains("must be a list of strings"));
        assert!(refusal("[images]\npinned = ['x', 1]\n").contains("must be a list of strings"));
        assert!(refusal("registry = 1\n").contains("unknown key `registry`"));
        let count = |value| format!("[registry]\nmax_concurrent_downloads = {value}\n");
        assert!(refusal(&count("'3'")).contains("must be a whole number"));
        assert!(refusal(&count("-3")).contains("must be a whole number"));
        let read = read(&count("0x10")).unwrap();
        assert_eq!(read.list(&REGISTRY_MAX_CONCURRENT_DOWNLOADS), ["16"]);
    }

    #[test]
    fn what_is_no_toml_names_the_line() {
        assert!(refusal("root = '/a'\nstate = \n").starts_with("a.toml:2: not TOML"));
    }

    #[test]
    fn the_edit_distance_is_levenshteins() {
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("same", "same"), 0);
    }
}
