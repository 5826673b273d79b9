//! Which hosts are asked for a registry's images, in order: the mirrors of the first `hosts.toml`
//! that is found, then the registry itself. Read anew at each pull, so that a change needs no
//! restart.
//!
//! Looked for in each folder of `config_path`: `HOST_PORT_`, `HOST:PORT` (or `HOST`), `_default`.
//! A folder without `hosts.toml` may hold `*.crt`, `*.cert` and `*.key`, as Docker has them.

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::{
    Url,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use tracing::warn;

use super::{
    Error,
    hosts_toml::{self, Client, HostTable, HostsFile},
};

/// A host that may serve an image.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    /// The URL below which repositories are, ending in a slash: `https://host/v2/`.
    pub base: Url,
    /// The registry's name, sent as `ns` to hosts that are not the registry itself.
    pub namespace: Option<String>,
    /// Tags may be resolved here.
    pub resolve: bool,
    /// Manifests and blobs may be fetched here.
    pub pull: bool,
    /// Headers to add.
    pub headers: HeaderMap,
    /// How to connect.
    pub connection: Connection,
}

/// What makes a connection different from others: hosts that agree in it share a client.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Connection {
    /// No TLS at all: the system's certificates need not be there.
    pub plain: bool,
    /// Do not check the host's certificate.
    pub skip_verify: bool,
    /// PEM texts of authorities beside the system's.
    pub authorities: Vec<Vec<u8>>,
    /// PEM of a client certificate with its key.
    pub identity: Option<Vec<u8>>,
    /// How long to wait for a connection.
    pub dial_timeout: Option<Duration>,
}

/// The hosts for `registry` (a host with an optional port).
pub(super) fn hosts_for(config_paths: &[PathBuf], registry: &str) -> Result<Vec<Endpoint>, Error> {
    let Some(folder) = find_folder(config_paths, registry) else {
        return Ok(vec![endpoint(
            registry,
            &default_server(registry),
            &HostTable::default(),
            Path::new(""),
        )?]);
    };
    let path = folder.join("hosts.toml");
    let file = match fs::read_to_string(&path) {
        Ok(text) => hosts_toml::parse(&path, &text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => certificates(&folder)?,
        Err(source) => return Err(Error::File { path, source }),
    };
    for key in &file.unknown {
        warn!(file = %path.display(), key, "unknown key in the registry configuration");
    }
    endpoints(registry, &file, &path)
}

/// The mirrors, then the registry.
fn endpoints(registry: &str, file: &HostsFile, path: &Path) -> Result<Vec<Endpoint>, Error> {
    let server = file
        .server
        .clone()
        .unwrap_or_else(|| default_server(registry));
    let server = (&server, &file.server_table);
    let hosts = file.hosts.iter().map(|(url, table)| (url, table));
    hosts
        .chain([server])
        .map(|(url, table)| endpoint(registry, url, table, path))
        .collect()
}

fn find_folder(config_paths: &[PathBuf], registry: &str) -> Option<PathBuf> {
    let with_port = registry
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let names = with_port
        .map(|(host, port)| format!("{host}_{port}_"))
        .into_iter();
    let names: Vec<String> = names
        .chain([registry.to_owned(), "_default".to_owned()])
        .collect();
    let candidates = config_paths
        .iter()
        .flat_map(|path| names.iter().map(move |name| path.join(name)));
    candidates.into_iter().find(|folder| folder.is_dir())
}

/// Where a registry is when no file says so.
fn default_server(registry: &str) -> String {
    match registry {
        "docker.io" => "https://registry-1.docker.io".to_owned(),
        _ => registry.to_owned(),
    }
}

/// Certificates as Docker keeps them: `*.crt` are authorities, `NAME.cert` has its `NAME.key`.
fn certificates(folder: &Path) -> Result<HostsFile, Error> {
    let failed = |source| Error::File {
        path: folder.into(),
        source,
    };
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        names.extend(entry.map_err(failed)?.file_name().into_string());
    }
    names.sort();
    let ending = |end: &str| {
        names
            .iter()
            .filter(|name| name.ends_with(end))
            .cloned()
            .collect::<Vec<_>>()
    };
    let pairs = ending(".cert")
        .into_iter()
        .map(|cert| vec![cert.clone(), cert.replace(".cert", ".key")]);
    let pairs: Vec<_> = pairs.collect();
    let mut file = HostsFile::default();
    file.server_table.ca = Some(hosts_toml::OneOrMany::Many(ending(".crt")));
    file.server_table.client = (!pairs.is_empty()).then_some(Client::Pairs(pairs));
    Ok(file)
}

