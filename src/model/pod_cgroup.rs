//! Whose cgroup a new pod gets: one that Corten makes (the driver `cgroupfs`), or a scope that systemd
//! makes (the driver `systemd`).
//!
//! ```text
//! cgroupfs   CGROUP_PARENT/                   the kubelet's; or /corten/pods/POD, Corten's own
//!              └ CONTAINER
//! systemd    SLICE, expanded/                 the kubelet's; or system.slice
//!              └ corten-POD.scope/            systemd's, delegated: no process is in it
//!                  ├ holder                   keeps the scope from being empty, which would end it
//!                  └ CONTAINER                below `pod` where no slice was given: the pod's limits are
//!                                             there, since those of the scope itself systemd resets
//! ```
//! A scope is made of a process that is there already. So the holder is born in a cradle, a cgroup of
//! Corten's own that is the pod's alone: who is in it can be ended without having been told of.
//!
//! Invariant: a pod keeps the driver that it was made under. It is in the pod's record, so that a node
//! whose driver changes finds, updates and removes the pods from before.

use super::host::CgroupDriver;
use super::slice;
use crate::error::{Error, Result};
use crate::id::SandboxId;
use serde::{Deserialize, Serialize};

/// Who makes the cgroups of new pods.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum PodCgroups {
    /// Corten.
    #[default]
    Cgroupfs,
    /// systemd.
    Systemd(SystemdTree),
}

/// What has to be known of systemd's tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SystemdTree {
    /// The cgroup that systemd takes for the root: empty but in some containers.
    pub root: String,
    /// Where the cradles of holders are.
    pub cradles: String,
    /// The owner has asked for it. Else it was found here, and a kubelet that still has the other driver,
    /// as after an upgrade, gets its pods, too.
    pub asked_for: bool,
}

/// The scope of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// Its unit's name.
    pub unit: String,
    /// The slice that it is in.
    pub slice: String,
    /// Its cgroup.
    pub cgroup: String,
    /// The cgroup in which its holder is born.
    pub cradle: String,
}

impl PodCgroups {
    /// The driver's name.
    #[must_use]
    pub fn driver(&self) -> CgroupDriver {
        match self {
            Self::Cgroupfs => CgroupDriver::Cgroupfs,
            Self::Systemd(_) => CgroupDriver::Systemd,
        }
    }

    /// The scope that a pod with this `cgroup_parent` is to have; `None`: Corten makes its cgroup.
    ///
    /// # Errors
    /// `InvalidArgument` where that is no slice's name.
    pub fn scope(&self, pod: &SandboxId, parent: &str) -> Result<Option<Scope>> {
        let Self::Systemd(tree) = self else {
            return Ok(None);
        };
        if !tree.asked_for && self.mismatch(parent).is_some() {
            return Ok(None);
        }
        let slice = match parent {
            "" => Some(slice::DEFAULT),
            parent => slice::named_by(parent),
        };
        let slice = slice.ok_or_else(|| no_slice(parent))?;
        let path = slice::path(slice).ok_or_else(|| no_slice(parent))?;
        let unit = format!("corten-{pod}.scope");
        Ok(Some(Scope {
            cgroup: format!("{}{path}/{unit}", tree.root),
            cradle: format!("{}/{pod}", tree.cradles),
            slice: slice.to_owned(),
            unit,
        }))
    }

    /// A pod of a kubelet with the other driver is refused.
    #[must_use]
    pub fn insists(&self) -> bool {
        match self {
            Self::Cgroupfs => true,
            Self::Systemd(tree) => tree.asked_for,
        }
    }

    /// Why a kubelet that names its pods' cgroups so does not go with this driver, and what to do;
    /// `None`: it does.
    #[must_use]
    pub fn mismatch(&self, parent: &str) -> Option<String> {
        // A path through slices that is odd is somebody's mistake, and no other driver's word.
        let is_slice = parent.ends_with(".slice");
        match self {
            Self::Systemd(_) if parent.contains('/') && !is_slice => {
                Some(told(parent, "cgroupfs", "systemd"))
            }
            Self::Cgroupfs if slice::named_by(parent).is_some() => {
                Some(told(parent, "systemd", "cgroupfs"))
            }
            _ => None,
        }
    }
}

