//! What a container's mounts and devices are on the node: paths that a user chose, so each look at
//! them has a deadline.

mod cdi;
mod peers;

use super::looks::Looker;
use crate::error::{Context, Error, Kind, Result};
use crate::model::cdi::ContainerEdits;
use crate::model::container::{ContainerConfig, Device, Mount};
use crate::model::sandbox::Profile;
use crate::model::spec::{DeviceKind, ResolvedDevice, ResolvedMount};
use rustix::fs::{major, minor};
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A path on a dead network mount never answers.
pub const LIMIT: Duration = Duration::from_secs(20);

/// What a container's configuration names on the node, found.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// One for each mount of the configuration, in its order.
    pub mounts: Vec<ResolvedMount>,
    /// The devices; for a privileged container all of the node's as well.
    pub devices: Vec<ResolvedDevice>,
    /// The text of the seccomp profile's file.
    pub seccomp_profile: Option<String>,
    /// What vendors' devices change.
    pub edits: Vec<ContainerEdits>,
}

/// Where, in a bundle, an image is to be mounted whose mount has this place in the configuration.
/// The shim makes it from `volumes.json`, in a mount namespace of its own.
pub fn image_volume(bundle: &Path, place: usize) -> PathBuf {
    bundle.join("volumes").join(place.to_string())
}

/// Finds what a container's configuration names on the node, CDI devices in files of the directories
/// `vendors`. A mount's source that is absent is made a directory, as the field does; an image's is a
/// place in the bundle.
///
/// # Errors
/// Which path is wrong, or does not answer, and how.
pub fn look(
    config: &ContainerConfig,
    bundle: &Path,
    vendors: &[PathBuf],
    looker: &Looker,
) -> Result<Sources> {
    let all = config.mounts.iter().enumerate();
    let mounts = all
        .map(|(place, mount)| match mount.image {
            Some(_) => Ok(ResolvedMount {
                host_path: image_volume(bundle, place),
            }),
            None => found(mount, looker),
        })
        .collect::<Result<_>>()?;
    Ok(Sources {
        mounts,
        devices: devices(config, looker)?,
        seccomp_profile: seccomp_profile(config, looker)?,
        edits: cdi::edits(config, vendors, looker)?,
    })
}

fn found(mount: &Mount, looker: &Looker) -> Result<ResolvedMount> {
    let path = Path::new(&mount.host_path);
    looker.at(path)?;
    let failed = || {
        format!(
            "mount {}: look at {}",
            mount.container_path, mount.host_path
        )
    };
    let host_path = match fs::canonicalize(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            fs::create_dir_all(path).context(Kind::Internal, failed)?;
            fs::canonicalize(path)
        }
        other => other,
    };
    let host_path = host_path.context(Kind::Internal, failed)?;
    peers::check(mount, &host_path)?;
    Ok(ResolvedMount { host_path })
}

fn seccomp_profile(config: &ContainerConfig, looker: &Looker) -> Result<Option<String>> {
    match &config.security.seccomp {
        Profile::Localhost(path) if !config.security.privileged => {
            looker.at(Path::new(path))?;
            let text = fs::read_to_string(path);
            text.map(Some).context(Kind::Internal, || {
                format!("read the seccomp profile {path}")
            })
        }
        _ => Ok(None),
    }
}

fn devices(config: &ContainerConfig, looker: &Looker) -> Result<Vec<ResolvedDevice>> {
    let mut all = Vec::new();
    if config.security.privileged {
        below(Path::new("/dev"), Path::new("/dev"), "rwm", &mut all)
            .context(Kind::Internal, || "list the node's devices".to_owned())?;
    }
    for device in &config.devices {
        looker.at(Path::new(&device.host_path))?;
        let found = named(device)?;
        all.retain(|old| {
            !found
                .iter()
                .any(|new| new.container_path == old.container_path)
        });
        all.extend(found);
    }
    Ok(all)
}