fn endpoint(registry: &str, url: &str, table: &HostTable, path: &Path) -> Result<Endpoint, Error> {
    let base = base_url(url, table.override_path, path)?;
    let able = |what: &str| {
        table
            .capabilities
            .as_ref()
            .is_none_or(|list| list.iter().any(|one| one == what))
    };
    Ok(Endpoint {
        namespace: (!is_registry_itself(registry, &base)).then(|| registry.to_owned()),
        resolve: able("resolve"),
        pull: able("pull"),
        headers: headers(table, path)?,
        connection: connection(table, &base, path)?,
        base,
    })
}

/// `https://HOST/v2/`, with http where nothing else is said and the host is this machine.
fn base_url(url: &str, override_path: bool, path: &Path) -> Result<Url, Error> {
    let wrong = |reason: &str| Error::Config {
        path: path.into(),
        reason: format!("{url:?}: {reason}"),
    };
    let full = if url.contains("://") {
        url.to_owned()
    } else {
        format!("{}://{url}", default_scheme(url))
    };
    let mut base = Url::parse(&full).map_err(|error| wrong(&error.to_string()))?;
    if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
        return Err(wrong("only http and https URLs can be hosts"));
    }
    let version = if override_path { "" } else { "/v2" };
    let new_path = format!("{}{version}/", base.path().trim_end_matches('/'));
    base.set_path(&new_path);
    Ok(base)
}

fn default_scheme(host: &str) -> &'static str {
    let name = host.split('/').next().unwrap_or_default();
    let name = name.rsplit_once(':').map_or(name, |(name, _)| name);
    let address = name.trim_matches(['[', ']']).parse::<IpAddr>();
    if name == "localhost" || address.is_ok_and(|address| address.is_loopback()) {
        "http"
    } else {
        "https"
    }
}

fn is_registry_itself(registry: &str, base: &Url) -> bool {
    let host = base.host_str().unwrap_or_default();
    let address = base
        .port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    address == registry || (registry == "docker.io" && host == "registry-1.docker.io")
}

fn headers(table: &HostTable, path: &Path) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    for (name, values) in &table.header {
        for value in values.as_slice() {
            let wrong = || Error::Config {
                path: path.into(),
                reason: format!("header {name:?} cannot be sent"),
            };
            let name = HeaderName::try_from(name.as_str()).map_err(|_| wrong())?;
            headers.append(
                name,
                HeaderValue::try_from(value.as_str()).map_err(|_| wrong())?,
            );
        }
    }
    Ok(headers)
}

fn connection(table: &HostTable, base: &Url, path: &Path) -> Result<Connection, Error> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let authorities = table.ca.iter().flat_map(hosts_toml::OneOrMany::as_slice);
    let dial_timeout = table.dial_timeout.as_deref().map(|text| {
        duration(text).ok_or_else(|| Error::Config {
            path: path.into(),
            reason: format!("dial_timeout {text:?} is no duration such as 5s or 1m30s"),
        })
    });
    Ok(Connection {
        plain: base.scheme() == "http",
        skip_verify: table.skip_verify,
        authorities: authorities
            .map(|ca| read(&folder.join(ca)))
            .collect::<Result<_, _>>()?,
        identity: table
            .client
            .as_ref()
            .map(|client| identity(folder, client))
            .transpose()?,
        dial_timeout: dial_timeout.transpose()?,
    })
}

/// The first client certificate: TLS offers one per connection.
fn identity(folder: &Path, client: &Client) -> Result<Vec<u8>, Error> {
    let files: Vec<&String> = match client {
        Client::One(file) => vec![file],
        Client::Many(files) => files.iter().take(1).collect(),
        Client::Pairs(pairs) => pairs.first().map_or(vec![], |pair| {
            pair.iter().filter(|file| !file.is_empty()).collect()
        }),
    };
    let texts = files
        .into_iter()
        .map(|file| read(&folder.join(file)))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(texts.join(&b'\n'))
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::File {
        path: path.into(),
        source,
    })
}

