//! What is true of this daemon: the configuration files and the defaults, read once and resolved.
//!
//! ```text
//! FILE, then FILE.d/*.toml in lexical order → RawConfig (what they say) → Config (what is true)
//! ```
//!
//! Invariant: every value of [`Config`] is honoured somewhere, and past this module nothing looks
//! at the files or asks whether a value was given.

pub mod host;
mod images;
mod live;
pub mod raw;
mod registry;
pub mod show;
mod streaming;
pub mod systemd;

pub use crate::model::host::CgroupDriver;
pub use images::{ImagesConfig, VerifiersConfig};
pub use live::Live;
use raw::{ConfigError, KEYS, Key, RawConfig, Takes};
pub use registry::RegistryConfig;
use std::env;
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
pub use streaming::{StreamingConfig, TlsFiles};
use systemd::DriverChoice;

/// The file that is read where none is named. It may be absent.
pub const DEFAULT_FILE: &str = "/etc/corten/corten.toml";

/// The kernel's limit of a socket's path, without the final zero (`unix(7)`).
const SOCKET_PATH_LIMIT: usize = 107;

/// Where the shim is below the prefix that the daemon is installed in: `deploy/run` has it below
/// /usr/local, the package below /usr.
const LIBEXEC: &str = "libexec/corten";

/// The prefix of a daemon that cannot tell where it is itself.
const PREFIX: &str = "/usr/local";

/// All that a file can decide, decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The socket of the CRI and the admin service.
    pub endpoint: PathBuf,
    /// The directory of what lasts.
    pub root: PathBuf,
    /// The directory of what a boot ends.
    pub state: PathBuf,
    /// The log's filter, in the words of `RUST_LOG`.
    pub log: String,
    /// Registries.
    pub registry: RegistryConfig,
    /// The pods' network.
    pub cni: CniConfig,
    /// Whether images' health checks are run where the pod does not say.
    pub image_healthchecks: bool,
    /// Where vendors describe their devices (CDI).
    pub cdi_spec_dirs: Vec<PathBuf>,
    /// Who makes cgroups.
    pub cgroup_driver: DriverChoice,
    /// Images.
    pub images: ImagesConfig,
    /// The server of exec, attach and port-forward.
    pub streaming: StreamingConfig,
    /// Where figures and health are told.
    pub metrics: Option<SocketAddr>,
    /// The program `corten-shim`.
    pub shim: PathBuf,
    /// The files that were read, in order.
    pub sources: Vec<PathBuf>,
    /// What the files said, for showing it.
    pub settings: RawConfig,
}

/// Where the pods' network comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CniConfig {
    /// The directory of conflists; the first in lexical order counts.
    pub conf_dir: PathBuf,
    /// The directories of plugins, the first one first.
    pub bin_dirs: Vec<PathBuf>,
    /// When Corten's own plugins are used.
    pub bundled_plugins: BundledPlugins,
    /// The program `corten-cni`, which they are.
    pub program: PathBuf,
    /// The directory of cached results (`results/` below it).
    pub cache_dir: PathBuf,
    /// A conflist to be written when the kubelet tells the node's pod CIDR.
    pub conf_template: Option<PathBuf>,
}

/// When the plugins that come with Corten are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BundledPlugins {
    /// For what `bin_dirs` do not have.
    Fallback,
    /// Before those of `bin_dirs`.
    Prefer,
    /// Not at all.
    Never,
}

/// What a reload found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Keys whose new value is in force now.
    pub applied: Vec<&'static str>,
    /// Keys whose new value waits for the next start.
    pub waiting: Vec<&'static str>,
}

impl Default for Config {
    fn default() -> Self {
        Self::resolve(RawConfig::default()).expect("the defaults are a good configuration")
    }
}

