//! Joins a container's descriptors with its log and its clients.
//!
//! ```text
//!  stdout ─┐ read ≤ 16 KiB a turn ┌─▶ lines ─▶ log file
//!  stderr ─┤──────────────────────┤
//!  master ─┘                      └─▶ each client's tap
//!  stdin  ◀── the very pipe, handed to clients      (terminal: client's socket ─▶ master)
//! ```
//! A pipe for stdin is not pumped: a client is given the writing end itself, so that its bytes
//! and its pace are the container's own affair.
//!
//! Invariant: a stream that has ended is never polled again, and its clients go once they have
//! had all of it.

use super::attach::{Client, Life, Tap};
use super::lines::Lines;
use super::log::Log;
use super::{Stream, TURN};
use crate::api::{Failure, Health};
use rustix::event::PollFlags;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::pipe::PipeFlags;
use std::time::{Duration, Instant};

/// How long a terminal that no process holds open is left alone before it is read again.
const HUNG_UP: Duration = Duration::from_millis(200);
/// The most that is read of one stream after its container's end: more than a pipe can hold.
const LAST_READ: usize = 1024 * 1024;

/// The shim's ends of a container's standard streams.
#[derive(Debug)]
pub enum Stdio {
    /// Pipes.
    Pipes {
        /// The writing end of stdin, where the container has one.
        stdin: Option<OwnedFd>,
        /// The reading end of stdout.
        stdout: OwnedFd,
        /// The reading end of stderr.
        stderr: OwnedFd,
    },
    /// A terminal.
    Terminal {
        /// Its master side.
        master: OwnedFd,
    },
}

/// What a client of Attach wants.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted {
    /// To write to stdin.
    pub stdin: bool,
    /// The container's stdout.
    pub stdout: bool,
    /// The container's stderr.
    pub stderr: bool,
}

/// What the streams want to be polled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A stream of the container's.
    Source(usize),
    /// A client's tap.
    Tap(usize),
    /// The process that writes the log.
    Log,
}

/// A container's streams.
#[derive(Debug)]
pub struct Streams {
    log: Log,
    sources: Vec<Source>,
    stdin: Stdin,
    taps: Vec<Tap>,
    slow: u64,
    /// Those of them who have yet to be told; what they read ends after that.
    cut: Vec<(Client, Vec<Tap>)>,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Source {
    fd: OwnedFd,
    lines: Lines,
    terminal: bool,
    hung_up: Option<Instant>,
}

#[derive(Debug)]
enum Stdin {
    /// The container reads `/dev/null`, or a terminal.
    None,
    /// The writing end, for all who attach.
    Open(OwnedFd),
    /// The writing end, for the first who attaches: with that client's copy the last one goes.
    Once(Option<OwnedFd>),
}

#[derive(Debug, PartialEq, Eq)]
enum Reading {
    More,
    Empty,
    Ended,
}

impl Streams {
    /// Takes the shim's ends; `stdin_once` as in [`crate::api::CreateRequest`].
    ///
    /// # Errors
    /// When a descriptor cannot be made non-blocking.
    pub fn new(stdio: Stdio, log: Log, stdin_once: bool) -> Result<Self, Failure> {
        let (stdin, sources) = match stdio {
            Stdio::Pipes {
                stdin,
                stdout,
                stderr,
            } => (
                Stdin::of(stdin, stdin_once),
                vec![
                    Source::pipe(stdout, Stream::Stdout),
                    Source::pipe(stderr, Stream::Stderr),
                ],
            ),
            Stdio::Terminal { master } => (Stdin::None, vec![Source::terminal(master)]),
        };
        for source in &sources {
            rustix::io::ioctl_fionbio(&source.fd, true)
                .map_err(|errno| Failure::system("make a stream non-blocking", errno))?;
        }
        Ok(Self {
            log,
            sources,
            stdin,
            taps: Vec::new(),
            slow: 0,
            cut: Vec::new(),
            buffer: Vec::new(),
        })
    }

