//! Credentials of the node: `auth.json` and `config.json` files, and helper programs
//! (`docker-credential-NAME get`: a host on stdin, JSON on stdout).
//!
//! They count only where the kubelet gave none. Invariant: a file that cannot be read and a helper
//! that fails are said in the log and give nothing; credentials are never logged.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde::Deserialize;
use tokio::{io::AsyncWriteExt, process::Command, sync::Mutex, time::Instant};
use tracing::{debug, warn};

use crate::model::credentials::{Credentials, Secret};

/// A helper that takes longer is ended.
const HELPER_TIMEOUT: Duration = Duration::from_secs(30);
/// A helper's answer is used for this long: tokens of clouds live for hours, and each request of a
/// pull would start a process.
const REMEMBERED: Duration = Duration::from_secs(60);
/// The user name by which a helper says that the secret is a refresh token.
const TOKEN_USER: &str = "<token>";

/// Where credentials are looked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Places {
    /// Files, the first one first.
    pub files: Vec<PathBuf>,
    /// Helpers that are asked for every host, after the files.
    pub helpers: Vec<String>,
}

/// What helpers said a short while ago.
#[derive(Default)]
pub(super) struct Keyring(Mutex<HashMap<(String, String), (Secret, Instant)>>);

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AuthFile {
    auths: BTreeMap<String, Entry>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: String,
    identitytoken: String,
    registrytoken: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    username: String,
    secret: String,
}

impl Keyring {
    /// The credentials for a repository (`host[:port]/path`).
    pub async fn find(&self, places: &Places, name: &str) -> Secret {
        let host = name.split('/').next().unwrap_or_default();
        for path in &places.files {
            let file = read(path);
            if let Some(secret) = of_entries(&file.auths, name, path) {
                return secret;
            }
            let helper = file
                .cred_helpers
                .iter()
                .find(|(key, _)| server(key) == host);
            let helper = helper.map_or(&file.creds_store, |(_, helper)| helper);
            if let Some(secret) = self.ask(helper, host).await {
                return secret;
            }
        }
        for helper in &places.helpers {
            if let Some(secret) = self.ask(helper, host).await {
                return secret;
            }
        }
        Secret::Anonymous
    }

    async fn ask(&self, helper: &str, host: &str) -> Option<Secret> {
        if helper.is_empty() {
            return None;
        }
        // Under the lock: many layers at once start one process.
        let mut known = self.0.lock().await;
        known.retain(|_, (_, until)| *until > Instant::now());
        let key = (helper.to_owned(), host.to_owned());
        let secret = match known.get(&key) {
            Some((secret, _)) => secret.clone(),
            None => {
                let secret = run(helper, host).await;
                known.insert(key, (secret.clone(), Instant::now() + REMEMBERED));
                secret
            }
        };
        (secret != Secret::Anonymous).then_some(secret)
    }
}

/// The entry with the longest key that the name begins with.
fn of_entries(auths: &BTreeMap<String, Entry>, name: &str, file: &Path) -> Option<Secret> {
    let mut at = name;
    loop {
        let found = auths.iter().find(|(key, _)| matches(key, at));
        if let Some(secret) = found.and_then(|(key, entry)| entry.secret(key, file)) {
            return Some(secret);
        }
        at = at.rsplit_once('/')?.0;
    }
}

/// A key is a name or, as Docker writes it, a URL of a host.
fn matches(key: &str, name: &str) -> bool {
    key.trim_end_matches('/') == name
        || (!name.contains('/') && server(key) == name && is_host(key))
}

fn is_host(key: &str) -> bool {
    key.contains("://") || !key.contains('/') || key.starts_with("index.docker.io/")
}

fn server(key: &str) -> String {
    Credentials::new(Secret::Anonymous, key)
        .server
        .unwrap_or_default()
}

impl Entry {
    fn secret(&self, key: &str, file: &Path) -> Option<Secret> {
        if !self.identitytoken.is_empty() {
            return Some(Secret::IdentityToken(self.identitytoken.clone()));
        }
        if !self.registrytoken.is_empty() {
            return Some(Secret::RegistryToken(self.registrytoken.clone()));
        }
        if self.auth.is_empty() {
            return None;
        }
        let secret = Credentials::decode(&self.auth);
        let told = secret.inspect_err(|error| {
            warn!(file = %file.display(), key, error = error.chain(), "credentials passed over");
        });
        told.ok()
    }
}

