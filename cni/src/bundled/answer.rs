//! What a plugin answers to ADD.

use serde_json::{Map, Value, json};

use crate::result::{AddResult, Dns, Interface, IpConfig, Route};
use crate::version::Version;

/// In the model of all versions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) interfaces: Vec<Interface>,
    pub(crate) ips: Vec<IpConfig>,
    pub(crate) routes: Vec<Route>,
    pub(crate) dns: Dns,
}

impl Answer {
    /// Empty lists are left out, as Go leaves them out.
    pub(crate) fn to_json(&self, version: Version) -> String {
        let mut keys = Map::new();
        keys.insert("cniVersion".to_owned(), version.as_str().into());
        let written = AddResult::of(self.clone(), version);
        for (key, value) in written {
            if value.as_array().is_none_or(|list| !list.is_empty()) {
                keys.insert(key, value);
            }
        }
        keys.insert("dns".to_owned(), json!(self.dns));
        Value::Object(keys).to_string()
    }
}

impl From<AddResult> for Answer {
    fn from(result: AddResult) -> Self {
        Self {
            interfaces: result.interfaces,
            ips: result.ips,
            routes: result.routes,
            dns: result.dns,
        }
    }
}