/// A duration as Go writes it: `300ms`, `1.5s`, `2m`, `1h5m`.
fn duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let (number, after) = rest.split_at(digits);
        let unit_end = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total += Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn tree(files: &[(&str, &str)]) -> (TempDir, Vec<PathBuf>) {
        let root = TempDir::new().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let paths = vec![root.path().join("absent"), root.path().to_owned()];
        (root, paths)
    }

    fn urls(paths: &[PathBuf], registry: &str) -> Vec<String> {
        let hosts = hosts_for(paths, registry).unwrap();
        hosts
            .iter()
            .map(|host| format!("{} {}", host.base, host.namespace.as_deref().unwrap_or("-")))
            .collect()
    }

    #[test]
    fn without_a_file_the_registry_itself_is_asked() {
        assert_eq!(
            urls(&[], "docker.io"),
            ["https://registry-1.docker.io/v2/ -"]
        );
        assert_eq!(
            urls(&[], "registry.k8s.io"),
            ["https://registry.k8s.io/v2/ -"]
        );
        assert_eq!(urls(&[], "127.0.0.1:5000"), ["http://127.0.0.1:5000/v2/ -"]);
        assert_eq!(urls(&[], "[::1]:5000"), ["http://[::1]:5000/v2/ -"]);
        assert_eq!(urls(&[], "localhost"), ["http://localhost/v2/ -"]);
    }

    #[test]
    fn mirrors_come_first_and_learn_the_registry() {
        let hosts = r#"
            server = "https://registry-1.docker.io"
            [host."http://mirror:5000/prefix"]
              capabilities = ["pull"]
            [host."https://other/own/path"]
              override_path = true
        "#;
        let (_root, paths) = tree(&[
            ("docker.io/hosts.toml", hosts),
            ("_default/hosts.toml", "[host.\"http://any\"]"),
        ]);
        assert_eq!(
            urls(&paths, "docker.io"),
            [
                "http://mirror:5000/prefix/v2/ docker.io",
                "https://other/own/path/ docker.io",
                "https://registry-1.docker.io/v2/ -"
            ]
        );
        assert_eq!(
            urls(&paths, "ghcr.io"),
            ["http://any/v2/ ghcr.io", "https://ghcr.io/v2/ -"]
        );
        let hosts = hosts_for(&paths, "docker.io").unwrap();
        assert_eq!(
            (hosts[0].resolve, hosts[0].pull, hosts[1].resolve),
            (false, true, true)
        );
    }

    #[test]
    fn a_port_has_two_spellings() {
        let (_root, paths) = tree(&[
            ("reg_5000_/hosts.toml", "[host.\"http://one\"]"),
            ("reg:5001/hosts.toml", "[host.\"http://two\"]"),
        ]);
        assert_eq!(urls(&paths, "reg:5000")[0], "http://one/v2/ reg:5000");
        assert_eq!(urls(&paths, "reg:5001")[0], "http://two/v2/ reg:5001");
    }

    #[test]
    fn certificates_are_read_beside_the_file_and_as_docker_keeps_them() {
        let (_root, paths) = tree(&[
            (
                "a/hosts.toml",
                "ca = \"ca.pem\"\nclient = [[\"c.pem\", \"c.key\"]]\ndial_timeout = \"1m1.5s\"",
            ),
            ("a/ca.pem", "CA"),
            ("a/c.pem", "CERT"),
            ("a/c.key", "KEY"),
            ("b/x.crt", "AUTHORITY"),
            ("b/me.cert", "MINE"),
            ("b/me.key", "MY KEY"),
            ("c/hosts.toml", "ca = \"missing.pem\""),
        ]);
        let a = &hosts_for(&paths, "a").unwrap()[0].connection;
        assert_eq!(
            (&a.authorities[..], a.identity.as_deref()),
            (&[b"CA".to_vec()][..], Some(&b"CERT\nKEY"[..]))
        );
        assert_eq!(a.dial_timeout, Some(Duration::from_millis(61_500)));
        let b = &hosts_for(&paths, "b").unwrap()[0].connection;
        assert_eq!(
            (&b.authorities[..], b.identity.as_deref()),
            (&[b"AUTHORITY".to_vec()][..], Some(&b"MINE\nMY KEY"[..]))
        );
        let missing = hosts_for(&paths, "c").unwrap_err();
        assert!(missing.to_string().contains("missing.pem"), "{missing}");
    }

    #[test]
    fn durations_are_those_of_go() {
        assert_eq!(duration("300ms"), Some(Duration::from_millis(300)));
        assert_eq!(duration("1h5m"), Some(Duration::from_secs(3900)));
        for text in ["", "5", "x", "5d", "s"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
