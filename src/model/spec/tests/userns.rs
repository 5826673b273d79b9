//! Pods with a user namespace of their own.

use super::*;
use crate::model::sandbox::IdMapping;

const RANGE: IdMapping = IdMapping {
    container_id: 0,
    host_id: 100_000,
    length: 65_536,
};

fn user() -> UserNamespace {
    UserNamespace {
        uids: vec![RANGE],
        gids: vec![RANGE],
    }
}

fn in_user_namespace() -> Asked {
    let mut asked = asked();
    asked.sandbox.namespaces.user = Some("/run/corten/a/user".into());
    asked.sandbox.config.security.namespaces.user = Some(user());
    asked.config.security.namespaces.user = Some(user());
    asked
}

#[test]
fn the_pods_user_namespace_is_joined_and_its_ids_are_told() {
    let linux = in_user_namespace().linux();
    let namespaces = linux.namespaces().clone().unwrap();
    let joined = namespaces
        .iter()
        .find(|namespace| namespace.typ() == LinuxNamespaceType::User);
    let path = joined.unwrap().path().as_deref();
    assert_eq!(path, Some(Path::new("/run/corten/a/user")));
    for mappings in [linux.uid_mappings(), linux.gid_mappings()] {
        let [mapping] = mappings.as_deref().unwrap() else {
            panic!("one mapping")
        };
        assert_eq!(
            (mapping.container_id(), mapping.host_id(), mapping.size()),
            (0, 100_000, 65_536)
        );
    }
    let without = asked().linux();
    assert_eq!(without.uid_mappings().as_deref().unwrap_or_default(), []);
}

#[test]
fn a_container_that_differs_from_its_pod_is_refused() {
    let mut none = in_user_namespace();
    none.config.security.namespaces.user = None;
    let mut other = in_user_namespace();
    let uids = &mut other.config.security.namespaces.user.as_mut().unwrap().uids;
    uids[0].host_id = 1;
    for asked in [none, other] {
        let error = asked.build().unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidArgument);
        assert!(error.to_string().contains("userns_options"), "{error}");
    }
}

#[test]
fn with_the_nodes_network_its_sysfs_is_bound_for_reading() {
    let mut asked = in_user_namespace();
    let sysfs = |asked: &Asked| asked.mount_at("/sys").unwrap().typ().clone().unwrap();
    assert_eq!(sysfs(&asked), "sysfs");
    asked.sandbox.namespaces.network = None;
    assert_eq!(sysfs(&asked), "bind");
    assert!(asked.options_at("/sys").contains(&"rro".to_owned()));
}

#[test]
fn a_volumes_ids_are_handed_on_and_come_in_pairs() {
    let mut asked = in_user_namespace();
    let volume = Mount {
        container_path: "/data".into(),
        host_path: "/v".into(),
        uid_mappings: vec![RANGE],
        gid_mappings: vec![RANGE],
        ..Mount::default()
    };
    asked.mount(volume.clone());
    let mount = asked.mount_at("/data").unwrap();
    let ids = mount.uid_mappings().clone().unwrap();
    assert_eq!((ids[0].host_id(), ids.len()), (100_000, 1));
    asked.mount(Mount {
        container_path: "/odd".into(),
        gid_mappings: Vec::new(),
        ..volume
    });
    assert_eq!(asked.build().unwrap_err().kind(), Kind::InvalidArgument);
}