/// What a file says; an absent one says nothing.
fn read(path: &Path) -> AuthFile {
    let told = |error: &dyn std::error::Error| {
        warn!(file = %path.display(), error = crate::error::chain(error), "credentials cannot be read");
    };
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .inspect_err(|error| told(error))
            .unwrap_or_default(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => AuthFile::default(),
        Err(error) => {
            told(&error);
            AuthFile::default()
        }
    }
}

/// What a helper says of a host.
async fn run(helper: &str, host: &str) -> Secret {
    // A name and no path: which programs there are is for the node's PATH to say.
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if !helper.chars().all(plain) {
        warn!(helper, "the name of a credential helper cannot be that");
        return Secret::Anonymous;
    }
    let host = match host {
        "docker.io" => "https://index.docker.io/v1/",
        host => host,
    };
    match tokio::time::timeout(HELPER_TIMEOUT, output(helper, host)).await {
        Ok(Ok(Some(answer))) if answer.username == TOKEN_USER => {
            Secret::IdentityToken(answer.secret)
        }
        Ok(Ok(Some(answer))) => Secret::Password(answer.username, answer.secret),
        Ok(Ok(None)) => Secret::Anonymous,
        Ok(Err(error)) => {
            warn!(
                helper,
                host,
                error = crate::error::chain(&error),
                "credential helper failed"
            );
            Secret::Anonymous
        }
        Err(_) => {
            warn!(helper, host, "credential helper took more than 30 s");
            Secret::Anonymous
        }
    }
}

/// `None` where it knows nothing: its exit code says so.
async fn output(helper: &str, host: &str) -> io::Result<Option<HelperAnswer>> {
    let mut child = Command::new(format!("docker-credential-{helper}"))
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read has its answer ready.
        let _ = stdin.write_all(host.as_bytes()).await;
    }
    let output = child.wait_with_output().await?;
    if !output.status.success() {
        debug!(helper, host, status = %output.status, "credential helper has none");
        return Ok(None);
    }
    // The text is a secret: what is wrong with it is not repeated.
    let answer = serde_json::from_slice(&output.stdout);
    answer
        .map(Some)
        .map_err(|_| io::Error::other("its answer is not JSON of Username and Secret"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(user: &str) -> Secret {
        Secret::Password(user.into(), "p".into())
    }

    async fn find(text: &str, name: &str) -> Secret {
        let root = tempfile::TempDir::new().unwrap();
        let file = root.path().join("auth.json");
        fs::write(&file, text).unwrap();
        let places = Places {
            files: vec![root.path().join("absent.json"), file],
            helpers: vec![],
        };
        Keyring::default().find(&places, name).await
    }

    #[tokio::test]
    async fn the_longest_key_counts() {
        // a:p, b:p, c:p
        let text = r#"{"auths": {"r.io": {"auth": "YTpw"}, "r.io/team": {"auth": "Yjpw"}, "https://index.docker.io/v1/": {"auth": "Yzpw"}, "t.io:5000": {"identitytoken": "T"}}}"#;
        for (name, wanted) in [
            ("r.io/app", password("a")),
            ("r.io/team/app", password("b")),
            ("r.io/teams/app", password("a")),
            ("docker.io/library/x", password("c")),
            ("t.io:5000/x", Secret::IdentityToken("T".into())),
            ("t.io/x", Secret::Anonymous),
        ] {
            assert!(find(text, name).await == wanted, "{name}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_used_gives_nothing() {
        for text in [
            "",
            "[]",
            r#"{"auths": {"r.io": {"auth": "%"}}}"#,
            r#"{"credsStore": "../../bin/sh"}"#,
            r#"{"credHelpers": {"r.io": "absent-helper"}}"#,
        ] {
            assert!(find(text, "r.io/app").await == Secret::Anonymous, "{text}");
        }
    }
}
