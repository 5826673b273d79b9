//! Sessions that were asked for and have not begun: who knows the token may begin one, once.
//!
//! Invariant: a token is guessed by nobody (144 bits of the kernel's random source), works once and
//! for [`LIFETIME`], and no more than [`MOST`] wait. What is over is struck out when the next one is
//! asked for, so nothing keeps time.

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
/// Random bytes of a token: a multiple of three needs no padding.
const BYTES: usize = 18;

/// Those that wait, by token. The map hashes with a secret of its own: how long a look-up takes
/// says nothing about how much of a token was right.
#[derive(Debug, Default)]
pub struct Sessions(Mutex<HashMap<String, Waiting>>);

#[derive(Debug)]
struct Waiting {
    until: Instant,
    session: Session,
}

impl Sessions {
    /// Lets a session wait, and gives its token.
    ///
    /// # Errors
    /// `ResourceExhausted` where too many wait.
    pub fn keep(&self, session: Session) -> Result<String> {
        let token = token();
        let now = Instant::now();
        let mut waiting = self.waiting();
        waiting.retain(|_, one| one.until > now);
        if waiting.len() >= MOST {
            return Err(Error::new(
                ErrorKind::ResourceExhausted,
                format!(
                    "{MOST} sessions wait for their clients; each is forgotten after {LIFETIME:?}"
                ),
            ));
        }
        let until = now + LIFETIME;
        waiting.insert(token.clone(), Waiting { until, session });
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

fn token() -> String {
    let mut bytes = [0u8; BYTES];
    getrandom::fill(&mut bytes).expect("the kernel's random source answers once it is seeded");
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::{AttachSession, Wants};
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
