//! One container, from its init's waiting to the removal of its cgroup.
//!
//! ```text
//!  Created ──start──▶ Running ──init ends──▶ Ending ──streams read──▶ Ended (cgroup removed after)
//!     └──────────init ends or is killed──────▲
//! ```
//! A program that cannot be executed is an init that ends, with the failure kept for the record.
//!
//! Invariant: the record is on disk when the init was reaped, before anyone is told of the end. (Where the disk refuses it,
//! the end is told all the same and the record is tried again: an end that nobody hears of would
//! hold the pod up.)

use super::creation::{Cgroup, Created, Creator, Gate};
use super::kills::Kills;
use super::later::LaterHooks;
use crate::api::{
    CreateRequest, EventKind, ExitRecord, Failure, Health, Lap, Part as Piece, State, Status, User,
};
use crate::io::log::Log;
use crate::io::stamp;
use crate::io::streams::{Part, Streams};
use crate::reaper::{self, End};
use crate::record::{self, Ended};
use rustix::event::PollFlags;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process::{Signal, pidfd_send_signal};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long processes that outlive the init may go on writing: one that filters the output of the
/// init has its last lines in time, one that merely holds the pipe is not waited for.
const STRAGGLERS: Duration = Duration::from_millis(100);
/// How long a container's end waits for its log to be written: who hears of the end reads the log.
const LOG: Duration = Duration::from_secs(2);
/// When the removal of a cgroup whose processes are dying is first tried again; then ever later.
const AGAIN: Duration = Duration::from_millis(2);
/// When what cannot be done after the end is tried again at the latest.
const AT_LAST: Duration = Duration::from_secs(5);

/// How long after the news of a full memory a kill may be counted: v1 tells before it kills.
const COUNTING: Duration = Duration::from_secs(1);
/// How often the counter is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(10);

/// A container.
pub struct Container {
    pid: i32,
    start_time: u64,
    pidfd: OwnedFd,
    cgroup: Box<dyn Cgroup>,
    user: User,
    /// Its streams.
    pub streams: Streams,
    exit_record: PathBuf,
    started_at: i64,
    start_failure: Option<String>,
    kills: Kills,
    is_watched: bool,
    oom: Option<OwnedFd>,
    /// Its hooks on the host.
    pub hooks: LaterHooks,
    phase: Phase,
}

enum Phase {
    Created(Box<dyn Gate>),
    Running,
    Ending(Ending),
    Ended(Remains),
}

/// A container whose init has ended; its streams are still read.
struct Ending {
    record: ExitRecord,
    saved: bool,
    since: Instant,
    /// Its streams have ended.
    read: bool,
}

impl Ending {
    /// Whether it goes on although its streams are held open by others, or the log has room for
    /// no more of them.
    fn has_waited(&self, streams: &Streams) -> bool {
        let limit = if streams.is_log_behind() {
            LOG
        } else {
            STRAGGLERS
        };
        self.since.elapsed() >= limit
    }

    /// How long it may be left alone: the news of the log come by themselves.
    fn patience(&self) -> Duration {
        let waited = self.since.elapsed();
        let limit = if waited < STRAGGLERS { STRAGGLERS } else { LOG };
        limit.saturating_sub(waited)
    }
}

/// What is left of a container that has ended.
struct Remains {
    since: Instant,
    /// When what could not be done is tried again.
    again: Instant,
    record: ExitRecord,
    saved: bool,
    removed: bool,
}

/// What of a container is polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Its init's pidfd.
    Init,
    /// Its cgroup's kills for memory.
    Memory,
    /// Its hooks on the host.
    Hooks,
    /// Its streams.
    Stream(Part),
}

impl Container {
    /// Makes a container; what it took.
    ///
    /// # Errors
    /// Which step failed; nothing stays.
    pub fn create(
        creator: &mut dyn Creator,
        request: &CreateRequest,
    ) -> Result<(Self, Vec<Lap>), Failure> {
        let log = Log::open(request.log_path.clone())?;
        crate::failpoint!("shim_create/asked");
        let created = creator.create(request)?;
        let Created {
            pid,
            start_time,
            pidfd,
            stdio,
            gate,
            cgroup,
            user,
            deputy,
            laps,
        } = created;
        let streams = Streams::new(stdio, log, request.stdin_once).inspect_err(|_| {
            let _ = cgroup.kill_all();
        })?;
        crate::failpoint!("shim_create/created");
        let container = Self {
            pid,
            start_time,
            pidfd,
            oom: None,
            cgroup,
            user,
            streams,
            exit_record: request.exit_record.clone(),
            started_at: 0,
            start_failure: None,
            kills: Kills::default(),
            is_watched: false,
            hooks: LaterHooks::of(deputy),
            phase: Phase::Created(gate),
        };
        Ok((container, laps))
    }

    /// Begins to count kills for memory, if that was not done: before its program can run, but after
    /// the caller of the create was told.
    pub fn watch_memory(&mut self) {
        if self.is_live() && !std::mem::replace(&mut self.is_watched, true) {
            self.kills = Kills::since(self.cgroup.memory_kills());
            self.oom = self.cgroup.oom_events();
        }
    }