fn told(parent: &str, kubelet: &str, corten: &str) -> String {
    format!(
        "the kubelet's cgroup driver is {kubelet} (it gave a pod the cgroup parent {parent:?}), and Corten's is {corten}: drain the node, write the line `cgroupDriver: {corten}` into the kubelet's configuration (/var/lib/kubelet/config.yaml; one of Kubernetes 1.34 or newer asks Corten instead) and restart the kubelet, or the line `driver = \"{kubelet}\"` below `[cgroup]` into /etc/corten/corten.toml and restart Corten"
    )
}

fn no_slice(name: &str) -> Error {
    Error::invalid(format!(
        "linux.cgroup_parent {name:?} is no systemd slice, which Corten's cgroup driver (systemd) needs: give a name such as \"kubepods-besteffort.slice\" (each dash is a step down, so none may be first, last or doubled) or its whole path, or leave it empty for {}",
        slice::DEFAULT
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn systemd() -> PodCgroups {
        PodCgroups::Systemd(SystemdTree {
            root: String::new(),
            cradles: "/corten/holders".to_owned(),
            asked_for: true,
        })
    }

    #[test]
    fn a_scope_is_in_its_pods_slice_and_named_by_the_pod() {
        let pod = SandboxId::random();
        let scope = systemd().scope(&pod, "a-b.slice").unwrap().unwrap();
        assert_eq!(scope.unit, format!("corten-{pod}.scope"));
        assert_eq!(
            scope.cgroup,
            format!("/a.slice/a-b.slice/corten-{pod}.scope")
        );
        assert_eq!(scope.cradle, format!("/corten/holders/{pod}"));
        let own = systemd().scope(&pod, "").unwrap().unwrap();
        assert_eq!(own.slice, "system.slice");
        assert_eq!(PodCgroups::Cgroupfs.scope(&pod, "a-b.slice").unwrap(), None);
    }

    #[test]
    fn where_systemd_was_only_found_a_pod_of_the_other_driver_is_made_in_its_way() {
        let PodCgroups::Systemd(mut tree) = systemd() else {
            unreachable!()
        };
        tree.asked_for = false;
        let (pod, found) = (SandboxId::random(), PodCgroups::Systemd(tree));
        assert_eq!(found.scope(&pod, "/kubepods/poda").unwrap(), None);
        assert!(found.scope(&pod, "a-b.slice").unwrap().is_some());
        assert!(found.mismatch("/kubepods/poda").is_some() && !found.insists());
        assert!(systemd().scope(&pod, "/kubepods/poda").is_err() && systemd().insists());
    }

    #[test]
    fn systemds_root_goes_before() {
        let PodCgroups::Systemd(mut tree) = systemd() else {
            unreachable!()
        };
        tree.root = "/machine".to_owned();
        let pod = SandboxId::random();
        let scope = PodCgroups::Systemd(tree).scope(&pod, "").unwrap().unwrap();
        assert!(scope.cgroup.starts_with("/machine/system.slice/corten-"));
    }

    #[test]
    fn what_is_no_slice_is_refused_with_what_to_do() {
        let refused = systemd().scope(&SandboxId::random(), "kubepods");
        let refused = refused.unwrap_err().to_string();
        assert!(
            refused.contains("\"kubepods\" is no systemd slice"),
            "{refused}"
        );
        assert!(refused.contains("leave it empty"), "{refused}");
    }

    #[test]
    fn a_kubelet_with_the_other_driver_is_told_the_line() {
        let told = systemd().mismatch("/kubepods/poda").unwrap();
        assert!(told.contains("`cgroupDriver: systemd`"), "{told}");
        assert!(told.contains("`driver = \"cgroupfs\"`"), "{told}");
        let told = PodCgroups::Cgroupfs
            .mismatch("kubepods-poda.slice")
            .unwrap();
        assert!(told.contains("`cgroupDriver: cgroupfs`"), "{told}");
        assert!(told.contains("`driver = \"systemd\"`"), "{told}");
        for (driver, fine) in [
            (systemd(), "kubepods-poda.slice"),
            (systemd(), ""),
            (PodCgroups::Cgroupfs, "/kubepods/poda"),
            (systemd(), "/kubepods.slice/kubepods-poda.slice"),
            (systemd(), "/elsewhere/kubepods-poda.slice"),
            (PodCgroups::Cgroupfs, "/kubepods.slice/poda"),
            (PodCgroups::Cgroupfs, ""),
        ] {
            assert_eq!(driver.mismatch(fine), None, "{fine:?}");
        }
    }
}
