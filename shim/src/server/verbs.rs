//! The verbs of `corten-shim run`: each call is answered with its own number, some only when the
//! container's end has let it.

use super::Shim;
use super::connection::Connection;
use super::container::Container;
use crate::api::{
    Answer, Call, CreateRequest, Failure, FailureKind, Health, Lap, Message, NEWEST, OLDEST, Reply,
    Request, State, Status,
};
use crate::io::attach::Client;
use crate::io::streams::Wanted;
use rustix::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How long Shutdown waits for processes to die before it says what holds them.
const DYING: Duration = Duration::from_secs(10);

/// How much of that it also waits for who is attached and has yet to take the rest.
const FAREWELL: Duration = Duration::from_secs(2);

/// An answer that waits.
#[derive(Debug)]
pub struct Wish {
    connection: u32,
    call: u64,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// Start has failed; answered when the record of that is on disk.
    Start(Failure),
    /// Start, whose program runs, and what that took; answered when the hooks for that have run.
    Hooks(Vec<Lap>),
    /// ReopenLog; answered when the log was opened by this number.
    Reopen(u64),
    /// Shutdown; answered when nothing is left, or when it has waited long enough.
    Shutdown { until: Instant, heard: Instant },
}

impl Wish {
    /// How long it may be left alone.
    pub fn patience(&self) -> Option<Duration> {
        match self.kind {
            Kind::Start(_) | Kind::Hooks(_) | Kind::Reopen(_) => None,
            Kind::Shutdown { until, heard } => {
                let now = Instant::now();
                let heard = heard.checked_duration_since(now);
                Some(heard.unwrap_or_else(|| until.saturating_duration_since(now)))
            }
        }
    }
}

/// What a verb comes to now.
enum Outcome {
    Answer(Result<Reply, Failure>, Vec<OwnedFd>),
    Later(Kind),
}

impl From<Result<Reply, Failure>> for Outcome {
    fn from(result: Result<Reply, Failure>) -> Self {
        Self::Answer(result, Vec::new())
    }
}

