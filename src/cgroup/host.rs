//! The real adapter: the hierarchies of this node, found once.

use super::{CgroupError, Cgroups, HOLDER, below_root, detail, kill, remove, usage};
use crate::model::cgroup_detail::CgroupDetail;
use crate::model::hierarchies::Hierarchies;
use crate::model::stats::CgroupUsage;
use corten_shim::cgroup::Cgroup;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The cgroups of the node that this process runs on.
#[derive(Debug)]
pub struct HostCgroups {
    at: Hierarchies,
    /// The sizes of this node's huge pages, as cgroups name them.
    page_sizes: Vec<String>,
}

impl HostCgroups {
    /// Finds the hierarchies that this process sees.
    ///
    /// # Errors
    /// Where none is mounted.
    pub fn discover() -> Result<Self, CgroupError> {
        const MOUNTINFO: &str = "/proc/self/mountinfo";
        let text = fs::read_to_string(MOUNTINFO).map_err(CgroupError::io("read", MOUNTINFO))?;
        let found = Self::new(Hierarchies::parse(&text))?;
        Ok(Self {
            page_sizes: page_sizes(Path::new("/sys/kernel/mm/hugepages")),
            ..found
        })
    }

    /// Of known hierarchies, on a node without huge pages.
    ///
    /// # Errors
    /// Where there is none.
    pub fn new(at: Hierarchies) -> Result<Self, CgroupError> {
        if at.roots().next().is_none() {
            return Err(CgroupError::NoHierarchy);
        }
        Ok(Self {
            at,
            page_sizes: Vec::new(),
        })
    }

    /// Where the cgroup is in each hierarchy, those without controllers included.
    fn everywhere(&self, cgroup: &str) -> Result<Vec<PathBuf>, CgroupError> {
        let path = below_root(cgroup)?;
        Ok(self.at.roots().map(|root| root.join(path)).collect())
    }
}

impl Cgroups for HostCgroups {
    fn usage(&self, cgroup: &str) -> Result<CgroupUsage, CgroupError> {
        usage::read(&self.at, cgroup)
    }

    fn detail(&self, cgroup: &str) -> Result<CgroupDetail, CgroupError> {
        detail::read(&self.at, &self.page_sizes, cgroup)
    }

    fn ensure(&self, cgroup: &str) -> Result<(), CgroupError> {
        let path = below_root(cgroup)?;
        for root in self.at.controlled() {
            let directory = root.join(path);
            fs::create_dir_all(&directory).map_err(CgroupError::io("make cgroup", &directory))?;
        }
        match self.at.legacy("cpuset") {
            Some(root) => inherit_cpuset(root, path),
            None => Ok(()),
        }
    }

    fn limit(&self, cgroup: &str, resources: &str) -> Result<(), CgroupError> {
        below_root(cgroup)?;
        let limited = Cgroup::make(cgroup).and_then(|made| made.update_here(resources));
        limited.map_err(|failure| CgroupError::Limit {
            cgroup: cgroup.to_owned(),
            failure,
        })
    }

    fn enter(&self, cgroup: &str) -> Result<(), CgroupError> {
        let path = below_root(cgroup)?;
        self.at
            .controlled()
            .map(|root| root.join(path).join("cgroup.procs"))
            // 0 is the process that writes.
            .try_for_each(|procs| fs::write(&procs, "0").map_err(CgroupError::io("enter", &procs)))
    }

    fn hold(&self, cgroup: &str, pid: i32) -> Result<(), CgroupError> {
        let leaf = format!("{cgroup}/{HOLDER}");
        let homes = self.everywhere(&leaf)?;
        for home in &homes {
            fs::create_dir_all(home).map_err(CgroupError::io("make cgroup", home))?;
        }
        if let Some(root) = self.at.legacy("cpuset") {
            inherit_cpuset(root, below_root(&leaf)?)?;
        }
        homes
            .iter()
            .map(|home| home.join("cgroup.procs"))
            .try_for_each(|procs| {
                fs::write(&procs, pid.to_string()).map_err(CgroupError::io("move into", &procs))
            })
    }

    fn kill_all(&self, cgroup: &str) -> Result<(), CgroupError> {
        kill::all(cgroup, &self.everywhere(cgroup)?)
    }

    fn remove(&self, cgroup: &str) -> Result<(), CgroupError> {
        remove::everywhere(cgroup, &self.everywhere(cgroup)?)
    }
}

/// The sizes of huge pages as cgroups name them: the directory has `hugepages-2048kB` for `2MB`. None where
/// the kernel has none.
fn page_sizes(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut sizes: Vec<u64> = names
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let size = name.strip_prefix("hugepages-")?.strip_suffix("kB")?;
            size.parse().ok()
        })
        .collect();
    sizes.sort_unstable();
    sizes.into_iter().map(page_size).collect()
}

/// Of a number of KiB, in the largest unit that is not above it.
fn page_size(kibibytes: u64) -> String {
    match kibibytes {
        0..1024 => format!("{kibibytes}KB"),
        1024..1_048_576 => format!("{}MB", kibibytes >> 10),
        _ => format!("{}GB", kibibytes >> 20),
    }
}

