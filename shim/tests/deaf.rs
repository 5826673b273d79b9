//! Nobody reads the shim's stderr any more: its daemon was killed, or its log.

use corten_shim::api::{ExecReply, ExecRequest};
use corten_shim::packet;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::path::PathBuf;
use std::process::{Command, Stdio};

#[test]
fn an_exec_that_fails_says_so_without_a_log() {
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    let (nobody, log) = std::io::pipe().unwrap();
    drop(nobody);
    let mut exec = Command::new(env!("CARGO_BIN_EXE_corten-shim"))
        .arg("exec")
        .stdin(Stdio::from(theirs))
        .stderr(log)
        .spawn()
        .unwrap();
    let request = ExecRequest {
        pid: 1,
        bundle: PathBuf::from("/none"),
        process: String::new(),
        seccomp_filter: None,
        stdin: false,
        timeout_ms: 0,
    };
    packet::send(&ours, &request, &[]).unwrap();
    let answer = packet::receive::<ExecReply>(&ours).unwrap();
    assert!(exec.wait().unwrap().success());
    let answer = answer.map(|answer| answer.message);
    assert!(matches!(answer, Some(ExecReply::Failed(_))), "{answer:?}");
}
