use super::*;
use rustix::fd::AsFd;

fn rules(json: &str) -> Vec<Rule> {
    let wanted: Vec<DeviceRule<'_>> = serde_json::from_str(json).unwrap();
    plan(&wanted).unwrap()
}

/// Runs a program as the kernel would, for one access.
fn run(code: &[Instruction], kind: Kind, access: u8, numbers: (u32, u32)) -> bool {
    let context = [kind as u32 | u32::from(access) << 16, numbers.0, numbers.1];
    let mut registers = [0u32; 16];
    let mut at = 0;
    for _ in 0..10_000 {
        let now = code[at];
        let (target, source) = (
            usize::from(now.registers & 15),
            usize::from(now.registers >> 4),
        );
        let immediate = now.immediate.cast_unsigned();
        at += 1;
        match now.code {
            op::LOAD_WORD => registers[target] = context[usize::try_from(now.offset).unwrap() / 4],
            op::MOVE => registers[target] = registers[source],
            op::MOVE_IMMEDIATE => registers[target] = immediate,
            op::AND_IMMEDIATE => registers[target] &= immediate,
            op::SHIFT_RIGHT => registers[target] >>= immediate,
            op::JUMP_NOT_EQUAL if registers[target] != immediate => {
                at += usize::try_from(now.offset).unwrap();
            }
            op::JUMP_EQUAL if registers[target] == immediate => {
                at += usize::try_from(now.offset).unwrap();
            }
            op::JUMP_NOT_EQUAL | op::JUMP_EQUAL => {}
            op::EXIT => return registers[0] == 1,
            other => panic!("no such operation {other:#x}"),
        }
    }
    panic!("the program does not end");
}

/// The kernel's verifier and its decisions, where there is a v2 hierarchy to ask.
#[test]
#[ignore = "needs root"]
fn root_the_kernel_decides_as_the_program_says() {
    let name = format!("/corten-devices-{}", std::process::id());
    let cgroup = Cgroup::make(&name).unwrap();
    let Some(birthplace) = cgroup.birthplace().unwrap() else {
        return cgroup.remove().unwrap();
    };
    attach(&cgroup, &rules(&format!("[{DENY_ALL}]"))).unwrap();
    let open = |path: &str| {
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
        rustix::fs::open(path, flags, rustix::fs::Mode::empty()).map(drop)
    };
    let child = crate::sys::clone::clone3(0, Some(birthplace.as_fd()), || {
        let null = open("/dev/null").is_ok();
        // Allocates nothing: the test's process has threads.
        let console = open("/dev/kmsg") == Err(rustix::io::Errno::PERM);
        i32::from(null) + 2 * i32::from(console)
    });
    let child = child.unwrap();
    let id = rustix::process::WaitId::PidFd(child.pidfd.as_fd());
    let status = rustix::process::waitid(id, rustix::process::WaitIdOptions::EXITED)
        .unwrap()
        .unwrap();
    cgroup.remove().unwrap();
    assert_eq!(
        status.exit_status(),
        Some(3),
        "1: null is allowed; 2: the kernel's log is not"
    );
}

const DENY_ALL: &str = r#"{"allow":false,"access":"rwm"}"#;

#[test]
fn a_container_has_the_default_devices_and_no_other() {
    let code = program(&rules(&format!("[{DENY_ALL}]")));
    assert!(run(&code, Kind::Character, READ | WRITE, (1, 3)));
    assert!(run(&code, Kind::Character, READ, (136, 7)));
    assert!(run(&code, Kind::Block, MAKE, (8, 0)), "a node may be made");
    assert!(!run(&code, Kind::Block, READ, (8, 0)), "but not used");
    assert!(!run(&code, Kind::Block, READ | MAKE, (8, 0)));
    assert!(
        !run(&code, Kind::Block, READ, (1, 3)),
        "a block device of the same number is another"
    );
    assert!(!run(&code, Kind::Character, READ, (10, 200)));
}

