use super::*;
use crate::io::attach::BEHIND;
use rustix::event::{PollFd, Timespec, poll};
use rustix::io::{read, write};
use rustix::pty::OpenptFlags;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A container's side of its pipes, and the shim's streams over the other side.
struct Piped {
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
    streams: Streams,
}

fn piped(log: Option<PathBuf>, once: bool) -> Piped {
    let (stdin, theirs) = rustix::pipe::pipe().unwrap();
    let (out, stdout) = rustix::pipe::pipe().unwrap();
    let (err, stderr) = rustix::pipe::pipe().unwrap();
    let stdio = Stdio::Pipes {
        stdin: Some(theirs),
        stdout: out,
        stderr: err,
    };
    let streams = Streams::new(stdio, Log::open(log).unwrap(), once).unwrap();
    Piped {
        stdin,
        stdout,
        stderr,
        streams,
    }
}

/// One turn, as the server's loop makes it; waits until something is ready.
fn turn(streams: &mut Streams) {
    turn_within(streams, 1);
}

fn turn_within(streams: &mut Streams, seconds: i64) {
    let mut parts = Vec::new();
    let mut fds = Vec::new();
    streams.poll(|part, fd, flags| {
        parts.push(part);
        fds.push(PollFd::new(fd, flags));
    });
    let limit = Timespec {
        tv_sec: seconds,
        tv_nsec: 0,
    };
    poll(&mut fds, Some(&limit)).unwrap();
    let flags: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
    let ready: Vec<_> = parts
        .into_iter()
        .zip(flags)
        .filter(|(_, flags)| !flags.is_empty())
        .collect();
    streams.turn(&ready);
}

/// A new client joins.
fn attach(streams: &mut Streams, wanted: Wanted) -> Result<Vec<OwnedFd>, Failure> {
    static CALLS: AtomicU64 = AtomicU64::new(1);
    streams.attach((1, CALLS.fetch_add(1, Ordering::Relaxed)), wanted)
}

fn health(streams: &Streams) -> Health {
    let mut health = Health::default();
    streams.health(&mut health);
    health
}

/// What comes next, or the end: which a writer that another test has just forked may hold up.
fn said(fd: &OwnedFd) -> Vec<u8> {
    let limit = Timespec {
        tv_sec: 20,
        tv_nsec: 0,
    };
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    assert_eq!(poll(&mut fds, Some(&limit)).unwrap(), 1);
    let mut buffer = [0u8; 64];
    let got = read(fd, &mut buffer).unwrap();
    buffer[..got].to_vec()
}

fn logged(streams: &mut Streams, path: &Path) -> Vec<String> {
    while streams.is_log_behind() {
        turn(streams);
    }
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| line[crate::io::stamp::LENGTH + 1..].to_owned())
        .collect()
}

const BOTH: Wanted = Wanted {
    stdin: false,
    stdout: true,
    stderr: true,
};
const OUT: Wanted = Wanted {
    stdin: false,
    stdout: true,
    stderr: false,
};
const IN: Wanted = Wanted {
    stdin: true,
    stdout: false,
    stderr: false,
};

#[test]
fn output_goes_to_the_log_and_to_those_attached_from_then_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    let mut all = piped(Some(path.clone()), false);
    write(&all.stdout, b"early\n").unwrap();
    turn(&mut all.streams);
    let theirs = attach(&mut all.streams, BOTH).unwrap();
    write(&all.stdout, b"out\n").unwrap();
    turn(&mut all.streams);
    write(&all.stderr, b"err\n").unwrap();
    turn(&mut all.streams);
    assert_eq!(said(&theirs[0]), b"out\n");
    assert_eq!(said(&theirs[1]), b"err\n");
    assert_eq!(
        logged(&mut all.streams, &path),
        ["stdout F early", "stdout F out", "stderr F err"]
    );
    assert_eq!(health(&all.streams).attached, 1);
}

