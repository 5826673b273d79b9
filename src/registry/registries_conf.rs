//! `registries.conf(5)` with its drop-ins: which locations serve a name, what a short name means,
//! what is blocked.
//!
//! Each drop-in (`FILE.d/*.conf` in lexical order) is laid over what came before: a table with the
//! same prefix takes its place, aliases are added, other settings are replaced. This file reads and
//! matches; `route.rs` decides. Invariant: whatever matches knows the line that says so.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use toml::Spanned;

use super::{Error, Place};

/// The word for auth files in `credential-helpers`.
const AUTH_FILES: &str = "containers-auth.json";

/// What all files together say.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct RegistriesConf {
    /// One for each prefix.
    pub rules: Vec<Rule>,
    /// Programs that know credentials.
    pub helpers: Vec<String>,
    search: Vec<String>,
    search_place: Option<Place>,
    enforcing: bool,
    aliases: BTreeMap<String, (String, Place)>,
}

/// What is said of the names that begin with a prefix.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rule {
    /// `host[:port][/path…][:tag]` or `*.host`.
    pub prefix: String,
    /// Nothing may be pulled.
    pub blocked: bool,
    /// Where it really is; `None` where the prefix is a wildcard and nothing else is said.
    pub primary: Location,
    /// Who is asked before.
    pub mirrors: Vec<Location>,
}

/// A place that takes the place of a prefix.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Location {
    /// What the prefix is replaced by; empty: nothing is.
    pub location: String,
    /// TLS need not be trusted, and plain HTTP will do.
    pub insecure: bool,
    /// Asked for names with a tag.
    pub tags: bool,
    /// Asked for names with a digest.
    pub digests: bool,
    /// The line that says so.
    pub place: Place,
}

#[derive(Deserialize)]
struct RawFile {
    #[serde(rename = "unqualified-search-registries")]
    search: Option<Spanned<Vec<String>>>,
    #[serde(rename = "short-name-mode")]
    mode: Option<String>,
    #[serde(rename = "credential-helpers")]
    helpers: Option<Vec<String>>,
    #[serde(default)]
    registry: Vec<RawRegistry>,
    #[serde(default)]
    aliases: BTreeMap<String, Spanned<String>>,
    registries: Option<toml::Value>,
}

#[derive(Deserialize)]
struct RawRegistry {
    prefix: Option<Spanned<String>>,
    location: Option<Spanned<String>>,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default, rename = "mirror-by-digest-only")]
    by_digest_only: bool,
    #[serde(default)]
    mirror: Vec<RawMirror>,
}

#[derive(Deserialize)]
struct RawMirror {
    location: Spanned<String>,
    #[serde(default)]
    insecure: bool,
    #[serde(rename = "pull-from-mirror")]
    pull: Option<String>,
}

impl RegistriesConf {
    /// Reads a file and its drop-ins; absent ones say nothing.
    pub fn read(file: &Path) -> Result<Self, Error> {
        let mut all = Self::default();
        for file in std::iter::once(file.to_owned()).chain(drop_ins(file)?) {
            match fs::read_to_string(&file) {
                Ok(text) => all.take(&file, &text)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(Error::File { path: file, source }),
            }
        }
        Ok(all)
    }

    /// Lays the text of one file over what there is.
    pub fn take(&mut self, file: &Path, text: &str) -> Result<(), Error> {
        let source = Source { file, text };
        let raw: RawFile = toml::from_str(text).map_err(|error| source.syntax(&error))?;
        if raw.registries.is_some() {
            return Err(source
                .wrong("[registries.…] is the format of version 1; write [[registry]] tables"));
        }
        if let Some(search) = raw.search {
            self.search_place = Some(source.place(search.span().start));
            self.search = search.into_inner();
        }
        self.enforcing = match raw.mode.as_deref() {
            None => self.enforcing,
            Some("enforcing") => true,
            Some("" | "permissive" | "disabled") => false,
            Some(mode) => {
                return Err(source.wrong(&format!(
                    "short-name-mode {mode:?} is none of enforcing, permissive, disabled"
                )));
            }
        };
        if let Some(helpers) = raw.helpers {
            self.helpers = helpers
                .into_iter()
                .filter(|name| name != AUTH_FILES)
                .collect();
        }
        for registry in raw.registry {
            let rule = source.rule(registry)?;
            self.rules.retain(|known| known.prefix != rule.prefix);
            self.rules.push(rule);
        }
        for (name, target) in raw.aliases {
            let place = source.place(target.span().start);
            self.aliases.insert(name, (target.into_inner(), place));
        }
        Ok(())
    }

