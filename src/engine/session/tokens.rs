//! Sessions that were asked for and have not begun: who knows the token may begin one, once.
//!
//! Invariant: a token is guessed by nobody (144 bits of the kernel's random source), works once and
//! for [`LIFETIME`], and no more than [`MOST`] wait, which hold no more than [`MOST_BYTES`] together:
//! a command may be long. What is over is struck out when the next one is asked for, so nothing keeps
//! time.

use super::{Kind, Session};
use crate::error::{Error, Kind as ErrorKind, Result};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long a session waits to be begun.
pub const LIFETIME: Duration = Duration::from_secs(60);
/// How many may wait at once.
pub const MOST: usize = 1_000;
/// What those that wait may hold, in bytes: a command of the greatest length that Linux starts by
/// default (2 MiB), a few times over, or a thousand of 8 KiB.
pub const MOST_BYTES: usize = 8 << 20;
/// What a text takes beside its letters: where it is, and what the allocator keeps of it.
const TEXT: usize = size_of::<String>() + 16;
/// Random bytes of a token: a multiple of three needs no padding.
const BYTES: usize = 18;

/// Those that wait, by token. The map hashes with a secret of its own: how long a look-up takes
/// says nothing about how much of a token was right.
#[derive(Debug, Default)]
pub struct Sessions(Mutex<HashMap<String, Waiting>>);

#[derive(Debug)]
struct Waiting {
    until: Instant,
    weight: usize,
    session: Session,
}

impl Sessions {
    /// Lets a session wait, and gives its token.
    ///
    /// # Errors
    /// `ResourceExhausted` where too many wait, or too much.
    pub fn keep(&self, session: Session) -> Result<String> {
        let token = token();
        let now = Instant::now();
        let mut waiting = self.waiting();
        waiting.retain(|_, one| one.until > now);
        let exhausted = |what| {
            let message = format!("{what}; each is forgotten after {LIFETIME:?}");
            Err(Error::new(ErrorKind::ResourceExhausted, message))
        };
        if waiting.len() >= MOST {
            return exhausted(format!("{MOST} sessions wait for their clients"));
        }
        let weight = weight(&session);
        let held: usize = waiting.values().map(|one| one.weight).sum();
        if held + weight > MOST_BYTES {
            return exhausted(format!(
                "this request takes {weight} bytes, and the sessions that wait for their clients hold {held} of {MOST_BYTES}"
            ));
        }
        let one = Waiting {
            until: now + LIFETIME,
            weight,
            session,
        };
        waiting.insert(token.clone(), one);
        Ok(token)
    }

    /// The session of this kind that waits under the token, which is then used up. A token that is
    /// shown at the place of another kind stays: it was no guess.
    pub fn take(&self, kind: Kind, token: &str) -> Option<Session> {
        let mut waiting = self.waiting();
        let one = waiting.get(token)?;
        if one.session.kind() != kind || one.until <= Instant::now() {
            return None;
        }
        waiting.remove(token).map(|one| one.session)
    }

    /// Whether a session of this kind waits under the token.
    pub fn knows(&self, kind: Kind, token: &str) -> bool {
        let waiting = self.waiting();
        let one = waiting.get(token);
        one.is_some_and(|one| one.session.kind() == kind && one.until > Instant::now())
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<String, Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a session takes while it waits, in bytes.
fn weight(session: &Session) -> usize {
    let text = |text: &String| text.capacity() + TEXT;
    match session {
        Session::Exec(exec) => text(&exec.container) + exec.command.iter().map(text).sum::<usize>(),
        Session::Attach(attach) => text(&attach.container),
        Session::PortForward(forward) => {
            text(&forward.sandbox) + forward.ports.capacity() * size_of::<u16>()
        }
    }
}

fn token() -> String {
    let mut bytes = [0u8; BYTES];
    getrandom::fill(&mut bytes).expect("the kernel's random source answers once it is seeded");
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::{AttachSession, ExecSession, PortForwardSession, Wants};
    use super::*;

    fn session() -> Session {
        Session::Attach(AttachSession {
            container: "c".to_owned(),
            wants: Wants::default(),
        })
    }

    #[test]
    fn a_token_works_once_and_for_its_kind_only() {
        let sessions = Sessions::default();
        let token = sessions.keep(session()).unwrap();
        assert!(token.len() >= 22, "128 bits at 6 a letter: {token}");
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        assert!(token.chars().all(plain), "{token}");
        assert_ne!(token, sessions.keep(session()).unwrap());
        assert_eq!(sessions.take(Kind::Exec, &token), None);
        assert_eq!(sessions.take(Kind::Attach, &token[1..]), None);
        assert!(sessions.knows(Kind::Attach, &token) && !sessions.knows(Kind::Exec, &token));
        assert_eq!(sessions.take(Kind::Attach, &token), Some(session()));
        assert!(!sessions.knows(Kind::Attach, &token));
        assert_eq!(sessions.take(Kind::Attach, &token), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_good_for_a_minute() {
        let sessions = Sessions::default();
        let (first, second) = (sessions.keep(session()), sessions.keep(session()));
        tokio::time::advance(LIFETIME - Duration::from_millis(1)).await;
        assert!(sessions.take(Kind::Attach, &first.unwrap()).is_some());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(sessions.take(Kind::Attach, &second.unwrap()), None);
    }

    fn exec(command: Vec<String>) -> Session {
        Session::Exec(ExecSession {
            container: "c".to_owned(),
            command,
            wants: Wants::default(),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_bytes_may_wait_however_few_requests_they_are() {
        let sessions = Sessions::default();
        let large = || exec(vec!["x".repeat(MOST_BYTES / 2)]);
        let first = sessions.keep(large()).unwrap();
        let full = sessions.keep(large()).unwrap_err();
        assert_eq!(full.kind(), ErrorKind::ResourceExhausted);
        assert!(
            full.chain().contains("bytes") && full.chain().contains("60s"),
            "{full}"
        );
        sessions.keep(session()).unwrap();
        // What is taken makes room, as what is over does.
        assert!(sessions.take(Kind::Exec, &first).is_some());
        sessions.keep(large()).unwrap();
        tokio::time::advance(LIFETIME).await;
        sessions.keep(large()).unwrap();
    }

    #[test]
    fn many_small_texts_and_many_ports_have_their_weight() {
        let sessions = Sessions::default();
        let many = vec![String::new(); MOST_BYTES / TEXT];
        assert!(sessions.keep(exec(many)).is_err());
        let ports = PortForwardSession {
            sandbox: "s".to_owned(),
            ports: vec![80; MOST_BYTES / 2],
        };
        assert!(sessions.keep(Session::PortForward(ports)).is_err());
        assert!(sessions.waiting().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_may_wait_and_those_that_are_over_make_room() {
        let sessions = Sessions::default();
        for _ in 0..MOST {
            sessions.keep(session()).unwrap();
        }
        let full = sessions.keep(session()).unwrap_err();
        assert_eq!(full.kind(), ErrorKind::ResourceExhausted);
        tokio::time::advance(LIFETIME).await;
        sessions.keep(session()).unwrap();
        assert_eq!(sessions.waiting().len(), 1);
    }
}
