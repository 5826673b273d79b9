//! Mounts.

use super::*;

#[test]
fn the_kernels_file_systems_are_mounted_before_what_is_inside_them() {
    let spec = asked().spec();
    let mounts = spec.mounts().as_ref().unwrap();
    let at = |path: &str| {
        let found = mounts
            .iter()
            .position(|m| m.destination() == Path::new(path));
        found.unwrap_or_else(|| panic!("{path} is missing"))
    };
    assert!(at("/dev") < at("/dev/pts") && at("/dev") < at("/dev/shm"));
    assert!(at("/dev") < at("/dev/mqueue") && at("/sys") < at("/sys/fs/cgroup"));
    assert_eq!(mounts[at("/proc")].typ().as_deref(), Some("proc"));
    let shm = mounts[at("/dev/shm")].source().as_deref();
    assert_eq!(shm, Some(Path::new("/run/corten/a/shm")));
    let hosts = mounts[at("/etc/hosts")].source().as_deref();
    assert_eq!(hosts, Some(Path::new("/p/hosts")));
}

#[test]
fn what_the_container_mounts_takes_the_place_of_what_would_be_there() {
    let mut asked = asked();
    for (at, from) in [("/etc/hosts", "/kubelet/hosts"), ("/dev/shm/", "/volume")] {
        asked.mount(Mount {
            container_path: at.into(),
            host_path: from.into(),
            ..Mount::default()
        });
    }
    let source = |path: &str| asked.mount_at(path).unwrap().source().clone().unwrap();
    assert_eq!(source("/etc/hosts"), Path::new("/kubelet/hosts"));
    assert_eq!(source("/dev/shm"), Path::new("/volume"));
    asked.mount(Mount {
        container_path: "/dev".into(),
        host_path: "/dev".into(),
        ..Mount::default()
    });
    assert!(asked.mount_at("/dev/pts").is_none());
    assert!(asked.mount_at("/dev/shm").is_some(), "its own stays");
}

#[test]
fn nothing_of_the_kernels_is_mounted_where_a_volume_covers_it() {
    for (volume, covered) in [("/sys", "/sys/fs/cgroup"), ("/sys/fs", "/sys/fs/cgroup")] {
        let mut asked = asked();
        asked.mount(Mount {
            container_path: volume.into(),
            host_path: "/v".into(),
            ..Mount::default()
        });
        assert!(
            asked.mount_at(covered).is_none(),
            "{covered} below {volume}"
        );
        assert!(asked.mount_at("/proc").is_some());
    }
}

#[test]
fn volumes_are_bound_outermost_first() {
    let mut asked = asked();
    for at in ["/data/a/b", "/data", "data/../data/a"] {
        asked.mount(Mount {
            container_path: at.into(),
            host_path: format!("/v/{}", at.len()),
            ..Mount::default()
        });
    }
    let spec = asked.spec();
    let mounts = spec.mounts().as_ref().unwrap();
    let places = mounts
        .iter()
        .map(|mount| mount.destination().to_string_lossy().into_owned());
    let volumes: Vec<_> = places.filter(|place| place.starts_with("/data")).collect();
    assert_eq!(volumes, ["/data", "/data/a", "/data/a/b"]);
    for bad in ["", "/", "/a/..", "/a\0b"] {
        let mut asked = self::asked();
        asked.mount(Mount {
            container_path: bad.into(),
            ..Mount::default()
        });
        assert!(asked.build().is_err(), "{bad:?} was taken");
    }
}

#[test]
fn a_volume_does_not_hide_the_pods_files_and_memory() {
    let mut asked = asked();
    for at in ["/etc", "/dev"] {
        asked.mount(Mount {
            container_path: at.into(),
            host_path: "/volume".into(),
            ..Mount::default()
        });
    }
    let spec = asked.spec();
    let mounts = spec.mounts().as_ref().unwrap();
    let at = |path: &str| {
        let mut places = mounts.iter().map(oci_spec::runtime::Mount::destination);
        places.position(|place| place == Path::new(path)).unwrap()
    };
    for below in ["/etc/hosts", "/etc/resolv.conf", "/etc/hostname"] {
        assert!(at("/etc") < at(below), "{below}");
    }
    assert!(at("/dev") < at("/dev/shm"));
    assert!(asked.mount_at("/dev/pts").is_none(), "the volume's own");
}

#[test]
fn access_and_propagation_of_a_volume() {
    use Propagation::{Bidirectional, HostToContainer, Private};
    // readonly, propagation, options → mount options, the root's propagation
    for (readonly, propagation, options, want, root) in [
        (false, Private, "", "rbind rprivate rw", None),
        (true, Private, "", "rbind rprivate ro", None),
        (
            true,
            Private,
            "noexec nodev",
            "rbind rprivate ro noexec nodev",
            None,
        ),
        (
            false,
            HostToContainer,
            "",
            "rbind rslave rw",
            Some("rslave"),
        ),
        (
            false,
            Bidirectional,
            "",
            "rbind rshared rw",
            Some("rshared"),
        ),
    ] {
        let mut asked = asked();
        asked.mount(Mount {
            container_path: "/v".into(),
            host_path: "/src".into(),
            readonly,
            propagation,
            options: words(options),
            ..Mount::default()
        });
        assert_eq!(asked.options_at("/v"), words(want));
        assert_eq!(asked.linux().rootfs_propagation().as_deref(), root);
    }
    let mut asked = asked();
    asked.mount(Mount {
        container_path: "/v".into(),
        options: words("suid"),
        ..Mount::default()
    });
    assert_eq!(asked.build().unwrap_err().kind(), Kind::InvalidArgument);
}

#[test]
fn recursive_read_only_is_whole_or_refused() {
    // readonly, propagation, the node can → what comes of it
    for (readonly, propagation, can, want) in [
        (true, Propagation::Private, true, Ok("rro")),
        (
            false,
            Propagation::Private,
            true,
            Err(Kind::InvalidArgument),
        ),
        (
            true,
            Propagation::HostToContainer,
            true,
            Err(Kind::InvalidArgument),
        ),
        (
            true,
            Propagation::Bidirectional,
            true,
            Err(Kind::InvalidArgument),
        ),
        (
            true,
            Propagation::Private,
            false,
            Err(Kind::Sentinel(Sentinel::RroUnsupported)),
        ),
    ] {
        let mut asked = asked();
        asked.host.recursive_read_only = can;
        asked.mount(Mount {
            container_path: "/v".into(),
            readonly,
            recursive_readonly: true,
            propagation,
            ..Mount::default()
        });
        match want {
            Ok(option) => assert!(asked.options_at("/v").contains(&option.into())),
            Err(kind) => assert_eq!(asked.build().unwrap_err().kind(), kind),
        }
    }
}

#[test]
fn the_whole_is_json_that_reads_back() {
    let mut asked = asked();
    asked.config.security.seccomp = Profile::RuntimeDefault;
    asked.config.security.readonly_rootfs = true;
    let spec = asked.spec();
    let text = serde_json::to_string(&spec).unwrap();
    assert_eq!(serde_json::from_str::<Spec>(&text).unwrap(), spec);
    assert_eq!(spec.root().as_ref().unwrap().readonly(), Some(true));
    assert!(asked.options_at("/etc/hosts").contains(&"ro".into()));
}