    /// The rule for a full reference: the one with the longest prefix.
    pub fn rule(&self, reference: &str) -> Option<&Rule> {
        let fitting = self
            .rules
            .iter()
            .filter(|rule| match_end(&rule.prefix, reference).is_some());
        fitting.max_by_key(|rule| rule.prefix.len())
    }

    /// The full names that a short one may mean, in order, without its tag or digest; `None` where
    /// nothing is said of short names.
    pub fn full_names(&self, short: &str) -> Result<Option<Vec<String>>, Error> {
        if let Some((name, _)) = self.aliases.get(short).filter(|(name, _)| !name.is_empty()) {
            return Ok(Some(vec![name.clone()]));
        }
        if self.enforcing && self.search.len() > 1 {
            return Err(Error::ShortName {
                name: short.to_owned(),
                place: self.search_place.clone().unwrap_or_default(),
            });
        }
        let names: Vec<_> = self
            .search
            .iter()
            .map(|host| qualified(host, short))
            .collect();
        Ok((!names.is_empty()).then_some(names))
    }
}

fn qualified(host: &str, short: &str) -> String {
    match host {
        "docker.io" if !short.contains('/') => format!("docker.io/library/{short}"),
        _ => format!("{host}/{short}"),
    }
}

/// Where a prefix ends in a reference, if it is one of it: what follows must be a separator.
fn match_end(prefix: &str, reference: &str) -> Option<usize> {
    let end = match prefix.strip_prefix('*') {
        None => reference.starts_with(prefix).then_some(prefix.len())?,
        Some(suffix) => {
            let host = reference.find('/').unwrap_or(reference.len());
            let start = reference
                .find(suffix)
                .filter(|start| (1..host).contains(start))?;
            start + suffix.len()
        }
    };
    let next = reference.as_bytes().get(end);
    matches!(next, None | Some(b'/' | b':' | b'@')).then_some(end)
}

impl Rule {
    /// The reference at a location of this rule.
    pub fn rewritten(&self, reference: &str, location: &Location) -> String {
        match match_end(&self.prefix, reference) {
            Some(end) if !location.location.is_empty() => {
                format!("{}{}", location.location, &reference[end..])
            }
            _ => reference.to_owned(),
        }
    }
}

/// A file's text, for telling where something is in it.
struct Source<'a> {
    file: &'a Path,
    text: &'a str,
}

