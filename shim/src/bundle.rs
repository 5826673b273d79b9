//! An OCI bundle: `config.json`, as this runtime understands it.
//!
//! These are own structs that borrow from the file's text, because the general ones cost more than
//! a megabyte of program. Fields that the specification has and Corten cannot honour yet are
//! read, so that [`check`] can refuse them: nothing is passed over in silence. Properties that the
//! specification does not know are ignored, as it demands.
//!
//! Invariant: only a process that goes away afterwards parses a bundle, since what a parser
//! touches stays in a process's memory.

mod object;
pub mod process;
pub mod resources;
pub mod text;

use crate::api::{Failure, FailureKind, IdMap, IdMaps, ImageVolume, RootfsMount};
use crate::failure::At;
use object::object;
use process::Process;
use resources::Resources;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;
use std::path::Path;
use text::Text;

object! {
    /// `config.json`.
    pub struct Spec<'a> {
        /// What to execute.
        pub process: Process<'a> = "process",
        /// The root file system.
        pub root: Root<'a> = "root",
        /// The host name, for a UTS namespace of the container's own.
        pub hostname: Option<Text<'a>> = "hostname",
        /// The NIS domain name, as above.
        pub domainname: Option<Text<'a>> = "domainname",
        /// Mounts, in order.
        pub mounts: Vec<Mount<'a>> = "mounts",
        /// Annotations.
        pub annotations: Annotations<'a> = "annotations",
        /// Programs to be run at points of the container's life.
        pub hooks: Hooks<'a> = "hooks",
        /// What is Linux' own.
        pub linux: Linux<'a> = "linux",
    }
}

/// Annotations: names and values.
pub type Annotations<'a> = BTreeMap<Text<'a>, Text<'a>>;

object! {
    /// The root file system.
    pub struct Root<'a> {
        /// Where it is, relative to the bundle; absent: `rootfs`.
        pub path: Option<Text<'a>> = "path",
        /// The program may not change it.
        pub readonly: bool = "readonly",
    }
}

object! {
    /// One mount.
    pub struct Mount<'a> {
        /// Where, inside the container.
        pub destination: Text<'a> = "destination",
        /// The file system type; `bind` or absent with a bind option.
        pub kind: Option<Text<'a>> = "type",
        /// What, on the host.
        pub source: Option<Text<'a>> = "source",
        /// Flags, propagation, and options of the file system.
        pub options: Vec<Text<'a>> = "options",
        /// What the source's users are inside, for a bind mount.
        pub uid_mappings: Vec<IdMap> = "uidMappings",
        /// What the source's groups are inside.
        pub gid_mappings: Vec<IdMap> = "gidMappings",
    }
}

object! {
    /// What is Linux' own.
    pub struct Linux<'a> {
        /// New namespaces, and those to be joined.
        pub namespaces: Vec<Namespace<'a>> = "namespaces",
        /// Device nodes beyond the default ones.
        pub devices: Vec<Device<'a>> = "devices",
        /// The cgroup, as an absolute path below the root of the hierarchies.
        pub cgroups_path: Option<Text<'a>> = "cgroupsPath",
        /// Its limits.
        pub resources: Resources<'a> = "resources",
        /// Kernel parameters of the container's own namespaces.
        pub sysctl: BTreeMap<Text<'a>, Text<'a>> = "sysctl",
        /// Flags of the filter that comes beside the bundle.
        pub seccomp: Option<Seccomp<'a>> = "seccomp",
        /// `private`, `slave`, `shared`, `unbindable`, each also with an `r` in front.
        pub rootfs_propagation: Option<Text<'a>> = "rootfsPropagation",
        /// Paths that the container must not see into.
        pub masked_paths: Vec<Text<'a>> = "maskedPaths",
        /// Paths that the container must not change.
        pub readonly_paths: Vec<Text<'a>> = "readonlyPaths",
        /// The SELinux label of the container's file systems.
        pub mount_label: Option<Text<'a>> = "mountLabel",
        /// What the users of the container's user namespace are outside.
        pub uid_mappings: Vec<IdMap> = "uidMappings",
        /// What its groups are outside.
        pub gid_mappings: Vec<IdMap> = "gidMappings",
        /// Which kernel the container's programs see.
        pub personality: Option<Personality<'a>> = "personality",
        /// Where memory is taken from on a machine with several nodes of it.
        pub memory_policy: Option<MemoryPolicy<'a>> = "memoryPolicy",
        /// By clock: `monotonic` and `boottime`, for a time namespace of the container's own.
        pub time_offsets: BTreeMap<Text<'a>, TimeOffset> = "timeOffsets",
        /// Refused: nothing here writes to resctrl.
        pub intel_rdt: Option<IgnoredAny> = "intelRdt",
        /// Refused: a container's network is the pod's.
        pub net_devices: Option<IgnoredAny> = "netDevices",
    }
}

