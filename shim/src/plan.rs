//! From a checked bundle to the ordered steps that make the container of it.
//!
//! Pure: no file is read and no call is made here, so every decision is tested without root. What
//! depends on the host comes in as [`HostFacts`].
//!
//! Invariant: the order of [`Plan::steps`] is the order of their effects. Devices come after all
//! mounts (one may be `/dev`), masks and read-only paths after both, the read-only root last.

pub mod caps;
pub mod devices;
pub mod mounts;
pub mod namespaces;
pub mod options;
pub mod process;
pub mod scheduling;

use crate::api::{Failure, IdMaps};
use crate::bundle::{NamespaceKind, Spec};
use devices::DeviceNode;
use mounts::{MountStep, Source, Tree};
use namespaces::Namespaces;
use options::{Bind, Propagation, Spread};
use process::{Powers, ProcessPlan};
use rustix::mount::MountAttrFlags as Attr;
use std::fmt::Write;

/// What the plan must know of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    /// What this process may hand on.
    pub powers: Powers,
}

/// How a container is made.
#[derive(Debug)]
pub struct Plan<'a> {
    /// Its namespaces.
    pub namespaces: Namespaces<'a>,
    /// Trees of the host that the stage clones.
    pub trees: Vec<Tree<'a>>,
    /// What the init does inside the new namespaces, in this order.
    pub steps: Vec<Step<'a>>,
    /// How the container's root spreads; set after pivot_root.
    pub root_spread: Option<Spread>,
    /// What is executed.
    pub process: ProcessPlan<'a>,
    /// `SECCOMP_FILTER_FLAG_*` for the filter.
    pub seccomp_flags: u32,
    /// The clocks of a new time namespace: lines of its file.
    pub time_offsets: String,
    /// What was not granted as asked, for the log.
    pub warnings: Vec<String>,
}

impl Plan<'_> {
    /// The init looks for something by a path of the host.
    #[must_use]
    pub fn needs_the_hosts_mounts(&self) -> bool {
        self.steps.iter().any(|step| match step {
            Step::Mount(mount) => {
                matches!(&mount.source, Source::FileSystem(wanted) if !wanted.stands_alone())
            }
            _ => false,
        })
    }
}

