//! Whatever a node's file says: a profile is refused or becomes a program that the kernel takes, and that comes to one
//! of the profile's answers for every call.
#![no_main]

#[path = "../../../src/error.rs"]
#[allow(dead_code, reason = "the daemon uses all of it")]
mod error;
#[path = "../../../src/task/seccomp/tests/machine.rs"]
mod machine;
#[path = "../../../src/model/spec/seccomp/profile.rs"]
mod profile;
#[path = "../../../src/task/seccomp/mod.rs"]
#[allow(dead_code, reason = "the daemon uses all of it")]
mod seccomp;

use libfuzzer_sys::fuzz_target;
use machine::{is_sound, run};
use profile::{SeccompProfile, Situation};
use std::collections::BTreeSet;

/// Of the kernel: x86_64, x86, aarch64, and one that no machine has.
const ARCHITECTURES: [u32; 4] = [0xc000_003e, 0x4000_0003, 0xc000_00b7, 0xdead_beef];

fuzz_target!(|text: &str| {
    let Ok(profile) = serde_json::from_str::<SeccompProfile>(text) else {
        return;
    };
    for (capabilities, architecture) in [(&[][..], "amd64"), (&["CAP_SYS_ADMIN"][..], "arm64")] {
        let capabilities: BTreeSet<String> =
            capabilities.iter().map(|&cap| cap.to_owned()).collect();
        let situation = Situation {
            capabilities: &capabilities,
            architecture,
            kernel: "6.18.0",
        };
        let Ok(section) = profile.resolve(&situation) else {
            return;
        };
        if let Ok(program) = seccomp::program(&section) {
            assert!(is_sound(&program));
            ask(&program);
        }
    }
});

/// The interpreter panics where it is led out of the program.
fn ask(program: &[u8]) {
    for architecture in ARCHITECTURES {
        let numbers = (0..600).chain(0x3fff_ffff..0x4000_0258).chain([u32::MAX]);
        for number in numbers {
            for argument in [0, 1, 0x1_0000_0000, u64::MAX] {
                run(program, architecture, number, [argument; 6]);
            }
        }
    }
}
