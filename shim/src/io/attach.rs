//! Those who are attached to a container's streams: each gets what comes from then on.
//!
//! What a client has not taken is kept up to [`BEHIND`] bytes. Then the stream is held back, so that
//! many who read can be as fast together as the container is; but only for [`PATIENCE`], in which the
//! client must take half of it: one that does not read is no reason to hold a container up, and is
//! disconnected and counted.
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
/// How long a stream is held back for a client.
const PATIENCE: Duration = Duration::from_millis(500);
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
    /// Since when it has been too far behind.
    behind: Option<Instant>,
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
            behind: None,
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
            Life::Leaving if !self.has_typed() => Life::Gone,
            Life::Flowing if self.patience() == Some(Duration::ZERO) => Life::Slow,
            other => other,
        }
    }

    /// How much longer its stream is held back for it; `None`: it is not.
    #[must_use]
    pub fn patience(&self) -> Option<Duration> {
        Some(PATIENCE.saturating_sub(self.behind?.elapsed()))
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

    /// Acts on what the poll has answered.
    pub fn turn(&mut self, flags: PollFlags) {
        if flags.contains(PollFlags::HUP) {
            return self.leave();
        }
        if flags.contains(PollFlags::IN) {
            self.read();
        } else if flags.contains(PollFlags::ERR) {
            self.life = Life::Gone;
        }
        if flags.contains(PollFlags::OUT) {
            self.flush();
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
        self.backlog.extend(&data[written..]);
        if self.backlog.len() > BEHIND {
            self.behind.get_or_insert_with(Instant::now);
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
                self.flush();
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

    fn flush(&mut self) {
        while !self.backlog.is_empty() {
            match write(&self.fd, self.backlog.as_slices().0) {
                Ok(0) => return,
                Ok(written) => drop(self.backlog.drain(..written)),
                Err(_) => return self.leave(),
            }
            if self.backlog.len() <= BEHIND / 2 {
                self.behind = None;
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
        self.stream = None;
        self.behind = None;
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
