//! Filters in the real kernel, each on a thread of its own: a filter is the thread's that loads it.

use super::{INSTRUCTION, LinuxSeccomp, default_for, oracle, program};
use crate::task::seccomp::abi::Abi;
use corten_shim::seccomp::Filter;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, socket};
use rustix::process::getpid;
use rustix::thread::set_no_new_privs;
use std::thread;
use std::time::{Duration, Instant};

/// Loads the filter of a profile on a thread, and asks there.
fn under<T: Send + 'static>(profile: &str, ask: impl FnOnce() -> T + Send + 'static) -> T {
    let section: LinuxSeccomp = serde_json::from_str(profile).unwrap();
    let filter = filter(&program(&section).unwrap());
    let asked = thread::spawn(move || {
        set_no_new_privs(true).unwrap();
        filter.load().unwrap();
        ask()
    });
    asked.join().unwrap()
}

fn filter(program: &[u8]) -> Filter {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), program).unwrap();
    Filter::read(file.path(), 0, None).unwrap()
}

fn open(family: AddressFamily) -> Result<(), Errno> {
    socket(family, SocketType::DGRAM, None).map(|_| ())
}

#[test]
fn the_kernel_does_what_a_filter_says() {
    let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64",
        "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"], "syscalls": [
        {"names": ["getpid"], "action": "SCMP_ACT_LOG"},
        {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13,
         "args": [{"index": 0, "value": 2, "op": "SCMP_CMP_GE"},
                  {"index": 1, "value": 2, "valueTwo": 2, "op": "SCMP_CMP_MASKED_EQ"}]}]}"#;
    let (inet, unix, pid) = under(profile, || {
        (
            open(AddressFamily::INET),
            open(AddressFamily::UNIX),
            getpid(),
        )
    });
    assert_eq!(inet, Err(Errno::ACCESS));
    assert_eq!(unix, Ok(()));
    assert_eq!(pid, getpid());
}

#[test]
fn a_thread_lives_under_the_default_profile_and_is_refused_what_it_forbids() {
    let profile = serde_json::to_string(&default_here()).unwrap();
    let (vsock, unix) = under(&profile, || {
        (open(AddressFamily::VSOCK), open(AddressFamily::UNIX))
    });
    assert_eq!(vsock, Err(Errno::PERM));
    assert_eq!(unix, Ok(()));
}

/// The default profile for the machine that runs this.
fn default_here() -> LinuxSeccomp {
    match std::env::consts::ARCH {
        "aarch64" => super::section(super::runtime_default(), &[], "arm64"),
        _ => default_for(&[]),
    }
}

/// Median, and what the fastest took.
fn times(count: usize, mut one: impl FnMut() -> Duration) -> (Duration, Duration) {
    let mut all: Vec<Duration> = (0..count).map(|_| one()).collect();
    all.sort_unstable();
    (all[count / 2], all[0])
}

fn load(program: &[u8]) -> Duration {
    let filter = filter(program);
    let loading = thread::spawn(move || {
        set_no_new_privs(true).unwrap();
        let begin = Instant::now();
        filter.load().unwrap();
        begin.elapsed()
    });
    loading.join().unwrap()
}

/// Prints; nothing is held, as times depend on the machine.
#[test]
#[ignore = "a measurement: cargo test --release -- --ignored --nocapture what_the_default"]
fn what_the_default_profile_costs() {
    let section = default_here();
    let native = Abi::native().unwrap();
    let ours = program(&section).unwrap();
    let theirs = oracle::compile(&section, native).unwrap();
    let compile = |made: &dyn Fn()| {
        times(50, || {
            let begin = Instant::now();
            made();
            begin.elapsed()
        })
    };
    let our_compile = compile(&|| drop(program(&section).unwrap()));
    let their_compile = compile(&|| drop(oracle::compile(&section, native).unwrap()));
    for (whose, program, compiled) in [
        ("ours", &ours, our_compile),
        ("libseccomp", &theirs, their_compile),
    ] {
        let length = program.len() / INSTRUCTION;
        let loaded = times(300, || load(program));
        println!("{whose}: {length} instructions, compiled in {compiled:?}, loaded in {loaded:?}");
    }
}