    /// Calls `add` for all that is to be polled.
    pub fn poll<'a>(&'a self, mut add: impl FnMut(Part, &'a OwnedFd, PollFlags)) {
        if let Some(writer) = self.log.socket() {
            add(Part::Log, writer, PollFlags::IN);
        }
        for (index, tap) in self.taps.iter().enumerate() {
            if let Some((fd, flags)) = tap.interest() {
                add(Part::Tap(index), fd, flags);
            }
        }
        for (index, source) in self.sources.iter().enumerate() {
            if source.hung_up.is_none_or(|until| until <= Instant::now()) {
                let mut flags = PollFlags::empty();
                let wanted = !self.is_held_back(source) && !self.log.is_full();
                flags.set(PollFlags::IN, wanted);
                if source.terminal && self.taps.iter().any(Tap::has_typed) {
                    flags |= PollFlags::OUT;
                }
                if !flags.is_empty() {
                    add(Part::Source(index), &source.fd, flags);
                }
            }
        }
    }

    /// How long a poll may last before the streams want to be asked again.
    #[must_use]
    pub fn patience(&self) -> Option<Duration> {
        let held_back = self.taps.iter().filter_map(Tap::patience).min();
        let own = if self.sources.iter().any(|source| source.hung_up.is_some()) {
            Some(HUNG_UP)
        } else {
            (self.log.is_warm() || self.buffer.capacity() > 0).then_some(Duration::from_secs(1))
        };
        let log = self.log.patience();
        held_back.into_iter().chain(own).chain(log).min()
    }

    /// Whether a client that gets this stream is far behind.
    fn is_held_back(&self, source: &Source) -> bool {
        let stream = Some(source.lines.stream());
        let mut taps = self.taps.iter();
        taps.any(|tap| tap.stream == stream && tap.patience().is_some())
    }

    fn behind(&self, stream: Stream) -> u64 {
        let behind = self.taps.iter().filter(|tap| tap.holds_back(stream));
        behind.count() as u64
    }

    /// Gives memory back that only busy streams need.
    pub fn shed(&mut self) {
        self.log.shed();
        self.buffer = Vec::new();
    }

    /// One turn of all that are ready, with the answers of the poll: clients first.
    pub fn turn(&mut self, ready: &[(Part, PollFlags)]) {
        self.log.turn();
        let behind = [Stream::Stdout, Stream::Stderr].map(|stream| self.behind(stream));
        for &(part, flags) in ready {
            if let Part::Tap(index) = part {
                let tap = &mut self.taps[index];
                tap.turn(
                    flags,
                    behind[usize::from(tap.stream == Some(Stream::Stderr))],
                );
            }
        }
        let mut ended = Vec::new();
        for &(part, flags) in ready {
            if let Part::Source(index) = part
                && self.turn_of_source(index, flags) == Reading::Ended
            {
                ended.push(index);
            }
        }
        for index in ended.into_iter().rev() {
            self.close(index);
        }
        self.sweep();
    }

    /// Reads what is there now, also of streams that other processes still hold open, as far as the
    /// log has room for it. Whether all have ended.
    pub fn drain(&mut self) -> bool {
        self.log.turn();
        for index in (0..self.sources.len()).rev() {
            let mut left = LAST_READ / TURN;
            let mut reading = Reading::More;
            while left > 0 && reading == Reading::More && !self.log.is_full() {
                reading = self.read(index);
                left -= 1;
            }
            if reading == Reading::Ended || self.sources[index].hung_up.is_some() {
                self.close(index);
            }
        }
        self.sweep();
        self.sources.is_empty()
    }

    /// Whether the log has something that is not written yet.
    #[must_use]
    pub fn is_log_behind(&self) -> bool {
        self.log.is_behind()
    }

    /// Ends the streams: what was read last goes to the log, the clients get their rest. What the log
    /// has no room for is counted as lost.
    pub fn finish(&mut self) {
        for index in (0..self.sources.len()).rev() {
            self.forgo(index);
            self.close(index);
        }
        self.stdin = Stdin::None;
        for tap in &mut self.taps {
            tap.end();
        }
        self.sweep();
        self.shed();
    }

    /// Wants the log to be opened anew: the number to ask [`Streams::reopened_log`] with.
    pub fn reopen_log(&mut self) -> u64 {
        self.log.reopen()
    }

