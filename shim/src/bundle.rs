//! An OCI bundle: `config.json`, as this runtime understands it.
//!
//! These are own structs that borrow from the file's text, because the general ones cost more than
//! a megabyte of program. Fields that the specification has and Corten cannot honour yet are
//! read, so that [`check`] can refuse them: nothing is passed over in silence. Properties that the
//! specification does not know are ignored, as it demands.
//!
//! Invariant: only a process that goes away afterwards parses a bundle, since what a parser
//! touches stays in a process's memory.

pub mod process;
pub mod resources;
pub mod text;

use crate::api::{Failure, FailureKind, IdMap, IdMaps, ImageVolume, RootfsMount};
use crate::failure::At;
use process::Process;
use resources::Resources;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;
use std::path::Path;
use text::Text;

/// `config.json`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec<'a> {
    /// What to execute.
    #[serde(borrow)]
    pub process: Process<'a>,
    /// The root file system.
    #[serde(borrow)]
    pub root: Root<'a>,
    /// The host name, for a UTS namespace of the container's own.
    #[serde(borrow)]
    pub hostname: Option<Text<'a>>,
    /// The NIS domain name, as above.
    #[serde(borrow)]
    pub domainname: Option<Text<'a>>,
    /// Mounts, in order.
    #[serde(borrow)]
    pub mounts: Vec<Mount<'a>>,
    /// Annotations.
    #[serde(borrow)]
    pub annotations: Annotations<'a>,
    /// Refused: not supported yet.
    pub hooks: Option<BTreeMap<String, Vec<IgnoredAny>>>,
    /// What is Linux' own.
    #[serde(borrow)]
    pub linux: Linux<'a>,
}

/// Annotations: names and values.
pub type Annotations<'a> = BTreeMap<Text<'a>, Text<'a>>;

/// The root file system.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Root<'a> {
    /// Where it is, relative to the bundle; absent: `rootfs`.
    #[serde(borrow)]
    pub path: Option<Text<'a>>,
    /// The program may not change it.
    pub readonly: bool,
}

/// One mount.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Mount<'a> {
    /// Where, inside the container.
    #[serde(borrow)]
    pub destination: Text<'a>,
    /// The file system type; `bind` or absent with a bind option.
    #[serde(borrow, rename = "type")]
    pub kind: Option<Text<'a>>,
    /// What, on the host.
    #[serde(borrow)]
    pub source: Option<Text<'a>>,
    /// Flags, propagation, and options of the file system.
    #[serde(borrow)]
    pub options: Vec<Text<'a>>,
    /// What the source's users are inside, for a bind mount.
    pub uid_mappings: Vec<IdMap>,
    /// What the source's groups are inside.
    pub gid_mappings: Vec<IdMap>,
}

/// What is Linux' own.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Linux<'a> {
    /// New namespaces, and those to be joined.
    #[serde(borrow)]
    pub namespaces: Vec<Namespace<'a>>,
    /// Device nodes beyond the default ones.
    #[serde(borrow)]
    pub devices: Vec<Device<'a>>,
    /// The cgroup, as an absolute path below the root of the hierarchies.
    #[serde(borrow)]
    pub cgroups_path: Option<Text<'a>>,
    /// Its limits.
    #[serde(borrow)]
    pub resources: Resources<'a>,
    /// Kernel parameters of the container's own namespaces.
    #[serde(borrow)]
    pub sysctl: BTreeMap<Text<'a>, Text<'a>>,
    /// Flags of the filter that comes beside the bundle.
    #[serde(borrow)]
    pub seccomp: Option<Seccomp<'a>>,
    /// `private`, `slave`, `shared`, `unbindable`, each also with an `r` in front.
    #[serde(borrow)]
    pub rootfs_propagation: Option<Text<'a>>,
    /// Paths that the container must not see into.
    #[serde(borrow)]
    pub masked_paths: Vec<Text<'a>>,
    /// Paths that the container must not change.
    #[serde(borrow)]
    pub readonly_paths: Vec<Text<'a>>,
    /// The SELinux label of the container's file systems.
    #[serde(borrow)]
    pub mount_label: Option<Text<'a>>,
    /// What the users of the container's user namespace are outside.
    pub uid_mappings: Vec<IdMap>,
    /// What its groups are outside.
    pub gid_mappings: Vec<IdMap>,
    /// Refused: not supported yet.
    pub intel_rdt: Option<IgnoredAny>,
    /// Refused: not supported yet.
    pub personality: Option<IgnoredAny>,
    /// Refused: not supported yet.
    pub time_offsets: Option<IgnoredAny>,
}

impl Linux<'_> {
    /// What the ids of the container's user namespace are outside.
    #[must_use]
    pub fn ids(&self) -> IdMaps {
        IdMaps {
            uids: self.uid_mappings.clone(),
            gids: self.gid_mappings.clone(),
        }
    }
}

/// A namespace.
#[derive(Debug, Deserialize)]
pub struct Namespace<'a> {
    /// Which kind.
    #[serde(rename = "type")]
    pub kind: NamespaceKind,
    /// The one to be joined; absent: a new one.
    #[serde(borrow, default)]
    pub path: Option<Text<'a>>,
}

/// The kinds of namespaces, by their names in the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum NamespaceKind {
    Pid,
    Network,
    Mount,
    Ipc,
    Uts,
    User,
    Cgroup,
    Time,
}

