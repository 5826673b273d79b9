//! What a session holds, added up.

use super::over_websocket::{QUEUE, SIZES};
use super::port_forward::{FROM_POD, TO_POD};
use super::remote_command::{COMPLAINT, INPUT, OUTPUT};
use super::spdy::{Limits, most_held};
use super::tls;
use super::websocket::READ;

const MOST: usize = 256 * 1024;
/// What a tunnel holds, and more.
const TUNNEL: usize = 1024;

#[test]
fn a_session_holds_at_most_256_kib_with_tls() {
    // What is said to the client is kept by SPDY alone.
    let spdy = most_held(Limits::default());
    // One message as bytes and as base64 text, and what is read of the client and on its way to its
    // channel: a queue takes up to twice its length.
    let socket = OUTPUT.max(FROM_POD).div_ceil(3) * 4 + READ + 2 * (QUEUE + SIZES);
    for (name, held) in [
        ("exec over SPDY", COMPLAINT + INPUT + spdy),
        ("port-forward over SPDY", TO_POD + spdy),
        ("port-forward in a tunnel", TO_POD + spdy + TUNNEL),
        ("exec over WebSocket", OUTPUT + COMPLAINT + INPUT + socket),
        ("port-forward over WebSocket", FROM_POD + TO_POD + socket),
    ] {
        assert!(held + tls::MOST_HELD <= MOST, "{name}: {held}");
    }
}
