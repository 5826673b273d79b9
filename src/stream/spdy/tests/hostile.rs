//! A peer that breaks the rules is sent away with a reason, and holds no more than it may.

use super::*;
use crate::stream::spdy::codec::{self, Setting};

/// What the driver and the peer hear after these bytes; stream 1 is open and accepted.
async fn after(bytes: &[u8]) -> (String, Vec<Heard>) {
    let (mut peer, mut incoming, driver) = session(Limits::default(), 1 << 20);
    let _halves = peer.open(&mut incoming, 1).await;
    peer.say_bytes(bytes).await;
    let mut heard = Vec::new();
    while let Some(next) = peer.hear().await {
        heard.push(next);
    }
    drop(peer);
    let error = driver.await.unwrap().expect_err("the session ends badly");
    assert!(incoming.accept().await.is_none());
    let mut text = error.to_string();
    if let Some(source) = std::error::Error::source(&error) {
        text = format!("{text}: {source}");
    }
    (text, heard)
}

fn encoded(frame: &Frame) -> BytesMut {
    let mut out = BytesMut::new();
    // Stored blocks need no state but their first bytes, which `open` has sent.
    let mut encoder = Encoder::default();
    encoder.put(&syn_stream(1), &mut out);
    out.clear();
    encoder.put(frame, &mut out);
    out
}

#[tokio::test]
async fn each_breach_ends_the_session_with_goaway_and_is_named() {
    let window = |stream, delta| Frame::WindowUpdate { stream, delta };
    let twice = [encoded(&window(1, 0x7fff_ffff)), encoded(&window(1, 1))].concat();
    let session = [encoded(&window(0, 0x7fff_ffff)), encoded(&window(0, 1))].concat();
    let initial = Setting {
        flags: 0,
        id: Setting::INITIAL_WINDOW,
        value: 0x7fff_ffff,
    };
    let settings = [
        encoded(&window(1, 100)),
        encoded(&Frame::Settings(vec![initial])),
    ]
    .concat();
    let reset = Frame::RstStream {
        stream: 2,
        status: ResetStatus::CANCEL,
    };
    let reply = Frame::SynReply {
        stream: 1,
        fin: false,
        headers: Headers::default(),
    };
    let more = Frame::Headers {
        stream: 9,
        fin: false,
        headers: Headers::default(),
    };
    let cases = [
        (encoded(&syn_stream(1)).to_vec(), "stream 1 after stream 1"),
        (
            encoded(&syn_stream(2)).to_vec(),
            "stream 2 after stream 1; ids are odd and go up",
        ),
        (
            data_header(3, 0, false).to_vec(),
            "DATA frame for stream 3, which was never opened",
        ),
        (
            data_header(2, 0, false).to_vec(),
            "DATA frame for stream 2, which was never opened",
        ),
        (encoded(&reset).to_vec(), "RST_STREAM frame for stream 2"),
        (encoded(&reply).to_vec(), "SYN_REPLY frame for stream 1"),
        (encoded(&more).to_vec(), "HEADERS frame for stream 9"),
        (
            encoded(&window(7, 1)).to_vec(),
            "WINDOW_UPDATE frame for stream 7",
        ),
        (twice, "gave stream 1 a window of more than"),
        (session, "gave stream 0 a window of more than"),
        (settings, "gave stream 1 a window of more than"),
        (
            vec![0x80, 2, 0, 6, 0, 0, 0, 4],
            "not SPDY/3.1: a control frame of SPDY version 2",
        ),
        (
            vec![0x80, 3, 0, 4, 0, 0xff, 0xff, 0xff],
            "SETTINGS frame of 16777215 bytes; at most",
        ),
    ];
    for (bytes, expected) in cases {
        let (error, heard) = after(&bytes).await;
        assert!(error.contains(expected), "{expected}: {error}");
        let Some(Heard::Frame(Frame::GoAway { status, .. })) = heard.last() else {
            panic!("{heard:?}");
        };
        assert_eq!(*status, GoAwayStatus::PROTOCOL_ERROR);
    }
}