impl Config {
    /// Reads a file and its drop-ins, by default [`DEFAULT_FILE`], which may be absent.
    ///
    /// # Errors
    /// Where a file cannot be read or is wrong; it names file, line and key.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let default = Path::new(DEFAULT_FILE);
        let mut raw = RawConfig::default();
        match file {
            Some(file) => raw.read(file)?,
            None if default.exists() => raw.read(default)?,
            None => {}
        }
        for drop_in in drop_ins(file.unwrap_or(default))? {
            raw.read(&drop_in)?;
        }
        Self::resolve(raw)
    }

    fn resolve(raw: RawConfig) -> Result<Self, ConfigError> {
        Ok(Self {
            endpoint: endpoint(&raw)?,
            root: path(&raw, &raw::ROOT)?,
            state: path(&raw, &raw::STATE)?,
            log: log_filter(&raw)?,
            registry: registry::resolve(&raw)?,
            cni: cni(&raw)?,
            image_healthchecks: raw.flag(&raw::HEALTH_IMAGE_HEALTHCHECKS),
            cdi_spec_dirs: paths(&raw, &raw::CDI_SPEC_DIRS)?,
            cgroup_driver: cgroup_driver(&raw)?,
            images: images::resolve(&raw)?,
            streaming: streaming::resolve(&raw)?,
            metrics: match raw.text(&raw::METRICS_ADDRESS) {
                Some(_) => Some(streaming::socket_address(&raw, &raw::METRICS_ADDRESS)?),
                None => None,
            },
            shim: find_program("corten-shim"),
            sources: raw.files.clone(),
            settings: raw,
        })
    }

    /// Reads the files again, and gives what is in force then.
    ///
    /// # Errors
    /// As [`Config::load`]; the old configuration stays in force.
    pub fn reload(&self, file: Option<&Path>) -> Result<(Self, Changes), ConfigError> {
        let new = Self::load(file)?;
        let changes = self.changes(&new);
        let in_force = Self::resolve(self.settings.reloaded(new.settings))?;
        Ok((in_force, changes))
    }

    /// What differs in `new`, by when it takes effect.
    fn changes(&self, new: &Self) -> Changes {
        let mut changes = Changes::default();
        let differs = |key: &&Key| self.settings.list(key) != new.settings.list(key);
        for key in KEYS.iter().filter(differs) {
            match key.takes {
                Takes::AtReload => changes.applied.push(key.name),
                Takes::AtStart => changes.waiting.push(key.name),
            }
        }
        changes
    }
}

/// `FILE.d/*.toml` in lexical order; none where there is no such directory.
fn drop_ins(file: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let mut directory = file.as_os_str().to_owned();
    directory.push(".d");
    let directory = PathBuf::from(directory);
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => {
            return Err(ConfigError::Read {
                file: directory,
                source,
            });
        }
    };
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|e| e == "toml"));
    files.sort();
    Ok(files)
}

fn endpoint(raw: &RawConfig) -> Result<PathBuf, ConfigError> {
    let text = raw.text(&raw::ENDPOINT).unwrap_or_default();
    let path = socket_path(&text)
        .ok_or_else(|| raw.refuse(&raw::ENDPOINT, "must be unix:// and an absolute path"))?;
    if path.as_os_str().len() > SOCKET_PATH_LIMIT {
        return Err(raw.refuse(&raw::ENDPOINT, "a socket's path has at most 107 bytes"));
    }
    Ok(path)
}

/// The path of `unix:///a/b`, `unix:/a/b` or `/a/b`.
#[must_use]
pub fn socket_path(endpoint: &str) -> Option<PathBuf> {
    let path = endpoint
        .strip_prefix("unix://")
        .or_else(|| endpoint.strip_prefix("unix:"))
        .unwrap_or(endpoint);
    path.starts_with('/').then(|| PathBuf::from(path))
}

fn path(raw: &RawConfig, key: &Key) -> Result<PathBuf, ConfigError> {
    optional_path(raw, key)?.ok_or_else(|| raw.refuse(key, "must not be empty"))
}

fn optional_path(raw: &RawConfig, key: &Key) -> Result<Option<PathBuf>, ConfigError> {
    Ok(paths(raw, key)?.into_iter().next())
}

fn paths(raw: &RawConfig, key: &Key) -> Result<Vec<PathBuf>, ConfigError> {
    let absolute = |text: String| match text.starts_with('/') {
        true => Ok(PathBuf::from(text)),
        false => Err(raw.refuse(key, "must be absolute")),
    };
    raw.list(key).into_iter().map(absolute).collect()
}

fn cni(raw: &RawConfig) -> Result<CniConfig, ConfigError> {
    Ok(CniConfig {
        conf_dir: path(raw, &raw::CNI_CONF_DIR)?,
        bin_dirs: paths(raw, &raw::CNI_BIN_DIRS)?,
        bundled_plugins: bundled_plugins(raw)?,
        program: find_program("corten-cni"),
        cache_dir: path(raw, &raw::CNI_CACHE_DIR)?,
        conf_template: optional_path(raw, &raw::CNI_CONF_TEMPLATE)?,
    })
}

