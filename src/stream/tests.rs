//! What a session holds, added up.

use super::over_websocket::{QUEUE, SIZES};
use super::port_forward::{FROM_POD, TO_POD};
use super::remote_command::{COMPLAINT, INPUT, OUTPUT};
use super::spdy::{Limits, most_held};
use super::websocket::READ;

const MOST: usize = 256 * 1024;

#[test]
fn a_session_holds_at_most_256_kib() {
    let command = OUTPUT + COMPLAINT + INPUT;
    let ports = FROM_POD + TO_POD;
    let spdy = most_held(Limits::default());
    // One message as base64 text, and what is read of the client and on its way to its channel.
    let socket = OUTPUT.div_ceil(3) * 4 + READ + QUEUE + SIZES;
    for (name, held) in [
        ("exec over SPDY", command + spdy),
        ("port-forward over SPDY", ports + spdy),
        ("exec over WebSocket", command + socket),
    ] {
        assert!(held <= MOST, "{name}: {held}");
    }
}