#[tokio::test]
async fn data_after_the_end_of_a_stream_resets_it() {
    let (mut peer, mut incoming, driver) = session(Limits::default(), 1 << 20);
    let _halves = peer.open(&mut incoming, 1).await;
    peer.send(1, b"last", true).await;
    peer.send(1, b"one more", false).await;
    assert_eq!(
        peer.hear().await,
        Some(rst(1, ResetStatus::STREAM_ALREADY_CLOSED))
    );
    assert!(!driver.is_finished());
}

#[tokio::test]
async fn streams_over_the_limit_are_refused_and_who_goes_on_is_sent_away() {
    let limits = Limits {
        streams: 10,
        ..Limits::default()
    };
    let (mut peer, mut incoming, driver) = session(limits, 1 << 20);
    let mut open = Vec::new();
    for at in 0..10 {
        open.push(peer.open(&mut incoming, 2 * at + 1).await);
    }
    peer.say(&syn_stream(21)).await;
    assert_eq!(
        peer.hear().await,
        Some(rst(21, ResetStatus::REFUSED_STREAM))
    );
    // One goes, another comes: the count of refusals begins anew.
    drop(open.pop());
    assert_eq!(peer.hear().await, Some(rst(19, ResetStatus::CANCEL)));
    open.push(peer.open(&mut incoming, 23).await);
    for at in 0..11 {
        peer.say(&syn_stream(25 + 2 * at)).await;
    }
    for at in 0..10 {
        assert_eq!(
            peer.hear().await,
            Some(rst(25 + 2 * at, ResetStatus::REFUSED_STREAM))
        );
    }
    assert!(matches!(
        peer.hear().await,
        Some(Heard::Frame(Frame::GoAway { .. }))
    ));
    drop(peer);
    let error = driver.await.unwrap().unwrap_err().to_string();
    assert_eq!(
        error,
        "the client has 10 streams open and goes on opening streams"
    );
}

#[tokio::test]
async fn thousands_of_streams_that_nobody_accepts_hold_no_more_than_the_bound() {
    let big = "x".repeat(7_000);
    let frame = |stream| Frame::SynStream {
        stream,
        associated: 0,
        priority: 0,
        fin: false,
        unidirectional: false,
        headers: Headers::from_pairs([("a", big.as_str())]),
    };
    let (mut peer, mut incoming, driver) = session(Limits::default(), 1000);
    let mut said = 0;
    while said < 4000 {
        let next = frame(2 * said + 1);
        let most = Duration::from_millis(200);
        if tokio::time::timeout(most, peer.say(&next)).await.is_err() {
            break;
        }
        said += 1;
    }
    let unread = Limits::default().unread;
    assert!(
        said <= u32::try_from(unread / 7_000).unwrap() + 6,
        "{said} were taken"
    );
    assert!(!driver.is_finished());
    drop(incoming.accept().await);
}

#[tokio::test]
async fn pings_whose_answers_nobody_reads_are_not_collected() {
    let (mut peer, _incoming, _driver) = session(Limits::default(), 1000);
    let mut ping = BytesMut::new();
    peer.encoder.put(&Frame::Ping(1), &mut ping);
    let many = ping.repeat(1000);
    let mut said = 0;
    while said < 100_000 {
        let most = Duration::from_millis(200);
        if tokio::time::timeout(most, peer.connection.write_all(&many))
            .await
            .is_err()
        {
            break;
        }
        said += 1000;
    }
    assert!(said <= 20_000, "{said} were taken");
}

#[tokio::test]
async fn what_the_codec_may_hold_can_be_set() {
    let codec = codec::Limits {
        control_frame: 100,
        header_block: 50,
    };
    let limits = Limits {
        codec,
        ..Limits::default()
    };
    let (mut peer, _incoming, driver) = session(limits, 1 << 20);
    let headers = Headers::from_pairs([("a", "x".repeat(60).as_str())]);
    let Frame::SynStream {
        stream,
        associated,
        priority,
        fin,
        unidirectional,
        ..
    } = syn_stream(1)
    else {
        unreachable!();
    };
    let frame = Frame::SynStream {
        stream,
        associated,
        priority,
        fin,
        unidirectional,
        headers,
    };
    peer.say(&frame).await;
    assert!(matches!(
        peer.hear().await,
        Some(Heard::Frame(Frame::GoAway { .. }))
    ));
    drop(peer);
    assert!(driver.await.unwrap().is_err());
}
