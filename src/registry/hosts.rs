//! The hosts that `hosts.toml` trees name for an image: the mirrors of the first file that is
//! found, then the registry itself. Read anew at each pull, so that a change needs no restart.
//!
//! Looked for in each folder of `config_path`: `HOST_PORT_`, `HOST:PORT` (or `HOST`), and where no
//! folder has one of these, `_default`.
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
    Error, Place,
    hosts_toml::{self, Client, HostTable, HostsFile},
};
use crate::id::ImageRef;

/// A host that may serve an image.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    /// The URL below which repositories are, ending in a slash: `https://host/v2/`.
    pub base: Url,
    /// The registry's name, sent as `ns` to hosts that are not the registry itself.
    pub namespace: Option<String>,
    /// The registry's name as credentials are kept under it.
    pub registry: String,
    /// What the repository is called here.
    pub repository: String,
    /// It stands in for the registry.
    pub mirror: bool,
    /// It serves images that are asked for by their tag.
    pub for_tags: bool,
    /// It serves images that are asked for by their digest.
    pub for_digests: bool,
    /// The line that names it.
    pub place: Option<Place>,
    /// It may not be there at all: the same host without TLS comes after it.
    pub trial: bool,
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

impl Endpoint {
    /// Whether it serves the image by what it is asked for.
    pub fn fits(&self, image: &ImageRef) -> bool {
        match image.digest() {
            Some(_) => self.for_digests,
            None => self.for_tags,
        }
    }
}

/// The hosts of the `hosts.toml` that is for this registry and no other, if there is one.
pub(super) fn own_hosts(
    config_paths: &[PathBuf],
    image: &ImageRef,
) -> Result<Option<Vec<Endpoint>>, Error> {
    match own_folder(config_paths, image.registry()) {
        Some(folder) => described(&folder.join("hosts.toml"), image),
        None => Ok(None),
    }
}

/// The hosts where nothing is said of this registry: those of `_default`, or the registry itself
/// with the certificates that are kept for it.
pub(super) fn default_hosts(
    config_paths: &[PathBuf],
    image: &ImageRef,
) -> Result<Vec<Endpoint>, Error> {
    let own = own_folder(config_paths, image.registry());
    let mut defaults = config_paths.iter().map(|path| path.join("_default"));
    if own.is_none()
        && let Some(default) = defaults.find(|folder| folder.is_dir())
        && let Some(hosts) = described(&default.join("hosts.toml"), image)?
    {
        return Ok(hosts);
    }
    let table = certificates_of(config_paths, image.registry())?;
    let server = default_server(image.registry());
    let host = endpoint(image.registry(), &server, &table, Path::new(""))?;
    Ok(vec![of_image(host, image, None)])
}

/// The hosts of a file; `None` where it is absent.
fn described(path: &Path, image: &ImageRef) -> Result<Option<Vec<Endpoint>>, Error> {
    let file = match fs::read_to_string(path) {
        Ok(text) => hosts_toml::parse(path, &text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            let path = path.into();
            return Err(Error::File { path, source });
        }
    };
    for key in &file.unknown {
        warn!(file = %path.display(), key, "unknown key in the registry configuration");
    }
    endpoints(&file, path, image).map(Some)
}

/// The mirrors, then the registry.
fn endpoints(file: &HostsFile, path: &Path, image: &ImageRef) -> Result<Vec<Endpoint>, Error> {
    let place = |url: &str| {
        let line = *file.lines.get(url)?;
        Some(Place {
            file: path.into(),
            line,
        })
    };
    let server = file.server.clone();
    let server = server.unwrap_or_else(|| default_server(image.registry()));
    let mut all = Vec::new();
    for (url, table) in &file.hosts {
        let host = endpoint(image.registry(), url, table, path)?;
        all.push(of_image(host, image, place(url)));
    }
    let host = endpoint(image.registry(), &server, &file.server_table, path)?;
    all.push(Endpoint {
        mirror: false,
        ..of_image(host, image, place(""))
    });
    Ok(all)
}

/// The registry itself keeps its name for whoever has credentials for it, wherever it is.
fn of_image(host: Endpoint, image: &ImageRef, place: Option<Place>) -> Endpoint {
    let registry = match host.mirror {
        true => host.registry,
        false => image.registry().to_owned(),
    };
    Endpoint {
        registry,
        repository: image.repository().to_owned(),
        place,
        ..host
    }
}