impl Source<'_> {
    fn rule(&self, raw: RawRegistry) -> Result<Rule, Error> {
        let first = raw.prefix.as_ref().or(raw.location.as_ref());
        let Some(first) = first.filter(|text| !text.get_ref().is_empty()) else {
            return Err(self.wrong("a [[registry]] has neither prefix nor location"));
        };
        let place = self.place(first.span().start);
        let prefix = trimmed(first.get_ref());
        let location = raw.location.map(Spanned::into_inner).unwrap_or_default();
        if prefix.contains('*') && !(prefix.starts_with("*.") && prefix.matches('*').count() == 1) {
            return Err(self.wrong(&format!("prefix {prefix:?}: a wildcard is *.host")));
        }
        let mirrors = raw
            .mirror
            .iter()
            .map(|mirror| self.mirror(mirror, raw.by_digest_only));
        Ok(Rule {
            blocked: raw.blocked,
            primary: Location {
                location: trimmed(&location),
                insecure: raw.insecure,
                tags: true,
                digests: true,
                place,
            },
            mirrors: mirrors.collect::<Result<_, _>>()?,
            prefix,
        })
    }

    fn mirror(&self, raw: &RawMirror, by_digest_only: bool) -> Result<Location, Error> {
        let (tags, digests) = match raw.pull.as_deref() {
            Some(_) if by_digest_only => {
                return Err(
                    self.wrong("pull-from-mirror and mirror-by-digest-only exclude each other")
                );
            }
            None | Some("all") => (!by_digest_only, true),
            Some("digest-only") => (false, true),
            Some("tag-only") => (true, false),
            Some(other) => {
                return Err(self.wrong(&format!(
                    "pull-from-mirror {other:?} is none of all, digest-only, tag-only"
                )));
            }
        };
        let place = self.place(raw.location.span().start);
        let location = trimmed(raw.location.get_ref());
        if location.is_empty() {
            return Err(self.wrong("a mirror has no location"));
        }
        Ok(Location {
            location,
            insecure: raw.insecure,
            tags,
            digests,
            place,
        })
    }

    fn place(&self, at: usize) -> Place {
        Place::at(self.file, self.text, at)
    }

    fn wrong(&self, reason: &str) -> Error {
        Error::Config {
            path: self.file.into(),
            reason: reason.into(),
        }
    }

    fn syntax(&self, error: &toml::de::Error) -> Error {
        let line = self.place(error.span().map_or(0, |span| span.start)).line;
        self.wrong(&format!("line {line}: {}", error.message()))
    }
}

fn trimmed(location: &str) -> String {
    location.trim_end_matches('/').to_owned()
}