#[test]
fn a_turn_reads_no_more_than_its_share() {
    let mut all = piped(None, false);
    write(&all.stdout, &vec![b'x'; TURN + 100]).unwrap();
    let theirs = attach(&mut all.streams, OUT).unwrap();
    turn(&mut all.streams);
    let mut buffer = vec![0u8; 2 * TURN];
    assert_eq!(read(&theirs[0], &mut buffer).unwrap(), TURN);
}

/// Writes as much as the container can, and lets the streams have a turn where there is something to
/// do; how much that was.
fn flood(all: &mut Piped) -> usize {
    let written = write(&all.stdout, &[b'x'; TURN]).unwrap_or(0);
    turn_within(&mut all.streams, 0);
    written
}

#[test]
fn a_client_that_does_not_read_is_cut_and_counted_and_others_are_not() {
    let mut all = piped(None, false);
    rustix::io::ioctl_fionbio(&all.stdout, true).unwrap();
    let idle = all.streams.attach((3, 7), BOTH).unwrap();
    let eager = attach(&mut all.streams, OUT).unwrap();
    let mut buffer = vec![0u8; TURN];
    let (mut sent, mut got) = (0, 0);
    while all.streams.cut_off().is_none() {
        assert!(
            sent <= BEHIND + 256 * 1024,
            "a client may not cost more than this, and what the pipes hold"
        );
        sent += flood(&mut all);
        got += read(&eager[0], &mut buffer).unwrap_or(0);
    }
    assert!(sent > BEHIND);
    let health = health(&all.streams);
    assert_eq!((health.attached, health.slow_clients), (1, 1));
    assert!(all.streams.cut_off().is_none(), "told once");
    // Both of its streams have ended for it: stderr at once, stdout after what the pipe holds.
    assert_eq!(said(&idle[1]), b"");
    while got < sent {
        turn(&mut all.streams);
        got += read(&eager[0], &mut buffer).unwrap_or(0);
    }
    assert_eq!(got, sent, "and nobody waits any more");
}

#[test]
fn who_reads_is_waited_for() {
    let mut all = piped(None, false);
    rustix::io::ioctl_fionbio(&all.stdout, true).unwrap();
    let steady = attach(&mut all.streams, OUT).unwrap();
    let mut buffer = vec![0u8; TURN];
    let (mut sent, mut got) = (0, 0);
    // Half as fast as the container would be.
    for _ in 0..200 {
        sent += flood(&mut all) + flood(&mut all);
        got += read(&steady[0], &mut buffer).unwrap();
    }
    assert!(got > 4 * BEHIND);
    while got < sent {
        turn(&mut all.streams);
        got += read(&steady[0], &mut buffer).unwrap_or(0);
    }
    assert_eq!(health(&all.streams).slow_clients, 0);
}

