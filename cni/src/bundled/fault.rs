//! Why a plugin refused or failed, as the specification has plugins say it.
//!
//! Invariant: a code below 100 is one of the specification's; what it has no code for is 999, as
//! the reference plugins have it.

use std::fmt::Display;

use serde_json::json;

use crate::error::PluginError;

/// What a plugin's steps give.
pub(crate) type Outcome<T> = Result<T, PluginError>;

impl PluginError {
    /// 4: a variable of the environment is missing or wrong.
    pub(crate) const INVALID_ENVIRONMENT: u32 = 4;
    /// 5: stdin cannot be read.
    pub(crate) const IO_FAILURE: u32 = 5;
    /// 6: the configuration is no JSON of its shape.
    pub(crate) const DECODING_FAILURE: u32 = 6;
    /// 7: the configuration says something that cannot be.
    pub(crate) const INVALID_CONFIG: u32 = 7;
    /// 8: the namespace cannot be the plugin's own.
    pub(crate) const INVALID_NETNS: u32 = 8;
    /// 2: the configuration asks for what this plugin does not do.
    pub(crate) const UNSUPPORTED_FIELD: u32 = 2;
    const INTERNAL: u32 = 999;

    pub(crate) fn new(code: u32, msg: impl Into<String>) -> Self {
        Self {
            code,
            msg: msg.into(),
            details: String::new(),
        }
    }

    pub(crate) fn internal(msg: impl Into<String>) -> Self {
        Self::new(Self::INTERNAL, msg)
    }

    /// The structure that a plugin prints.
    pub(crate) fn to_json(&self, version: &str) -> String {
        let mut keys = json!({"cniVersion": version, "code": self.code, "msg": self.msg});
        if !self.details.is_empty() {
            keys["details"] = self.details.as_str().into();
        }
        keys.to_string()
    }
}

/// Says what was being done when something failed.
pub(crate) trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Outcome<T>;
}

impl<T, E: Display> Doing<T> for Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Outcome<T> {
        self.map_err(|error| PluginError::internal(format!("{}: {error}", what())))
    }
}
