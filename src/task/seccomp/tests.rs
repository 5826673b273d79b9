//! Filters are run here, by an interpreter of the few instructions that they are made of, held against
//! libseccomp's, and loaded into the kernel.

mod equality;
mod grammar;
mod kernel;
mod machine;
mod meaning;
mod oracle;

use super::abi::Place;
use super::*;
use crate::model::spec::seccomp::{SeccompProfile, Situation, runtime_default};
use machine::{is_sound, run};
use std::collections::BTreeSet;

const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;
const AARCH64: u32 = 0xc000_00b7;

const KILL: u32 = 0;
const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;

fn section(profile: &SeccompProfile, capabilities: &[&str], architecture: &str) -> LinuxSeccomp {
    let capabilities: BTreeSet<String> = capabilities.iter().map(|&c| c.to_owned()).collect();
    let situation = Situation {
        capabilities: &capabilities,
        architecture,
        kernel: "6.18.0",
    };
    profile.resolve(&situation).unwrap()
}

fn default_for(capabilities: &[&str]) -> LinuxSeccomp {
    section(runtime_default(), capabilities, "amd64")
}

/// Without a multiplexer.
fn number(name: &str, abi: Abi) -> u32 {
    let places = abi.places(name);
    let direct = |place: &&Place| place.first_argument.is_none();
    places.iter().find(direct).unwrap().number
}

fn x86_64(section: &LinuxSeccomp) -> Result<Vec<u8>, SeccompFilterError> {
    program_for(section, Abi::X8664)
}

fn on_x86_64(program: &[u8], name: &str, args: [u64; 6]) -> u32 {
    let number = number(name, Abi::X8664);
    run(program, X86_64, number, args)
}

#[test]
fn the_default_profile_allows_what_programs_need_and_nothing_that_rules_the_node() {
    let program = x86_64(&default_for(&[])).unwrap();
    assert!(is_sound(&program));
    for name in [
        "getpid", "read", "execve", "openat", "futex", "ptrace", "rseq",
    ] {
        assert_eq!(on_x86_64(&program, name, [0; 6]), ALLOW, "{name}");
    }
    let forbidden = "kexec_load mount umount2 bpf setns unshare reboot init_module add_key keyctl \
                     io_uring_setup userfaultfd open_by_handle_at chroot settimeofday swapon iopl";
    for name in forbidden.split_whitespace() {
        assert_eq!(on_x86_64(&program, name, [0; 6]), EPERM, "{name}");
    }
    assert_eq!(on_x86_64(&program, "clone3", [0; 6]), ENOSYS);
}

#[test]
fn arguments_decide_where_a_call_is_half_allowed() {
    let program = x86_64(&default_for(&[])).unwrap();
    let with = |name, first| on_x86_64(&program, name, [first, 0, 0, 0, 0, 0]);
    const CLONE_NEWUSER: u64 = 0x1000_0000;
    const CLONE_VM_SIGCHLD: u64 = 0x111;
    assert_eq!(with("clone", CLONE_VM_SIGCHLD), ALLOW);
    assert_eq!(with("clone", CLONE_VM_SIGCHLD | CLONE_NEWUSER), EPERM);
    assert_eq!(with("socket", 2), ALLOW);
    let refused = (0..64).filter(|family| with("socket", *family) != ALLOW);
    assert_eq!(refused.collect::<Vec<_>>(), [38, 40], "AF_ALG and AF_VSOCK");
    assert_eq!(with("socket", 38), EPERM);
    assert_eq!(with("personality", 0xffff_ffff), ALLOW);
    assert_eq!(with("personality", 0x0004_0000), EPERM, "ADDR_NO_RANDOMIZE");
}

#[test]
fn a_capability_brings_its_calls() {
    let program = x86_64(&default_for(&["CAP_SYS_ADMIN", "CAP_SYS_CHROOT"])).unwrap();
    for name in ["mount", "setns", "clone3", "chroot", "bpf"] {
        assert_eq!(on_x86_64(&program, name, [0; 6]), ALLOW, "{name}");
    }
    assert_eq!(on_x86_64(&program, "kexec_load", [0; 6]), EPERM);
}

#[test]
fn what_is_newer_than_the_profile_does_not_exist() {
    let program = x86_64(&default_for(&[])).unwrap();
    assert_eq!(run(&program, X86_64, 900, [0; 6]), ENOSYS);
    assert_eq!(run(&program, X86_64, 0x4000_0000 + 900, [0; 6]), ENOSYS);
    assert_eq!(run(&program, I386, 900, [0; 6]), ENOSYS);
    let getpid = number("getpid", Abi::X86);
    assert_eq!(run(&program, I386, getpid, [0; 6]), ALLOW);
    let mount = number("mount", Abi::X86);
    assert_eq!(run(&program, I386, mount, [0; 6]), EPERM);
    assert_eq!(
        run(&program, AARCH64, 172, [0; 6]),
        KILL,
        "no such machine here"
    );
}

#[test]
fn a_list_of_what_is_forbidden_has_no_newer_calls() {
    let profile: SeccompProfile = serde_json::from_str(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{"names": ["mkdir", "no_such_call"], "action": "SCMP_ACT_ERRNO"}]}"#,
    )
    .unwrap();
    let program = x86_64(&section(&profile, &[], "amd64")).unwrap();
    assert_eq!(on_x86_64(&program, "mkdir", [0; 6]), EPERM);
    assert_eq!(run(&program, X86_64, 900, [0; 6]), ALLOW);
}