/// Each time it is waited for it takes enough, but it makes everybody wait all the time.
#[test]
fn who_reads_a_trickle_is_cut() {
    let mut all = piped(None, false);
    rustix::io::ioctl_fionbio(&all.stdout, true).unwrap();
    let slow = attach(&mut all.streams, OUT).unwrap();
    rustix::io::ioctl_fionbio(&slow[0], true).unwrap();
    let mut buffer = [0u8; 2048];
    let mut got = 0;
    while all.streams.cut_off().is_none() {
        flood(&mut all);
        got += read(&slow[0], &mut buffer).unwrap_or(0);
        assert!(got < 8 * BEHIND, "it is waited for without end");
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(health(&all.streams).slow_clients, 1);
}

/// Those who keep up are no reason to wait for one who does not.
#[test]
fn who_reads_a_trickle_is_cut_among_many_who_read() {
    let mut all = piped(None, false);
    rustix::io::ioctl_fionbio(&all.stdout, true).unwrap();
    let slow = attach(&mut all.streams, OUT).unwrap();
    let eager: Vec<_> = (0..19)
        .map(|_| attach(&mut all.streams, BOTH).unwrap())
        .collect();
    let mut buffer = vec![0u8; 2 * BEHIND];
    let mut got = 0;
    while all.streams.cut_off().is_none() {
        flood(&mut all);
        for client in &eager {
            let _ = read(&client[0], &mut buffer);
        }
        got += read(&slow[0], &mut buffer[..2048]).unwrap_or(0);
        assert!(got < 8 * BEHIND, "it is waited for without end");
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(health(&all.streams).slow_clients, 1);
}

/// At a container's end all that its pipes hold is read at once.
#[test]
fn a_client_that_is_behind_at_the_end_gets_the_rest() {
    let mut all = piped(None, false);
    rustix::io::ioctl_fionbio(&all.stdout, true).unwrap();
    let late = attach(&mut all.streams, OUT).unwrap();
    let mut sent = 0;
    // Until the stream is held back for it.
    while all
        .streams
        .patience()
        .is_none_or(|limit| limit > Duration::from_millis(500))
    {
        sent += flood(&mut all);
    }
    while let Ok(more) = write(&all.stdout, &[b'x'; 4096]) {
        sent += more;
    }
    drop((all.stdout, all.stderr));
    assert!(all.streams.drain());
    all.streams.finish();
    assert!(all.streams.cut_off().is_none());
    let mut got = 0;
    let mut buffer = vec![0u8; TURN];
    loop {
        match read(&late[0], &mut buffer) {
            Ok(0) => break,
            Ok(more) => got += more,
            Err(_) => turn(&mut all.streams),
        }
    }
    assert_eq!(got, sent);
}

/// The shim stays for who still has something to get, and not for ever.
#[test]
fn who_has_yet_to_take_the_rest_has_a_while_for_it() {
    let mut all = piped(None, false);
    rustix::io::ioctl_fionbio(&all.stdout, true).unwrap();
    let _late = attach(&mut all.streams, OUT).unwrap();
    while flood(&mut all) > 0 {}
    drop((all.stdout, all.stderr));
    all.streams.drain();
    all.streams.finish();
    assert!(all.streams.has_clients());
    let patience = all.streams.patience().expect("it is not kept for ever");
    assert!(patience > Duration::from_secs(1), "{patience:?}");
}

#[test]
fn a_client_that_has_gone_is_forgotten() {
    let mut all = piped(None, false);
    drop(attach(&mut all.streams, BOTH).unwrap());
    turn(&mut all.streams);
    assert!(!all.streams.has_clients());
    assert_eq!(health(&all.streams).slow_clients, 0);
}

#[test]
fn the_end_of_a_stream_ends_its_clients_and_flushes_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    let mut all = piped(Some(path.clone()), false);
    let theirs = attach(&mut all.streams, BOTH).unwrap();
    write(&all.stdout, b"no newline").unwrap();
    drop(all.stdout);
    turn(&mut all.streams);
    turn(&mut all.streams);
    assert_eq!(said(&theirs[0]), b"no newline");
    assert_eq!(said(&theirs[0]), b"");
    assert_eq!(logged(&mut all.streams, &path), ["stdout P no newline"]);
}

#[test]
fn draining_reads_all_and_tells_whether_someone_holds_a_pipe() {
    let mut all = piped(None, false);
    write(&all.stdout, &vec![b'x'; 3 * TURN]).unwrap();
    drop(all.stderr);
    assert!(!all.streams.drain(), "stdout is still held");
    drop(all.stdout);
    assert!(all.streams.drain());
}

#[test]
fn stdin_is_the_pipe_itself_and_stays_open_for_the_next() {
    let mut all = piped(None, false);
    let first = attach(&mut all.streams, IN).unwrap();
    write(&first[0], b"one").unwrap();
    drop(first);
    assert_eq!(said(&all.stdin), b"one");
    let second = attach(&mut all.streams, IN).unwrap();
    write(&second[0], b"two").unwrap();
    assert_eq!(said(&all.stdin), b"two");
}

#[test]
fn stdin_once_ends_with_its_first_client() {
    let mut all = piped(None, true);
    let first = attach(&mut all.streams, IN).unwrap();
    write(&first[0], b"only").unwrap();
    let late = attach(&mut all.streams, IN).unwrap();
    drop(first);
    assert_eq!(said(&all.stdin), b"only");
    assert_eq!(said(&all.stdin), b"", "the container sees the end");
    write(&late[0], b"x").unwrap_err();
}

#[test]
fn a_stdin_that_is_not_there_cannot_be_asked_for() {
    let (out, _stdout) = rustix::pipe::pipe().unwrap();
    let (err, _stderr) = rustix::pipe::pipe().unwrap();
    let stdio = Stdio::Pipes {
        stdin: None,
        stdout: out,
        stderr: err,
    };
    let mut streams = Streams::new(stdio, Log::open(None).unwrap(), false).unwrap();
    attach(&mut streams, IN).unwrap_err();
    streams.resize(80, 24).unwrap_err();
}

/// A terminal: the container's side and the shim's streams.
fn terminal() -> (OwnedFd, Streams) {
    let master = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    rustix::pty::unlockpt(&master).unwrap();
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).unwrap();
    let stdio = Stdio::Terminal { master };
    (
        slave,
        Streams::new(stdio, Log::open(None).unwrap(), false).unwrap(),
    )
}

