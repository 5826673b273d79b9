//! `corten-shim run`: the process that stays with one container.
//!
//! One thread, one `poll`. A turn looks at the daemons first, then at the container's init, then
//! at its streams, each of which gives up at most 16 KiB a turn: so a call is answered while the
//! container floods its log.
//!
//! Invariant: nothing in a turn waits for a peer, a client or the container. (The container's
//! creation and its release do wait, for the container's own first steps.)

pub mod birth;
mod connection;
pub mod container;
pub mod creation;
mod events;
mod kills;
mod later;
mod listener;
mod process;
pub mod real;
mod vacancy;
mod verbs;

use crate::api::{ANY, Event, EventKind, Failure, Message};
use crate::confine::confine;
use birth::Starter;
use connection::Connection;
use container::{Container, Source};
use creation::Creator;
use events::Events;
use listener::Listener;
use process::Process;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use vacancy::Vacancy;
use verbs::Wish;

/// How long a shim whose container has ended stays in case somebody asks.
const LINGER: Duration = Duration::from_secs(60);

/// How a shim is run.
#[derive(Debug)]
pub struct Options {
    /// The id of its container; [`ANY`](crate::api::ANY) where that is still to come.
    pub id: String,
    /// Where it listens; once it has a container, where that is still to come.
    pub socket: PathBuf,
    /// The process that it was born from, which it lets go of once its container is made.
    pub starter: Option<Starter>,
}

/// Runs a shim whose first daemon is at the other end of `first`.
///
/// # Errors
/// What kept it from serving at all.
pub fn run(options: Options, first: OwnedFd, creator: &mut dyn Creator) -> Result<(), Failure> {
    let mut shim = Shim::new(&options.id, creator, LINGER);
    shim.process = Some(Process::settle()?);
    shim.take_place(&options)?;
    shim.starter = options.starter;
    process::leave_directory()?;
    if options.id == ANY {
        shim.creator.stand_by();
    }
    shim.welcome(first).map_err(|_| {
        Failure::invalid(
            "take descriptor 0",
            "it is to be a SEQPACKET socket of the daemon's",
        )
    })?;
    shim.serve();
    Ok(())
}

/// A shim.
struct Shim<'a> {
    id: String,
    /// What it has to become where its container is still to come.
    vacancy: Option<Vacancy>,
    creator: &'a mut dyn Creator,
    linger: Duration,
    starter: Option<Starter>,
    process: Option<Process>,
    listener: Option<Listener>,
    connections: Vec<Connection>,
    connected: u32,
    container: Option<Container>,
    events: Events,
    wishes: Vec<Wish>,
    asked: Instant,
    /// Its container's program was started just now.
    has_started: bool,
    over: bool,
}

/// What is polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Connection(usize),
    Listener,
    Signals,
    Container(Source),
}

impl<'a> Shim<'a> {
    fn new(id: &str, creator: &'a mut dyn Creator, linger: Duration) -> Self {
        Self {
            id: id.to_owned(),
            vacancy: None,
            creator,
            linger,
            starter: None,
            process: None,
            listener: None,
            connections: Vec::new(),
            connected: 0,
            container: None,
            events: Events::default(),
            wishes: Vec::new(),
            asked: Instant::now(),
            has_started: false,
            over: false,
        }
    }

    fn listen(&mut self, path: &Path) -> Result<(), Failure> {
        self.listener = Some(Listener::bind(path)?);
        Ok(())
    }

    fn welcome(&mut self, socket: OwnedFd) -> std::io::Result<()> {
        self.connected += 1;
        self.connections
            .push(Connection::new(self.connected, socket)?);
        Ok(())
    }

    fn serve(&mut self) {
        while !self.over {
            let (ready, idle) = self.wait();
            if idle && let Some(container) = &mut self.container {
                container.streams.shed();
            }
            self.turn(&ready);
            self.settle();
            self.leave_if_of_no_use();
        }
        self.creator.give_up();
    }

    /// Waits until something is to be done: what is ready, and whether nothing was.
    fn wait(&self) -> (Vec<(Token, PollFlags)>, bool) {
        let mut tokens = Vec::with_capacity(8);
        let mut fds = Vec::with_capacity(8);
        self.poll(|token, fd, flags| {
            tokens.push(token);
            fds.push(PollFd::new(fd, flags));
        });
        let timeout = self.patience().map(timespec);
        match poll(&mut fds, timeout.as_ref()) {
            Ok(0) | Err(_) => return (Vec::new(), true),
            Ok(_) => {}
        }
        let answers = tokens.into_iter().zip(fds.iter().map(PollFd::revents));
        (
            answers.filter(|(_, flags)| !flags.is_empty()).collect(),
            false,
        )
    }

    fn poll<'b>(&'b self, mut add: impl FnMut(Token, &'b OwnedFd, PollFlags)) {
        for (index, connection) in self.connections.iter().enumerate() {
            let (fd, flags) = connection.interest();
            add(Token::Connection(index), fd, flags);
        }
        if let Some(listener) = &self.listener {
            add(Token::Listener, listener.socket(), PollFlags::IN);
        }
        if let Some(process) = &self.process {
            add(Token::Signals, process.signals(), PollFlags::IN);
        }
        if let Some(container) = &self.container {
            container.poll(|source, fd, flags| add(Token::Container(source), fd, flags));
        }
    }