impl Shim<'_> {
    /// Does what was called for, and answers.
    pub fn call(&mut self, index: usize, call: Call) {
        if let Request::Hello { oldest, newest } = call.request {
            return self.hello(index, call.id, oldest..=newest);
        }
        if !self.connections[index].greeted {
            let failure = Failure::state("answer", "the first call is to be Hello");
            return self.answer(index, call.id, Err(failure));
        }
        let caller = (self.connections[index].id, call.id);
        match self.act(call.request, caller) {
            Outcome::Answer(result, fds) => {
                let result = self.connections[index].in_its_version(result);
                self.connections[index].answer(call.id, result, fds);
            }
            Outcome::Later(kind) => {
                let (connection, call) = caller;
                self.wishes.push(Wish {
                    connection,
                    call,
                    kind,
                });
            }
        }
    }

    /// Answers Start calls that have failed: their record is on disk.
    pub fn grant_starts(&mut self) {
        for wish in std::mem::take(&mut self.wishes) {
            match wish.kind {
                Kind::Start(failure) => self.grant(wish.connection, wish.call, Err(failure)),
                _ => self.wishes.push(wish),
            }
        }
    }

    /// Answers ReopenLog calls whose file is there, or cannot be made.
    pub fn grant_reopenings(&mut self) {
        for wish in std::mem::take(&mut self.wishes) {
            match (self.reopened(&wish), &wish) {
                (None, _) => self.wishes.push(wish),
                (
                    Some(result),
                    &Wish {
                        connection, call, ..
                    },
                ) => {
                    self.grant(connection, call, result.map(|()| Reply::Done));
                }
            }
        }
    }

    fn reopened(&self, wish: &Wish) -> Option<Result<(), Failure>> {
        let (Kind::Reopen(number), Some(container)) = (&wish.kind, &self.container) else {
            return None;
        };
        container.streams.reopened_log(*number)
    }

    /// Answers Start calls whose hooks have run.
    pub fn grant_hooks(&mut self) {
        let started = self.container.as_mut().map(|one| one.hooks.take_started());
        let Some(started) = started.flatten() else {
            return;
        };
        for wish in std::mem::take(&mut self.wishes) {
            match (&wish.kind, &started) {
                (Kind::Hooks(_), Err(failure)) => {
                    self.grant(wish.connection, wish.call, Err(failure.clone()));
                }
                (Kind::Hooks(laps), Ok(())) => self.grant_start(&wish, laps.clone()),
                _ => self.wishes.push(wish),
            }
        }
    }

    fn grant_start(&mut self, wish: &Wish, laps: Vec<Lap>) {
        let Outcome::Answer(result, fds) = self.timed(laps) else {
            return;
        };
        let callers = &mut self.connections;
        if let Some(caller) = callers.iter_mut().find(|one| one.id == wish.connection) {
            caller.answer(wish.call, caller.in_its_version(result), fds);
        }
    }

    /// Answers Shutdown calls whose container is gone, or does not go.
    pub fn grant_shutdowns(&mut self) {
        let asked = |wish: &Wish| matches!(wish.kind, Kind::Shutdown { .. });
        let gone = self.wishes.iter().any(asked)
            && self
                .container
                .as_mut()
                .is_none_or(Container::has_taken_leave);
        let clients = self.container.as_ref();
        let clients = clients.is_some_and(|container| container.streams.has_clients());
        for wish in std::mem::take(&mut self.wishes) {
            match wish.kind {
                Kind::Shutdown { heard, .. } if gone && (!clients || heard <= Instant::now()) => {
                    if let Some(container) = &mut self.container {
                        container.streams.abandon();
                    }
                    self.tell_cut_off(); // or they would take what they have for all
                    self.listener = None; // its file goes before the caller hears of the end
                    self.over = true;
                    self.grant(wish.connection, wish.call, Ok(Reply::Done));
                }
                Kind::Shutdown { until, .. } if until <= Instant::now() => {
                    let failure = self
                        .container
                        .as_ref()
                        .map_or_else(still_there, Container::held_by);
                    self.grant(wish.connection, wish.call, Err(failure));
                }
                _ => self.wishes.push(wish),
            }
        }
    }

    /// Answers the calls of those who attached and were cut off, a second time.
    pub fn tell_cut_off(&mut self) {
        while let Some(container) = &mut self.container
            && let Some(((connection, call), _taps)) = container.streams.cut_off()
        {
            let failure = Failure::state("attach", "the client did not read");
            self.grant(connection, call, Err(failure));
        }
    }

    fn hello(&mut self, index: usize, id: u64, theirs: std::ops::RangeInclusive<u16>) {
        let version = NEWEST.min(*theirs.end());
        if version < OLDEST || version < *theirs.start() {
            return self.answer(index, id, Err(no_version(&theirs)));
        }
        let pid = rustix::process::getpid().as_raw_pid();
        self.answer(index, id, Ok(Reply::Hello { version, pid }));
        self.connections[index].version = version;
        self.connections[index].greeted = true;
        for event in self.events.kept() {
            self.connections[index].send(Message::Event(event.clone()), Vec::new());
        }
    }

    fn act(&mut self, request: Request, caller: Client) -> Outcome {
        match request {
            Request::Hello { .. } => Ok(Reply::Done).into(), // answered before
            Request::Prepare { id, cgroup } => self.prepare(&id, &cgroup).into(),
            Request::Create(request) => self.create(&request),
            Request::Start => self.start(),
            Request::Status => self.status(),
            Request::Resize { width, height } => self
                .container("resize")
                .and_then(|container| container.streams.resize(width, height))
                .map(|()| Reply::Done)
                .into(),
            Request::Signal { signal } => self
                .container("signal")
                .and_then(|container| container.signal(signal))
                .map(|()| Reply::Done)
                .into(),
            Request::ReopenLog => match self.container("reopen the log") {
                Ok(container) => Outcome::Later(Kind::Reopen(container.streams.reopen_log())),
                Err(failure) => Err(failure).into(),
            },
            Request::Attach {
                stdin,
                stdout,
                stderr,
            } => {
                let wanted = Wanted {
                    stdin,
                    stdout,
                    stderr,
                };
                self.attach(caller, wanted)
            }
            Request::Update { resources } => self
                .container("update")
                .and_then(|container| container.update(&resources))
                .map(|()| Reply::Done)
                .into(),
            Request::Health => Ok(Reply::Health(self.health())).into(),
            Request::Acknowledge { up_to } => {
                self.events.acknowledge(up_to);
                Ok(Reply::Done).into()
            }
            Request::Shutdown => self.shutdown(),
        }
    }

    fn prepare(&mut self, id: &str, cgroup: &str) -> Result<Reply, Failure> {
        if self.container.is_some() {
            return Err(has_one("prepare"));
        }
        self.can_be_the_shim_of(id)?;
        // First what takes longest.
        self.creator.prepare(id, cgroup)?;
        self.be_the_shim_of(id)
            .inspect_err(|_| self.creator.give_up())?;
        Ok(Reply::Done)
    }

    fn create(&mut self, request: &CreateRequest) -> Outcome {
        if self.container.is_some() {
            return Err(has_one("create")).into();
        }
        if let Err(failure) = self.be_the_shim_of(&request.id) {
            return Err(failure).into();
        }
        let made = Container::create(self.creator, request);
        if let Some(starter) = self.starter.take() {
            starter.release();
        }
        match made {
            Ok((container, laps)) => {
                self.container = Some(container);
                self.timed(laps)
            }
            Err(failure) => Err(failure).into(),
        }
    }

    fn timed(&self, laps: Vec<Lap>) -> Outcome {
        match self.status() {
            Outcome::Answer(Ok(Reply::Status(status)), fds) => {
                Outcome::Answer(Ok(Reply::Timed { status, laps }), fds)
            }
            other => other,
        }
    }

    fn start(&mut self) -> Outcome {
        let Ok(container) = self.container("start") else {
            return Err(Failure::state("start", "there is no container")).into();
        };
        let (fresh, started) = (container.is_created(), container.start());
        self.has_started |= fresh;
        match started {
            Ok(laps) if self.container("start").is_ok_and(Container::runs_hooks) => {
                Outcome::Later(Kind::Hooks(laps))
            }
            Ok(laps) => self.timed(laps),
            Err(failure) if fresh => Outcome::Later(Kind::Start(failure)),
            Err(failure) => Err(failure).into(),
        }
    }

    fn status(&self) -> Outcome {
        let Some(container) = &self.container else {
            return Ok(Reply::Status(empty())).into();
        };
        let fds = container.pidfd().into_iter().collect();
        Outcome::Answer(Ok(Reply::Status(container.status())), fds)
    }

    fn attach(&mut self, client: Client, wanted: Wanted) -> Outcome {
        let attached = self
            .container("attach")
            .and_then(|container| match container.has_ended() {
                true => Err(Failure::state("attach", "the container has ended")),
                false => container.streams.attach(client, wanted),
            });
        match attached {
            Ok(fds) => Outcome::Answer(Ok(Reply::Attached), fds),
            Err(failure) => Err(failure).into(),
        }
    }

    fn health(&self) -> Health {
        let unacknowledged = u32::try_from(self.events.kept().len()).unwrap_or(u32::MAX);
        let mut health = Health {
            unacknowledged,
            ..Health::default()
        };
        if let Some(container) = &self.container {
            container.health(&mut health);
        }
        health
    }

    fn shutdown(&mut self) -> Outcome {
        if let Some(container) = self
            .container
            .as_ref()
            .filter(|container| container.is_live())
        {
            container.kill();
        }
        self.creator.give_up();
        let now = Instant::now();
        Outcome::Later(Kind::Shutdown {
            until: now + DYING,
            heard: now + FAREWELL,
        })
    }

    fn container(&mut self, verb: &str) -> Result<&mut Container, Failure> {
        self.container
            .as_mut()
            .ok_or_else(|| Failure::state(verb, "there is no container yet"))
    }

    fn answer(&mut self, index: usize, id: u64, result: Result<Reply, Failure>) {
        self.connections[index].answer(id, result, Vec::new());
    }

    /// Answers a call that has waited, where its caller is still there.
    fn grant(&mut self, connection: u32, call: u64, result: Result<Reply, Failure>) {
        if let Some(caller) = self.connections.iter_mut().find(|one| one.id == connection) {
            caller.answer(call, result, Vec::new());
        }
    }
}

