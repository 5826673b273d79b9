//! Frames that github.com/moby/spdystream wrote (`tests/fuzz/golden` says how).

use super::*;

const FRAMES: &[u8] = include_bytes!("../../../../../tests/fuzz/corpus/spdy_frames/frames.bin");
const SESSION: &[u8] = include_bytes!("../../../../../tests/fuzz/corpus/spdy_frames/session.bin");

fn opens(stream: u32, kind: &str) -> Frame {
    Frame::SynStream {
        stream,
        associated: 0,
        priority: 0,
        fin: false,
        unidirectional: false,
        headers: Headers::from_pairs([("streamtype", kind)]),
    }
}

#[test]
fn every_kind_of_frame_is_what_its_writer_meant() {
    let long = "0123456789abcdef".repeat(500);
    let (frames, payload) = decode(FRAMES, 10).unwrap();
    let mut first = opens(1, "error");
    if let Frame::SynStream { priority, .. } = &mut first {
        *priority = 3;
    }
    let second = Frame::SynStream {
        stream: 3,
        associated: 1,
        priority: 0,
        fin: true,
        unidirectional: true,
        headers: Headers::from_pairs([("port", "80"), ("port", "443")]),
    };
    let expected = [
        first,
        second,
        Frame::SynReply {
            stream: 1,
            fin: false,
            headers: Headers::default(),
        },
        Frame::Headers {
            stream: 1,
            fin: false,
            headers: Headers::from_pairs([("x-long", long.as_str())]),
        },
        Frame::Settings(vec![
            Setting {
                flags: 0,
                id: Setting::MAX_CONCURRENT_STREAMS,
                value: 100,
            },
            Setting {
                flags: 1,
                id: Setting::INITIAL_WINDOW,
                value: 65536,
            },
        ]),
        Frame::WindowUpdate {
            stream: 1,
            delta: 4096,
        },
        Frame::Ping(5),
        Frame::RstStream {
            stream: 3,
            status: ResetStatus::CANCEL,
        },
        Frame::GoAway {
            last_good: 3,
            status: GoAwayStatus::OK,
        },
    ];
    assert_eq!(frames, expected);
    assert_eq!(payload, b"some data");
}

#[test]
fn a_clients_session_is_what_it_did() {
    let (frames, payload) = decode(SESSION, 3).unwrap();
    let expected = [
        opens(1, "data"),
        opens(3, "error"),
        Frame::RstStream {
            stream: 3,
            status: ResetStatus::CANCEL,
        },
        Frame::Ping(1),
        Frame::GoAway {
            last_good: 0,
            status: GoAwayStatus::OK,
        },
    ];
    assert_eq!(frames, expected);
    assert_eq!(payload, b"hello, serveronce more");
}
