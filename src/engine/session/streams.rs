//! The daemon's ends of a process's streams, as the event loop reads and writes them.
//!
//! A pipe, a terminal's master and the socket of an attached terminal are alike here: descriptors
//! that do not block. None is set so but the daemon's own end: the process's has flags of its own.
//!
//! Invariant: nothing is kept here. What a client does not take stays in the kernel, and holds the
//! process up.

use super::Wants;
use crate::error::{Context, Error, Kind, Result};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use std::io;
use std::pin::Pin;
use std::task::{Context as Waker, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::sync::watch;

/// How long output is waited for after the process has ended: a background child may hold the
/// stream for ever.
const DRAIN: Duration = Duration::from_millis(500);
/// How much more is read then, where less is said to be there: of a terminal not all is.
const ROOM: usize = 128 * 1024;
/// What a terminal's master says when nobody holds the terminal open.
const HUNG_UP: i32 = Errno::IO.raw_os_error();

type Over = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

/// The streams of a process.
#[derive(Default)]
pub(super) struct Streams {
    pub stdin: Option<Input>,
    pub stdout: Option<Output>,
    pub stderr: Option<Output>,
}

impl Streams {
    /// Of the descriptors that a shim gives for what was asked of it: in the order stdin, stdout,
    /// stderr, or one for a terminal, whose client may hear it only.
    ///
    /// # Errors
    /// Where there are too few, or the event loop cannot watch one.
    pub fn of(
        fds: Vec<OwnedFd>,
        asked: Wants,
        output: impl Fn(OwnedFd) -> Result<Output>,
    ) -> Result<Self> {
        let mut fds = fds.into_iter();
        let mut next = || fds.next().ok_or_else(too_few);
        if asked.tty {
            let terminal = next()?;
            let stdin = asked.stdin.then(|| Input::terminal(&terminal));
            return Ok(Self {
                stdin: stdin.transpose()?,
                stdout: Some(output(terminal)?),
                stderr: None,
            });
        }
        let stdin = asked.stdin.then(|| Input::pipe(next()?));
        let stdin = stdin.transpose()?;
        let mut output = |asked: bool| asked.then(|| output(next()?)).transpose();
        Ok(Self {
            stdin,
            stdout: output(asked.stdout)?,
            stderr: output(asked.stderr)?,
        })
    }
}

fn too_few() -> Error {
    Error::internal("the shim gave too few streams")
}

/// What a process says. Reading nothing is its end.
pub struct Output {
    pipe: Receiver,
    /// Ends when no more is to be waited for.
    over: Over,
    /// From then on: how much may still be read of what was there at that time.
    left: Option<usize>,
}

/// What a process hears. Shut down or dropped it ends, but for a terminal, which has no end of
/// input: that is hung up when all that leads to it is dropped.
pub struct Input {
    end: End,
}

enum End {
    /// What is written is the process's; with `true` also after a shutdown.
    Open(Sender, bool),
    Shut,
    /// Nobody hears: what is written is gone.
    Nobody,
}

impl Output {
    /// The reading end `fd`, of a process whose end `ended` tells.
    ///
    /// # Errors
    /// Where the event loop cannot watch it.
    pub(super) fn of_process(fd: OwnedFd, mut ended: watch::Receiver<bool>) -> Result<Self> {
        let over = async move {
            // A sender that has gone has nothing more to tell either.
            let _ = ended.wait_for(|ended| *ended).await;
            tokio::time::sleep(DRAIN).await;
        };
        Self::new(fd, Box::pin(over))
    }

    /// The reading end `fd`, which ends with what it leads to, or once its client has `left`: with what
    /// was there by then.
    ///
    /// # Errors
    /// Where the event loop cannot watch it.
    pub(super) fn of_container(
        fd: OwnedFd,
        left: impl Future<Output = ()> + Send + Sync + 'static,
    ) -> Result<Self> {
        Self::new(fd, Box::pin(left))
    }

    fn new(fd: OwnedFd, over: Over) -> Result<Self> {
        let pipe = without_waiting(fd).and_then(Receiver::from_owned_fd_unchecked);
        Ok(Self {
            pipe: pipe.context(Kind::Internal, || "watch a process's output".to_owned())?,
            over,
            left: None,
        })
    }

    /// Reads what is there now, past the end: nothing is waited for, and who goes on writing is not
    /// listened to for ever. It is for the kernel to say whether something is there: the
    /// event loop may not know yet, or want others to have a turn.
    fn read_rest(&self, left: usize, buffer: &mut ReadBuf<'_>) -> io::Result<usize> {
        let space = buffer.initialize_unfilled();
        let most = left.min(space.len());
        let read = rustix::io::retry_on_intr(|| rustix::io::read(&self.pipe, &mut space[..most]));
        match read {
            Ok(read) => {
                buffer.advance(read);
                Ok(read)
            }
            Err(Errno::AGAIN | Errno::IO) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// How much is there now. A pipe can be made larger than any number written here.
    fn held(&self) -> usize {
        let held = rustix::io::ioctl_fionread(&self.pipe).unwrap_or(0);
        usize::try_from(held).unwrap_or(usize::MAX).max(ROOM)
    }
}

impl AsyncRead for Output {
    fn poll_read(
        self: Pin<&mut Self>,
        waker: &mut Waker<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.left.is_none() && this.over.as_mut().poll(waker).is_ready() {
            this.left = Some(this.held());
        }
        if let Some(left) = this.left {
            let read = this.read_rest(left, buffer)?;
            this.left = Some(if read == 0 { 0 } else { left - read });
            return Poll::Ready(Ok(()));
        }
        match Pin::new(&mut this.pipe).poll_read(waker, buffer) {
            Poll::Ready(Err(error)) if error.raw_os_error() == Some(HUNG_UP) => Poll::Ready(Ok(())),
            done => done,
        }
    }
}

impl Input {
    /// The writing end of a pipe.
    ///
    /// # Errors
    /// Where the event loop cannot watch it.
    pub(super) fn pipe(fd: OwnedFd) -> Result<Self> {
        let end = End::Open(sender(fd)?, false);
        Ok(Self { end })
    }

    /// A terminal, or the socket that leads to one.
    ///
    /// # Errors
    /// Where the event loop cannot watch it.
    pub(super) fn terminal(fd: &OwnedFd) -> Result<Self> {
        let end = End::Open(sender(second(fd)?)?, true);
        Ok(Self { end })
    }

    /// Takes all and passes nothing on: for who types to a container that has no stdin.
    pub(super) fn nobody() -> Self {
        Self { end: End::Nobody }
    }
}

impl AsyncWrite for Input {
    fn poll_write(
        self: Pin<&mut Self>,
        waker: &mut Waker<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().end {
            End::Open(pipe, _) => Pin::new(pipe).poll_write(waker, data),
            End::Shut => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            End::Nobody => Poll::Ready(Ok(data.len())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Waker<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Waker<'_>) -> Poll<io::Result<()>> {
        let end = &mut self.get_mut().end;
        if let End::Open(_, false) = end {
            *end = End::Shut;
        }
        Poll::Ready(Ok(()))
    }
}

/// Another descriptor of the same terminal or socket.
///
/// # Errors
/// Where there are too many.
pub(super) fn second(fd: &OwnedFd) -> Result<OwnedFd> {
    let copy = rustix::io::fcntl_dupfd_cloexec(fd, 3);
    copy.context(Kind::Internal, || "copy a descriptor".to_owned())
}

fn sender(fd: OwnedFd) -> Result<Sender> {
    let pipe = without_waiting(fd).and_then(Sender::from_owned_fd_unchecked);
    pipe.context(Kind::Internal, || "watch a process's input".to_owned())
}

fn without_waiting(fd: OwnedFd) -> io::Result<OwnedFd> {
    rustix::io::ioctl_fionbio(fd.as_fd(), true)?;
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    /// Another process holds it open, and who reads it is late.
    #[tokio::test(start_paused = true)]
    async fn a_large_pipe_is_read_to_what_it_held_at_the_end() {
        const LARGE: usize = 1024 * 1024;
        let (ours, theirs) = rustix::pipe::pipe().unwrap();
        rustix::pipe::fcntl_setpipe_size(&theirs, LARGE).unwrap();
        assert_eq!(rustix::io::write(&theirs, &vec![1; LARGE]), Ok(LARGE));
        let (_process, ended) = watch::channel(true);
        let mut output = Output::of_process(ours, ended).unwrap();
        let mut all = vec![0; 10];
        output.read_exact(&mut all).await.unwrap();
        tokio::time::sleep(2 * DRAIN).await;
        output.read_to_end(&mut all).await.unwrap();
        assert_eq!(all.len(), LARGE);
    }
}
