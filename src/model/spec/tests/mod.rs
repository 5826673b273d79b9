//! What comes out for what is asked, one table a topic.

mod linux;
mod mounts;
mod process;
mod seccomp;
mod userns;

use super::*;
use crate::error::{Kind, Sentinel};
use crate::id::{ContainerId, SandboxId};
use crate::model::container::{Mount, Propagation, UserSpec};
use crate::model::sandbox::{
    GroupsPolicy, NamespaceMode, Namespaces, Profile, Release, SandboxConfig, SandboxSecurity,
    SandboxState, UserNamespace,
};
use oci_spec::runtime::{Capability, LinuxDeviceCgroup, LinuxNamespaceType};
use std::path::Path;

/// All inputs, owned, so that a test changes what it is about.
struct Asked {
    sandbox: Sandbox,
    id: ContainerId,
    config: ContainerConfig,
    image: ImageConfig,
    mounts: Vec<ResolvedMount>,
    devices: Vec<ResolvedDevice>,
    files: PodFiles,
    host: HostFacts,
    target_pid: Option<i32>,
    profile: Option<&'static str>,
}

fn host() -> HostFacts {
    HostFacts {
        kernel: "6.18.1".into(),
        architecture: "amd64".into(),
        cgroups: CgroupMode::Hybrid,
        controllers: vec!["memory".into(), "hugetlb".into()],
        recursive_read_only: true,
        idmapped_mounts: true,
        user_namespaces: true,
        no_user_namespaces: String::new(),
        apparmor: false,
        apparmor_profile: false,
        selinux: false,
        seccomp: true,
        swap_accounting: true,
        // All but SYS_RESOURCE (24).
        capability_bounds: 0x1ff_feff_ffff,
        max_open_files: 20_000,
    }
}

pub fn sandbox() -> Sandbox {
    Sandbox {
        id: SandboxId::random(),
        config: SandboxConfig {
            security: SandboxSecurity {
                privileged: true,
                ..SandboxSecurity::default()
            },
            ..SandboxConfig::default()
        },
        handler: String::new(),
        state: SandboxState::Ready,
        created_at: 1,
        boot_id: String::new(),
        namespaces: Namespaces {
            network: Some("/run/netns/corten-a".into()),
            ipc: Some("/run/corten/a/ipc".into()),
            uts: Some("/run/corten/a/uts".into()),
            pid: Some("/run/corten/a/pid".into()),
            shm: Some("/run/corten/a/shm".into()),
            user: None,
            holder: None,
        },
        network: None,
        release: Release::default(),
        ips: Vec::new(),
        scope: None,
        selinux_level: None,
    }
}

fn asked() -> Asked {
    Asked {
        sandbox: sandbox(),
        id: ContainerId::random(),
        config: ContainerConfig::default(),
        image: ImageConfig {
            cmd: vec!["sh".into()],
            ..ImageConfig::default()
        },
        mounts: Vec::new(),
        devices: Vec::new(),
        files: PodFiles {
            hosts: "/p/hosts".into(),
            resolv_conf: "/p/resolv.conf".into(),
            hostname: "/p/hostname".into(),
        },
        host: host(),
        target_pid: None,
        profile: None,
    }
}

impl Asked {
    fn mount(&mut self, mount: Mount) {
        self.mounts.push(ResolvedMount {
            host_path: mount.host_path.clone().into(),
        });
        self.config.mounts.push(mount);
    }

    fn build(&self) -> Result<Spec> {
        build(&SpecInputs {
            sandbox: &self.sandbox,
            container_id: &self.id,
            config: &self.config,
            image: &self.image,
            mounts: &self.mounts,
            devices: &self.devices,
            files: &self.files,
            hostname: "web-0",
            host: &self.host,
            target_pid: self.target_pid,
            seccomp_profile: self.profile,
        })
    }

    fn spec(&self) -> Spec {
        self.build().unwrap()
    }

    fn process(&self) -> Process {
        self.spec().process().clone().unwrap()
    }

    fn linux(&self) -> Linux {
        self.spec().linux().clone().unwrap()
    }

    fn mount_at(&self, path: &str) -> Option<oci_spec::runtime::Mount> {
        let mounts = self.spec().mounts().clone().unwrap();
        let mut found = mounts
            .into_iter()
            .filter(|mount| mount.destination() == Path::new(path));
        let first = found.next();
        assert!(found.next().is_none(), "{path} is mounted twice");
        first
    }

    fn options_at(&self, path: &str) -> Vec<String> {
        let mount = self.mount_at(path);
        mount.unwrap().options().clone().unwrap()
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn what_cannot_be_given_is_refused() {
    let kind = |change: fn(&mut Asked)| {
        let mut asked = asked();
        change(&mut asked);
        asked.build().unwrap_err().kind()
    };
    let user = |a: &mut Asked| a.config.security.namespaces.user = Some(UserNamespace::default());
    assert_eq!(kind(user), Kind::InvalidArgument, "the pod has none");
    let privileged = |a: &mut Asked| {
        a.sandbox.config.security.privileged = false;
        a.config.security.privileged = true;
    };
    assert_eq!(kind(privileged), Kind::FailedPrecondition);
}
