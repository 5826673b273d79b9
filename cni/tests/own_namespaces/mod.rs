//! A test in namespaces of its own, which go with it.
//!
//! It runs itself again below `unshare`, in a network and a mount namespace of its own with an empty
//! `/run`: bridges, rules and namespaces go with the process, whatever the test does.

use std::env;
use std::ffi::OsStr;
use std::process::Command;

const INSIDE: &str = "CORTEN_CNI_TEST_INSIDE";

/// True inside. Outside the test `name` is started once more, with this `PATH`, and has passed when this
/// returns.
pub fn entered(name: &str, path: &OsStr) -> bool {
    if env::var_os(INSIDE).is_some() {
        run("mount", &["-t", "tmpfs", "tmpfs", "/run"]);
        run("ip", &["link", "set", "lo", "up"]);
        return true;
    }
    let this = env::current_exe().expect("a running program has a path");
    let mut again = Command::new("unshare");
    again
        .args(["--net", "--mount", "--propagation", "private"])
        .arg(this);
    again
        .args(["--exact", name, "--include-ignored", "--nocapture"])
        .env("PATH", path)
        .env(INSIDE, "1");
    let output = again.output().expect("unshare(1) is there");
    let told = [output.stdout, output.stderr].concat();
    // Set off, so that nobody takes its lines for this program's own.
    let told = String::from_utf8_lossy(&told).replace('\n', "\n  | ");
    assert!(output.status.success(), "inside:\n  | {told}");
    false
}

/// What a program says, which must succeed.
pub fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .output()
        .expect("the program is installed");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {stderr}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
