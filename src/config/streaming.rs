//! The keys of `[streaming]`: where exec, attach and port-forward are served, and for how long.
//!
//! Invariant: a certificate without its key, or a client CA without a certificate, is no
//! configuration.

use super::raw::{self, ConfigError, Key, RawConfig};
use super::{optional_path, path};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The longest time that a key may hold: what lasts longer is a mistake in the unit.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The server of exec, attach and port-forward.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamingConfig {
    /// Where it listens; port 0 is any free one.
    pub address: SocketAddr,
    /// The files of TLS; `None`: plain HTTP.
    pub tls: Option<TlsFiles>,
    /// A session in which nothing flows for this long is ended.
    pub idle_timeout: Duration,
    /// A client must have opened its streams by then.
    pub creation_timeout: Duration,
    /// How long sessions go on when the daemon is told to stop.
    pub drain: Duration,
}

/// Where the keys and certificates of TLS are, as PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, then the rest of its chain.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Who signs clients' certificates; `None`: clients need none.
    pub client_ca: Option<PathBuf>,
}

pub(super) fn resolve(raw: &RawConfig) -> Result<StreamingConfig, ConfigError> {
    Ok(StreamingConfig {
        address: socket_address(raw, &raw::STREAMING_ADDRESS)?,
        tls: tls(raw)?,
        idle_timeout: some_time(raw, &raw::STREAMING_IDLE_TIMEOUT)?,
        creation_timeout: some_time(raw, &raw::STREAMING_CREATION_TIMEOUT)?,
        drain: duration(raw, &raw::STREAMING_DRAIN)?,
    })
}

fn tls(raw: &RawConfig) -> Result<Option<TlsFiles>, ConfigError> {
    let given = |key| raw.text(key).is_some();
    let without = |key, other: &Key| Err(raw.refuse(key, format!("needs `{}` too", other.name)));
    match (
        given(&raw::STREAMING_TLS_CERT),
        given(&raw::STREAMING_TLS_KEY),
    ) {
        (true, true) => {}
        (true, false) => return without(&raw::STREAMING_TLS_CERT, &raw::STREAMING_TLS_KEY),
        (false, true) => return without(&raw::STREAMING_TLS_KEY, &raw::STREAMING_TLS_CERT),
        (false, false) if given(&raw::STREAMING_CLIENT_CA) => {
            return without(&raw::STREAMING_CLIENT_CA, &raw::STREAMING_TLS_CERT);
        }
        (false, false) => return Ok(None),
    }
    Ok(Some(TlsFiles {
        cert: path(raw, &raw::STREAMING_TLS_CERT)?,
        key: path(raw, &raw::STREAMING_TLS_KEY)?,
        client_ca: optional_path(raw, &raw::STREAMING_CLIENT_CA)?,
    }))
}

/// `ADDRESS:PORT`, with brackets around an IPv6 address. No names: what they resolve to can change.
pub(super) fn socket_address(raw: &RawConfig, key: &Key) -> Result<SocketAddr, ConfigError> {
    let text = raw.text(key).unwrap_or_default();
    let reason = "must be an IP address and a port, such as \"127.0.0.1:0\" or \"[::1]:10010\"";
    text.parse().map_err(|_| raw.refuse(key, reason))
}

/// A time within which something must happen: with none every session would end at once.
fn some_time(raw: &RawConfig, key: &Key) -> Result<Duration, ConfigError> {
    match duration(raw, key)? {
        Duration::ZERO => Err(raw.refuse(key, "must be more than nothing")),
        time => Ok(time),
    }
}

pub(super) fn duration(raw: &RawConfig, key: &Key) -> Result<Duration, ConfigError> {
    let text = raw.text(key).unwrap_or_default();
    let refuse = |reason| raw.refuse(key, reason);
    match parse_duration(&text) {
        None => Err(refuse(
            "must be a time, such as \"500ms\", \"30s\" or \"1h30m\"",
        )),
        Some(time) if time > LONGEST => Err(refuse("is more than a year")),
        Some(time) => Ok(time),
    }
}

/// Numbers with units (ms, s, m, h), added up.
fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u32 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(3600),
            _ => return None,
        };
        total = total.checked_add(unit.checked_mul(number)?)?;
        rest = &rest[end..];
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;
    use std::path::Path;

    fn load(text: &str) -> Result<StreamingConfig, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("corten.toml");
        std::fs::write(&file, format!("[streaming]\n{text}")).unwrap();
        let config = Config::load(Some(&file));
        config.map(|c| c.streaming).map_err(|e| e.to_string())
    }

    #[test]
    fn the_defaults_are_those_of_the_peers() {
        let config = load("").unwrap();
        assert_eq!(config.address, "127.0.0.1:0".parse().unwrap());
        assert_eq!(config.tls, None);
        assert_eq!(config.idle_timeout, Duration::from_secs(4 * 3600));
        assert_eq!(config.creation_timeout, Duration::from_secs(30));
    }

    #[test]
    fn times_add_up() {
        assert_eq!(parse_duration("1h30m"), Some(Duration::from_secs(5400)));
        assert_eq!(parse_duration("500ms"), Some(Duration::from_millis(500)));
        for wrong in ["", "5", "s", "5 s", "-1s", "1d", "99999999999s", "1.5s"] {
            assert_eq!(parse_duration(wrong), None, "{wrong}");
        }
        assert!(load("drain = '0s'").is_ok());
        for key in ["idle_timeout", "creation_timeout"] {
            let error = load(&format!("{key} = '0s'")).unwrap_err();
            assert!(error.contains("more than nothing"), "{error}");
        }
        assert!(load("drain = '9000h'").unwrap_err().contains("a year"));
        assert!(
            load("idle_timeout = '4 hours'")
                .unwrap_err()
                .contains("such as")
        );
    }

    #[test]
    fn an_address_is_an_ip_address_with_a_port() {
        let config = load("address = '[::1]:10010'").unwrap();
        assert_eq!(config.address, "[::1]:10010".parse().unwrap());
        for wrong in ["localhost:1", "1.2.3.4", "::1:70000", ""] {
            let error = load(&format!("address = '{wrong}'")).unwrap_err();
            assert!(
                error.contains("`streaming.address`") && error.contains("an IP address"),
                "{error}"
            );
        }
    }

    #[test]
    fn the_files_of_tls_go_together() {
        let all = load("tls_cert = '/c'\ntls_key = '/k'\nclient_ca = '/a'").unwrap();
        let files = all.tls.unwrap();
        assert_eq!(files.cert, Path::new("/c"));
        assert_eq!(files.client_ca.as_deref(), Some(Path::new("/a")));
        for (text, wants) in [
            ("tls_cert = '/c'", "streaming.tls_key"),
            ("tls_key = '/k'", "streaming.tls_cert"),
            ("client_ca = '/a'", "streaming.tls_cert"),
        ] {
            let error = load(text).unwrap_err();
            assert!(error.contains(&format!("needs `{wants}` too")), "{error}");
        }
        assert!(
            load("tls_cert = 'c'\ntls_key = '/k'")
                .unwrap_err()
                .contains("absolute")
        );
    }
}
