//! What every container finds mounted: the kernel's file systems, the pod's files and memory.

use super::{SpecInputs, volumes};
use crate::error::Result;
use oci_spec::runtime::Mount;
use std::path::{Path, PathBuf};

/// In the order in which they are to be mounted: the kernel's, then the pod's among the container's
/// own, those nearer to the root first, so that a volume at `/etc` does not hide the pod's files. A
/// path that the container's own mounts give takes the place of what would be there (a memory volume
/// at `/dev/shm`), and of the kernel's below it (one at `/dev` or `/sys`), which it would cover.
pub fn all(inputs: &SpecInputs<'_>) -> Result<Vec<Mount>> {
    let asked = volumes::all(inputs)?;
    let asked_at = |path: &Path| asked.iter().any(|own| own.destination() == path);
    let covers = |own: &Mount, at: &Path| at.starts_with(own.destination());
    let mut all = kernels(inputs);
    all.retain(|mount| !asked.iter().any(|own| covers(own, mount.destination())));
    let mut theirs = vec![shared_memory(inputs)];
    theirs.extend(pod_files(inputs));
    theirs.retain(|mount| !asked_at(mount.destination()));
    theirs.extend(asked);
    theirs.sort_by_key(|mount| mount.destination().components().count());
    all.extend(theirs);
    Ok(all)
}

fn kernels(inputs: &SpecInputs<'_>) -> Vec<Mount> {
    let privileged = inputs.config.security.privileged;
    let or_writable = if privileged { "rw" } else { "ro" };
    let own = ["nosuid", "noexec", "nodev"];
    let kernel = |at, kind, more: &[&str]| mount(at, kind, kind, &[&own[..], more].concat());
    vec![
        kernel("/proc", "proc", &[]),
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        ),
        kernel("/dev/mqueue", "mqueue", &[]),
        sysfs(inputs).unwrap_or_else(|| kernel("/sys", "sysfs", &[or_writable])),
        kernel("/sys/fs/cgroup", "cgroup", &["relatime", or_writable]),
    ]
}

/// The node's, where the pod has a user namespace and not the network that it would own: only a
/// network's owner may mount its sysfs.
fn sysfs(inputs: &SpecInputs<'_>) -> Option<Mount> {
    let pins = &inputs.sandbox.namespaces;
    let options = ["rbind", "rprivate", "nosuid", "noexec", "nodev", "rro"];
    (pins.user.is_some() && pins.network.is_none()).then(|| bind("/sys", "/sys".into(), &options))
}

/// The pod's, or the node's where the pod has the node's IPC namespace.
fn shared_memory(inputs: &SpecInputs<'_>) -> Mount {
    let pod = inputs.sandbox.namespaces.shm.clone();
    let source = pod.unwrap_or_else(|| PathBuf::from("/dev/shm"));
    let options = ["rbind", "rprivate", "nosuid", "noexec", "nodev"];
    bind("/dev/shm", source, &options)
}

fn pod_files(inputs: &SpecInputs<'_>) -> [Mount; 3] {
    let files = inputs.files;
    let access = match inputs.config.security.readonly_rootfs {
        true => "ro",
        false => "rw",
    };
    [
        ("/etc/hosts", &files.hosts),
        ("/etc/resolv.conf", &files.resolv_conf),
        ("/etc/hostname", &files.hostname),
    ]
    .map(|(at, source)| bind(at, source.clone(), &["rbind", "rprivate", access]))
}

/// A bind mount.
pub fn bind(at: impl Into<PathBuf>, source: PathBuf, options: &[&str]) -> Mount {
    mount(at, "bind", source, options)
}

fn mount(
    at: impl Into<PathBuf>,
    kind: &str,
    source: impl Into<PathBuf>,
    options: &[&str],
) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(at.into())
        .set_typ(Some(kind.to_owned()))
        .set_source(Some(source.into()))
        .set_options(Some(options.iter().map(|&o| o.to_owned()).collect()));
    mount
}
