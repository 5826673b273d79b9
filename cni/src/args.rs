//! What an attachment adds to a network: who, where, and with which arguments.
//!
//! Two kinds of arguments. `CNI_ARGS` are pairs that every plugin sees, in one environment
//! variable. Capability arguments are JSON that only a plugin which declares the capability sees,
//! below `runtimeConfig` on its stdin.
//!
//! Invariant: what passed [`Attachment::check`] means the same to a plugin as it does here. A pair
//! that would read as two is refused, not escaped, for the specification knows no escape.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

use crate::error::Error;

/// Capability name (`portMappings`, `bandwidth`, `dns`, `ips`, `mac`, `cgroupPath`,
/// `io.kubernetes.cri.pod-annotations` …) to its value, as CNI's CONVENTIONS.md shapes them.
pub type Capabilities = BTreeMap<String, Value>;

/// One interface of one container in one network.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attachment {
    /// `CNI_CONTAINERID`: begins with a letter or digit, then letters, digits, `_`, `.`, `-`.
    pub container_id: String,
    /// `CNI_NETNS`: the path of the network namespace. `None` only where it is gone, for DEL.
    pub netns: Option<PathBuf>,
    /// `CNI_IFNAME`: the name inside the namespace, 15 bytes at most.
    pub ifname: String,
    /// `CNI_ARGS`, in this order.
    pub args: Vec<(String, String)>,
    /// Offered to the plugins; each is given to those that declare it.
    pub capabilities: Capabilities,
}

impl Attachment {
    /// Refuses what a plugin would misread.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let wrong = container_id_fault(&self.container_id)
            .or_else(|| ifname_fault(&self.ifname))
            .or_else(|| {
                self.args
                    .iter()
                    .find_map(|(key, value)| pair_fault(key, value))
            });
        wrong.map_or(Ok(()), |reason| Err(self.invalid(reason)))
    }

    /// The namespace's path, which every command but DEL needs.
    pub(crate) fn required_netns(&self) -> Result<&PathBuf, Error> {
        self.netns
            .as_ref()
            .ok_or_else(|| self.invalid("no network namespace given".to_owned()))
    }

    /// The value of `CNI_ARGS`.
    pub(crate) fn cni_args(&self) -> String {
        let pairs: Vec<_> = self.args.iter().map(|(k, v)| format!("{k}={v}")).collect();
        pairs.join(";")
    }

    fn invalid(&self, reason: String) -> Error {
        Error::AttachmentInvalid {
            container_id: self.container_id.clone(),
            reason,
        }
    }
}

/// The specification's rule for container ids and network names, which are also parts of the
/// cache's file names.
pub(crate) fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

fn container_id_fault(id: &str) -> Option<String> {
    (!is_name(id)).then(|| {
        "the container id must begin with a letter or digit and hold only letters, digits, '_', '.' and '-'"
            .to_owned()
    })
}

/// The kernel's rule (`dev_valid_name`) and libcni's.
pub(crate) fn ifname_fault(name: &str) -> Option<String> {
    let bad = name.is_empty()
        || name.len() > 15
        || matches!(name, "." | "..")
        || name
            .chars()
            .any(|c| matches!(c, '/' | ':' | '\0') || c.is_whitespace());
    bad.then(|| format!("{name:?} is no name for a network interface"))
}

fn pair_fault(key: &str, value: &str) -> Option<String> {
    let key_is_bad = key.is_empty() || key.contains(['=', ';', '\0']);
    if key_is_bad {
        return Some(format!(
            "the CNI_ARGS key {key:?} is empty or contains '=' or ';'"
        ));
    }
    let value_is_bad = value.contains([';', '\0']);
    value_is_bad.then(|| format!("the value of the CNI_ARGS pair {key} contains ';': {value:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment(args: &[(&str, &str)]) -> Attachment {
        Attachment {
            container_id: "c0ffee".into(),
            netns: Some("/run/netns/x".into()),
            ifname: "eth0".into(),
            args: args
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
            ..Attachment::default()
        }
    }

    #[test]
    fn pairs_are_joined_in_their_order() {
        let it = attachment(&[("IgnoreUnknown", "1"), ("K8S_POD_NAME", "a=b")]);
        it.check().unwrap();
        assert_eq!(it.cni_args(), "IgnoreUnknown=1;K8S_POD_NAME=a=b");
    }

    #[test]
    fn a_pair_that_would_read_as_two_is_refused() {
        for (key, value) in [
            ("A", "1;B=2"),
            ("A;B", "1"),
            ("A=B", "1"),
            ("", "1"),
            ("A", "\0"),
        ] {
            let error = attachment(&[(key, value)]).check().unwrap_err();
            assert!(
                matches!(error, Error::AttachmentInvalid { .. }),
                "{key:?} {value:?}"
            );
        }
    }

    #[test]
    fn names_that_leave_their_directory_are_refused() {
        for id in ["", "-a", ".a", "../a", "a/b", "a b", "ä"] {
            let it = Attachment {
                container_id: id.into(),
                ..attachment(&[])
            };
            assert!(it.check().is_err(), "{id:?}");
        }
        for name in ["", ".", "..", "a/b", "a:b", "a b", "sixteen-bytes-xx"] {
            let it = Attachment {
                ifname: name.into(),
                ..attachment(&[])
            };
            assert!(it.check().is_err(), "{name:?}");
        }
    }
}