/// The certificates that are kept for a host, with or without a `hosts.toml`.
pub(super) fn certificates_of(
    config_paths: &[PathBuf],
    registry: &str,
) -> Result<HostTable, Error> {
    let Some(folder) = own_folder(config_paths, registry) else {
        return Ok(HostTable::default());
    };
    let path = folder.join("hosts.toml");
    let mut table = match fs::read_to_string(&path) {
        Ok(text) => hosts_toml::parse(&path, &text)?.server_table,
        Err(error) if error.kind() == io::ErrorKind::NotFound => certificates(&folder)?,
        Err(source) => return Err(Error::File { path, source }),
    };
    table.below(&folder);
    Ok(table)
}

/// The folder of this registry alone.
fn own_folder(config_paths: &[PathBuf], registry: &str) -> Option<PathBuf> {
    let with_port = registry
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let names = with_port.map(|(host, port)| format!("{host}_{port}_"));
    let names: Vec<String> = names.into_iter().chain([registry.to_owned()]).collect();
    let mut candidates = config_paths
        .iter()
        .flat_map(|path| names.iter().map(move |name| path.join(name)));
    candidates.find(|folder| folder.is_dir())
}

/// Where a registry is when no file says so.
pub(super) fn default_server(registry: &str) -> String {
    match registry {
        "docker.io" => "https://registry-1.docker.io".to_owned(),
        _ => registry.to_owned(),
    }
}

/// Certificates as Docker keeps them: `*.crt` are authorities, `NAME.cert` has its `NAME.key`.
fn certificates(folder: &Path) -> Result<HostTable, Error> {
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
    Ok(HostTable {
        ca: Some(hosts_toml::OneOrMany::Many(ending(".crt"))),
        client: (!pairs.is_empty()).then_some(Client::Pairs(pairs)),
        ..HostTable::default()
    })
}

/// A host as a table describes it; what it is asked for is not known yet.
pub(super) fn endpoint(
    registry: &str,
    url: &str,
    table: &HostTable,
    path: &Path,
) -> Result<Endpoint, Error> {
    let base = base_url(url, table.override_path, path)?;
    let able = |what: &str| {
        table
            .capabilities
            .as_ref()
            .is_none_or(|list| list.iter().any(|one| one == what))
    };
    let mirror = !is_registry_itself(registry, &base);
    Ok(Endpoint {
        namespace: mirror.then(|| registry.to_owned()),
        registry: address(&base),
        repository: String::new(),
        mirror,
        for_tags: true,
        for_digests: true,
        place: None,
        trial: false,
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
    let address = address(base);
    address == registry || (registry == "docker.io" && address == "registry-1.docker.io")
}

/// Host and, where it is not the scheme's own, port.
pub(super) fn address(base: &Url) -> String {
    let host = base.host_str().unwrap_or_default();
    base.port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
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

    fn hosts_for(paths: &[PathBuf], registry: &str) -> Result<Vec<Endpoint>, Error> {
        let image: ImageRef = format!("{registry}/app:1").parse().unwrap();
        let own = own_hosts(paths, &image)?;
        own.map_or_else(|| default_hosts(paths, &image), Ok)
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
                "localhost/hosts.toml",
                "ca = \"ca.pem\"\nclient = [[\"c.pem\", \"c.key\"]]\ndial_timeout = \"1m1.5s\"",
            ),
            ("localhost/ca.pem", "CA"),
            ("localhost/c.pem", "CERT"),
            ("localhost/c.key", "KEY"),
            ("b.io/x.crt", "AUTHORITY"),
            ("b.io/me.cert", "MINE"),
            ("b.io/me.key", "MY KEY"),
            ("c.io/hosts.toml", "ca = \"missing.pem\""),
        ]);
        let a = &hosts_for(&paths, "localhost").unwrap()[0].connection;
        assert_eq!(
            (&a.authorities[..], a.identity.as_deref()),
            (&[b"CA".to_vec()][..], Some(&b"CERT\nKEY"[..]))
        );
        assert_eq!(a.dial_timeout, Some(Duration::from_millis(61_500)));
        let b = &hosts_for(&paths, "b.io").unwrap()[0].connection;
        assert_eq!(
            (&b.authorities[..], b.identity.as_deref()),
            (&[b"AUTHORITY".to_vec()][..], Some(&b"MINE\nMY KEY"[..]))
        );
        let missing = hosts_for(&paths, "c.io").unwrap_err();
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