#[test]
fn a_terminals_client_types_and_sees() {
    let (slave, mut streams) = terminal();
    let all = Wanted {
        stdin: true,
        ..BOTH
    };
    let socket = attach(&mut streams, all).unwrap().remove(0);
    write(&socket, b"typed\n").unwrap();
    turn(&mut streams); // reads the keyboard
    turn(&mut streams); // gives it to the terminal
    assert_eq!(said(&slave), b"typed\n");
    turn(&mut streams); // the terminal's echo
    assert_eq!(said(&socket), b"typed\r\n");
    streams.resize(132, 43).unwrap();
    let size = rustix::termios::tcgetwinsize(&slave).unwrap();
    assert_eq!((size.ws_col, size.ws_row), (132, 43));
}

/// More than is read from it in one turn.
#[test]
fn what_a_terminals_client_types_last_is_not_lost_when_it_closes() {
    let (slave, mut streams) = terminal();
    let all = Wanted {
        stdin: true,
        ..BOTH
    };
    let socket = attach(&mut streams, all).unwrap().remove(0);
    let line = format!("{}\n", "x".repeat(999));
    for _ in 0..6 {
        write(&socket, line.as_bytes()).unwrap();
    }
    drop(socket);
    let mut seen = Vec::new();
    while streams.has_clients() || seen.len() < 6 * line.len() {
        turn(&mut streams);
        rustix::io::ioctl_fionbio(&slave, true).unwrap();
        let mut buffer = [0; 4096];
        while let Ok(got) = rustix::io::read(&slave, &mut buffer) {
            seen.extend_from_slice(&buffer[..got]);
        }
        assert!(
            streams.has_clients() || seen.len() == 6 * line.len(),
            "{} bytes of {}",
            seen.len(),
            6 * line.len()
        );
    }
    assert_eq!(seen, line.repeat(6).as_bytes());
}

/// Each that comes, pastes and goes would leave its bytes and a descriptor.
#[test]
fn what_was_typed_last_is_let_go_where_the_terminal_does_not_take_it() {
    let (_slave, mut streams) = terminal();
    let all = Wanted {
        stdin: true,
        ..BOTH
    };
    let socket = attach(&mut streams, all).unwrap().remove(0);
    rustix::io::ioctl_fionbio(&socket, true).unwrap();
    // Nobody reads it: the terminal takes a few of these lines.
    let line = format!("{}\n", "x".repeat(999));
    while write(&socket, line.as_bytes()).is_ok() {}
    drop(socket);
    let begun = Instant::now();
    turn(&mut streams);
    assert!(streams.has_clients(), "the terminal has some time");
    while streams.has_clients() {
        turn(&mut streams);
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
}

#[test]
fn a_terminal_that_nobody_holds_is_asked_again_and_ends_when_drained() {
    let (slave, mut streams) = terminal();
    drop(slave);
    turn(&mut streams);
    assert!(
        streams.patience().is_some(),
        "the loop must not spin, nor sleep for ever"
    );
    assert!(!streams.sources.is_empty());
    assert!(streams.drain());
}
