//! What ends a session from outside of it: nothing flows, the client has gone without a word, or the
//! daemon stops.
//!
//! Invariant: bytes are counted where they are passed on, so that a client's pings keep no session.

use super::end::End;
use crate::metrics::Stalls;
use futures::FutureExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// How often is looked; an idle session may so last this much longer.
const LOOK: Duration = Duration::from_secs(2);

/// The bytes of a session, as its process or its pod hears and says them.
#[derive(Debug, Default)]
pub struct Traffic {
    received: AtomicU64,
    sent: AtomicU64,
    stalls: Stalls,
}

impl Traffic {
    /// Nothing so far; connections that held up others are counted there.
    #[must_use]
    pub fn counting(stalls: Stalls) -> Self {
        Self {
            stalls,
            ..Self::default()
        }
    }

    /// A connection was reset, for others that waited behind it.
    pub fn stall(&self) {
        self.stalls.add();
    }

    /// So many bytes came from the client.
    pub fn receive(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// So many bytes went to the client.
    pub fn send(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// From the client, and to it.
    #[must_use]
    pub fn totals(&self) -> (u64, u64) {
        let read = |total: &AtomicU64| total.load(Ordering::Relaxed);
        (read(&self.received), read(&self.sent))
    }
}

/// What a session is told when the daemon stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Go on.
    Serving,
    /// Go on, but nothing begins any more.
    Draining,
    /// End.
    Ending,
    /// Be gone: who was told to end has not taken its goodbye.
    Over,
}

/// The looks that one session is given.
#[derive(Clone)]
pub struct Watch {
    /// What has flowed.
    pub traffic: Arc<Traffic>,
    /// How long nothing may flow.
    pub idle: Duration,
    /// Whether the daemon stops.
    pub phase: tokio::sync::watch::Receiver<Phase>,
    /// The client's connection; `None` where there is no such thing.
    pub peer: Option<Arc<TcpStream>>,
}

impl Watch {
    /// Lets a goodbye take as long as its client is there: who pauses before the last bytes, in a
    /// pager say, shall have them. A session that was cut has only so much time. `None`: it was not
    /// enough.
    pub async fn see_off<T>(
        &mut self,
        goodbye: impl Future<Output = T>,
        cut: Option<Duration>,
    ) -> Option<T> {
        match cut {
            Some(patience) => tokio::time::timeout(patience, goodbye).await.ok(),
            None => tokio::select! {
                biased;
                done = goodbye => Some(done),
                _ = self.cut() => None,
            },
        }
    }

    /// Waits until nobody waits for goodbyes any more.
    pub async fn over(&mut self) -> End {
        if self
            .phase
            .wait_for(|phase| *phase == Phase::Over)
            .await
            .is_err()
        {
            // Nobody is there who could say so.
            std::future::pending::<()>().await;
        }
        End::Stopping
    }

    /// Waits for a reason to end the session.
    pub async fn cut(&mut self) -> End {
        let Self {
            traffic,
            idle,
            phase,
            peer,
        } = self;
        let stopping = phase.wait_for(|phase| *phase >= Phase::Ending);
        tokio::select! {
            _ = stopping => End::Stopping,
            end = look(traffic, *idle, peer.as_deref()) => end,
        }
    }
}

async fn look(traffic: &Traffic, idle: Duration, peer: Option<&TcpStream>) -> End {
    let mut seen = (traffic.totals(), Instant::now());
    let mut gone = false;
    loop {
        tokio::time::sleep(idle.min(LOOK)).await;
        let now = traffic.totals();
        if now != seen.0 {
            seen = (now, Instant::now());
        } else if seen.1.elapsed() >= idle {
            return End::Idle(idle);
        }
        // What it sent before may still be on its way through; not while nothing moves.
        let is_gone = peer.is_some_and(has_gone) && seen.0 == now;
        if gone && is_gone && seen.1.elapsed() >= LOOK {
            return End::ClientGone;
        }
        gone = is_gone;
    }
}

/// The client will send no more, read or unread: a session that is held back would not see it.
fn has_gone(peer: &TcpStream) -> bool {
    let ready = peer.ready(Interest::READABLE).now_or_never();
    matches!(ready, Some(Ok(ready)) if ready.is_read_closed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    fn watch(idle: u64) -> (Watch, tokio::sync::watch::Sender<Phase>) {
        let (sender, phase) = tokio::sync::watch::channel(Phase::Serving);
        let watch = Watch {
            traffic: Arc::default(),
            idle: Duration::from_secs(idle),
            phase,
            peer: None,
        };
        (watch, sender)
    }

    #[tokio::test(start_paused = true)]
    async fn a_byte_in_either_direction_keeps_a_session() {
        let (mut watch, _phase) = watch(60);
        let traffic = Arc::clone(&watch.traffic);
        let began = Instant::now();
        let feed = async {
            for turn in 0..5 {
                tokio::time::sleep(Duration::from_secs(50)).await;
                if turn % 2 == 0 {
                    traffic.send(1);
                } else {
                    traffic.receive(1);
                }
            }
            std::future::pending::<()>().await;
        };
        let end = tokio::select! { end = watch.cut() => end, () = feed => unreachable!() };
        assert!(matches!(end, End::Idle(_)), "{end:?}");
        let lasted = began.elapsed().as_secs();
        assert!((310..=314).contains(&lasted), "{lasted}");
    }

    #[tokio::test]
    async fn a_session_ends_with_the_daemon_and_not_while_it_drains() {
        let (mut watch, phase) = watch(60);
        phase.send_replace(Phase::Draining);
        assert!(watch.cut().now_or_never().is_none());
        phase.send_replace(Phase::Ending);
        assert!(matches!(watch.cut().await, End::Stopping));
    }

    #[tokio::test]
    async fn a_client_that_has_gone_is_seen_behind_what_it_left_unread() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (server, _) = listener.accept().await.unwrap();
        client.writable().await.unwrap();
        client.try_write(b"unread").unwrap();
        server.readable().await.unwrap();
        assert!(!has_gone(&server));
        drop(client);
        while !has_gone(&server) {
            server.ready(Interest::READABLE).await.unwrap();
            tokio::task::yield_now().await;
        }
    }
}
