//! systemd as the maker of scopes, over its own socket.
//!
//! ```text
//! connect /run/systemd/private ─▶ AUTH ─▶ StartTransientUnit ─▶ job ─▶ JobRemoved(job, "done") ─▶ close
//!          └ refused, lost: again, until the time is up           └ UnitExists: StartUnit, which joins it
//! ```
//! One connection for each call, of which a pod has two in its life. So there is no task that listens, no table of who waits for what, and nothing to be
//! mended when systemd is executed anew (`daemon-reexec`) or replaced: the next try connects again. What
//! a lost connection leaves unknown the next try finds out, since a unit's name is the pod's alone.
//!
//! The crate zbus (5.19) was weighed. It is well kept, and brings 22 crates that nothing else here needs (its
//! own types and their macros, an object server, an executor, broadcast channels) for three methods and
//! one signal that are always the same. It keeps a connection with its task and its queues, which between pods
//! has nothing to do but to receive every signal that PID 1 sends. Here no memory is kept at all. The `dbus`
//! crate links a C library.
//!
//! The socket is systemd's own, as `systemctl` uses it for root: there is no hop through a message bus, none
//! has to be installed or running, and no signal needs a subscription.
//!
//! Invariant: nothing outlives a call, and a call is over after [`LIMIT`].

mod connection;
mod message;
#[cfg(test)]
mod tests;

use super::scope::{ScopeError, ScopeOrder, Scopes};
use async_trait::async_trait;
use connection::{Answer, Connection, Method};
use message::Writer;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Where systemd listens for root.
pub const SOCKET: &str = "/run/systemd/private";
/// How long a job may take, tries together: PID 1 does nothing else for some seconds when it reloads a
/// thousand units.
const LIMIT: Duration = Duration::from_secs(60);
/// The pause before the first further try; each next one is twice as long.
const PAUSE: Duration = Duration::from_millis(20);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
const EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
const ABSENT: &str = "org.freedesktop.systemd1.NoSuchUnit";

/// systemd on this node.
#[derive(Debug)]
pub struct SystemdScopes {
    socket: PathBuf,
    limit: Duration,
}

impl Default for SystemdScopes {
    fn default() -> Self {
        Self {
            socket: SOCKET.into(),
            limit: LIMIT,
        }
    }
}

/// A method on a unit, as a person would call it.
#[derive(Clone, Copy)]
struct Attempt<'a> {
    operation: &'static str,
    unit: &'a str,
}

impl SystemdScopes {
    /// Says what has to be said, again where the connection fails, and gives the answer.
    async fn ask(&self, attempt: Attempt<'_>, method: &Method) -> Result<Answer, ScopeError> {
        let mut last = io::Error::from(ErrorKind::TimedOut);
        let answered = timeout(self.limit, async {
            let mut pause = PAUSE;
            loop {
                match self.converse(method).await {
                    Ok(answer) => return Ok(answer),
                    Err(error) if !may_pass(&error) => return Err(error),
                    Err(error) => last = error,
                }
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        })
        .await;
        match answered {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.unreachable(attempt, error)),
            Err(_) if last.kind() == ErrorKind::TimedOut => Err(ScopeError::Slow {
                operation: attempt.operation,
                unit: attempt.unit.to_owned(),
                limit: self.limit,
            }),
            Err(_) => Err(self.unreachable(attempt, last)),
        }
    }

    async fn converse(&self, method: &Method) -> io::Result<Answer> {
        let connection = Connection::open(&self.socket).await?;
        connection.run(method).await
    }

    fn unreachable(&self, attempt: Attempt<'_>, source: io::Error) -> ScopeError {
        ScopeError::Unreachable {
            operation: attempt.operation,
            unit: attempt.unit.to_owned(),
            socket: self.socket.clone(),
            source,
        }
    }
}

/// systemd may be there the next time: its socket is closed and made again when it executes itself.
fn may_pass(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotFound
            | ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::BrokenPipe
            | ErrorKind::UnexpectedEof
            | ErrorKind::WouldBlock
    )
}

impl Attempt<'_> {
    fn judge(self, answer: Answer) -> Result<(), ScopeError> {
        let (operation, unit) = (self.operation, self.unit.to_owned());
        match answer {
            Answer::Over(result) if result == "done" => Ok(()),
            Answer::Over(result) => Err(ScopeError::Job {
                operation,
                unit,
                result,
            }),
            Answer::Refused { name, message } => Err(ScopeError::Refused {
                operation,
                unit,
                name,
                message,
            }),
        }
    }
}

#[async_trait]
impl Scopes for SystemdScopes {
    async fn start(&self, order: &ScopeOrder) -> Result<(), ScopeError> {
        let attempt = Attempt {
            operation: "start scope",
            unit: &order.unit,
        };
        let answer = match self.ask(attempt, &start_transient(order)).await? {
            // A try whose connection was lost has begun it, or has made it.
            Answer::Refused { name, .. } if name == EXISTS => {
                self.ask(attempt, &on_unit("StartUnit", &order.unit))
                    .await?
            }
            other => other,
        };
        attempt.judge(answer)
    }

    async fn stop(&self, unit: &str) -> Result<(), ScopeError> {
        let attempt = Attempt {
            operation: "stop scope",
            unit,
        };
        match self.ask(attempt, &on_unit("StopUnit", unit)).await? {
            Answer::Refused { name, .. } if name == ABSENT => Ok(()),
            other => attempt.judge(other),
        }
    }
}

fn on_unit(member: &'static str, unit: &str) -> Method {
    let mut arguments = Writer::default();
    arguments.text(unit);
    arguments.text("replace");
    Method {
        member,
        signature: "ss",
        arguments,
    }
}

/// The scope is delegated: what is below it is nobody's but Corten's. Nothing that systemd limits by
/// default is to limit a pod, and a shutdown of the node does not end pods before the kubelet does.
fn start_transient(order: &ScopeOrder) -> Method {
    let mut arguments = Writer::default();
    arguments.text(&order.unit);
    arguments.text("fail");
    arguments.array(8, |all| {
        all.property("Description", "s", |v| v.text(&order.description));
        all.property("Slice", "s", |v| v.text(&order.slice));
        all.property("Delegate", "b", |v| v.flag(true));
        all.property("DefaultDependencies", "b", |v| v.flag(false));
        all.property("CollectMode", "s", |v| v.text("inactive-or-failed"));
        all.property("TasksMax", "t", |v| v.long(u64::MAX));
        all.property("PIDs", "au", |v| {
            v.array(4, |pids| pids.number(order.pid.unsigned_abs()));
        });
    });
    // No auxiliary units.
    arguments.array(8, |_| {});
    Method {
        member: "StartTransientUnit",
        signature: "ssa(sv)a(sa(sv))",
        arguments,
    }
}
