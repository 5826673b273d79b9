//! Which hosts are asked for an image, in order, and what says so.
//!
//! ```text
//! blocked by registries.conf? ── yes ─▶ nobody
//! a hosts.toml of the registry's own ─▶ its hosts, then its server
//! a [[registry]] that fits the name ──▶ its mirrors, then its location
//! _default/hosts.toml ────────────────▶ its hosts, then the registry
//! nothing ────────────────────────────▶ the registry
//! ```
//! The files are read at each pull. Invariant: what [`explain`] tells is what a pull asks.

use std::path::{Path, PathBuf};

use super::{
    Error, Route,
    hosts::{self, Endpoint},
    hosts_toml::HostTable,
    registries_conf::{Location, RegistriesConf, Rule},
};
use crate::id::ImageRef;

/// What waits for TLS where there may be none. Some firewalls and servers never answer.
const TRIAL_TIMEOUT: &str = "5s";

/// The hosts for an image.
pub(super) fn endpoints(
    config_paths: &[PathBuf],
    conf: &RegistriesConf,
    image: &ImageRef,
) -> Result<Vec<Endpoint>, Error> {
    let rule = conf.rule(&image.to_string());
    if let Some(rule) = rule.filter(|rule| rule.blocked) {
        return Err(Error::Blocked {
            name: image.to_string(),
            place: rule.primary.place.clone(),
        });
    }
    if let Some(own) = hosts::own_hosts(config_paths, image)? {
        return Ok(own);
    }
    match rule {
        Some(rule) => of_rule(config_paths, rule, image),
        None => hosts::default_hosts(config_paths, image),
    }
}

/// The mirrors of a rule that serve such a name, then its location.
fn of_rule(
    config_paths: &[PathBuf],
    rule: &Rule,
    image: &ImageRef,
) -> Result<Vec<Endpoint>, Error> {
    let mut all = Vec::new();
    for mirror in &rule.mirrors {
        all.extend(
            at(config_paths, rule, image, mirror)?
                .into_iter()
                .map(|host| Endpoint {
                    mirror: true,
                    ..host
                }),
        );
    }
    all.extend(at(config_paths, rule, image, &rule.primary)?);
    Ok(all)
}

/// The hosts of a location: one, or without trusted TLS the one on plain HTTP too.
fn at(
    config_paths: &[PathBuf],
    rule: &Rule,
    image: &ImageRef,
    location: &Location,
) -> Result<Vec<Endpoint>, Error> {
    let rewritten = rule.rewritten(&image.to_string(), location);
    let there: ImageRef = rewritten.parse().map_err(|_| Error::Config {
        path: location.place.file.clone(),
        reason: format!(
            "line {}: {rewritten:?} is no name of an image",
            location.place.line
        ),
    })?;
    let table = hosts::certificates_of(config_paths, there.registry())?;
    let urls = urls(&hosts::default_server(there.registry()), location.insecure);
    let endpoint = |url: &String| {
        let trial = location.insecure && url.starts_with("https:");
        let trial_timeout = trial.then(|| TRIAL_TIMEOUT.to_owned());
        let table = HostTable {
            skip_verify: table.skip_verify || location.insecure,
            dial_timeout: table.dial_timeout.clone().or(trial_timeout),
            ..table.clone()
        };
        let host = hosts::endpoint(there.registry(), url, &table, Path::new(""))?;
        Ok(Endpoint {
            namespace: None,
            repository: there.repository().to_owned(),
            registry: there.registry().to_owned(),
            for_tags: location.tags,
            for_digests: location.digests,
            place: Some(location.place.clone()),
            trial,
            ..host
        })
    };
    urls.iter().map(endpoint).collect()
}

/// A loopback's scheme is decided where no scheme stands.
fn urls(server: &str, insecure: bool) -> Vec<String> {
    let bare = server.trim_start_matches("https://");
    match insecure {
        true => vec![format!("https://{bare}"), format!("http://{bare}")],
        false => vec![server.to_owned()],
    }
}

/// What a pull asks each host for.
pub(super) fn explain(hosts: &[Endpoint], image: &ImageRef) -> Vec<Route> {
    hosts.iter().map(|host| route(host, image)).collect()
}

fn route(host: &Endpoint, image: &ImageRef) -> Route {
    let fits = host.fits(image);
    let mut asked_for = Vec::new();
    if fits && host.resolve && image.digest().is_none() {
        asked_for.push("tag");
    }
    if fits && host.pull {
        asked_for.extend(["manifests", "blobs"]);
    }
    let mut base = host.base.clone();
    // Whoever wrote a password into a URL does not want to see it here.
    let _ = base.set_password(None);
    Route {
        url: format!("{base}{}", host.repository),
        namespace: host.namespace.clone(),
        asked_for,
        mirror: host.mirror,
        skip_verify: host.connection.skip_verify,
        place: host.place.clone(),
    }
}