/// A device node.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device<'a> {
    /// `c`, `u`, `b` or `p`.
    #[serde(borrow, rename = "type")]
    pub kind: Text<'a>,
    /// Where, inside the container.
    #[serde(borrow)]
    pub path: Text<'a>,
    /// The major number.
    #[serde(default)]
    pub major: i64,
    /// The minor number.
    #[serde(default)]
    pub minor: i64,
    /// Permission bits; absent: 0666.
    #[serde(default)]
    pub file_mode: Option<u32>,
    /// The owner; absent: 0.
    #[serde(default)]
    pub uid: Option<u32>,
    /// The group; absent: 0.
    #[serde(default)]
    pub gid: Option<u32>,
}

/// What is needed of a seccomp profile beside its compiled filter.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Seccomp<'a> {
    /// `SECCOMP_FILTER_FLAG_…`.
    #[serde(borrow)]
    pub flags: Vec<Text<'a>>,
}

/// Reads a file of the bundle whole.
///
/// # Errors
/// The file cannot be read, or is not text.
pub fn read(bundle: &Path, name: &str) -> Result<String, Failure> {
    let path = bundle.join(name);
    std::fs::read_to_string(&path).at(FailureKind::Invalid, || format!("read {}", path.display()))
}

/// Parses the text of a `config.json`, and refuses what cannot be honoured.
///
/// # Errors
/// [`FailureKind::Invalid`], with the place in the text or the name of the property.
pub fn parse(text: &str) -> Result<Spec<'_>, Failure> {
    let spec: Spec<'_> = json("config.json", text)?;
    check(&spec)?;
    Ok(spec)
}

/// Parses the text of a `rootfs.json`; `None` when there is no such file.
///
/// # Errors
/// [`FailureKind::Invalid`].
pub fn rootfs_mounts(bundle: &Path) -> Result<Option<Vec<RootfsMount>>, Failure> {
    if !bundle.join("rootfs.json").exists() {
        return Ok(None);
    }
    json("rootfs.json", &read(bundle, "rootfs.json")?).map(Some)
}

/// Parses the text of a `volumes.json`; none when there is no such file.
///
/// # Errors
/// [`FailureKind::Invalid`].
pub fn image_volumes(bundle: &Path) -> Result<Vec<ImageVolume>, Failure> {
    if !bundle.join("volumes.json").exists() {
        return Ok(Vec::new());
    }
    json("volumes.json", &read(bundle, "volumes.json")?)
}

/// Parses JSON, and says what it was meant to be when it is not.
///
/// # Errors
/// [`FailureKind::Invalid`].
pub fn json<'a, T: Deserialize<'a>>(what: &str, text: &'a str) -> Result<T, Failure> {
    serde_json::from_str(text)
        .map_err(|error| Failure::invalid(format!("parse {what}"), error.to_string()))
}

fn check(spec: &Spec<'_>) -> Result<(), Failure> {
    let hooks = spec.hooks.as_ref();
    let refused = [
        (
            "hooks",
            hooks.is_some_and(|hooks| hooks.values().any(|list| !list.is_empty())),
        ),
        ("linux.intelRdt", spec.linux.intel_rdt.is_some()),
        ("linux.personality", spec.linux.personality.is_some()),
        ("linux.timeOffsets", spec.linux.time_offsets.is_some()),
    ];
    refuse(&refused)?;
    check_process(&spec.process)
}

/// Refuses what cannot be honoured of a process.
///
/// # Errors
/// [`FailureKind::Invalid`], with the name of the property.
pub fn check_process(process: &Process<'_>) -> Result<(), Failure> {
    refuse(&[
        ("process.ioPriority", process.io_priority.is_some()),
        ("process.scheduler", process.scheduler.is_some()),
        (
            "process.execCPUAffinity",
            process.exec_cpu_affinity.is_some(),
        ),
        ("an empty process.args", process.args.is_empty()),
    ])
}

fn refuse(properties: &[(&str, bool)]) -> Result<(), Failure> {
    match properties.iter().find(|(_, present)| *present) {
        None => Ok(()),
        Some((name, _)) => Err(Failure::invalid(
            "check config.json",
            format!("{name} is not supported"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_borrowed_unless_it_holds_escapes() {
        let text = r#"{"process":{"args":["/bin/sh","a\nb"],"cwd":"/"},"unknown":{"x":[1]}}"#;
        let spec = parse(text).unwrap();
        assert!(matches!(
            spec.process.args[0].0,
            std::borrow::Cow::Borrowed("/bin/sh")
        ));
        assert_eq!(&*spec.process.args[1], "a\nb");
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        for (property, text) in [
            (
                "hooks",
                r#"{"process":{"args":["x"]},"hooks":{"prestart":[{"path":"/x"}]}}"#,
            ),
            (
                "linux.personality",
                r#"{"process":{"args":["x"]},"linux":{"personality":{"domain":"LINUX32"}}}"#,
            ),
            (
                "process.scheduler",
                r#"{"process":{"args":["x"],"scheduler":{"policy":"SCHED_FIFO"}}}"#,
            ),
            ("process.args", r#"{"process":{"args":[]}}"#),
        ] {
            let failure = parse(text).unwrap_err();
            assert!(failure.chain[0].contains(property), "{failure}");
        }
    }

    #[test]
    fn a_wrong_type_says_where() {
        let failure = parse("{\n\"process\": {\"args\": 1}}").unwrap_err();
        assert_eq!(failure.kind, FailureKind::Invalid);
        assert!(failure.chain[0].contains("line 2"), "{failure}");
    }
}