/// A device, or all that are below a directory.
fn named(device: &Device) -> Result<Vec<ResolvedDevice>> {
    let failed = || {
        format!(
            "device {}: look at {}",
            device.container_path, device.host_path
        )
    };
    let host = fs::canonicalize(&device.host_path).context(Kind::Internal, failed)?;
    let (inside, permissions) = (
        Path::new(&device.container_path),
        device.permissions.as_str(),
    );
    let metadata = fs::metadata(&host).context(Kind::Internal, failed)?;
    let mut found = Vec::new();
    if metadata.is_dir() {
        below(&host, inside, permissions, &mut found).context(Kind::Internal, failed)?;
    } else {
        found.extend(node(&metadata, inside.to_owned(), permissions));
    }
    match found.is_empty() {
        true => Err(Error::internal(failed()).caused_by("it is no device and holds none")),
        false => Ok(found),
    }
}

/// What a container has of its own, or must not reach: terminals, message queues, shared memory.
const NOT_SHARED: [&str; 8] = [
    "pts", "shm", "fd", "mqueue", "console", "ptmx", ".udev", ".lxc",
];

fn below(
    host: &Path,
    inside: &Path,
    permissions: &str,
    found: &mut Vec<ResolvedDevice>,
) -> std::io::Result<()> {
    for entry in fs::read_dir(host)? {
        let entry = entry?;
        let name = entry.file_name();
        if NOT_SHARED.iter().any(|own| name == *own) {
            continue;
        }
        // A device that was unplugged since is passed over.
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        let (host, inside): (PathBuf, PathBuf) = (entry.path(), inside.join(&name));
        match metadata.is_dir() {
            true => below(&host, &inside, permissions, found)?,
            false => found.extend(node(&metadata, inside, permissions)),
        }
    }
    Ok(())
}

fn node(metadata: &Metadata, inside: PathBuf, permissions: &str) -> Option<ResolvedDevice> {
    let kind = metadata.file_type();
    let kind = match (kind.is_char_device(), kind.is_block_device()) {
        (true, _) => DeviceKind::Character,
        (_, true) => DeviceKind::Block,
        _ => return None,
    };
    let permissions = if permissions.is_empty() {
        "rwm"
    } else {
        permissions
    };
    Some(ResolvedDevice {
        container_path: inside,
        kind,
        major: major(metadata.rdev()),
        minor: minor(metadata.rdev()),
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
        permissions: permissions.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::looks::Looks;
    use super::*;

    fn with_mount(host_path: &Path) -> ContainerConfig {
        ContainerConfig {
            mounts: vec![Mount {
                container_path: "/data".to_owned(),
                host_path: host_path.display().to_string(),
                ..Mount::default()
            }],
            ..ContainerConfig::default()
        }
    }

    #[tokio::test]
    async fn links_are_followed_and_an_absent_source_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let found = resolve(with_mount(&link)).await.unwrap();
        assert_eq!(found.mounts[0].host_path, fs::canonicalize(&real).unwrap());
        let absent = dir.path().join("a/b");
        resolve(with_mount(&absent)).await.unwrap();
        assert!(absent.is_dir());
    }

    async fn resolve(config: ContainerConfig) -> Result<Sources> {
        let look = move |looker: &Looker| look(&config, Path::new("/bundle"), &[], looker);
        Looks::default().within(LIMIT, look, Ok).await
    }

    #[tokio::test]
    async fn a_device_is_found_and_a_file_is_none() {
        let mut config = ContainerConfig::default();
        let device = |path: &str| Device {
            container_path: "/dev/x".to_owned(),
            host_path: path.to_owned(),
            permissions: "rw".to_owned(),
        };
        config.devices = vec![device("/dev/null")];
        let found = resolve(config.clone()).await.unwrap();
        let null = &found.devices[0];
        assert_eq!(
            (null.major, null.minor, null.permissions.as_str()),
            (1, 3, "rw")
        );
        config.devices = vec![device("/proc/self/status")];
        let error = resolve(config).await.unwrap_err();
        assert!(
            error.chain().contains("/proc/self/status"),
            "{}",
            error.chain()
        );
    }
}