object! {
    /// Which kernel programs see.
    pub struct Personality<'a> {
        /// `LINUX` or `LINUX32`.
        pub domain: Text<'a> = "domain",
        /// The specification has none yet.
        pub flags: Vec<Text<'a>> = "flags",
    }
}

object! {
    /// Where memory is taken from.
    pub struct MemoryPolicy<'a> {
        /// `MPOL_…`.
        pub mode: Text<'a> = "mode",
        /// Such as `0-3,7`.
        pub nodes: Option<Text<'a>> = "nodes",
        /// `MPOL_F_…`.
        pub flags: Vec<Text<'a>> = "flags",
    }
}

object! {
    /// How far a clock is ahead of the host's.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct TimeOffset {
        /// Seconds.
        pub secs: i64 = "secs",
        /// Nanoseconds.
        pub nanosecs: u32 = "nanosecs",
    }
}

object! {
    /// Programs to be run at points of a container's life, in their order.
    pub struct Hooks<'a> {
        /// On the host, when the container's namespaces are made.
        pub prestart: Vec<Hook<'a>> = "prestart",
        /// As `prestart`, behind it.
        pub create_runtime: Vec<Hook<'a>> = "createRuntime",
        /// In the container's namespaces, before its root is the process's own.
        pub create_container: Vec<Hook<'a>> = "createContainer",
        /// In the container, before the program.
        pub start_container: Vec<Hook<'a>> = "startContainer",
        /// On the host, when the program runs.
        pub poststart: Vec<Hook<'a>> = "poststart",
        /// On the host, when the container has gone.
        pub poststop: Vec<Hook<'a>> = "poststop",
    }
}

object! {
    /// A program to be run.
    pub struct Hook<'a> {
        /// An absolute path.
        pub path: Text<'a> = "path",
        /// With the program's name in front; absent: the path.
        pub args: Vec<Text<'a>> = "args",
        /// `NAME=value` each.
        pub env: Vec<Text<'a>> = "env",
        /// Seconds; absent: for ever.
        pub timeout: Option<i64> = "timeout",
    }
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

object! {
    /// A device node.
    pub struct Device<'a> {
        /// `c`, `u`, `b` or `p`.
        pub kind: Text<'a> = "type",
        /// Where, inside the container.
        pub path: Text<'a> = "path",
        /// The major number.
        pub major: i64 = "major",
        /// The minor number.
        pub minor: i64 = "minor",
        /// Permission bits; absent: 0666.
        pub file_mode: Option<u32> = "fileMode",
        /// The owner; absent: 0.
        pub uid: Option<u32> = "uid",
        /// The group; absent: 0.
        pub gid: Option<u32> = "gid",
    }
}

object! {
    /// What is needed of a seccomp profile beside its compiled filter.
    pub struct Seccomp<'a> {
        /// `SECCOMP_FILTER_FLAG_…`.
        pub flags: Vec<Text<'a>> = "flags",
        /// A socket on which somebody waits for the filter's notifications.
        pub listener_path: Option<Text<'a>> = "listenerPath",
        /// What that is told, word by word.
        pub listener_metadata: Option<Text<'a>> = "listenerMetadata",
    }
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
    refuse(&[
        ("linux.intelRdt", spec.linux.intel_rdt.is_some()),
        ("linux.netDevices", spec.linux.net_devices.is_some()),
    ])?;
    check_process(&spec.process)
}

/// Refuses what cannot be honoured of a process.
///
/// # Errors
/// [`FailureKind::Invalid`], with the name of the property.
pub fn check_process(process: &Process<'_>) -> Result<(), Failure> {
    refuse(&[("an empty process.args", process.args.is_empty())])
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
                "linux.intelRdt",
                r#"{"process":{"args":["x"]},"linux":{"intelRdt":{"closID":"x"}}}"#,
            ),
            (
                "linux.netDevices",
                r#"{"process":{"args":["x"]},"linux":{"netDevices":{"eth1":{}}}}"#,
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
