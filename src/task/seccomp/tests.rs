//! Filters are run here, by an interpreter of the few instructions that they are made of.

use super::*;
use crate::model::spec::seccomp::{SeccompProfile, Situation, runtime_default};
use std::collections::BTreeSet;

const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;
const AARCH64: u32 = 0xc000_00b7;

const KILL: u32 = 0;
const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;

/// What the kernel would answer (the seccomp part of classic BPF: words, jumps, AND, return).
fn run(program: &[u8], arch: u32, number: u32, args: [u64; 6]) -> u32 {
    let mut data = [0u8; 64];
    data[..4].copy_from_slice(&number.to_ne_bytes());
    data[4..8].copy_from_slice(&arch.to_ne_bytes());
    for (at, arg) in args.iter().enumerate() {
        data[16 + at * 8..24 + at * 8].copy_from_slice(&arg.to_ne_bytes());
    }
    let word = |bytes: &[u8]| u32::from_ne_bytes(bytes.try_into().unwrap());
    let (mut at, mut a) = (0usize, 0u32);
    loop {
        let one = &program[at * 8..at * 8 + 8];
        let code = u16::from_ne_bytes(one[..2].try_into().unwrap());
        let (yes, no, k) = (usize::from(one[2]), usize::from(one[3]), word(&one[4..]));
        at += 1;
        let holds = match code {
            0x20 => {
                a = word(&data[k as usize..k as usize + 4]);
                continue;
            }
            0x54 => {
                a &= k;
                continue;
            }
            0x05 => {
                at += k as usize;
                continue;
            }
            0x06 => return k,
            0x15 => a == k,
            0x25 => a > k,
            0x35 => a >= k,
            0x45 => a & k != 0,
            other => panic!("no such instruction: {other:#x}"),
        };
        at += if holds { yes } else { no };
    }
}

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

fn number(name: &str, arch: libseccomp::ScmpArch) -> u32 {
    let syscall = libseccomp::ScmpSyscall::from_name_by_arch(name, arch).unwrap();
    u32::try_from(syscall.as_raw_syscall()).unwrap()
}

fn on_x86_64(program: &[u8], name: &str, args: [u64; 6]) -> u32 {
    let number = number(name, libseccomp::ScmpArch::X8664);
    run(program, X86_64, number, args)
}

#[test]
fn the_default_profile_allows_what_programs_need_and_nothing_that_rules_the_node() {
    let program = program(&default_for(&[])).unwrap();
    assert_eq!(program.len() % INSTRUCTION, 0);
    assert!(program.len() / INSTRUCTION < MOST_INSTRUCTIONS);
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
    let program = program(&default_for(&[])).unwrap();
    let with = |name, first| on_x86_64(&program, name, [first, 0, 0, 0, 0, 0]);
    const CLONE_NEWUSER: u64 = 0x1000_0000;
    const CLONE_VM_SIGCHLD: u64 = 0x111;
    assert_eq!(with("clone", CLONE_VM_SIGCHLD), ALLOW);
    assert_eq!(with("clone", CLONE_VM_SIGCHLD | CLONE_NEWUSER), EPERM);
    assert_eq!(with("socket", 2), ALLOW);
    assert_eq!(with("socket", 40), EPERM, "AF_VSOCK");
    assert_eq!(with("personality", 0xffff_ffff), ALLOW);
    assert_eq!(with("personality", 0x0004_0000), EPERM, "ADDR_NO_RANDOMIZE");
}

#[test]
fn a_capability_brings_its_calls() {
    let program = program(&default_for(&["CAP_SYS_ADMIN", "CAP_SYS_CHROOT"])).unwrap();
    for name in ["mount", "setns", "clone3", "chroot", "bpf"] {
        assert_eq!(on_x86_64(&program, name, [0; 6]), ALLOW, "{name}");
    }
    assert_eq!(on_x86_64(&program, "kexec_load", [0; 6]), EPERM);
}

#[test]
fn what_is_newer_than_the_profile_does_not_exist() {
    let program = program(&default_for(&[])).unwrap();
    assert_eq!(run(&program, X86_64, 900, [0; 6]), ENOSYS);
    assert_eq!(run(&program, X86_64, 0x4000_0000 + 900, [0; 6]), ENOSYS);
    assert_eq!(run(&program, I386, 900, [0; 6]), ENOSYS);
    let getpid = number("getpid", libseccomp::ScmpArch::X86);
    assert_eq!(run(&program, I386, getpid, [0; 6]), ALLOW);
    let mount = number("mount", libseccomp::ScmpArch::X86);
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
    let program = program(&section(&profile, &[], "amd64")).unwrap();
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
    let program = program(&section(&profile, &[], "amd64")).unwrap();
    let with = |first| on_x86_64(&program, "socket", [first, 0, 0, 0, 0, 0]);
    assert_eq!([with(1), with(2), with(3)], [ALLOW, ALLOW, EPERM]);
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