/// One step of the init.
#[derive(Debug, PartialEq)]
pub enum Step<'a> {
    /// Attaches a mount.
    Mount(MountStep<'a>),
    /// Makes a device node.
    Device(DeviceNode<'a>),
    /// Makes a symbolic link unless something is there.
    Link {
        /// Where.
        path: &'a str,
        /// What it says.
        target: &'a str,
    },
    /// Opens a terminal of the container's own devpts and binds it at `/dev/console`.
    Terminal,
    /// Sets the host name.
    Hostname(&'a str),
    /// Sets the NIS domain name.
    Domainname(&'a str),
    /// Writes a kernel parameter; the name has slashes.
    Sysctl {
        /// Below `/proc/sys`.
        name: String,
        /// The text to write.
        value: &'a str,
    },
    /// Makes a mount read-only, now that all is in it.
    Freeze(&'a str),
    /// Makes a path read-only.
    ReadOnly(&'a str),
    /// Hides a path.
    Mask(&'a str),
    /// Makes the root file system read-only.
    RootReadOnly,
}

/// Plans a container.
///
/// # Errors
/// [`crate::api::FailureKind::Invalid`]: the bundle asks for what cannot be.
pub fn build<'a>(spec: &'a Spec<'a>, facts: &HostFacts) -> Result<Plan<'a>, Failure> {
    let namespaces = namespaces::plan(&spec.linux.namespaces)?;
    check_ids(spec, &namespaces)?;
    let mut warnings = Vec::new();
    let mut trees = Vec::new();
    let mut steps = mount_steps(spec, &mut trees)?;
    steps.extend(device_steps(spec, &trees)?);
    steps.extend(name_steps(spec, &namespaces)?);
    steps.extend(sysctl_steps(spec, &namespaces)?);
    let frozen = freeze_later(&mut steps);
    steps.extend(frozen);
    steps.extend(protection_steps(spec));
    let root_spread = root_spread(spec)?;
    if namespaces.user.is_some() {
        check_spread(&steps, root_spread)?;
    }
    Ok(Plan {
        time_offsets: time_offsets(spec, &namespaces)?,
        namespaces,
        trees,
        steps,
        root_spread,
        process: process::plan(&spec.process, &spec.linux, &facts.powers, &mut warnings)?,
        seccomp_flags: seccomp_flags(spec)?,
        warnings,
    })
}

/// The kernel's names for the clocks; what has no offset stays the host's.
fn time_offsets(spec: &Spec<'_>, namespaces: &Namespaces<'_>) -> Result<String, Failure> {
    let refused = |cause: String| Err(Failure::invalid("plan the time namespace", cause));
    let mut lines = String::new();
    for (clock, offset) in &spec.linux.time_offsets {
        if !namespaces.new_time {
            return refused("linux.timeOffsets need a new time namespace".to_owned());
        }
        if !matches!(&**clock, "monotonic" | "boottime") || offset.nanosecs >= 1_000_000_000 {
            return refused(format!("linux.timeOffsets: {clock} cannot be"));
        }
        let _ = writeln!(lines, "{clock} {} {}", offset.secs, offset.nanosecs);
    }
    Ok(lines)
}

/// Ids and a user namespace come together: without them nobody outside knows who is who inside.
fn check_ids(spec: &Spec<'_>, namespaces: &Namespaces<'_>) -> Result<(), Failure> {
    let refused = |cause: &str| Err(Failure::invalid("plan the user namespace", cause));
    let ids = spec.linux.ids();
    match (namespaces.user.is_some(), ids == IdMaps::default()) {
        (true, false) => ids.check(),
        (false, true) => Ok(()),
        (true, true) => refused("it needs linux.uidMappings and linux.gidMappings"),
        (false, false) => refused("linux.uidMappings and gidMappings need a user namespace"),
    }
}

/// What a container mounts in a tree that it shares would show on the host, which its root is not
/// root of.
fn check_spread(steps: &[Step<'_>], root: Option<Spread>) -> Result<(), Failure> {
    let shared = |spread: &Spread| spread.kind == Propagation::Shared;
    let step = steps.iter().find_map(|step| match step {
        Step::Mount(mount) if shared(&mount.spread) => Some(mount.destination),
        _ => None,
    });
    match step.or(root.filter(shared).map(|_| "/")) {
        None => Ok(()),
        Some(at) => Err(Failure::invalid(
            format!("plan the mount {at}"),
            "in a user namespace of its own a container cannot share its mounts with the host",
        )),
    }
}

fn mount_steps<'a>(
    spec: &'a Spec<'a>,
    trees: &mut Vec<Tree<'a>>,
) -> Result<Vec<Step<'a>>, Failure> {
    let label = spec
        .linux
        .mount_label
        .as_deref()
        .filter(|label| !label.is_empty());
    let step = |mount| mounts::plan(mount, label, trees).map(Step::Mount);
    spec.mounts.iter().map(step).collect()
}

/// A tmpfs that is to be read-only is written to until its mount points and devices are made.
fn freeze_later<'a>(steps: &mut [Step<'a>]) -> Vec<Step<'a>> {
    let frozen = steps.iter_mut().filter_map(|step| match step {
        Step::Mount(mount) => freeze_one(mount).then_some(Step::Freeze(mount.destination)),
        _ => None,
    });
    frozen.collect()
}

fn freeze_one(mount: &mut MountStep<'_>) -> bool {
    match &mut mount.source {
        Source::FileSystem(made) if made.kind == "tmpfs" => {
            let read_only = made.attributes.contains(Attr::MOUNT_ATTR_RDONLY);
            made.attributes -= Attr::MOUNT_ATTR_RDONLY;
            read_only
        }
        _ => false,
    }
}

/// A `/dev` that is bound from the host has its nodes and is not ours to change.
fn device_steps<'a>(spec: &'a Spec<'a>, trees: &[Tree<'a>]) -> Result<Vec<Step<'a>>, Failure> {
    let is_dev =
        |mount: &&crate::bundle::Mount<'_>| mount.destination.trim_end_matches('/') == "/dev";
    let bound = spec.mounts.iter().filter(is_dev).any(|mount| {
        trees
            .iter()
            .any(|tree| Some(tree.path) == mount.source.as_deref())
    });
    let mut steps = Vec::new();
    if !bound {
        let nodes = devices::plan(&spec.linux.devices)?;
        steps.extend(nodes.into_iter().map(Step::Device));
        let links = devices::LINKS.iter();
        steps.extend(links.map(|(path, target)| Step::Link { path, target }));
    }
    if spec.process.terminal {
        steps.push(Step::Terminal);
    }
    Ok(steps)
}