    /// What became of that wish; `None` while it is not granted.
    #[must_use]
    pub fn reopened_log(&self, wish: u64) -> Option<Result<(), Failure>> {
        self.log.reopened(wish)
    }

    /// Sets the size of the terminal.
    ///
    /// # Errors
    /// [`crate::api::FailureKind::State`] where there is none.
    pub fn resize(&self, width: u16, height: u16) -> Result<(), Failure> {
        let master = self
            .terminal()
            .ok_or_else(|| Failure::state("resize", "it has no terminal"))?;
        let size = rustix::termios::Winsize {
            ws_row: height,
            ws_col: width,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(master, size)
            .map_err(|errno| Failure::system("set the terminal's size", errno))
    }

    /// Lets a client join: the descriptors to be sent to it, in the order stdin, stdout, stderr;
    /// with a terminal one socket.
    ///
    /// # Errors
    /// [`crate::api::FailureKind::Invalid`] for a stdin that the container does not have.
    pub fn attach(&mut self, client: Client, wanted: Wanted) -> Result<Vec<OwnedFd>, Failure> {
        if self.terminal().is_some() {
            let socket = self.attach_terminal(client, wanted)?;
            return Ok(vec![socket]);
        }
        let mut theirs = Vec::new();
        if wanted.stdin {
            theirs.push(self.stdin.hand_out()?);
        }
        for (stream, wants) in [
            (Stream::Stdout, wanted.stdout),
            (Stream::Stderr, wanted.stderr),
        ] {
            if wants {
                theirs.push(self.tap_pipe(client, stream)?);
            }
        }
        Ok(theirs)
    }

    /// A client that was cut off and has not been told here yet. What it reads ends with its taps: a
    /// client that sees the end first takes it for the container's.
    pub fn cut_off(&mut self) -> Option<(Client, Vec<Tap>)> {
        self.sweep();
        self.cut.pop()
    }

    /// Cuts off all who have yet to take the rest: it will not be there any more.
    pub fn abandon(&mut self) {
        while let Some(tap) = self.taps.iter().find(|tap| tap.life() == Life::Ending) {
            self.cut(tap.client);
        }
    }

    /// Fills in what the streams know of the shim's health.
    pub fn health(&self, health: &mut Health) {
        let counts = self.log.counts();
        health.logged_bytes = counts.bytes;
        health.dropped_lines = counts.dropped;
        health.log_errno = counts.errno;
        health.slow_clients = self.slow;
        let mut clients: Vec<_> = self.taps.iter().map(|tap| tap.client).collect();
        clients.dedup();
        health.attached = u32::try_from(clients.len()).unwrap_or(u32::MAX);
    }

    /// Whether a client still has something to get.
    #[must_use]
    pub fn has_clients(&self) -> bool {
        !self.taps.is_empty()
    }

    fn terminal(&self) -> Option<&OwnedFd> {
        self.sources
            .iter()
            .find(|source| source.terminal)
            .map(|source| &source.fd)
    }

    fn attach_terminal(&mut self, client: Client, wanted: Wanted) -> Result<OwnedFd, Failure> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)
                .map_err(|errno| Failure::system("make a client's socket", errno))?;
        let stream = (wanted.stdout || wanted.stderr).then_some(Stream::Stdout);
        let tap = Tap::new(client, stream, ours);
        self.taps.push(if wanted.stdin {
            tap.with_keyboard()
        } else {
            tap
        });
        Ok(theirs)
    }

    fn tap_pipe(&mut self, client: Client, stream: Stream) -> Result<OwnedFd, Failure> {
        let (theirs, ours) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
            .map_err(|errno| Failure::system("make a client's pipe", errno))?;
        let open = self
            .sources
            .iter()
            .any(|source| source.lines.stream() == stream);
        if open {
            self.taps.push(Tap::new(client, Some(stream), ours));
        }
        Ok(theirs)
    }

