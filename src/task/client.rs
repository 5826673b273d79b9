//! A connection to one shim: calls and their answers, and the shim's events.
//!
//! The end of the connection is how a shim's end is noticed, also by SIGKILL: no other process holds
//! the socket (what a shim starts lets go of it before it waits for anything), and the kernel closes
//! the descriptors of who ends before its pidfd becomes readable. So a pidfd would tell nothing more,
//! and nothing earlier. A connection may also end although its shim lives, as where a packet cannot be
//! taken in for want of descriptors: who hears of the end seeks the shim first.

use super::socket::PacketSocket;
use super::{TaskError, TaskEvent, TaskEventKind, exit_of};
use crate::id::ContainerId;
use corten_shim::api::{Answer, Call, Event, EventKind, Message, NEWEST, OLDEST, Reply, Request};
use rustix::fd::OwnedFd;
use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, oneshot};

type Answered = (Result<Reply, corten_shim::api::Failure>, Vec<OwnedFd>);

/// A connection to one shim, which ends with this value.
pub struct Client {
    line: Arc<Line>,
    listener: tokio::task::AbortHandle,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

/// What the caller and the listener share.
struct Line {
    socket: PacketSocket,
    next: AtomicU64,
    /// Who waits for which answer; `None` once the connection has ended.
    waiting: Mutex<Option<HashMap<u64, Waiter>>>,
}

/// Who waits for an answer.
struct Waiter {
    /// To be told the answer; `None` once it was.
    answer: Option<oneshot::Sender<Answered>>,
    /// To be told that a second one came.
    again: Option<oneshot::Sender<()>>,
}

impl Waiter {
    /// Passes an answer on, and stays where a second one may come.
    fn told(mut self, answer: Answered) -> Option<Self> {
        // Who asked may have gone away: then nobody needs the answer.
        let is_ok = answer.0.is_ok();
        match (self.answer.take(), self.again.take()) {
            (Some(first), again) => {
                let _ = first.send(answer);
                is_ok.then_some(())?;
                Some(Self {
                    answer: None,
                    again: Some(again?),
                })
            }
            (None, Some(again)) => {
                let _ = again.send(());
                None
            }
            (None, None) => None,
        }
    }

    fn is_left(&self) -> bool {
        self.answer.is_none() && self.again.as_ref().is_none_or(oneshot::Sender::is_closed)
    }
}

/// A question that was sent.
struct Asked {
    verb: &'static str,
    answer: oneshot::Receiver<Answered>,
}

impl Asked {
    async fn answer(self) -> Result<(Reply, Vec<OwnedFd>), TaskError> {
        let verb = self.verb;
        let answered = self.answer.await;
        let (result, fds) = answered.map_err(|_| TaskError::Gone { verb })?;
        let reply = result.map_err(|failure| TaskError::Refused { verb, failure })?;
        Ok((reply, fds))
    }
}

/// A shim's word that it speaks a common version.
fn greeted((reply, _): (Reply, Vec<OwnedFd>)) -> Result<(), TaskError> {
    match reply {
        Reply::Hello { .. } => Ok(()),
        _ => Err(TaskError::Protocol { verb: GREETING }),
    }
}

const GREETING: &str = "greet the shim";
const HELLO: Request = Request::Hello {
    oldest: OLDEST,
    newest: NEWEST,
};

impl Client {
    /// Says hello, and begins to pass events on.
    ///
    /// # Errors
    /// Where the shim does not answer, or speaks no common version.
    pub async fn open(
        socket: PacketSocket,
        container: ContainerId,
        events: mpsc::UnboundedSender<TaskEvent>,
    ) -> Result<Self, TaskError> {
        let client = Self::over(socket, container, events);
        greeted(client.call(GREETING, HELLO).await?)?;
        Ok(client)
    }

    /// Says hello and asks in one go, and begins to pass events on: a shim that is asleep wakes up once.
    ///
    /// # Errors
    /// As [`Self::open`] and [`Self::call`].
    pub async fn open_with(
        (socket, container): (PacketSocket, ContainerId),
        events: mpsc::UnboundedSender<TaskEvent>,
        verb: &'static str,
        request: Request,
    ) -> Result<(Self, Reply), TaskError> {
        let client = Self::over(socket, container, events);
        let hello = client.line.ask(GREETING, HELLO, None).await?;
        let asked = client.line.ask(verb, request, None).await?;
        greeted(hello.answer().await?)?;
        let (reply, _) = asked.answer().await?;
        Ok((client, reply))
    }

