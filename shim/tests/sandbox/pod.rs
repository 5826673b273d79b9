//! A pod's namespaces, pinned as the daemon has them pinned.

use corten_shim::api::{
    Failure, IdMap, IdMaps, PinRequest, Pins, ProcessName, SandboxReply, SandboxRequest,
};
use corten_shim::packet;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use tempfile::TempDir;

pub const SHIM: &str = env!("CARGO_BIN_EXE_corten-shim");

pub fn ask(request: &SandboxRequest) -> (SandboxReply, Vec<OwnedFd>) {
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    let mut child = Command::new(SHIM)
        .arg("sandbox")
        .stdin(Stdio::from(theirs))
        .spawn()
        .unwrap();
    packet::send(&ours, request, &[]).unwrap();
    let got = packet::receive(&ours).unwrap().expect("an answer");
    assert!(child.wait().unwrap().success());
    (got.message, got.fds)
}

/// A pod below a directory of the test's own; unpinned when the test ends, however it ends.
pub struct Pod {
    pub dir: TempDir,
    pub pins: Pins,
    pub scoped: bool,
}

impl Pod {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| Some(dir.path().join(name));
        let pins = Pins {
            network: at("netns/pod"),
            ipc: at("ns/ipc"),
            uts: at("ns/uts"),
            pid: at("ns/pid"),
            shm: at("shm"),
            user: None,
            holder: None,
        };
        Self {
            dir,
            pins,
            scoped: false,
        }
    }

    pub fn request(&self, sysctls: &[(&str, &str)]) -> SandboxRequest {
        let own = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        SandboxRequest::Pin(PinRequest {
            pins: self.pins.clone(),
            hostname: "pod-host".to_owned(),
            sysctls: sysctls.iter().map(own).collect(),
            shm_size: 1 << 20,
            cgroup: None,
            scoped: self.scoped,
            ids: self.pins.user.as_ref().map(|_| ids()),
        })
    }

    pub fn pin(&mut self, sysctls: &[(&str, &str)]) -> Vec<OwnedFd> {
        match ask(&self.request(sysctls)) {
            (SandboxReply::Pinned { holder }, fds) => {
                self.pins.holder = holder;
                fds
            }
            (other, _) => panic!("{other:?}"),
        }
    }

    pub fn refused(&self, sysctls: &[(&str, &str)]) -> Failure {
        match ask(&self.request(sysctls)).0 {
            SandboxReply::Failed(failure) => failure,
            other => panic!("{other:?}"),
        }
    }

    pub fn unpin(&self) {
        let reply = ask(&SandboxRequest::Unpin(self.pins.clone())).0;
        assert_eq!(reply, SandboxReply::Unpinned);
    }

    /// What a command prints inside the pod's network, IPC and UTS namespaces.
    pub fn inside(&self, command: &'static [&'static str]) -> String {
        let namespaces: Vec<_> = [&self.pins.network, &self.pins.ipc, &self.pins.uts]
            .into_iter()
            .flatten()
            .map(|path| std::fs::File::open(path).unwrap())
            .collect();
        // A thread of its own: what it enters it does not bring back.
        let said = std::thread::spawn(move || {
            for namespace in &namespaces {
                let any: Option<LinkNameSpaceType> = None;
                move_into_link_name_space(namespace.as_fd(), any).unwrap();
            }
            Command::new(command[0])
                .args(&command[1..])
                .output()
                .unwrap()
        });
        String::from_utf8(said.join().unwrap().stdout)
            .unwrap()
            .trim()
            .to_owned()
    }

    /// A pinning that fails at its last step takes back what came before.
    pub fn assert_undone_when_late(&self) {
        let in_the_way = self.pins.pid.clone().unwrap();
        std::fs::create_dir_all(in_the_way.parent().unwrap()).unwrap();
        std::fs::write(&in_the_way, "").unwrap();
        let failure = self.refused(&[]);
        assert!(failure.step.contains("ns/pid"), "{failure}");
        std::fs::remove_file(&in_the_way).expect("it was not ours to take away");
        self.assert_gone();
    }

    /// Nothing of the pod is mounted, and no file of it is left.
    pub fn assert_gone(&self) {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(
            !mounts.contains(self.dir.path().to_str().unwrap()),
            "{mounts}"
        );
        let pins = &self.pins;
        let paths = [&pins.network, &pins.ipc, &pins.uts, &pins.pid, &pins.shm];
        for path in paths.into_iter().chain([&pins.user]).flatten() {
            assert!(!path.exists(), "{path:?}");
        }
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        ask(&SandboxRequest::Unpin(self.pins.clone()));
    }
}

/// What root inside is outside.
pub const FIRST: u32 = 100_000;

pub fn ids() -> IdMaps {
    let all = vec![IdMap {
        inside: 0,
        outside: FIRST,
        length: 65_536,
    }];
    IdMaps {
        uids: all.clone(),
        gids: all,
    }
}

pub fn pidfd(name: ProcessName) -> OwnedFd {
    pidfd_open(Pid::from_raw(name.pid).unwrap(), PidfdFlags::empty()).unwrap()
}

pub fn is_alive(pidfd: &OwnedFd) -> bool {
    let now = rustix::event::Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&now)).unwrap() == 0
}