/// Gives every cgroup on the way down to `path` its parent's CPUs and memory nodes where it has
/// none: a v1 cpuset is born empty, and nothing can enter an empty one.
fn inherit_cpuset(root: &Path, path: &str) -> Result<(), CgroupError> {
    let mut parent = root.to_owned();
    for part in path.split('/') {
        let child = parent.join(part);
        for file in ["cpuset.cpus", "cpuset.mems"] {
            inherit(&parent.join(file), &child.join(file))?;
        }
        parent = child;
    }
    Ok(())
}

fn inherit(parent: &Path, child: &Path) -> Result<(), CgroupError> {
    let read = |file: &Path| match fs::read_to_string(file) {
        // Without `noprefix` the file is always there.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        other => other.map_err(CgroupError::io("read", file)),
    };
    let inherited = read(parent)?;
    if !read(child)?.trim().is_empty() || inherited.trim().is_empty() {
        return Ok(());
    }
    fs::write(child, inherited.trim()).map_err(CgroupError::io("write", child))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::hierarchies::LegacyHierarchy;

    fn hybrid(root: &Path) -> HostCgroups {
        let legacy = |controllers: &[&str], name: &str| LegacyHierarchy {
            controllers: controllers.iter().map(|&c| c.to_owned()).collect(),
            root: root.join(name),
        };
        HostCgroups::new(Hierarchies {
            legacy: vec![
                legacy(&["cpuset"], "cpuset"),
                legacy(&["memory"], "memory"),
                legacy(&[], "systemd"),
            ],
            unified: Some(root.join("unified")),
        })
        .unwrap()
    }

    #[test]
    fn a_home_is_made_where_controllers_are_and_its_cpuset_is_not_empty() {
        let root = tempfile::tempdir().unwrap();
        let cpuset = root.path().join("cpuset");
        fs::create_dir(&cpuset).unwrap();
        fs::write(cpuset.join("cpuset.cpus"), "0-1\n").unwrap();
        let cgroups = hybrid(root.path());
        cgroups.ensure("/corten/shims").unwrap();
        cgroups.ensure("/corten/shims").unwrap();
        for made in ["memory/corten/shims", "unified/corten/shims"] {
            assert!(root.path().join(made).is_dir(), "{made}");
        }
        assert!(!root.path().join("systemd/corten").exists());
        for cpus in ["corten/cpuset.cpus", "corten/shims/cpuset.cpus"] {
            assert_eq!(fs::read_to_string(cpuset.join(cpus)).unwrap(), "0-1");
        }
    }

    #[test]
    fn huge_pages_have_the_names_of_their_cgroup_files() {
        let sysfs = tempfile::tempdir().unwrap();
        for name in [
            "hugepages-1048576kB",
            "hugepages-2048kB",
            "hugepages-64kB",
            "other",
        ] {
            fs::create_dir(sysfs.path().join(name)).unwrap();
        }
        assert_eq!(page_sizes(sysfs.path()), ["64KB", "2MB", "1GB"]);
        assert!(page_sizes(&sysfs.path().join("absent")).is_empty());
    }

    #[test]
    fn a_cpuset_that_was_chosen_is_kept() {
        let root = tempfile::tempdir().unwrap();
        let cpuset = root.path().join("cpuset");
        fs::create_dir_all(cpuset.join("corten")).unwrap();
        fs::write(cpuset.join("cpuset.cpus"), "0-1").unwrap();
        fs::write(cpuset.join("corten/cpuset.cpus"), "1").unwrap();
        hybrid(root.path()).ensure("/corten").unwrap();
        let kept = fs::read_to_string(cpuset.join("corten/cpuset.cpus")).unwrap();
        assert_eq!(kept, "1");
    }

    #[test]
    fn a_holder_is_moved_into_its_leaf_of_every_hierarchy() {
        let root = tempfile::tempdir().unwrap();
        let cpuset = root.path().join("cpuset");
        fs::create_dir(&cpuset).unwrap();
        fs::write(cpuset.join("cpuset.cpus"), "0-1\n").unwrap();
        hybrid(root.path()).hold("/a.slice/b.scope", 77).unwrap();
        for name in ["cpuset", "memory", "systemd", "unified"] {
            let leaf = root.path().join(name).join("a.slice/b.scope/holder");
            let moved = fs::read_to_string(leaf.join("cgroup.procs")).unwrap();
            assert_eq!(moved, "77", "{name}");
        }
        let cpus = cpuset.join("a.slice/b.scope/holder/cpuset.cpus");
        assert_eq!(fs::read_to_string(cpus).unwrap(), "0-1");
    }

    #[test]
    fn removal_covers_every_hierarchy_and_all_that_is_below() {
        let root = tempfile::tempdir().unwrap();
        for made in ["cpuset/a/b/c", "memory/a/b", "systemd/a/b"] {
            fs::create_dir_all(root.path().join(made)).unwrap();
        }
        let cgroups = hybrid(root.path());
        cgroups.remove("/a/b").unwrap();
        for left in ["cpuset/a", "memory/a", "systemd/a"] {
            let left = root.path().join(left);
            assert_eq!(
                fs::read_dir(&left).unwrap().count(),
                0,
                "{}",
                left.display()
            );
        }
        cgroups.remove("/a/b").unwrap();
    }
}