    /// Executes the program, and tells what it took since the create. On failure the container ends; its record
    /// says why.
    ///
    /// # Errors
    /// Why the program could not be executed, or that it was started before.
    pub fn start(&mut self) -> Result<Vec<Lap>, Failure> {
        self.watch_memory();
        let before = stamp::now_nanos();
        let gate = match std::mem::replace(&mut self.phase, Phase::Running) {
            Phase::Created(gate) => gate,
            other => {
                self.phase = other;
                return Err(Failure::state("start", "it was started before"));
            }
        };
        let mut laps = release(gate).inspect_err(|failure| {
            self.start_failure = Some(failure.to_string());
            self.kill();
        })?;
        crate::failpoint!("shim_start/started");
        self.started_at = stamp::now_nanos();
        let micros = u32::try_from((self.started_at - before) / 1000).unwrap_or(0);
        laps.push(Lap {
            part: Piece::Exec,
            micros,
        });
        Ok(laps)
    }

    /// The init's process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Its status. An end is told when its record is on disk, not before.
    #[must_use]
    pub fn status(&self) -> Status {
        let (state, exit) = match &self.phase {
            Phase::Created(_) => (State::Created, None),
            Phase::Running | Phase::Ending(_) => (State::Running, None),
            Phase::Ended(remains) => (State::Exited, Some(remains.record.clone())),
        };
        Status {
            state,
            pid: self.pid,
            start_time: self.start_time,
            started_at: self.started_at,
            user: Some(self.user.clone()),
            exit,
        }
    }

    /// A copy of the init's pidfd, while it lives.
    #[must_use]
    pub fn pidfd(&self) -> Option<OwnedFd> {
        self.is_live()
            .then(|| self.pidfd.try_clone().ok())
            .flatten()
    }