fn name_steps<'a>(
    spec: &'a Spec<'a>,
    namespaces: &Namespaces<'_>,
) -> Result<Vec<Step<'a>>, Failure> {
    let mut steps = Vec::new();
    if let Some(name) = spec.hostname.as_deref().filter(|name| !name.is_empty()) {
        steps.push(Step::Hostname(name));
    }
    if let Some(name) = spec.domainname.as_deref().filter(|name| !name.is_empty()) {
        steps.push(Step::Domainname(name));
    }
    if !steps.is_empty() && !namespaces.has(NamespaceKind::Uts) {
        return Err(Failure::invalid(
            "plan the names",
            "a host name needs a UTS namespace of the container's own",
        ));
    }
    Ok(steps)
}

fn sysctl_steps<'a>(
    spec: &'a Spec<'a>,
    namespaces: &Namespaces<'_>,
) -> Result<Vec<Step<'a>>, Failure> {
    spec.linux
        .sysctl
        .iter()
        .map(|(name, value)| {
            let path = sysctl_path(name, namespaces)?;
            Ok(Step::Sysctl { name: path, value })
        })
        .collect()
}

/// A parameter may be written only where it belongs to a namespace that is not the host's.
fn sysctl_path(name: &str, namespaces: &Namespaces<'_>) -> Result<String, Failure> {
    let path = if name.contains('/') {
        name.to_owned()
    } else {
        name.replace('.', "/")
    };
    let refused = |cause: &str| {
        Err(Failure::invalid(
            "plan the sysctls",
            format!("{name}: {cause}"),
        ))
    };
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return refused("is no name of a kernel parameter");
    }
    let kind = match path.as_str() {
        "kernel/domainname" | "kernel/hostname" => NamespaceKind::Uts,
        "kernel/msgmax"
        | "kernel/msgmnb"
        | "kernel/msgmni"
        | "kernel/sem"
        | "kernel/shmall"
        | "kernel/shmmax"
        | "kernel/shmmni"
        | "kernel/shm_rmid_forced" => NamespaceKind::Ipc,
        _ if path.starts_with("fs/mqueue/") => NamespaceKind::Ipc,
        _ if path.starts_with("net/") => NamespaceKind::Network,
        _ => return refused("belongs to no namespace"),
    };
    if namespaces.has(kind) {
        return Ok(path);
    }
    refused(&format!(
        "needs a {} namespace of the container's own",
        namespaces::name(kind)
    ))
}

fn protection_steps<'a>(spec: &'a Spec<'a>) -> Vec<Step<'a>> {
    let linux = &spec.linux;
    let mut steps: Vec<_> = linux
        .readonly_paths
        .iter()
        .map(|path| Step::ReadOnly(path))
        .collect();
    steps.extend(linux.masked_paths.iter().map(|path| Step::Mask(path)));
    if spec.root.readonly {
        steps.push(Step::RootReadOnly);
    }
    steps
}

fn root_spread(spec: &Spec<'_>) -> Result<Option<Spread>, Failure> {
    let Some(word) = spec
        .linux
        .rootfs_propagation
        .as_deref()
        .filter(|word| !word.is_empty())
    else {
        return Ok(None);
    };
    let unknown = || Failure::invalid("plan the root", format!("{word} is no propagation"));
    options::propagation(word).map(Some).ok_or_else(unknown)
}

/// The cgroup of a container, as an absolute path below the root of the hierarchies; a relative one
/// is below Corten's own.
#[must_use]
pub fn cgroup_path(spec: &Spec<'_>, id: &str) -> String {
    match spec.linux.cgroups_path.as_deref() {
        Some(path) if path.starts_with('/') => path.to_owned(),
        Some(path) if !path.is_empty() => format!("/corten/{path}"),
        _ => format!("/corten/{id}"),
    }
}

/// The flags that a container's filter is loaded with.
///
/// # Errors
/// [`crate::api::FailureKind::Invalid`]: a flag that cannot be honoured.
pub fn seccomp_flags(spec: &Spec<'_>) -> Result<u32, Failure> {
    let Some(seccomp) = &spec.linux.seccomp else {
        return Ok(0);
    };
    seccomp
        .flags
        .iter()
        .try_fold(0, |flags, flag| Ok(flags | crate::seccomp::flag(flag)?))
}

/// A tree of the whole root, for a bundle whose root file system is ready.
#[must_use]
pub fn whole_root(path: &str) -> Tree<'_> {
    Tree {
        path,
        bind: Bind::Recursive,
        top: options::Attributes::default(),
        all: options::Attributes::default(),
        idmap: None,
    }
}

#[cfg(test)]
mod tests;
