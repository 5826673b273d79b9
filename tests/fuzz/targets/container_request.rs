//! Whatever a container is asked to have: it is refused, or the bundle made for it is one that the shim takes, no mount of
//! which comes before the one that it is in. An input is a line for each thing that is asked for (see
//! `Asked::line`).
#![no_main]

#[path = "../../../src/error.rs"]
#[allow(dead_code, reason = "the daemon uses all of it")]
mod error;
#[path = "../../../src/id.rs"]
#[allow(dead_code, reason = "the daemon uses all of it")]
mod id;
#[path = "../../../src/model/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the daemon uses all of it")]
mod model;

use corten_shim::bundle;
use corten_shim::plan::process::{Powers, RLIMITS};
use corten_shim::plan::{self, HostFacts as ShimFacts, Step};
use id::{ContainerId, SandboxId};
use libfuzzer_sys::fuzz_target;
use model::container::{ContainerConfig, Mount, Propagation, UserSpec};
use model::host::{CgroupMode, HostFacts};
use model::image::ImageConfig;
use model::sandbox::{
    IdMapping, NamespaceMode, Namespaces, Release, Sandbox, SandboxConfig, SandboxSecurity,
    SandboxState, UserNamespace,
};
use model::spec::{PodFiles, ResolvedMount, SpecInputs, build};

fuzz_target!(|input: &str| {
    let asked = Asked::of(input);
    let Ok(spec) = asked.spec() else {
        return;
    };
    let text = serde_json::to_string(&spec).expect("a spec can be written");
    let spec = bundle::parse(&text).expect("the shim reads it");
    match plan::build(&spec, &facts()) {
        Ok(plan) => {
            let mounts: Vec<_> = plan.steps.iter().filter_map(destination).collect();
            assert!(mounts.len() >= asked.config.mounts.len());
            parents_come_first(&mounts);
        }
        // What is left to the shim to refuse: words with a zero in them, and mounts that would show on the node.
        Err(failure) => {
            let why = failure.to_string();
            let is_shims = text.contains("\\u0000") || why.contains("share its mounts");
            assert!(is_shims, "{why}: {text}");
        }
    }
});

fn destination<'a>(step: &Step<'a>) -> Option<&'a str> {
    match step {
        Step::Mount(mount) => Some(mount.destination),
        _ => None,
    }
}

fn parents_come_first(mounts: &[&str]) {
    for (at, first) in mounts.iter().enumerate() {
        for later in &mounts[at + 1..] {
            let inside = first
                .strip_prefix(later)
                .is_some_and(|rest| rest.starts_with('/'));
            assert!(!inside, "{first} is mounted before {later}: {mounts:?}");
        }
    }
}

fn facts() -> ShimFacts {
    ShimFacts {
        powers: Powers {
            bounding: u64::MAX,
            may_raise_limits: true,
            hard_limits: [u64::MAX; RLIMITS.len()],
        },
    }
}

/// All inputs of a spec.
struct Asked {
    sandbox: Sandbox,
    config: ContainerConfig,
    image: ImageConfig,
    host: HostFacts,
    id: ContainerId,
}

impl Asked {
    fn of(lines: &str) -> Self {
        let mut asked = Self {
            sandbox: sandbox(),
            config: ContainerConfig::default(),
            image: ImageConfig {
                cmd: vec!["sh".into()],
                ..ImageConfig::default()
            },
            host: host(),
            id: ContainerId::random(),
        };
        for line in lines.lines() {
            asked.line(&line.split(' ').collect::<Vec<_>>());
        }
        asked
    }