#[test]
fn a_later_rule_wins() {
    let code = program(&rules(&format!(
        r#"[{DENY_ALL},{{"allow":true,"type":"b","major":8,"access":"rw"}},{{"allow":false,"type":"b","major":8,"minor":1,"access":"w"}}]"#
    )));
    assert!(run(&code, Kind::Block, READ | WRITE, (8, 0)));
    assert!(run(&code, Kind::Block, READ, (8, 1)));
    assert!(!run(&code, Kind::Block, READ | WRITE, (8, 1)));
}

#[test]
fn what_is_denied_where_all_is_allowed_is_not_made_either() {
    let all = rules(
        r#"[{"allow":true,"access":"rwm"},{"allow":false,"type":"c","major":1,"minor":11,"access":"rwm"}]"#,
    );
    let code = program(&all);
    assert!(!run(&code, Kind::Character, MAKE, (1, 11)));
    assert!(run(&code, Kind::Character, ALL, (1, 12)));
    assert!(run(&code, Kind::Block, MAKE, (8, 0)));
}

#[test]
fn everything_is_one_rule() {
    let all = rules(&format!(
        r#"[{DENY_ALL},{{"allow":true,"type":"c","major":9,"access":"r"}},{{"allow":true,"access":"rwm"}}]"#
    ));
    assert_eq!(all.len(), 1);
    assert!(run(&program(&all), Kind::Block, ALL, (8, 0)));
    assert_eq!(v1_lines(&all[0]), [("devices.allow", "a".to_owned())]);
}

#[test]
fn lines_of_v1() {
    let all = rules(
        r#"[{"allow":true,"type":"c","major":10,"access":"rw"},{"allow":false,"type":"b","major":8,"minor":-1,"access":"m"}]"#,
    );
    let lines: Vec<_> = all.iter().take(3).flat_map(v1_lines).collect();
    assert_eq!(
        lines,
        [
            ("devices.deny", "a".to_owned()),
            ("devices.allow", "c 10:* rw".to_owned()),
            ("devices.deny", "b 8:* m".to_owned()),
        ]
    );
}

#[test]
fn some_devices_of_all_kinds_are_not_everything_on_v1() {
    let all =
        rules(r#"[{"allow":true,"type":"a","major":10,"minor":200},{"allow":false,"access":"w"}]"#);
    let lines: Vec<_> = all.iter().skip(1).take(2).flat_map(v1_lines).collect();
    assert_eq!(
        lines,
        [
            ("devices.allow", "b 10:200 rwm".to_owned()),
            ("devices.allow", "c 10:200 rwm".to_owned()),
            ("devices.deny", "b *:* w".to_owned()),
            ("devices.deny", "c *:* w".to_owned()),
        ]
    );
}

#[test]
fn rules_that_cannot_be_are_refused() {
    for json in [
        r#"[{"allow":true,"type":"x"}]"#,
        r#"[{"allow":true,"access":"q"}]"#,
        r#"[{"allow":true,"major":4294967296}]"#,
    ] {
        let wanted: Vec<DeviceRule<'_>> = serde_json::from_str(json).unwrap();
        assert!(plan(&wanted).is_err(), "{json}");
    }
}

#[test]
fn what_is_allowed_already_is_not_said_again_unless_something_was_denied_since() {
    let null = r#"{"allow":true,"type":"c","major":1,"minor":3,"access":"rwm"}"#;
    let nulls = |rules: &[Rule]| {
        let null = |rule: &&Rule| (rule.major, rule.minor) == (Some(1), Some(3));
        rules.iter().filter(null).count()
    };
    assert_eq!(nulls(&rules(&format!("[{DENY_ALL},{null}]"))), 1);
    let denied = r#"{"allow":false,"type":"c","major":1,"access":"rwm"}"#;
    let again = rules(&format!("[{DENY_ALL},{null},{denied}]"));
    assert_eq!(nulls(&again), 2);
    assert!(run(&program(&again), Kind::Character, READ, (1, 3)));
}
