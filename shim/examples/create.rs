//! Makes, starts and waits for the container of a bundle, for tests: prints what its program
//! printed, then one line of JSON with how it went. Not part of the product.
//!
//! `create BUNDLE ID [FILTER [ROUNDS]]`; with rounds it measures instead. It is a program of its own because `parent::create` forks, which
//! only a single-threaded process may do.

use corten_shim::api::CreateRequest;
use corten_shim::parent::{Created, Stdio, create};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let request = CreateRequest {
        bundle: args.next().expect("a bundle").into(),
        id: args.next().expect("an id"),
        log_path: None,
        stdin: false,
        stdin_once: false,
        seccomp_filter: args.next().filter(|path| !path.is_empty()).map(Into::into),
        exit_record: "/nonexistent".into(),
    };
    let rounds: usize = args
        .next()
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(1);
    if rounds > 1 {
        return measure(&request, rounds);
    }
    match create(&request) {
        Ok(created) => run(created),
        Err(failure) => {
            println!(
                "{{\"failed\":\"create\",\"kind\":\"{:?}\",\"text\":{:?}}}",
                failure.kind,
                failure.to_string()
            );
            ExitCode::from(70)
        }
    }
}

fn run(created: Created) -> ExitCode {
    let Created {
        pidfd,
        stdio,
        start,
        cgroup,
        user,
        ..
    } = created;
    let started = start.release();
    let output = pump(&stdio);
    let code = wait(&pidfd);
    let kills = cgroup.memory_kills();
    let removed = cgroup.kill_all().and_then(|()| cgroup.remove());
    print!("{output}");
    let failure = started.err().map(|failure| failure.to_string());
    println!(
        "{{\"code\":{code},\"uid\":{},\"gid\":{},\"groups\":{:?},\"start\":{failure:?},\"kills\":{kills:?},\"removed\":{:?}}}",
        user.uid, user.gid, user.groups, removed
    );
    ExitCode::from(u8::try_from(code).unwrap_or(255))
}

/// Creates, starts and ends containers, and prints the medians in microseconds.
fn measure(request: &CreateRequest, rounds: usize) -> ExitCode {
    let (mut creates, mut starts) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        // A volatile overlay is never mounted twice.
        for directory in ["upper", "work"].map(|name| request.bundle.join(name)) {
            let _ = std::fs::remove_dir_all(&directory);
            std::fs::create_dir(&directory).expect("a fresh layer");
        }
        let begin = Instant::now();
        let created = create(request).expect("the container is made");
        creates.push(begin.elapsed().as_micros());
        let begin = Instant::now();
        created.start.release().expect("the program is executed");
        starts.push(begin.elapsed().as_micros());
        wait(&created.pidfd);
        created.cgroup.remove().expect("the cgroup is removed");
    }
    println!("create {} start {}", median(creates), median(starts));
    ExitCode::SUCCESS
}

fn median(mut values: Vec<u128>) -> u128 {
    values.sort_unstable();
    values[values.len() / 2]
}

fn wait(pidfd: &OwnedFd) -> i32 {
    let status = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)
        .expect("our child")
        .expect("it ended");
    status
        .exit_status()
        .unwrap_or_else(|| 128 + status.terminating_signal().unwrap_or(0))
}

/// Reads all outputs until they are closed.
fn pump(stdio: &Stdio) -> String {
    let mut open: Vec<_> = match stdio {
        Stdio::Pipes { stdout, stderr, .. } => vec![stdout, stderr],
        Stdio::Terminal { master } => vec![master],
    };
    let mut all = Vec::new();
    while !open.is_empty() {
        let mut fds: Vec<_> = open
            .iter()
            .map(|fd| PollFd::new(fd, PollFlags::IN))
            .collect();
        poll(&mut fds, None).expect("poll");
        let ready: Vec<_> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let mut index = 0;
        open.retain(|fd| {
            index += 1;
            !ready[index - 1] || read(fd, &mut all)
        });
    }
    io::stdout().flush().expect("stdout");
    String::from_utf8_lossy(&all).into_owned()
}

/// A terminal whose last user has gone answers EIO.
fn read(fd: &OwnedFd, all: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 4096];
    match rustix::io::read(fd, &mut buffer) {
        Ok(0) | Err(_) => false,
        Ok(length) => {
            all.extend_from_slice(&buffer[..length]);
            true
        }
    }
}
