//! Seccomp profiles.

use super::*;

/// The actions of the rules for this system call.
fn rules_for(asked: &Asked, name: &str) -> Vec<(String, Option<u32>)> {
    let seccomp = asked.linux().seccomp().clone().unwrap();
    let rules = seccomp.syscalls().clone().unwrap();
    rules
        .iter()
        .filter(|rule| rule.names().iter().any(|n| n == name))
        .map(|rule| (rule.action().to_string(), rule.errno_ret()))
        .collect()
}

#[test]
fn the_default_profile_depends_on_capabilities_and_machine() {
    let mut asked = asked();
    asked.config.security.seccomp = Profile::RuntimeDefault;
    let allow = || ("SCMP_ACT_ALLOW".to_owned(), None);
    assert_eq!(rules_for(&asked, "getpid"), [allow()]);
    assert_eq!(rules_for(&asked, "mount"), []);
    assert_eq!(rules_for(&asked, "kexec_load"), []);
    let enosys = ("SCMP_ACT_ERRNO".to_owned(), Some(38));
    assert_eq!(rules_for(&asked, "clone3"), [enosys]);
    assert_eq!(rules_for(&asked, "arch_prctl"), [allow()]);
    assert_eq!(
        rules_for(&asked, "chroot"),
        [allow()],
        "SYS_CHROOT is a default"
    );
    asked.config.security.capabilities.add = words("SYS_ADMIN");
    assert_eq!(rules_for(&asked, "mount"), [allow()]);
    assert_eq!(rules_for(&asked, "clone3"), [allow()]);
    asked.host.architecture = "arm64".into();
    assert_eq!(rules_for(&asked, "arch_prctl"), []);
    asked.host.kernel = "4.4.0".into();
    assert_eq!(
        rules_for(&asked, "ptrace"),
        [],
        "a filter can be evaded there"
    );
}

#[test]
fn unset_is_unconfined_and_a_kernel_without_seccomp_is_said_so() {
    let mut asked = asked();
    assert!(asked.linux().seccomp().is_none());
    asked.host.seccomp = false;
    assert!(asked.linux().seccomp().is_none());
    asked.config.security.seccomp = Profile::RuntimeDefault;
    let error = asked.build().unwrap_err();
    assert_eq!(error.kind(), Kind::FailedPrecondition);
}

#[test]
fn a_profile_of_the_node_is_read_in_both_forms() {
    let mut asked = asked();
    asked.config.security.seccomp = Profile::Localhost("/p.json".into());
    asked.profile = Some(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "archMap": null, "syscalls": [
            {"name": "chmod", "action": "SCMP_ACT_ERRNO"},
            {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5, "args": null,
             "excludes": {"caps": ["CAP_SYS_ADMIN"]}}]}"#,
    );
    let error = ("SCMP_ACT_ERRNO".to_owned(), Some(5));
    assert_eq!(rules_for(&asked, "mkdir"), [error]);
    assert_eq!(rules_for(&asked, "chmod").len(), 1);
    asked.profile = Some(r#"{"defaultAction": "SCMP_ACT_PERHAPS"}"#);
    assert_eq!(asked.build().unwrap_err().kind(), Kind::InvalidArgument);
    asked.profile = Some(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]}"#,
    );
    assert_eq!(asked.build().unwrap_err().kind(), Kind::InvalidArgument);
}