    fn patience(&self) -> Option<Duration> {
        let container = self.container.as_ref().and_then(Container::patience);
        let wish = self.wishes.iter().filter_map(Wish::patience).min();
        let linger = self
            .is_of_no_use()
            .then(|| self.linger().saturating_sub(self.asked.elapsed()));
        container.into_iter().chain(wish).chain(linger).min()
    }

    fn turn(&mut self, ready: &[(Token, PollFlags)]) {
        for &(token, flags) in ready {
            match token {
                Token::Connection(index) => self.turn_of_connection(index, flags),
                Token::Listener => self.accept(),
                Token::Signals => self.reap(),
                Token::Container(source) => self.turn_of_container(source),
            }
        }
        let streams: Vec<_> = ready
            .iter()
            .filter_map(|&(token, flags)| match token {
                Token::Container(Source::Stream(part)) => Some((part, flags)),
                _ => None,
            })
            .collect();
        if let (Some(container), false) = (&mut self.container, streams.is_empty()) {
            container.streams.turn(&streams);
        }
    }

    fn turn_of_connection(&mut self, index: usize, flags: PollFlags) {
        if flags.contains(PollFlags::OUT) {
            self.connections[index].flush();
        }
        if flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR)
            && let Some(call) = self.connections[index].receive()
        {
            self.asked = Instant::now();
            self.call(index, call);
            self.look_after_answer();
        }
    }

    fn turn_of_container(&mut self, source: Source) {
        let Some(container) = &mut self.container else {
            return;
        };
        match source {
            Source::Init => container.look_at_init(),
            Source::Memory => container.memory_event(),
            Source::Hooks => container.hooks_heard(),
            Source::Stream(_) => {} // after all others, see `turn`
        }
    }

    fn accept(&mut self) {
        if let Some(socket) = self.listener.as_ref().and_then(Listener::accept) {
            // One that is no socket of packets cannot come from this listener.
            let _ = self.welcome(socket);
        }
    }

    fn reap(&mut self) {
        // A host that shuts down waits for every process: this one then ends with its container.
        if self.process.as_ref().is_some_and(Process::clear) {
            self.linger = Duration::ZERO;
        }
        let live = self
            .container
            .as_mut()
            .filter(|container| container.is_live());
        let Some(container) = live else {
            let _ = crate::reaper::reap_all(None);
            return;
        };
        if let Some(end) = crate::reaper::reap_all(Some(container.pid())) {
            container.init_ended(end);
        }
    }

    /// Brings what has begun forward: the container's end, answers that waited for it, and
    /// connections that have closed.
    fn settle(&mut self) {
        self.tell_cut_off();
        self.grant_reopenings();
        self.grant_hooks();
        if let Some(kind) = self.container.as_mut().and_then(Container::look_at_memory) {
            self.announce(kind);
        }
        if let Some(record) = self.container.as_mut().and_then(Container::settle) {
            self.grant_starts();
            self.announce(EventKind::Exited(record));
        }
        if let Some(container) = &mut self.container {
            container.clear();
        }
        self.grant_shutdowns();
        self.connections.retain(Connection::is_open);
    }

    /// What a create and a start need not have done before they are answered, but before anything else is.
    fn look_after_answer(&mut self) {
        self.creator.rest();
        if let Some(container) = &mut self.container {
            container.watch_memory();
        }
        if std::mem::take(&mut self.has_started) && self.process.is_some() {
            confine();
        }
    }

    /// Tells an event to all, and keeps it for those who come later.
    fn announce(&mut self, kind: EventKind) {
        let Some(event) = self.events.add(kind) else {
            return;
        };
        for connection in self
            .connections
            .iter_mut()
            .filter(|connection| connection.greeted)
        {
            connection.send(Message::Event(Event::clone(&event)), Vec::new());
        }
    }

    fn leave_if_of_no_use(&mut self) {
        self.over |= self.is_of_no_use() && self.asked.elapsed() >= self.linger();
    }

    /// Without a container there is nothing that anybody could ask for.
    fn linger(&self) -> Duration {
        match self.container {
            Some(_) => self.linger,
            None => Duration::ZERO,
        }
    }

    /// Whether it could go: there is no container (any more), and nobody who has yet to hear of it.
    fn is_of_no_use(&self) -> bool {
        let nobody = self.connections.is_empty();
        match &self.container {
            None => nobody,
            Some(container) => {
                let has_told = nobody || self.events.kept().is_empty();
                container.is_cleared() && has_told && !container.streams.has_clients()
            }
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    // Rounded up to a millisecond, so that a deadline has passed when the poll returns.
    let duration = duration + Duration::from_millis(1);
    let tv_sec = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    Timespec {
        tv_sec,
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

#[cfg(test)]
mod tests;
