//! `hosts.toml`: which hosts serve a registry's images, as containerd's and Docker's
//! configuration trees describe it.
//!
//! This file reads one such file into plain values; `hosts.rs` finds it and decides.

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;
use toml::{Table, Value, de::DeTable};

use super::{Error, Place};

/// One host as the file describes it.
#[derive(Debug, Default, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct HostTable {
    /// `pull`, `resolve`, `push`; absent means all.
    pub capabilities: Option<Vec<String>>,
    /// Certificates of authorities, a path or several.
    pub ca: Option<OneOrMany>,
    /// Client certificates.
    pub client: Option<Client>,
    /// Do not check the host's certificate.
    pub skip_verify: bool,
    /// The URL's path is used as it is, without `/v2`.
    pub override_path: bool,
    /// Headers to add.
    pub header: std::collections::BTreeMap<String, OneOrMany>,
    /// How long to wait for a connection, as `1m30s`.
    pub dial_timeout: Option<String>,
    #[serde(flatten)]
    /// Keys that mean nothing here.
    pub unknown: Table,
}

impl HostTable {
    /// Makes the paths of its files those below `folder`.
    pub fn below(&mut self, folder: &Path) {
        let place = |file: &mut String| *file = folder.join(&*file).display().to_string();
        match &mut self.ca {
            Some(OneOrMany::One(file)) => place(file),
            Some(OneOrMany::Many(files)) => files.iter_mut().for_each(place),
            None => {}
        }
        match &mut self.client {
            Some(Client::One(file)) => place(file),
            Some(Client::Many(files)) => files.iter_mut().for_each(place),
            Some(Client::Pairs(pairs)) => {
                let files = pairs.iter_mut().flatten();
                files.filter(|file| !file.is_empty()).for_each(place);
            }
            None => {}
        }
    }
}

/// A value or a list of it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMany {
    /// One.
    One(String),
    /// A list.
    Many(Vec<String>),
}

impl OneOrMany {
    /// As a list.
    pub fn as_slice(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

/// Client certificates: a file with both, files with both, or pairs of certificate and key.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub(super) enum Client {
    /// A PEM file with certificate and key.
    One(String),
    /// Such files.
    Many(Vec<String>),
    /// Certificate and key in files of their own.
    Pairs(Vec<Vec<String>>),
}

/// A whole file.
#[derive(Debug, Default, PartialEq)]
pub(super) struct HostsFile {
    /// The registry itself, where it is not at the address that its name says.
    pub server: Option<String>,
    /// What is said of the registry itself.
    pub server_table: HostTable,
    /// The mirrors in their order of preference: URL and table.
    pub hosts: Vec<(String, HostTable)>,
    /// The line of each host by its URL, and of the server by the empty one.
    pub lines: BTreeMap<String, usize>,
    /// Keys that mean nothing here.
    pub unknown: Vec<String>,
}

/// Reads the text of `path`.
pub(super) fn parse(path: &Path, text: &str) -> Result<HostsFile, Error> {
    let wrong = |error: toml::de::Error| Error::Config {
        path: path.into(),
        reason: error.to_string(),
    };
    let mut root: Table = toml::from_str(text).map_err(wrong)?;
    let server = take(path, &mut root, "server", |value| match value {
        Value::String(server) => Some(server),
        _ => None,
    })?;
    let hosts = take(path, &mut root, "host", |value| match value {
        Value::Table(hosts) => Some(hosts),
        _ => None,
    })?;
    let mut file = HostsFile {
        server: server.filter(|server| !server.is_empty()),
        server_table: Value::Table(root).try_into().map_err(wrong)?,
        lines: lines(path, text),
        ..HostsFile::default()
    };
    for (url, table) in hosts.unwrap_or_default() {
        let table: HostTable = table.try_into().map_err(wrong)?;
        file.unknown.extend(
            table
                .unknown
                .keys()
                .map(|key| format!("host.{url:?}.{key}")),
        );
        file.hosts.push((url, table));
    }
    file.unknown
        .extend(file.server_table.unknown.keys().cloned());
    Ok(file)
}

/// Where each host stands. The text is known to be TOML.
fn lines(path: &Path, text: &str) -> BTreeMap<String, usize> {
    let mut lines = BTreeMap::new();
    let Ok(root) = DeTable::parse(text) else {
        return lines;
    };
    let line = |at: usize| Place::at(path, text, at).line;
    for (key, value) in root.get_ref() {
        match (key.get_ref().as_ref(), value.get_ref().as_table()) {
            ("server", _) => drop(lines.insert(String::new(), line(key.span().start))),
            ("host", Some(hosts)) => lines.extend(
                hosts
                    .keys()
                    .map(|url| (url.get_ref().to_string(), line(url.span().start))),
            ),
            _ => {}
        }
    }
    lines
}

/// Takes a key out of a table; a wrong type is an error.
fn take<T>(
    path: &Path,
    table: &mut Table,
    key: &str,
    read: impl Fn(Value) -> Option<T>,
) -> Result<Option<T>, Error> {
    let Some(value) = table.remove(key) else {
        return Ok(None);
    };
    let kind = value.type_str();
    read(value).map(Some).ok_or_else(|| Error::Config {
        path: path.into(),
        reason: format!("{key} cannot be a value of type {kind}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<HostsFile, Error> {
        parse(Path::new("hosts.toml"), text)
    }

    #[test]
    fn hosts_keep_the_order_of_the_file() {
        let file = read(
            r#"
            server = "https://upstream"
            skip_verify = true
            colour = "red"
            [host."https://z"]
              capabilities = ["pull"]
              [host."https://z".header]
                x-one = "1"
                x-two = ["2", "3"]
            [host."https://a"]
              ca = ["one.crt", "two.crt"]
              client = [["c.pem", "c.key"]]
              shape = 1
            [host."https://m"]
              client = "both.pem"
              dial_timeout = "1s"
            "#,
        )
        .unwrap();
        let urls: Vec<_> = file.hosts.iter().map(|(url, _)| url.as_str()).collect();
        assert_eq!(urls, ["https://z", "https://a", "https://m"]);
        assert!(file.server_table.skip_verify);
        assert_eq!(file.server.as_deref(), Some("https://upstream"));
        assert_eq!(file.unknown, ["host.\"https://a\".shape", "colour"]);
        assert_eq!(
            (
                file.lines[""],
                file.lines["https://z"],
                file.lines["https://m"]
            ),
            (2, 5, 14)
        );
        assert_eq!(file.hosts[0].1.header["x-two"].as_slice(), ["2", "3"]);
        assert_eq!(
            file.hosts[1].1.client,
            Some(Client::Pairs(vec![vec!["c.pem".into(), "c.key".into()]]))
        );
        assert_eq!(file.hosts[2].1.client, Some(Client::One("both.pem".into())));
    }

    #[test]
    fn wrong_types_and_syntax_are_errors() {
        for text in [
            "server = 1",
            "host = 1",
            "[host.\"x\"]\nca = 7",
            "skip_verify = \"yes\"",
            "= =",
        ] {
            assert!(matches!(read(text), Err(Error::Config { .. })), "{text}");
        }
    }
}