#[test]
fn two_conditions_on_one_argument_mean_either() {
    let profile: SeccompProfile = serde_json::from_str(
        r#"{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [
                {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"},
                {"index": 0, "value": 2, "op": "SCMP_CMP_EQ"}]}]}"#,
    )
    .unwrap();
    let program = x86_64(&section(&profile, &[], "amd64")).unwrap();
    let with = |first| on_x86_64(&program, "socket", [first, 0, 0, 0, 0, 0]);
    assert_eq!([with(1), with(2), with(3)], [ALLOW, ALLOW, EPERM]);
}

/// Those that libseccomp of Debian 12 does not know.
#[test]
fn a_call_of_a_newer_kernel_is_allowed_by_its_name() {
    let program = x86_64(&default_for(&[])).unwrap();
    for name in ["mseal", "statmount", "listmount", "setxattrat", "cachestat"] {
        assert_eq!(on_x86_64(&program, name, [0; 6]), ALLOW, "{name}");
    }
}

#[test]
fn a_profile_that_contradicts_itself_is_refused_by_the_calls_name() {
    let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "ioctl"], "action": "SCMP_ACT_ERRNO",
         "args": [{"index": 1, "value": 1, "op": "SCMP_CMP_EQ"}]},
        {"names": ["ioctl"], "action": "SCMP_ACT_LOG",
         "args": [{"index": 1, "value": 1, "op": "SCMP_CMP_EQ"}]}]}"#;
    let error = x86_64(&serde_json::from_str(profile).unwrap()).unwrap_err();
    assert!(error.to_string().contains("ioctl"), "{error}");
    assert_eq!(error.kind(), Kind::InvalidArgument);
}

#[test]
fn every_action_is_the_kernels() {
    for (action, answer) in [
        ("SCMP_ACT_KILL", 0),
        ("SCMP_ACT_KILL_THREAD", 0),
        ("SCMP_ACT_KILL_PROCESS", 0x8000_0000),
        ("SCMP_ACT_TRAP", 0x0003_0000),
        ("SCMP_ACT_ERRNO", 0x0005_0011),
        ("SCMP_ACT_TRACE", 0x7ff0_0011),
        ("SCMP_ACT_NOTIFY", 0x7fc0_0000),
        ("SCMP_ACT_LOG", 0x7ffc_0000),
        ("SCMP_ACT_ALLOW", ALLOW),
    ] {
        let profile = format!(
            r#"{{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 5, "syscalls": [
                {{"names": ["mkdir", "read"], "action": "{action}", "errnoRet": 17}}]}}"#
        );
        let program = x86_64(&serde_json::from_str(&profile).unwrap()).unwrap();
        assert_eq!(on_x86_64(&program, "mkdir", [0; 6]), answer, "{action}");
        assert_eq!(on_x86_64(&program, "write", [0; 6]), 0x0005_0005);
    }
}

#[test]
fn a_filter_is_made_once_and_made_again_when_it_was_cut_off() {
    let directory = tempfile::tempdir().unwrap();
    let section = default_for(&[]);
    let kept = directory.path().join("seccomp");
    let path = Filters::new(kept.clone()).filter(&section).unwrap();
    assert!(path.starts_with(&kept));
    let whole = fs::read(&path).unwrap();
    fs::write(&path, [0; 16]).unwrap();
    let filters = Filters::new(kept.clone());
    assert_eq!(filters.filter(&section).unwrap(), path);
    assert_eq!(fs::read(&path).unwrap(), [0; 16], "it was compiled again");
    fs::write(&path, &whole[..13]).unwrap();
    Filters::new(kept.clone()).filter(&section).unwrap();
    assert_eq!(fs::read(&path).unwrap(), whole);
    fs::remove_file(&path).unwrap();
    assert_eq!(filters.filter(&section).unwrap(), path);
    assert!(path.exists(), "remembered, and gone");
    let other = filters.filter(&default_for(&["CAP_SYS_ADMIN"])).unwrap();
    assert_ne!(other, path);
    assert_eq!(fs::read_dir(&kept).unwrap().count(), 2);
}

/// A program made by another version of the compiler must not be taken for one of this: `FORMAT` is part
/// of its name. When this fails, change `FORMAT`, then the hash.
#[test]
fn another_program_of_the_same_profile_has_another_format() {
    let profile = r#"{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86",
        "SCMP_ARCH_X32"], "syscalls": [
        {"names": ["read", "write", "close", "fstat", "clone", "io_setup"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["mount", "umount2"], "action": "SCMP_ACT_ERRNO", "errnoRet": 2},
        {"names": ["ioctl", "shmat"], "action": "SCMP_ACT_LOG", "args": [
            {"index": 2, "value": 4294967298, "op": "SCMP_CMP_GT"},
            {"index": 1, "value": 7, "valueTwo": 2, "op": "SCMP_CMP_MASKED_EQ"}]},
        {"names": ["ioctl"], "action": "SCMP_ACT_TRAP", "args": [
            {"index": 1, "value": 21505, "op": "SCMP_CMP_EQ"}]},
        {"names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": [
            {"index": 1, "value": 21506, "op": "SCMP_CMP_EQ"}]}]}"#;
    let section = serde_json::from_str(profile).unwrap();
    let hash = Sha256::digest(x86_64(&section).unwrap());
    let hex: String = hash[..8].iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!((FORMAT, hex.as_str()), (2, "0e7f0af36dfbb162"));
}
