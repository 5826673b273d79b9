//! Those who are attached to a container's streams: each gets what comes from then on.
//!
//! What a client has not taken is kept up to [`BEHIND`] bytes. Then the stream is held back until it
//! has taken half of that, so that many who read can be as fast together as the container is. But each
//! has only [`PATIENCE`] of that in sum: it is given back slowly while the client keeps up, and by what
//! it takes, [`PACE`] together with the others that are behind then. One that reads nothing, or a trickle, is no reason to
//! hold a container up, and is disconnected and counted.
//!
//! Invariant: no write to a client waits, and a client that has gone is forgotten with all of its
//! descriptors.

use super::Stream;
use rustix::event::PollFlags;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How much a client may leave unread, beyond what the kernel's buffer holds, in bytes.
pub const BEHIND: usize = 256 * 1024;
/// How much it may be at the very end, when what a pipe still holds is read at once.
const FAR_BEHIND: usize = 2 * BEHIND;
/// How long a stream is held back for a client, in sum.
const PATIENCE: Duration = Duration::from_millis(500);
/// Of the time in which it is not, this part is given back.
const GIVEN_BACK: u32 = 20;
/// How fast those who hold a stream back take it together, at the least, in bytes a second: what a
/// client takes at its share of that pace is no time.
const PACE: u64 = 4 * 1024 * 1024;
/// How long a client may take nothing of what is left after the end of its stream.
const LAST: Duration = Duration::from_secs(10);
/// How long the terminal has for what a client that has gone has typed last.
const TYPED_LAST: Duration = Duration::from_secs(3);
/// The most that is read from a client's keyboard before the terminal has taken it, in bytes.
const TYPED: usize = 4 * 1024;

/// Who a client is: the numbers of the connection and of the call by which it came.
pub type Client = (u32, u64);

/// One descriptor of a client: a pipe's write end, or a terminal client's socket.
#[derive(Debug)]
pub struct Tap {
    /// Which client it belongs to; one that gets both streams has two taps.
    pub client: Client,
    /// What it gets; `None`: nothing (a client that only types).
    pub stream: Option<Stream>,
    fd: OwnedFd,
    backlog: VecDeque<u8>,
    /// It is too far behind, and its stream held back.
    behind: bool,
    /// Since when it has been behind, or has not been; at the end since when it has taken nothing, or
    /// has gone.
    since: Instant,
    /// How long its stream was held back for it before.
    owed: Duration,
    keyboard: Keyboard,
    life: Life,
}

/// What a terminal's client has typed.
#[derive(Debug)]
enum Keyboard {
    /// It may not, or will no more.
    Shut,
    /// It may; these bytes the terminal has not taken yet.
    Open(VecDeque<u8>),
}

/// Where a tap is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// More may come.
    Flowing,
    /// Its client has gone: the terminal has yet to take what it has typed.
    Leaving,
    /// No more will come: it is gone when it has had what was held back.
    Ending,
    /// Its client has gone, or has had all.
    Gone,
    /// Its client has left too much unread.
    Slow,
}

impl Tap {
    /// A tap that writes to `fd`, which must be non-blocking.
    #[must_use]
    pub fn new(client: Client, stream: Option<Stream>, fd: OwnedFd) -> Self {
        Self {
            client,
            stream,
            fd,
            backlog: VecDeque::new(),
            behind: false,
            since: Instant::now(),
            owed: Duration::ZERO,
            keyboard: Keyboard::Shut,
            life: Life::Flowing,
        }
    }

    /// Lets the client type.
    #[must_use]
    pub fn with_keyboard(mut self) -> Self {
        self.keyboard = Keyboard::Open(VecDeque::new());
        self
    }

    /// Where it is in its life.
    #[must_use]
    pub fn life(&self) -> Life {
        match self.life {
            Life::Leaving if !self.has_typed() || self.has_lost_patience() => Life::Gone,
            Life::Flowing | Life::Ending if self.has_lost_patience() => Life::Slow,
            other => other,
        }
    }

    /// The terminal has taken so many bytes: what it still takes is kept for longer.
    pub fn was_heard(&mut self, bytes: usize) {
        if bytes > 0 && matches!(self.life, Life::Leaving) {
            self.since = Instant::now();
        }
    }

    fn has_lost_patience(&self) -> bool {
        self.patience() == Some(Duration::ZERO)
    }

    /// How much longer its stream is held back for it, or its rest or what it has typed is kept;
    /// `None`: it is not.
    #[must_use]
    pub fn patience(&self) -> Option<Duration> {
        let most = match self.life {
            Life::Ending => LAST,
            Life::Leaving => TYPED_LAST,
            _ if self.behind => PATIENCE.saturating_sub(self.owed),
            _ => return None,
        };
        Some(most.saturating_sub(self.since.elapsed()))
    }

    /// What was held back until now is owed, or some of it given back.
    fn settle(&mut self) {
        let passed = self.since.elapsed();
        self.since = Instant::now();
        self.owed = match self.behind {
            true => self.owed + passed,
            false => self.owed.saturating_sub(passed / GIVEN_BACK),
        };
    }