fn bundled_plugins(raw: &RawConfig) -> Result<BundledPlugins, ConfigError> {
    let key = &raw::CNI_BUNDLED_PLUGINS;
    match raw.text(key).unwrap_or_default().as_str() {
        "fallback" => Ok(BundledPlugins::Fallback),
        "prefer" => Ok(BundledPlugins::Prefer),
        "never" => Ok(BundledPlugins::Never),
        _ => Err(raw.refuse(key, "must be \"fallback\", \"prefer\" or \"never\"")),
    }
}

fn log_filter(raw: &RawConfig) -> Result<String, ConfigError> {
    let text = raw.text(&raw::LOG).unwrap_or_default();
    match tracing_subscriber::EnvFilter::try_new(&text) {
        Ok(_) => Ok(text),
        Err(e) => Err(raw.refuse(&raw::LOG, format!("no filter as RUST_LOG takes them: {e}"))),
    }
}

/// What `auto` becomes the host decides, at the start: this file may be checked on another one.
fn cgroup_driver(raw: &RawConfig) -> Result<DriverChoice, ConfigError> {
    match raw.text(&raw::CGROUP_DRIVER).unwrap_or_default().as_str() {
        "auto" => Ok(DriverChoice::Auto),
        "cgroupfs" => Ok(DriverChoice::Fixed(CgroupDriver::Cgroupfs)),
        "systemd" => Ok(DriverChoice::Fixed(CgroupDriver::Systemd)),
        _ => Err(raw.refuse(
            &raw::CGROUP_DRIVER,
            "must be \"auto\", \"cgroupfs\" or \"systemd\"",
        )),
    }
}

/// In the first place that has it. The place where it is installed is also the answer when it is
/// nowhere: who starts it will say so.
fn find_program(name: &str) -> PathBuf {
    let own = env::current_exe().unwrap_or_default();
    let search = env::var_os("PATH").unwrap_or_default();
    let places = program_places(&own, &search);
    let programs = places.into_iter().map(|place| place.join(name));
    let found = programs.clone().find(|program| program.is_file());
    found.unwrap_or_else(|| installed(&own).join(name))
}

/// Where programs of Corten's are looked for: beside this one, where they are installed together
/// with it, then in PATH. No other prefix goes before PATH: a daemon of /usr does not take up the
/// shim that another installation has left below /usr/local.
fn program_places(own: &Path, search: &OsStr) -> Vec<PathBuf> {
    let beside = own.parent().map(PathBuf::from);
    let places = beside.into_iter().chain([installed(own)]);
    places.chain(env::split_paths(search)).collect()
}