    fn over(
        socket: PacketSocket,
        container: ContainerId,
        events: mpsc::UnboundedSender<TaskEvent>,
    ) -> Self {
        let line = Arc::new(Line {
            socket,
            next: AtomicU64::new(1),
            waiting: Mutex::new(Some(HashMap::new())),
        });
        let listener = tokio::spawn(listen(Arc::clone(&line), container, events)).abort_handle();
        Self { line, listener }
    }

    /// It has ended. Told before the news of it is sent.
    pub fn is_lost(&self) -> bool {
        self.line.waiting().is_none()
    }

    /// Asks, and waits for the answer.
    pub async fn call(
        &self,
        verb: &'static str,
        request: Request,
    ) -> Result<(Reply, Vec<OwnedFd>), TaskError> {
        self.line.call(verb, request, None).await
    }

    /// Asks what may be answered twice, and waits for the first answer; the other is told to `again`
    /// when it comes.
    pub async fn call_twice(
        &self,
        verb: &'static str,
        request: Request,
        again: oneshot::Sender<()>,
    ) -> Result<(Reply, Vec<OwnedFd>), TaskError> {
        self.line.call(verb, request, Some(again)).await
    }
}

impl Line {
    async fn call(
        &self,
        verb: &'static str,
        request: Request,
        again: Option<oneshot::Sender<()>>,
    ) -> Result<(Reply, Vec<OwnedFd>), TaskError> {
        self.ask(verb, request, again).await?.answer().await
    }

    /// Asks, and does not wait for the answer.
    async fn ask(
        &self,
        verb: &'static str,
        request: Request,
        again: Option<oneshot::Sender<()>>,
    ) -> Result<Asked, TaskError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        let answer_to = Some(sender);
        match &mut *self.waiting() {
            Some(waiting) => {
                waiting.retain(|_, waiter| !waiter.is_left());
                let waiter = Waiter {
                    answer: answer_to,
                    again,
                };
                waiting.insert(id, waiter);
            }
            None => return Err(TaskError::Gone { verb }),
        }
        match self.socket.send(&Call { id, request }, &[]).await {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Err(TaskError::Gone { verb }),
            Err(source) => Err(TaskError::Socket { verb, source }),
            Ok(_) => Ok(Asked { verb, answer }),
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Option<HashMap<u64, Waiter>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answered(&self, answer: Answer, fds: Vec<OwnedFd>) {
        let mut waiting = self.waiting();
        let Some(waiting) = waiting.as_mut() else {
            return;
        };
        let waiter = waiting.remove(&answer.id);
        if let Some(still) = waiter.and_then(|waiter| waiter.told((answer.result, fds))) {
            waiting.insert(answer.id, still);
        }
    }
}

/// Takes in what the shim sends until it has gone.
async fn listen(
    client: Arc<Line>,
    container: ContainerId,
    events: mpsc::UnboundedSender<TaskEvent>,
) {
    loop {
        match client.socket.receive::<Message>().await {
            Ok(Some(received)) => match received.message {
                Message::Answer(answer) => client.answered(answer, received.fds),
                Message::Event(event) => {
                    // The receiver ends with the daemon.
                    let _ = events.send(news(&container, &event));
                }
            },
            Ok(None) => break,
            Err(error) => {
                tracing::warn!(container.id = %container, %error, "a shim's message is unreadable");
                break;
            }
        }
    }
    *client.waiting() = None;
    let _ = events.send(TaskEvent::Container {
        container,
        kind: TaskEventKind::ShimLost,
    });
}

fn news(container: &ContainerId, event: &Event) -> TaskEvent {
    let seq = event.seq;
    let kind = match &event.kind {
        EventKind::Exited(record) => TaskEventKind::Exited {
            exit: exit_of(record),
            started_at: record.started_at,
            seq,
        },
        EventKind::OutOfMemory => TaskEventKind::OutOfMemory { seq },
    };
    TaskEvent::Container {
        container: container.clone(),
        kind,
    }
}
