//! A network configuration: bytes in, a checked [`NetworkList`] out.
//!
//! Both forms are read, told apart by their content: a list (`.conflist`, with `plugins`) and a
//! single plugin (`.conf`, `.json`, with `type`), which becomes a list of one.
//!
//! Invariant: each plugin's keys keep their own JSON text, so that a key which nobody here knows
//! reaches its plugin as it was written; and [`NetworkList::bytes`] alone makes the same list again.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::args::is_name;
use crate::error::Error;
use crate::version::Version;

/// The top level of a JSON object, each value in the text it was written in.
pub(crate) type Object = BTreeMap<String, Box<RawValue>>;

/// A checked network configuration: the plugins to run, in the order of ADD.
#[derive(Clone, Debug)]
pub struct NetworkList {
    name: String,
    version: Version,
    disable_check: bool,
    disable_gc: bool,
    plugins: Vec<Plugin>,
    bytes: Vec<u8>,
}

/// One plugin of a list.
#[derive(Clone, Debug)]
pub(crate) struct Plugin {
    /// `type`: the name of the program.
    pub(crate) kind: String,
    /// The names in `capabilities` that are true.
    pub(crate) capabilities: BTreeSet<String>,
    /// All keys as they were written.
    pub(crate) keys: Object,
}

impl Plugin {
    /// The program that it has give it its addresses; `None` where it has none.
    pub(crate) fn ipam(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Ipam {
            #[serde(rename = "type", default)]
            kind: String,
        }
        let ipam: Ipam = serde_json::from_str(self.keys.get("ipam")?.get()).ok()?;
        Some(ipam.kind).filter(|kind| !kind.is_empty())
    }
}

/// Why bytes are no configuration: a sentence for a person.
type Fault = String;

// === impl NetworkList ===

impl NetworkList {
    /// Reads a configuration that a caller kept from [`NetworkList::bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        Self::parse(bytes, "kept by the caller", Vec::new())
    }

    /// `more` are the plugins that were found beside the list.
    pub(crate) fn parse(bytes: &[u8], origin: &str, more: Vec<Plugin>) -> Result<Self, Error> {
        let invalid = |reason| Error::ConfInvalid {
            origin: origin.to_owned(),
            reason,
        };
        Head::parse(bytes)
            .and_then(|head| head.into_list(bytes, more))
            .map_err(invalid)
    }

    /// The network's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version that is spoken with every plugin: the highest known of `cniVersion` and
    /// `cniVersions`.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The plugins' types, in the order of ADD.
    pub fn plugin_types(&self) -> impl Iterator<Item = &str> {
        self.plugins.iter().map(|plugin| plugin.kind.as_str())
    }

    /// True where a plugin declares the capability: without one the argument goes nowhere.
    pub fn has_capability(&self, name: &str) -> bool {
        self.plugins
            .iter()
            .any(|plugin| plugin.capabilities.contains(name))
    }

    /// The whole configuration as JSON, for [`NetworkList::from_bytes`].
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// `disableCheck`: CHECK must not be called.
    pub fn disable_check(&self) -> bool {
        self.disable_check
    }

    /// `disableGC`: GC must not be called.
    pub fn disable_gc(&self) -> bool {
        self.disable_gc
    }

    pub(crate) fn plugins(&self) -> &[Plugin] {
        &self.plugins
    }
}

impl PartialEq for NetworkList {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for NetworkList {}

// === impl Plugin ===

impl Plugin {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        Self::from_keys(object(bytes)?)
    }

    fn from_keys(keys: Object) -> Result<Self, Fault> {
        let kind = required_string(&keys, "type")?;
        if kind.is_empty() || kind.contains(['/', '\0']) || kind == "." || kind == ".." {
            return Err(format!(
                "\"type\" must be the file name of a plugin, it is {kind:?}"
            ));
        }
        let capabilities = declared(&keys)?;
        Ok(Self {
            kind,
            capabilities,
            keys,
        })
    }
}

/// The capabilities that are declared and true.
fn declared(keys: &Object) -> Result<BTreeSet<String>, Fault> {
    let Some(raw) = keys.get("capabilities") else {
        return Ok(BTreeSet::new());
    };
    let map: Option<BTreeMap<String, bool>> = serde_json::from_str(raw.get())
        .map_err(|_| "\"capabilities\" must be an object of true and false".to_owned())?;
    let map = map.unwrap_or_default();
    Ok(map
        .into_iter()
        .filter(|(_, on)| *on)
        .map(|(name, _)| name)
        .collect())
}

// === Head: the keys of a list ===

/// A configuration file with its plugins still apart from those beside it.
pub(crate) struct Head {
    pub(crate) name: String,
    /// False for a single plugin and where the list forbids it.
    pub(crate) looks_beside: bool,
    keys: Object,
    inlined: Vec<Object>,
    is_list: bool,
}