    /// What is not known is passed over.
    fn line(&mut self, words: &[&str]) {
        let word = |at: usize| words.get(at).copied().unwrap_or_default().to_owned();
        let number = |at: usize| word(at).parse::<u32>().unwrap_or(0);
        let has = |wanted: &str| words.contains(&wanted);
        let ids = vec![IdMapping {
            container_id: number(1),
            host_id: number(2),
            length: number(3),
        }];
        let security = &mut self.config.security;
        match word(0).as_str() {
            "mount" => self.config.mounts.push(Mount {
                container_path: word(1),
                host_path: "/srv".into(),
                readonly: has("ro") || has("rro"),
                recursive_readonly: has("rro"),
                propagation: match (has("slave"), has("shared")) {
                    (_, true) => Propagation::Bidirectional,
                    (true, _) => Propagation::HostToContainer,
                    _ => Propagation::Private,
                },
                options: if has("with") {
                    vec![word(2)]
                } else {
                    Vec::new()
                },
                ..Mount::default()
            }),
            // Others are refused when the pod is made.
            "users"
                if number(3) > 0 && number(1).max(number(2)).checked_add(number(3)).is_some() =>
            {
                let user = UserNamespace {
                    uids: ids.clone(),
                    gids: ids,
                };
                security.namespaces.user = Some(user.clone());
                self.sandbox.config.security.namespaces.user = Some(user);
                self.sandbox.namespaces.user = Some("/run/corten/a/user".into());
            }
            "network" => self.sandbox.namespaces.network = None,
            "pid" => {
                security.namespaces.pid = match word(1).as_str() {
                    "container" => NamespaceMode::Container,
                    "node" => NamespaceMode::Node,
                    "target" => NamespaceMode::Target,
                    _ => NamespaceMode::Pod,
                }
            }
            "privileged" => security.privileged = true,
            "fixed" => security.readonly_rootfs = true,
            "mask" => security.masked_paths.push(word(1)),
            "readonly" => security.readonly_paths.push(word(1)),
            "add" => security.capabilities.add.push(word(1)),
            "drop" => security.capabilities.drop.push(word(1)),
            "ambient" => security.capabilities.add_ambient.push(word(1)),
            "uid" => security.user = UserSpec::Uid(i64::from(number(1))),
            "user" => security.user = UserSpec::Name(word(1)),
            "group" => security.supplemental_groups.push(i64::from(number(1))),
            "tty" => self.config.tty = true,
            "command" => self.config.command.push(word(1)),
            "arg" => self.config.args.push(word(1)),
            "env" => self.config.envs.push((word(1), word(2))),
            "cwd" => self.config.working_dir = word(1),
            "image-env" => self.image.env.push(word(1)),
            "image-cwd" => self.image.working_dir = word(1),
            "image-user" => self.image.user = word(1),
            "annotation" => drop(self.config.annotations.insert(word(1), word(2))),
            "cgroup" => self.sandbox.config.cgroup_parent = word(1),
            "unified" => self.host.cgroups = CgroupMode::Unified,
            _ => {}
        }
    }

    fn spec(&self) -> error::Result<oci_spec::runtime::Spec> {
        let resolved = |mount: &Mount| ResolvedMount {
            host_path: mount.host_path.clone().into(),
        };
        let mounts: Vec<_> = self.config.mounts.iter().map(resolved).collect();
        build(&SpecInputs {
            sandbox: &self.sandbox,
            container_id: &self.id,
            config: &self.config,
            image: &self.image,
            mounts: &mounts,
            devices: &[],
            files: &PodFiles {
                hosts: "/p/hosts".into(),
                resolv_conf: "/p/resolv.conf".into(),
                hostname: "/p/hostname".into(),
            },
            hostname: "web-0",
            host: &self.host,
            target_pid: Some(7),
            seccomp_profile: None,
        })
    }
}

fn sandbox() -> Sandbox {
    let at = |name: &str| Some(format!("/run/corten/a/{name}").into());
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
            network: at("net"),
            ipc: at("ipc"),
            uts: at("uts"),
            pid: at("pid"),
            shm: at("shm"),
            user: None,
            holder: None,
        },
        network: None,
        release: Release::default(),
        ips: Vec::new(),
        selinux_level: None,
        scope: None,
    }
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
        capability_bounds: 0x1ff_feff_ffff,
        max_open_files: 20_000,
    }
}