fn drop_ins(file: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut folder = file.as_os_str().to_owned();
    folder.push(".d");
    let folder = PathBuf::from(folder);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(Vec::new());
        }
        Err(source) => {
            return Err(Error::File {
                path: folder,
                source,
            });
        }
    };
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "conf"));
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(text: &str) -> RegistriesConf {
        let mut conf = RegistriesConf::default();
        conf.take(Path::new("r.conf"), text).unwrap();
        conf
    }

    fn refusal(text: &str) -> String {
        let mut conf = RegistriesConf::default();
        conf.take(Path::new("r.conf"), text)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn the_longest_prefix_counts_and_ends_at_a_separator() {
        let conf = conf(
            "[[registry]]\nlocation = 'a.io'\n[[registry]]\nprefix = 'a.io/team'\nlocation = 'b.io/x/'\n[[registry]]\nprefix = '*.corp'\n[[registry]]\nprefix = 'a.io/team/app:1'\nblocked = true\n",
        );
        let prefix = |name: &str| conf.rule(name).map(|rule| rule.prefix.as_str());
        assert_eq!(prefix("a.io/app:1"), Some("a.io"));
        assert_eq!(prefix("a.io/team/app:2"), Some("a.io/team"));
        assert_eq!(prefix("a.io/teams/app:2"), Some("a.io"));
        assert_eq!(prefix("a.io/team/app:1"), Some("a.io/team/app:1"));
        assert_eq!(prefix("a.io:5000/app:1"), Some("a.io"));
        assert_eq!(prefix("a.iox/app:1"), None);
        assert_eq!(prefix("x.y.corp/app:1"), Some("*.corp"));
        assert_eq!(prefix("x.corp:5000/app:1"), Some("*.corp"));
        assert_eq!(prefix("corp/app:1"), None);
        assert_eq!(prefix("b.io/x.corp/app:1"), None);
        let rule = conf.rule("a.io/team/app:2").unwrap();
        assert_eq!(
            rule.rewritten("a.io/team/app:2", &rule.primary),
            "b.io/x/app:2"
        );
        assert_eq!(rule.primary.place.line, 4);
        let rule = conf.rule("x.corp/app:2").unwrap();
        assert_eq!(
            rule.rewritten("x.corp/app:2", &rule.primary),
            "x.corp/app:2"
        );
    }

    #[test]
    fn mirrors_are_for_tags_or_digests_or_both() {
        let rule = |text: &str| conf(text).rules.remove(0);
        let wants = |rule: &Rule| {
            let wants = rule
                .mirrors
                .iter()
                .map(|mirror| (mirror.tags, mirror.digests));
            wants.collect::<Vec<_>>()
        };
        let mirrors = "[[registry.mirror]]\nlocation = 'm1'\n[[registry.mirror]]\nlocation = 'm2'\ninsecure = true\n";
        let plain = rule(&format!("[[registry]]\nlocation = 'a.io'\n{mirrors}"));
        assert_eq!(wants(&plain), [(true, true), (true, true)]);
        assert!(plain.mirrors[1].insecure && !plain.mirrors[0].insecure);
        assert_eq!(plain.mirrors[1].place.line, 6);
        let digests = rule(&format!(
            "[[registry]]\nlocation = 'a.io'\nmirror-by-digest-only = true\n{mirrors}"
        ));
        assert_eq!(wants(&digests), [(false, true), (false, true)]);
        let tags = rule(&format!(
            "[[registry]]\nlocation = 'a.io'\n{mirrors}pull-from-mirror = 'tag-only'\n"
        ));
        assert_eq!(wants(&tags), [(true, true), (true, false)]);
    }

    #[test]
    fn drop_ins_are_laid_over_in_order() {
        let root = tempfile::TempDir::new().unwrap();
        let file = root.path().join("registries.conf");
        let folder = root.path().join("registries.conf.d");
        assert_eq!(
            RegistriesConf::read(&file).unwrap(),
            RegistriesConf::default()
        );
        fs::create_dir(&folder).unwrap();
        fs::write(&file, "unqualified-search-registries = ['a.io']\n[[registry]]\nlocation = 'a.io'\nblocked = true\n[aliases]\n'one' = 'x.io/one'\n'two' = 'x.io/two'\n").unwrap();
        fs::write(
            folder.join("2.conf"),
            "[[registry]]\nlocation = 'a.io'\n[aliases]\n'two' = ''\n",
        )
        .unwrap();
        fs::write(folder.join("1.conf"), "unqualified-search-registries = ['b.io', 'docker.io']\ncredential-helpers = ['containers-auth.json', 'ecr-login']\n").unwrap();
        fs::write(folder.join("3.txt"), "not TOML").unwrap();
        let conf = RegistriesConf::read(&file).unwrap();
        assert!(!conf.rule("a.io/x").unwrap().blocked);
        let place = &conf.rule("a.io/x").unwrap().primary.place;
        assert_eq!(
            (place.file.as_path(), place.line),
            (folder.join("2.conf").as_path(), 2)
        );
        assert_eq!(conf.helpers, ["ecr-login"]);
        let names = |short: &str| conf.full_names(short).unwrap().unwrap();
        assert_eq!(names("one"), ["x.io/one"]);
        assert_eq!(names("two"), ["b.io/two", "docker.io/library/two"]);
        assert_eq!(names("me/app"), ["b.io/me/app", "docker.io/me/app"]);
    }

    #[test]
    fn an_ambiguous_short_name_is_an_error_where_that_is_asked_for() {
        let text =
            "short-name-mode = 'enforcing'\nunqualified-search-registries = ['b.io', 'c.io']\n";
        let error = conf(text).full_names("app").unwrap_err().to_string();
        assert!(error.contains("r.conf:2"), "{error}");
        assert_eq!(conf("").full_names("app").unwrap(), None);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        assert!(refusal("[[registry]]\ninsecure = true\n").contains("neither prefix nor location"));
        assert!(refusal("[[registry]]\nprefix = 'a.*.io'\n").contains("*.host"));
        assert!(refusal("[registries.search]\nregistries = ['a']\n").contains("version 1"));
        assert!(refusal("\n[[registry]]\nlocation = 1\n").contains("r.conf: line 3"));
        assert!(refusal("short-name-mode = 'x'\n").contains("enforcing"));
        let both = "[[registry]]\nlocation = 'a'\nmirror-by-digest-only = true\n[[registry.mirror]]\nlocation = 'm'\npull-from-mirror = 'all'\n";
        assert!(refusal(both).contains("exclude each other"));
    }
}