/// The first that knows [`Reply::Timed`].
const TIMED: u16 = 2;

impl Connection {
    fn in_its_version(&self, result: Result<Reply, Failure>) -> Result<Reply, Failure> {
        match result {
            Ok(Reply::Timed { status, .. }) if self.version < TIMED => Ok(Reply::Status(status)),
            other => other,
        }
    }

    fn answer(&mut self, id: u64, result: Result<Reply, Failure>, fds: Vec<OwnedFd>) {
        self.send(Message::Answer(Answer { id, result }), fds);
    }
}

fn empty() -> Status {
    Status {
        state: State::Empty,
        pid: 0,
        start_time: 0,
        started_at: 0,
        user: None,
        exit: None,
    }
}

fn has_one(step: &str) -> Failure {
    Failure::state(step, "a shim has one container, and it was made")
}

fn still_there() -> Failure {
    Failure::state("shutdown", "the container is still there")
}

fn no_version(theirs: &std::ops::RangeInclusive<u16>) -> Failure {
    let (oldest, newest) = (theirs.start(), theirs.end());
    let why = format!("it speaks {OLDEST} to {NEWEST}, the daemon {oldest} to {newest}");
    Failure {
        kind: FailureKind::Version,
        ..Failure::invalid("agree on a version", why)
    }
}