/// `PREFIX/libexec/corten` for a daemon in `PREFIX/bin`.
fn installed(own: &Path) -> PathBuf {
    let bin = own.parent().filter(|parent| parent.ends_with("bin"));
    let prefix = bin.and_then(Path::parent);
    prefix.unwrap_or(Path::new(PREFIX)).join(LIBEXEC)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn load(text: &str) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("corten.toml");
        fs::write(&file, text).unwrap();
        Config::load(Some(&file))
    }

    #[test]
    fn an_empty_file_is_a_good_configuration() {
        let config = load("").unwrap();
        assert_eq!(config.endpoint, Path::new("/run/corten/corten.sock"));
        assert_eq!(config.root, Path::new("/var/lib/corten"));
        assert_eq!(config.cgroup_driver, DriverChoice::Auto);
        assert_eq!(config.cni.conf_template, None);
        assert_eq!(config.registry.config_path.len(), 4);
        assert!(config.images.pinned.is_empty());
        assert_eq!(config.metrics, None);
    }

    #[test]
    fn a_daemon_takes_the_programs_of_its_own_installation() {
        let places = |own: &str| program_places(Path::new(own), OsStr::new("/a:/b"));
        let packaged = ["/usr/bin", "/usr/libexec/corten", "/a", "/b"].map(PathBuf::from);
        assert_eq!(places("/usr/bin/corten"), packaged);
        let local = ["/usr/local/bin", "/usr/local/libexec/corten", "/a", "/b"].map(PathBuf::from);
        assert_eq!(places("/usr/local/bin/corten"), local);
        let built =
            ["/c/target/release", "/usr/local/libexec/corten", "/a", "/b"].map(PathBuf::from);
        assert_eq!(places("/c/target/release/corten"), built);
    }

    #[test]
    fn the_bundled_plugins_are_used_in_three_manners() {
        for (text, wanted) in [
            ("", Some(BundledPlugins::Fallback)),
            (
                "[cni]\nbundled_plugins = 'fallback'",
                Some(BundledPlugins::Fallback),
            ),
            (
                "[cni]\nbundled_plugins = 'prefer'",
                Some(BundledPlugins::Prefer),
            ),
            (
                "[cni]\nbundled_plugins = 'never'",
                Some(BundledPlugins::Never),
            ),
            ("[cni]\nbundled_plugins = 'always'", None),
        ] {
            let config = load(text).map(|config| config.cni.bundled_plugins);
            assert_eq!(config.as_ref().ok(), wanted.as_ref(), "{text}");
        }
        let refused = load("[cni]\nbundled_plugins = 'always'").unwrap_err();
        assert!(refused.to_string().contains("prefer"), "{refused}");
    }

    #[test]
    fn drop_ins_win_in_lexical_order() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("corten.toml");
        let drop_in = dir.path().join("corten.toml.d");
        fs::create_dir(&drop_in).unwrap();
        fs::write(&file, "root = '/a'\nlog = 'debug'\n").unwrap();
        fs::write(drop_in.join("20.toml"), "root = '/c'\n").unwrap();
        fs::write(drop_in.join("10.toml"), "root = '/b'\n").unwrap();
        fs::write(drop_in.join("30.toml.bak"), "root = 7\n").unwrap();
        let config = Config::load(Some(&file)).unwrap();
        assert_eq!(config.root, Path::new("/c"));
        assert_eq!(config.log, "debug");
        assert_eq!(
            config.sources,
            [file, drop_in.join("10.toml"), drop_in.join("20.toml")]
        );
    }

    #[test]
    fn a_named_file_must_exist() {
        let error = Config::load(Some(Path::new("/nowhere/corten.toml"))).unwrap_err();
        assert_eq!(error.to_string(), "read /nowhere/corten.toml");
    }

    #[test]
    fn an_endpoint_is_a_url_or_a_path() {
        for text in ["unix:///a/b.sock", "/a/b.sock", "unix:/a/b.sock"] {
            let config = load(&format!("endpoint = '{text}'")).unwrap();
            assert_eq!(config.endpoint, Path::new("/a/b.sock"));
        }
        assert!(load("endpoint = 'tcp://1.2.3.4:5'").is_err());
        assert!(load(&format!("endpoint = '/{}'", "a".repeat(107))).is_err());
    }

    #[test]
    fn values_that_make_no_sense_name_their_place() {
        let refusal = |text: &str| load(text).unwrap_err().to_string();
        assert!(
            refusal("\nroot = 'a'").contains("corten.toml:2: `root` = \"a\": must be absolute")
        );
        assert!(refusal("log = 'corten=loud'").contains("`log`"));
        assert!(refusal("[metrics]\naddress = 'here'").contains("`metrics.address`"));
        assert!(refusal("[cgroup]\ndriver = 'x'").contains("must be \"auto\""));
    }

    #[test]
    fn a_cgroup_driver_is_chosen_or_left_to_the_host() {
        let driver = |name: &str| {
            let text = format!("[cgroup]\ndriver = '{name}'");
            load(&text).unwrap().cgroup_driver
        };
        assert_eq!(driver("auto"), DriverChoice::Auto);
        let fixed = [
            ("cgroupfs", CgroupDriver::Cgroupfs),
            ("systemd", CgroupDriver::Systemd),
        ];
        for (name, wanted) in fixed {
            assert_eq!(driver(name), DriverChoice::Fixed(wanted));
        }
    }

    #[test]
    fn a_reload_takes_what_can_change_and_tells_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("corten.toml");
        fs::write(&file, "state = '/s'\n").unwrap();
        let old = Config::load(Some(&file)).unwrap();
        fs::write(&file, "root = '/x'\nlog = 'debug'\n").unwrap();
        let (new, changes) = old.reload(Some(&file)).unwrap();
        assert_eq!(changes.applied, ["log"]);
        assert_eq!(changes.waiting, ["root", "state"]);
        assert_eq!(new.log, "debug");
        assert_eq!((new.root, new.state), (old.root, old.state));
    }
}
