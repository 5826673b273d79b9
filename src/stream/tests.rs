//! What a session holds, added up.

use super::outlet::PASSED_ON;
use super::over_spdy::COMMAND_STREAMS;
use super::over_websocket::{QUEUE, SIZES};
use super::remote_command::{COMPLAINT, INPUT, OUTPUT};
use super::spdy::{Limits, most_held};
use super::tls;
use super::websocket::READ;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const MOST: usize = 256 * 1024;
/// What a tunnel holds, and more.
const TUNNEL: usize = 1024;

#[test]
fn a_session_holds_at_most_256_kib_with_tls() {
    // What comes and goes is kept by SPDY alone, for all connections together.
    let ports = most_held(Limits::default());
    let command = most_held(Limits {
        streams: COMMAND_STREAMS,
        ..Limits::default()
    });
    // One message as bytes and as base64 text, and what is read of the client and on its way to its
    // channel: a queue takes up to twice its length.
    let socket = OUTPUT.max(PASSED_ON).div_ceil(3) * 4 + READ + 2 * (QUEUE + SIZES);
    for (name, held) in [
        ("exec over SPDY", COMPLAINT + INPUT + command),
        ("port-forward over SPDY", ports),
        ("port-forward in a tunnel", ports + TUNNEL),
        ("exec over WebSocket", OUTPUT + COMPLAINT + INPUT + socket),
        ("port-forward over WebSocket", PASSED_ON + QUEUE + socket),
    ] {
        assert!(held + tls::MOST_HELD <= MOST, "{name}: {held}");
    }
}

/// Waits until no more is said: with sockets on the way a clock may be stopped only then.
pub async fn held_up(said: &AtomicUsize) {
    let mut before = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = said.load(Ordering::Relaxed);
        if now > 0 && now == before {
            return;
        }
        before = now;
    }
}