    /// Whether its end was told.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended(_))
    }

    /// Whether its program was not started yet.
    #[must_use]
    pub fn is_created(&self) -> bool {
        matches!(self.phase, Phase::Created(_))
    }

    /// What keeps it from going away, for a person.
    #[must_use]
    pub fn held_by(&self) -> Failure {
        let why = match (&self.phase, wait_channel(self.pid)) {
            (Phase::Ended(remains), _) if remains.removed => "its poststop hooks run".to_owned(),
            (Phase::Ended(_), _) => "processes in its cgroup do not die".to_owned(),
            (_, Some(place)) => {
                format!("its init, {}, is stuck in the kernel at {place}", self.pid)
            }
            (_, None) => format!("its init, {}, does not die", self.pid),
        };
        Failure::state("shutdown", why)
    }

    /// Whether its init lives.
    #[must_use]
    pub fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Created(_) | Phase::Running)
    }

    /// Whether nothing of it is left but its record, which is on disk.
    #[must_use]
    pub fn is_cleared(&self) -> bool {
        matches!(&self.phase, Phase::Ended(remains) if remains.saved && remains.removed)
    }

    /// Whether nothing of it is left, be its record on disk or not: who asked for its going has
    /// heard of its end, and a full disk is no reason to keep a container.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(&self.phase, Phase::Ended(remains) if remains.removed)
    }

    /// Whether nothing of it is left, and its last hooks have run.
    #[must_use]
    pub fn has_taken_leave(&mut self) -> bool {
        self.is_gone() && self.hooks.are_over()
    }

    /// Begins with the hooks for a program that runs; whether there are any.
    pub fn runs_hooks(&mut self) -> bool {
        let pid = self.pid;
        self.hooks.start(pid)
    }

    /// Calls `add` for all that is to be polled.
    pub fn poll<'a>(&'a self, mut add: impl FnMut(Source, &'a OwnedFd, PollFlags)) {
        if self.is_live() {
            add(Source::Init, &self.pidfd, PollFlags::IN);
            if let Some(oom) = &self.oom {
                add(Source::Memory, oom, PollFlags::IN | PollFlags::PRI);
            }
        }
        if let Some(hooks) = self.hooks.socket() {
            add(Source::Hooks, hooks, PollFlags::IN);
        }
        self.streams
            .poll(|part, fd, flags| add(Source::Stream(part), fd, flags));
    }

    /// How long a poll may last before the container wants to be looked at again.
    #[must_use]
    pub fn patience(&self) -> Option<Duration> {
        let own = match &self.phase {
            Phase::Ending(ending) => Some(ending.patience()),
            Phase::Ended(remains) if !remains.saved || !remains.removed => {
                Some(remains.again.saturating_duration_since(Instant::now()))
            }
            _ if self.kills.look_until.is_some() => Some(LOOK),
            _ => None,
        };
        own.into_iter().chain(self.streams.patience()).min()
    }

    /// The cgroup has run out of memory: a kill may be on its way to be counted.
    pub fn memory_event(&mut self) {
        let Some(oom) = &self.oom else {
            return;
        };
        match rustix::io::read(oom, &mut [0u8; 256][..]) {
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.oom = None,
        }
        self.kills.look_until = Some(Instant::now() + COUNTING);
    }

    /// Looks whether a process was killed for memory, where that is to be expected.
    pub fn look_at_memory(&mut self) -> Option<EventKind> {
        let until = self.kills.look_until.filter(|_| self.is_live())?;
        let moved = self.kills.note(self.cgroup.memory_kills(), Instant::now());
        if moved || until <= Instant::now() {
            self.kills.look_until = None;
        }
        moved.then_some(EventKind::OutOfMemory)
    }

    /// A hook that fails behind the start ends the container.
    pub fn hooks_heard(&mut self) {
        if self.hooks.heard().is_some() {
            self.kill();
        }
    }

    /// Looks whether the init has ended.
    pub fn look_at_init(&mut self) {
        if self.is_live()
            && let Some(end) = reaper::end_of(&self.pidfd)
        {
            self.init_ended(end);
        }
    }

    /// The init has ended: the record is written at once, since nobody else knows the code; what is
    /// left is to be read from its streams.
    pub fn init_ended(&mut self, end: End) {
        if !self.is_live() {
            return;
        }
        self.oom = None;
        self.kills.look_until = None;
        let record = self.record_of(end);
        self.phase = Phase::Ending(Ending {
            saved: record::save(&record, &self.exit_record).is_ok(),
            record,
            since: Instant::now(),
            read: false,
        });
    }

    /// Where the init has ended and its streams were read: returns the record, once.
    pub fn settle(&mut self) -> Option<ExitRecord> {
        let Phase::Ending(ending) = &mut self.phase else {
            return None;
        };
        if !ending.read {
            if !self.streams.drain() {
                if !ending.has_waited(&self.streams) {
                    return None;
                }
                let _ = self.cgroup.kill_all();
                self.streams.drain();
            }
            self.streams.finish();
            ending.read = true;
        }
        if self.streams.is_log_behind() && ending.since.elapsed() < LOG {
            return None;
        }
        let (record, saved) = (ending.record.clone(), ending.saved);
        self.phase = Phase::Ended(Remains {
            since: Instant::now(),
            again: Instant::now(),
            record: record.clone(),
            saved: saved || record::save(&record, &self.exit_record).is_ok(),
            removed: false,
        });
        Some(record)
    }

    /// After the end: kills what still lives in the cgroup and removes it, as far as that can be
    /// done now; else again later.
    pub fn clear(&mut self) {
        let Phase::Ended(remains) = &mut self.phase else {
            return;
        };
        if remains.again > Instant::now() {
            return;
        }
        remains.again = Instant::now() + (remains.since.elapsed() / 4).clamp(AGAIN, AT_LAST);
        if !remains.saved {
            remains.saved = record::save(&remains.record, &self.exit_record).is_ok();
        }
        if !remains.removed {
            // Most often there is nobody, and the first try does it.
            remains.removed = self.cgroup.remove().is_ok() || {
                let _ = self.cgroup.kill_all();
                self.cgroup.remove().is_ok()
            };
        }
    }

    /// Sends a signal to the init; one that has ended needs none.
    ///
    /// # Errors
    /// That it is no signal.
    pub fn signal(&self, number: i32) -> Result<(), Failure> {
        match crate::sys::pidfd::send_signal(&self.pidfd, number) {
            Err(Errno::SRCH) => Ok(()),
            sent => sent.map_err(|errno| Failure::system(format!("signal {number}"), errno)),
        }
    }

    /// Kills the init and all that is in the cgroup.
    pub fn kill(&self) {
        // A process that has gone is what was wanted.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        let _ = self.cgroup.kill_all();
    }

    /// Writes new limits.
    ///
    /// # Errors
    /// Which one was refused, or that the container has ended.
    pub fn update(&self, resources: &str) -> Result<(), Failure> {
        match self.is_live() {
            true => self.cgroup.update(resources),
            false => Err(Failure::state("update", "the container has ended")),
        }
    }

    /// Fills in what the container knows of the shim's health.
    pub fn health(&self, health: &mut Health) {
        self.streams.health(health);
        health.oom_kills = match self.is_live() {
            true => self.cgroup.memory_kills(),
            false => self.kills.told,
        };
    }

    fn record_of(&mut self, end: End) -> ExitRecord {
        let now = Instant::now();
        self.kills.note(self.cgroup.memory_kills(), now);
        record::of(&Ended {
            pid: self.pid,
            end,
            memory_kills: self.kills.behind(now),
            start_failure: self.start_failure.as_deref(),
            started_at: self.started_at,
            finished_at: stamp::now_nanos(),
        })
    }
}

/// Lets the init execute the program.
fn release(gate: Box<dyn Gate>) -> Result<Vec<Lap>, Failure> {
    crate::failpoint!("shim_start/asked");
    gate.release()
}

/// Where in the kernel a process waits, if it can be told.
fn wait_channel(pid: i32) -> Option<String> {
    let place = std::fs::read_to_string(format!("/proc/{pid}/wchan")).ok()?;
    (!place.is_empty() && place != "0").then_some(place)
}