    fn turn_of_source(&mut self, index: usize, flags: PollFlags) -> Reading {
        if flags.contains(PollFlags::OUT) {
            self.type_into(index);
        }
        match flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            true => self.read(index),
            false => Reading::Empty,
        }
    }

    /// Lets the terminal have what clients have typed, as far as it takes it.
    fn type_into(&mut self, index: usize) {
        let master = &self.sources[index].fd;
        for tap in &mut self.taps {
            if let Some(typed) = tap.typed()
                && let Ok(taken) = rustix::io::write(master, typed.as_slices().0)
            {
                drop(typed.drain(..taken));
                tap.was_heard(taken);
            }
        }
    }

    fn read(&mut self, index: usize) -> Reading {
        self.buffer.resize(TURN, 0);
        let source = &mut self.sources[index];
        source.hung_up = None;
        match rustix::io::read(&source.fd, &mut self.buffer[..]) {
            Ok(0) => Reading::Ended,
            Ok(got) => {
                self.log.append(&mut source.lines, &self.buffer[..got]);
                self.give(index, got);
                Reading::More
            }
            Err(Errno::INTR) => Reading::More,
            Err(Errno::AGAIN) => Reading::Empty,
            // What a master says while nobody holds the terminal open: a process may yet do so.
            Err(Errno::IO) if source.terminal => {
                source.hung_up = Some(Instant::now() + HUNG_UP);
                Reading::Empty
            }
            Err(_) => Reading::Ended,
        }
    }

    fn give(&mut self, index: usize, got: usize) {
        let stream = self.sources[index].lines.stream();
        for tap in self
            .taps
            .iter_mut()
            .filter(|tap| tap.stream == Some(stream))
        {
            tap.give(&self.buffer[..got]);
        }
    }

    /// Forgets the taps of clients that have gone, and all taps of one that was too slow.
    fn sweep(&mut self) {
        let slow = self
            .taps
            .iter()
            .find(|tap| tap.life() == Life::Slow)
            .map(|tap| tap.client);
        if let Some(client) = slow {
            self.cut(client);
            return self.sweep();
        }
        self.taps.retain(|tap| tap.life() != Life::Gone);
    }

    fn cut(&mut self, client: Client) {
        self.slow += 1;
        let taps = self.taps.extract_if(.., |tap| tap.client == client);
        self.cut.push((client, taps.collect()));
    }

    fn forgo(&mut self, index: usize) {
        self.buffer.resize(TURN, 0);
        let mut left = LAST_READ / TURN;
        while left > 0
            && let Ok(got @ 1..) = rustix::io::read(&self.sources[index].fd, &mut self.buffer[..])
        {
            self.log.forgo(&self.buffer[..got]);
            left -= 1;
        }
    }

    fn close(&mut self, index: usize) {
        let mut source = self.sources.remove(index);
        self.log.finish(&mut source.lines);
        let stream = source.lines.stream();
        for tap in self
            .taps
            .iter_mut()
            .filter(|tap| tap.stream == Some(stream))
        {
            tap.end();
        }
    }
}

impl Source {
    fn pipe(fd: OwnedFd, stream: Stream) -> Self {
        Self {
            fd,
            lines: Lines::new(stream),
            terminal: false,
            hung_up: None,
        }
    }

    fn terminal(fd: OwnedFd) -> Self {
        Self {
            fd,
            lines: Lines::new(Stream::Stdout),
            terminal: true,
            hung_up: None,
        }
    }
}

impl Stdin {
    fn of(end: Option<OwnedFd>, once: bool) -> Self {
        match end {
            None => Self::None,
            Some(end) if once => Self::Once(Some(end)),
            Some(end) => Self::Open(end),
        }
    }

    fn hand_out(&mut self) -> Result<OwnedFd, Failure> {
        match self {
            Self::None => Err(Failure::invalid("attach", "the container has no stdin")),
            Self::Open(end) => rustix::io::fcntl_dupfd_cloexec(end, 3)
                .map_err(|errno| Failure::system("hand out stdin", errno)),
            Self::Once(end) => end.take().map_or_else(closed_pipe, Ok),
        }
    }
}

/// The writing end of a pipe that nobody reads: what a container's stdin is once it was closed.
fn closed_pipe() -> Result<OwnedFd, Failure> {
    rustix::pipe::pipe_with(PipeFlags::CLOEXEC)
        .map(|(_, end)| end)
        .map_err(|errno| Failure::system("hand out stdin", errno))
}

#[cfg(test)]
mod tests;
