//! A pod's sysctls: only those of namespaces that are its own, written from inside.
//!
//! Invariant: what is written is a file of the kernel's own procfs below `sys/`: the file system is
//! proven, and the path is resolved without links, mounts or `..`.

use crate::api::{Failure, FailureKind, PinRequest, Pins};
use crate::failure::At;
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// `PROC_SUPER_MAGIC` of `linux/magic.h`.
const PROCFS: i64 = 0x9fa0;

/// Which namespace a sysctl belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Ipc,
    Network,
}

/// Sysctls that the pod may set, with their paths below `/proc/sys`.
#[derive(Debug, PartialEq, Eq)]
pub struct Sysctls(Vec<(String, String)>);

impl Sysctls {
    /// Checks a request's sysctls.
    ///
    /// # Errors
    /// [`FailureKind::Invalid`] for one that is of no namespace, or of one that the pod shares
    /// with the host.
    pub fn check(request: &PinRequest) -> Result<Self, Failure> {
        let paths = request
            .sysctls
            .iter()
            .map(|(name, value)| check(name, &request.pins).map(|path| (path, value.clone())));
        paths.collect::<Result<_, _>>().map(Self)
    }

    /// Writes them in this process' namespaces.
    ///
    /// # Errors
    /// Which one was refused.
    pub fn write(&self) -> Result<(), Failure> {
        if self.0.is_empty() {
            return Ok(());
        }
        let root = open_root().at(FailureKind::System, || "open /proc/sys".to_owned())?;
        for (path, value) in &self.0 {
            write(&root, path, value).map_err(|errno| {
                let failure = Failure::system(format!("set /proc/sys/{path} to {value:?}"), errno);
                Failure {
                    kind: kind_of(errno),
                    ..failure
                }
            })?;
        }
        Ok(())
    }
}

/// A sysctl that the kernel does not have, or a value that it does not take, is the pod's mistake.
fn kind_of(errno: Errno) -> FailureKind {
    match errno {
        Errno::NOENT | Errno::INVAL | Errno::RANGE => FailureKind::Invalid,
        _ => FailureKind::System,
    }
}

fn check(name: &str, pins: &Pins) -> Result<String, Failure> {
    let step = || format!("set the sysctl {name}");
    let path =
        path_of(name).ok_or_else(|| Failure::invalid(step(), "it is no name of a sysctl"))?;
    let owner = owner_of(&path).ok_or_else(|| {
        Failure::invalid(
            step(),
            "it is of no namespace: only the node itself can set it",
        )
    })?;
    let (own, word, field) = match owner {
        Owner::Ipc => (pins.ipc.is_some(), "IPC", "hostIPC"),
        Owner::Network => (pins.network.is_some(), "network", "hostNetwork"),
    };
    match own {
        true => Ok(path),
        false => Err(Failure::invalid(
            step(),
            format!("the pod has the host's {word} namespace: leave the sysctl or {field} out"),
        )),
    }
}

/// Dots part a name, and a `/` within a part stands for a dot of its own (`eth0/100`).
fn path_of(name: &str) -> Option<String> {
    let swap = |letter| match letter {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    let path: String = name.chars().map(swap).collect();
    let plain =
        |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('\0');
    path.split('/').all(plain).then_some(path)
}

fn owner_of(path: &str) -> Option<Owner> {
    let ipc = path == "kernel/sem"
        || path.starts_with("kernel/shm")
        || path.starts_with("kernel/msg")
        || path.starts_with("fs/mqueue/");
    if ipc {
        return Some(Owner::Ipc);
    }
    path.starts_with("net/").then_some(Owner::Network)
}

/// Opens `/proc/sys` of what is proven to be a procfs.
fn open_root() -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let proc = rustix::fs::openat(CWD, "/proc", flags, Mode::empty())?;
    match rustix::fs::fstatfs(&proc)?.f_type {
        PROCFS => rustix::fs::openat2(&proc, "sys", flags, Mode::empty(), strict()),
        _ => Err(Errno::NODEV),
    }
}

fn write(root: &OwnedFd, path: &str, value: &str) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat2(root, path, flags, Mode::empty(), strict())?;
    rustix::io::write(&file, value.as_bytes()).map(|_| ())
}

/// Through no link and onto no other file system, and never above the start.
fn strict() -> ResolveFlags {
    ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn with(pins: Pins, name: &str) -> Result<Sysctls, Failure> {
        Sysctls::check(&PinRequest {
            pins,
            hostname: String::new(),
            sysctls: vec![(name.to_owned(), "1".to_owned())],
            shm_size: 0,
            cgroup: None,
            scoped: false,
            ids: None,
        })
    }

    fn own() -> Pins {
        let path = Some(PathBuf::from("/x"));
        Pins {
            network: path.clone(),
            ipc: path,
            ..Pins::default()
        }
    }

    #[test]
    fn those_of_the_pods_own_namespaces_are_taken() {
        for name in [
            "kernel.shm_rmid_forced",
            "kernel.msgmax",
            "kernel.sem",
            "fs.mqueue.msg_max",
            "net.core.somaxconn",
        ] {
            assert_eq!(with(own(), name).unwrap().0[0].0, name.replace('.', "/"));
        }
        let vlan = with(own(), "net.ipv4.conf.eth0/100.forwarding").unwrap();
        assert_eq!(vlan.0[0].0, "net/ipv4/conf/eth0.100/forwarding");
    }

    #[test]
    fn those_of_the_host_are_refused_with_what_to_do() {
        let refused = with(
            Pins {
                network: None,
                ..own()
            },
            "net.core.somaxconn",
        )
        .unwrap_err();
        assert_eq!(refused.kind, FailureKind::Invalid);
        assert!(refused.to_string().contains("hostNetwork"), "{refused}");
        let refused = with(Pins { ipc: None, ..own() }, "kernel.shmmax").unwrap_err();
        assert!(refused.to_string().contains("hostIPC"), "{refused}");
    }

    #[test]
    fn those_of_no_namespace_and_tricks_with_the_path_are_refused() {
        for name in [
            "kernel.core_pattern",
            "kernel.semaphore",
            "vm.swappiness",
            "fs.mqueue",
            "net",
            "",
            "net..core",
            "net.//.//.kernel.core_pattern",
            "/net.core",
            "net.core.somaxconn.",
        ] {
            let refused = with(own(), name).unwrap_err();
            assert_eq!(refused.kind, FailureKind::Invalid, "{name}");
        }
    }

    #[test]
    fn the_opening_follows_nothing_out_of_the_sysctls() {
        let root = open_root().unwrap();
        let own = format!("../{}/comm", std::process::id());
        assert_eq!(write(&root, &own, "x"), Err(Errno::XDEV));
        assert_eq!(write(&root, "/proc/self/comm", "x"), Err(Errno::XDEV));
    }
}
