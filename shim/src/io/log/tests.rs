use super::*;
use crate::io::Stream;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, WaitId, WaitIdOptions, waitid};
use std::fs;
use std::os::fd::AsFd;
use std::path::Path;

/// Lets the writer answer.
fn answered(log: &mut Log) {
    let limit = Timespec {
        tv_sec: 20,
        tv_nsec: 0,
    };
    let mut fds = [PollFd::new(log.socket().unwrap(), PollFlags::IN)];
    assert_eq!(poll(&mut fds, Some(&limit)).unwrap(), 1, "it answers");
    log.turn();
}

fn written(log: &mut Log) {
    while log.is_behind() {
        answered(log);
    }
}

fn reopened(log: &mut Log) -> Result<(), Failure> {
    let wish = log.reopen();
    loop {
        if let Some(result) = log.reopened(wish) {
            return result;
        }
        answered(log);
    }
}

fn said(log: &mut Log, data: &[u8]) {
    log.append(&mut Lines::new(Stream::Stdout), data);
}

fn contents(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| line[stamp::LENGTH + 1..].to_owned())
        .collect()
}

/// Stands for a disk that does: the writer is stopped.
fn stall(log: &Log, signal: Signal) {
    log.writer.as_ref().unwrap().signal(signal);
}

#[test]
fn entries_of_both_streams_land_in_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    let mut log = Log::open(Some(path.clone())).unwrap();
    assert!(path.exists(), "before anything is said");
    let (mut out, mut err) = (Lines::new(Stream::Stdout), Lines::new(Stream::Stderr));
    log.append(&mut out, b"one\ntw");
    log.append(&mut err, b"oops\n");
    log.append(&mut out, b"o\nend");
    log.finish(&mut out);
    written(&mut log);
    assert_eq!(
        contents(&path),
        [
            "stdout F one",
            "stderr F oops",
            "stdout F two",
            "stdout P end"
        ]
    );
    assert_eq!(log.counts().bytes, fs::metadata(&path).unwrap().len());
}

#[test]
fn more_than_a_packet_holds_is_written_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    let mut log = Log::open(Some(path.clone())).unwrap();
    let mut lines = Lines::new(Stream::Stdout);
    for _ in 0..2 {
        log.append(&mut lines, &b"\n".repeat(PACKET / 20));
    }
    written(&mut log);
    assert_eq!(contents(&path).len(), 2 * (PACKET / 20));
}

#[test]
fn reopening_makes_the_new_file_and_leaves_the_old() {
    let dir = tempfile::tempdir().unwrap();
    let (path, old) = (dir.path().join("0.log"), dir.path().join("0.log.old"));
    let mut log = Log::open(Some(path.clone())).unwrap();
    said(&mut log, b"before\n");
    written(&mut log);
    fs::rename(&path, &old).unwrap();
    reopened(&mut log).unwrap();
    assert!(path.exists());
    said(&mut log, b"after\n");
    written(&mut log);
    assert_eq!(contents(&path), ["stdout F after"]);
    assert_eq!(contents(&old), ["stdout F before"]);
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/dev/null", &path).unwrap();
    let refused = reopened(&mut log).unwrap_err();
    assert_eq!(refused.errno, Errno::LOOP.raw_os_error());
}

#[test]
fn a_writer_that_stands_still_holds_up_nobody_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    let mut log = Log::open(Some(path.clone())).unwrap();
    said(&mut log, b"one\n");
    written(&mut log);
    stall(&log, Signal::STOP);
    let mut lines = Lines::new(Stream::Stdout);
    while !log.is_full() {
        log.append(&mut lines, &[b"x".repeat(999), vec![b'\n']].concat());
        log.turn();
    }
    log.shed();
    assert!(log.is_behind(), "nothing is given up");
    let (first, second) = (log.reopen(), log.reopen());
    assert!(log.reopened(first).is_none() && log.reopened(second).is_none());
    stall(&log, Signal::CONT);
    written(&mut log);
    assert!(!log.is_full());
    assert_eq!(log.counts().dropped, 0);
    log.reopened(second).unwrap().unwrap();
    assert_eq!(log.counts().bytes, fs::metadata(&path).unwrap().len());
}

#[test]
fn a_writer_that_is_killed_is_followed_by_another() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    let mut log = Log::open(Some(path.clone())).unwrap();
    said(&mut log, b"one\n");
    written(&mut log);
    stall(&log, Signal::STOP);
    said(&mut log, b"lost\nlost\n");
    stall(&log, Signal::KILL);
    said(&mut log, b"kept\n");
    written(&mut log);
    assert_eq!(contents(&path), ["stdout F one", "stdout F kept"]);
    let counts = log.counts();
    assert_eq!(
        (counts.dropped, counts.errno),
        (2, Errno::PIPE.raw_os_error())
    );
}

#[test]
fn a_writer_ends_when_there_is_nothing_to_write() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(Some(dir.path().join("0.log"))).unwrap();
    assert!(!log.is_warm() && log.socket().is_none());
    said(&mut log, b"one\n");
    written(&mut log);
    assert!(log.is_warm());
    let process = log.writer.as_ref().unwrap().process().try_clone().unwrap();
    log.shed();
    let ended = waitid(WaitId::PidFd(process.as_fd()), WaitIdOptions::EXITED);
    assert_eq!(ended.unwrap().unwrap().exit_status(), Some(0));
    assert!(!log.is_warm() && log.socket().is_none());
}

#[test]
fn a_path_that_is_no_log_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    Log::open(Some(dir.path().to_owned())).unwrap_err();
}

#[test]
fn without_a_path_all_is_dropped_in_silence() {
    let mut log = Log::open(None).unwrap();
    said(&mut log, b"anything\n");
    reopened(&mut log).unwrap();
    log.forgo(b"anything\n");
    assert_eq!(log.counts(), Counts::default());
    assert!(!log.is_behind());
}