impl Head {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let keys = object(bytes)?;
        let name = required_string(&keys, "name")?;
        if !is_name(&name) {
            return Err(format!(
                "the network's \"name\" must begin with a letter or digit and hold only letters, digits, '_', '.' and '-', it is {name:?}"
            ));
        }
        let is_list = !keys.contains_key("type") || keys.contains_key("plugins");
        let only_inlined = flag(&keys, "loadOnlyInlinedPlugins")?;
        let inlined = if is_list {
            inlined(&keys, only_inlined)?
        } else {
            vec![keys.clone()]
        };
        Ok(Self {
            name,
            looks_beside: is_list && !only_inlined,
            keys,
            inlined,
            is_list,
        })
    }

    fn into_list(self, bytes: &[u8], more: Vec<Plugin>) -> Result<NetworkList, Fault> {
        let version = version(&self.keys)?;
        let is_whole = self.is_list && more.is_empty();
        let mut plugins = numbered(self.inlined)?;
        plugins.extend(more);
        if plugins.is_empty() {
            return Err("it has no plugins: add them under \"plugins\"".to_owned());
        }
        let bytes = if is_whole {
            bytes.to_vec()
        } else {
            rewritten(&self.keys, &plugins)
        };
        Ok(NetworkList {
            name: self.name,
            version,
            disable_check: flag(&self.keys, "disableCheck")?,
            disable_gc: flag(&self.keys, "disableGC")?,
            plugins,
            bytes,
        })
    }
}

fn inlined(keys: &Object, only_inlined: bool) -> Result<Vec<Object>, Fault> {
    let Some(raw) = keys.get("plugins") else {
        return match only_inlined {
            true => {
                Err("\"loadOnlyInlinedPlugins\" is true and there are no \"plugins\"".to_owned())
            }
            false => Ok(Vec::new()),
        };
    };
    let plugins: Vec<Object> = serde_json::from_str(raw.get())
        .map_err(|_| "\"plugins\" must be a list of objects".to_owned())?;
    if plugins.is_empty() {
        return Err("\"plugins\" is empty".to_owned());
    }
    Ok(plugins)
}

fn numbered(objects: Vec<Object>) -> Result<Vec<Plugin>, Fault> {
    let parse = |(index, keys)| {
        Plugin::from_keys(keys).map_err(|fault| format!("plugin {}: {fault}", index + 1))
    };
    objects.into_iter().enumerate().map(parse).collect()
}

/// A list that says by itself what was put together from several files.
fn rewritten(keys: &Object, plugins: &[Plugin]) -> Vec<u8> {
    const OF_A_LIST: [&str; 5] = [
        "cniVersion",
        "cniVersions",
        "name",
        "disableCheck",
        "disableGC",
    ];
    let mut text = String::from("{");
    for key in OF_A_LIST {
        if let Some(raw) = keys.get(key) {
            text.push_str(&format!("{}:{},", Value::from(key), raw.get()));
        }
    }
    let plugins: Vec<_> = plugins
        .iter()
        .map(|plugin| object_text(&plugin.keys))
        .collect();
    text.push_str(&format!(
        "\"loadOnlyInlinedPlugins\":true,\"plugins\":[{}]}}",
        plugins.join(",")
    ));
    text.into_bytes()
}

/// A JSON object of raw values as text.
pub(crate) fn object_text(keys: &Object) -> String {
    let pairs: Vec<_> = keys
        .iter()
        .map(|(key, raw)| format!("{}:{}", Value::from(key.as_str()), raw.get()))
        .collect();
    format!("{{{}}}", pairs.join(","))
}

// === values ===

fn object(bytes: &[u8]) -> Result<Object, Fault> {
    serde_json::from_slice(bytes).map_err(|error| format!("it is no JSON object: {error}"))
}

fn required_string(keys: &Object, key: &str) -> Result<String, Fault> {
    string(keys, key)?.ok_or_else(|| format!("it has no \"{key}\""))
}

fn string(keys: &Object, key: &str) -> Result<Option<String>, Fault> {
    let Some(raw) = keys.get(key) else {
        return Ok(None);
    };
    serde_json::from_str(raw.get()).map_err(|_| format!("\"{key}\" must be a string"))
}

/// libcni takes the words too, so files with them exist.
fn flag(keys: &Object, key: &str) -> Result<bool, Fault> {
    let Some(raw) = keys.get(key) else {
        return Ok(false);
    };
    match raw.get().trim_matches('"').to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("\"{key}\" must be true or false")),
    }
}

fn version(keys: &Object) -> Result<Version, Fault> {
    let mut named: Vec<String> = match keys.get("cniVersions") {
        Some(raw) => serde_json::from_str(raw.get())
            .map_err(|_| "\"cniVersions\" must be a list of strings".to_owned())?,
        None => Vec::new(),
    };
    named.extend(string(keys, "cniVersion")?);
    if named.is_empty() {
        return Err("it has no \"cniVersion\": add \"cniVersion\": \"1.0.0\"".to_owned());
    }
    let known = named
        .iter()
        .filter_map(|text| text.parse::<Version>().ok())
        .max();
    known.ok_or_else(|| {
        format!(
            "\"cniVersion\" is {}, and 0.3.0 to 1.1.0 are spoken here",
            named.join(", ")
        )
    })
}

#[cfg(test)]
mod tests;