    /// So much was taken, while so many held the stream back. Who keeps up is no excuse for another.
    fn took(&mut self, bytes: usize, behind: u64) {
        self.settle();
        let earned = bytes as u64 * behind.max(1) * 1_000_000 / PACE;
        self.owed = self.owed.saturating_sub(Duration::from_micros(earned));
        if self.backlog.len() <= BEHIND / 2 {
            self.behind = false;
        }
    }

    /// What to poll for, as long as there is somebody.
    #[must_use]
    pub fn interest(&self) -> Option<(&OwnedFd, PollFlags)> {
        if self.life == Life::Leaving {
            return None;
        }
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::OUT, !self.backlog.is_empty());
        let listens = matches!(&self.keyboard, Keyboard::Open(typed) if typed.is_empty());
        flags.set(PollFlags::IN, listens);
        Some((&self.fd, flags))
    }

    /// Whether this stream is held back for it.
    #[must_use]
    pub fn holds_back(&self, stream: Stream) -> bool {
        self.behind && self.stream == Some(stream)
    }

    /// Acts on what the poll has answered, while so many hold its stream back.
    pub fn turn(&mut self, flags: PollFlags, behind: u64) {
        if flags.contains(PollFlags::HUP) {
            return self.leave();
        }
        if flags.contains(PollFlags::IN) {
            self.read();
        } else if flags.contains(PollFlags::ERR) {
            self.life = Life::Gone;
        }
        if flags.contains(PollFlags::OUT) {
            self.flush(behind);
        }
    }

    /// Gives the client more output.
    pub fn give(&mut self, data: &[u8]) {
        let written = if self.backlog.is_empty() {
            write(&self.fd, data)
        } else {
            Ok(0)
        };
        let Ok(written) = written else {
            return self.leave();
        };
        // Grown by itself it would take twice as much.
        self.backlog.reserve_exact(data.len() - written);
        self.backlog.extend(&data[written..]);
        if self.backlog.len() > BEHIND && !self.behind {
            self.settle();
            self.behind = true;
        }
        if self.backlog.len() > FAR_BEHIND {
            self.life = Life::Slow;
        }
    }

    /// There will be no more output: it goes when it has had what was held back.
    pub fn end(&mut self) {
        match self.life {
            Life::Flowing => {
                self.life = Life::Ending;
                self.behind = false;
                self.since = Instant::now();
                self.flush(1);
            }
            // The terminal takes no more either.
            Life::Leaving => self.life = Life::Gone,
            _ => {}
        }
    }

    /// What was typed and not yet taken.
    pub fn typed(&mut self) -> Option<&mut VecDeque<u8>> {
        match &mut self.keyboard {
            Keyboard::Open(typed) if !typed.is_empty() => Some(typed),
            _ => None,
        }
    }

    /// Whether something was typed that the terminal has not taken yet.
    #[must_use]
    pub fn has_typed(&self) -> bool {
        matches!(&self.keyboard, Keyboard::Open(typed) if !typed.is_empty())
    }

    fn flush(&mut self, behind: u64) {
        while !self.backlog.is_empty() {
            match write(&self.fd, self.backlog.as_slices().0) {
                Ok(0) => return,
                Ok(written) => {
                    drop(self.backlog.drain(..written));
                    self.took(written, behind);
                }
                Err(_) => return self.leave(),
            }
        }
        self.backlog = VecDeque::new();
        if self.life == Life::Ending {
            self.life = Life::Gone;
        }
    }

    /// The client has closed its end. What it has typed before is read at once: it is no more than
    /// the kernel's buffer holds, and any write to the client would be the end of the tap.
    fn leave(&mut self) {
        self.life = Life::Leaving;
        self.since = Instant::now();
        self.stream = None;
        self.behind = false;
        self.backlog = VecDeque::new();
        let Keyboard::Open(typed) = &mut self.keyboard else {
            return;
        };
        let mut buffer = [0u8; TYPED];
        loop {
            match rustix::io::read(&self.fd, &mut buffer) {
                Ok(got @ 1..) => typed.extend(&buffer[..got]),
                Err(Errno::INTR) => {}
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// Reads what was typed. The end of typing is not the end of the client: it may still listen.
    fn read(&mut self) {
        let Keyboard::Open(typed) = &mut self.keyboard else {
            return;
        };
        let mut buffer = [0u8; TYPED];
        match rustix::io::read(&self.fd, &mut buffer) {
            Ok(0) => self.keyboard = Keyboard::Shut,
            Ok(got) => typed.extend(&buffer[..got]),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.life = Life::Gone,
        }
    }
}

/// How much the client's buffer took, without waiting.
fn write(fd: &OwnedFd, data: &[u8]) -> Result<usize, Errno> {
    loop {
        match rustix::io::write(fd, data) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(0),
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::TURN;
    use super::*;
    use rustix::pipe::{PipeFlags, pipe_with};

    #[test]
    fn what_a_client_leaves_unread_takes_no_more_place_than_it_is() {
        let (_unread, ours) = pipe_with(PipeFlags::NONBLOCK).unwrap();
        let mut tap = Tap::new((0, 0), Some(Stream::Stdout), ours);
        while !tap.holds_back(Stream::Stdout) {
            tap.give(&[0; TURN]);
        }
        let place = tap.backlog.capacity();
        assert!(place <= BEHIND + TURN, "{place}");
    }
}
