//! Windows, back-pressure, and who may write next.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use futures::poll;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::*;
use crate::stream::spdy::codec::Setting;

pub(super) const MIB: usize = 1 << 20;

/// Bytes that show where they are.
pub(super) fn numbered(length: usize) -> Vec<u8> {
    let number = |at: usize| u8::try_from(at % 251).expect("less than 251");
    (0..length).map(number).collect()
}

#[tokio::test]
async fn a_peer_without_windows_gets_all() {
    let (mut peer, mut incoming, _driver) = session(Limits::default(), 10_000);
    let (_reader, mut writer) = peer.open(&mut incoming, 1).await;
    let written = tokio::spawn(async move {
        writer.write_all(&numbered(MIB)).await.unwrap();
        writer.shutdown().await.unwrap();
        writer
    });
    assert!(peer.hear_data(1, MIB).await == numbered(MIB));
    written.await.unwrap();
}

#[tokio::test]
async fn a_window_is_obeyed_once_the_peer_has_shown_that_it_keeps_it() {
    let (mut peer, mut incoming, _driver) = session(Limits::default(), 10 * MIB);
    peer.say(&Frame::WindowUpdate {
        stream: 0,
        delta: 10_000_000,
    })
    .await;
    let small = Setting {
        flags: 0,
        id: Setting::INITIAL_WINDOW,
        value: 1000,
    };
    peer.say(&Frame::Settings(vec![small])).await;
    let (_reader, mut writer) = peer.open(&mut incoming, 1).await;
    let mut writing = pin!(writer.write_all(&[1; 3000]));
    assert!(poll!(&mut writing).is_pending());
    assert_eq!(peer.hear_data(1, 1000).await, [1; 1000]);
    peer.say(&Frame::WindowUpdate {
        stream: 1,
        delta: 500,
    })
    .await;
    peer.say(&Frame::Ping(1)).await;
    assert_eq!(peer.hear().await, Some(Heard::Frame(Frame::Ping(1))));
    assert!(poll!(&mut writing).is_pending());
    assert_eq!(peer.hear_data(1, 500).await, [1; 500]);
    let large = Setting {
        value: 3000,
        ..small
    };
    peer.say(&Frame::Settings(vec![large])).await;
    writing.await.unwrap();
    assert_eq!(peer.hear_data(1, 1500).await, [1; 1500]);
}

#[tokio::test]
async fn the_sessions_window_holds_back_all_streams() {
    let (mut peer, mut incoming, _driver) = session(Limits::default(), 10 * MIB);
    peer.say(&Frame::WindowUpdate {
        stream: 0,
        delta: 1,
    })
    .await;
    let (_first_reader, mut first) = peer.open(&mut incoming, 1).await;
    let (_second_reader, mut second) = peer.open(&mut incoming, 3).await;
    first.write_all(&[1; 64 << 10]).await.unwrap();
    second.write_all(&[2; 1]).await.unwrap();
    let mut writing = pin!(second.write_all(&[3; 10]));
    assert!(poll!(&mut writing).is_pending());
    peer.hear_data(1, 64 << 10).await;
    assert_eq!(peer.hear().await, Some(data(3, &[2], false)));
    peer.say(&Frame::WindowUpdate {
        stream: 0,
        delta: 100,
    })
    .await;
    writing.await.unwrap();
    assert_eq!(peer.hear().await, Some(data(3, &[3; 10], false)));
}

#[tokio::test]
async fn windows_open_again_as_streams_are_read() {
    let (mut peer, mut incoming, _driver) = session(Limits::default(), 10 * MIB);
    let (mut reader, _writer) = peer.open(&mut incoming, 1).await;
    peer.send(1, &[0; 40_000], false).await;
    let given = peer.given(0).await;
    assert!(
        (32_768..=40_000).contains(&given),
        "{given} before it is read"
    );
    reader.read_exact(&mut [0; 32_000]).await.unwrap();
    peer.say(&Frame::Ping(1)).await;
    assert_eq!(
        peer.hear().await,
        Some(Heard::Frame(Frame::Ping(1))),
        "not for each read"
    );
    reader.read_exact(&mut [0; 8000]).await.unwrap();
    let given = peer.given(1).await;
    assert!((32_768..=40_000).contains(&given), "{given}");
}

/// It keeps windows: what one stream leaves unread is nothing to the session's.
#[tokio::test]
async fn a_stream_that_nobody_reads_takes_no_window_from_the_others() {
    let (mut peer, mut incoming, _driver) = session(Limits::default(), 10 * MIB);
    let (_unread, _writer) = peer.open(&mut incoming, 1).await;
    let (mut reader, _writer) = peer.open(&mut incoming, 3).await;
    peer.send(1, &[0; 64 << 10], false).await;
    let given = tokio::time::timeout(Duration::from_secs(20), peer.given(0)).await;
    let given = given.expect("the session's window opens");
    assert!(given >= 32 << 10, "{given}");
    peer.send(3, b"goes on", false).await;
    let mut heard = [0; 7];
    let read = reader.read_exact(&mut heard);
    let read = tokio::time::timeout(Duration::from_secs(20), read).await;
    read.expect("it is read").unwrap();
    assert_eq!(&heard, b"goes on");
}

/// As many as there are, all that leave everything unread together hold nobody up.
#[tokio::test(start_paused = true)]
async fn streams_share_what_may_be_unread_where_their_peer_keeps_windows() {
    const STREAMS: u32 = 100;
    let limits = Limits {
        stall: Some(Duration::from_secs(25)),
        ..Limits::default()
    };
    let (mut peer, mut incoming, _driver) = session(limits, 10 * MIB);
    peer.say(&Frame::WindowUpdate {
        stream: 0,
        delta: 1 << 20,
    })
    .await;
    let mut open = Vec::new();
    let mut window = 64 << 10;
    for at in 0..STREAMS {
        peer.say(&syn_stream(2 * at + 1)).await;
        open.push(incoming.accept().await.expect("a stream").reply().split());
    }
    peer.say(&Frame::Ping(1)).await;
    loop {
        match peer.hear().await {
            Some(Heard::Frame(Frame::Settings(settings))) => window = settings[0].value as usize,
            Some(Heard::Frame(Frame::Ping(1))) => break,
            Some(Heard::Frame(Frame::SynReply { .. })) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!((64..1 << 10).contains(&window), "{window}");
    for at in 1..STREAMS {
        peer.send(2 * at + 1, &vec![0; window], false).await;
    }
    tokio::time::sleep(Duration::from_secs(3600)).await;
    peer.send(1, b"goes on", false).await;
    let mut heard = [0; 7];
    open[0].0.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"goes on");
    // Each that goes leaves more to the others.
    open.truncate(1);
    loop {
        match peer.hear().await {
            Some(Heard::Frame(Frame::Settings(settings))) if settings[0].value == 64 << 10 => break,
            Some(Heard::Frame(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn who_reads_slowly_holds_back_the_connection_and_loses_nothing() {
    let (mut peer, mut incoming, _driver) = session(Limits::default(), 10_000);
    let (mut reader, _writer) = peer.open(&mut incoming, 1).await;
    let (mut write, mut hear) = (0, Vec::new());
    let bytes = [&data_header(1, MIB, true)[..], &numbered(MIB)].concat();
    // More than the bound and the connection hold is not taken while nobody reads.
    loop {
        let most = std::time::Duration::from_millis(200);
        let part = peer.connection.write(&bytes[write..]);
        match tokio::time::timeout(most, part).await {
            Ok(written) => write += written.unwrap(),
            Err(_) => break,
        }
    }
    assert!(
        write <= Limits::default().unread + super::super::driver::BUFFER + 10_000,
        "{write}"
    );
    let (mut from, mut to) = tokio::io::split(peer.connection);
    let rest = tokio::spawn(async move { to.write_all(&bytes[write..]).await.map(|()| to) });
    // WINDOW_UPDATEs are taken away.
    tokio::spawn(async move { tokio::io::copy(&mut from, &mut tokio::io::sink()).await });
    reader.read_to_end(&mut hear).await.unwrap();
    assert!(hear == numbered(MIB));
    rest.await.unwrap().unwrap();
}

#[tokio::test]
async fn streams_take_turns_when_the_connection_is_full() {
    const STREAMS: u32 = 4;
    let (mut peer, mut incoming, _driver) = session(Limits::default(), 10_000);
    let (mut open, mut writers) = (Vec::new(), Vec::new());
    for at in 0..STREAMS {
        open.push(peer.open(&mut incoming, 2 * at + 1).await);
    }
    for (reader, mut writer) in open {
        writers.push(tokio::spawn(async move {
            writer.write_all(&numbered(MIB)).await.unwrap();
            (reader, writer)
        }));
    }
    let mut heard = [const { Vec::new() }; STREAMS as usize];
    while heard.iter().map(Vec::len).sum::<usize>() < MIB * STREAMS as usize {
        let Some(Heard::Data { stream, bytes, .. }) = peer.hear().await else {
            panic!("the session ended");
        };
        heard[stream as usize / 2].extend(bytes);
        let done = heard.iter().map(Vec::len);
        let (least, most) = (done.clone().min().unwrap(), done.max().unwrap());
        assert!(most - least <= 4 * (64 << 10), "{least} {most}");
    }
    for (heard, writer) in heard.iter().zip(writers) {
        writer.await.unwrap();
        assert!(*heard == numbered(MIB));
    }
}

#[tokio::test]
async fn a_writer_that_gives_up_in_line_holds_up_nobody() {
    let (mut peer, mut incoming, _driver) = session(Limits::default(), 1000);
    let (_first_reader, mut first) = peer.open(&mut incoming, 1).await;
    let (_second_reader, mut second) = peer.open(&mut incoming, 3).await;
    let (_third_reader, mut third) = peer.open(&mut incoming, 5).await;
    first.write_all(&[1; 5000]).await.unwrap();
    assert!(poll!(pin!(second.write_all(&[2; 10]))).is_pending());
    let third = tokio::spawn(async move {
        third.write_all(&[3; 10]).await.unwrap();
        third
    });
    assert_eq!(peer.hear_data(1, 5000).await, [1; 5000]);
    assert_eq!(peer.hear_data(5, 10).await, [3; 10]);
    third.await.unwrap();
}

/// Of what was read, thrown away or came too late nothing is missing from the session's window.
#[tokio::test]
async fn what_comes_opens_the_sessions_window_whatever_becomes_of_it() {
    const PART: usize = 40_000;
    let (mut peer, mut incoming, _driver) = session(Limits::default(), 10 * MIB);
    let (_unread, _writer) = peer.open(&mut incoming, 1).await;
    let (dropped, _writer) = peer.open(&mut incoming, 3).await;
    let (_ended, _writer) = peer.open(&mut incoming, 5).await;
    drop(dropped);
    assert_eq!(peer.hear().await, Some(rst(3, ResetStatus::CANCEL)));
    peer.send(5, b"", true).await;
    let (mut given, mut resets) = (0, 0);
    for stream in [1, 3, 5] {
        peer.send(stream, &[0; PART], false).await;
    }
    while given < 3 * PART - (32 << 10) {
        match peer.hear().await {
            Some(Heard::Frame(Frame::WindowUpdate { stream: 0, delta })) => {
                given += delta as usize;
            }
            Some(Heard::Frame(Frame::RstStream { stream: 5, status })) => {
                assert_eq!(status, ResetStatus::STREAM_ALREADY_CLOSED);
                resets += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((given <= 3 * PART, resets), (true, 1));
}

#[tokio::test]
async fn a_window_may_be_filled_before_the_connection_is_held_back() {
    let (mut peer, mut incoming, _driver) = session(Limits::default(), 10 * MIB);
    let (_reader, _writer) = peer.open(&mut incoming, 1).await;
    for _ in 0..64 {
        peer.send(1, &[0; 1 << 10], false).await;
    }
    let answer = peer.hear_all_until(Frame::Ping(1));
    let answer = tokio::time::timeout(Duration::from_secs(20), answer).await;
    answer.expect("an answer");
}

/// It passes on what was written when it is flushed, as TLS may.
struct Held<T> {
    io: T,
    held: BytesMut,
}

impl<T: AsyncRead + Unpin> AsyncRead for Held<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Held<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        if self.held.len() >= 1000 {
            ready!(self.as_mut().poll_flush(cx))?;
        }
        let taken = bytes.len().min(1000);
        self.held.extend_from_slice(&bytes[..taken]);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let Self { io, held } = &mut *self;
        while !held.is_empty() {
            let written = ready!(Pin::new(&mut *io).poll_write(cx, held))?;
            held.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn what_a_connection_keeps_until_it_is_flushed_is_flushed() {
    let (ours, theirs) = duplex(700);
    let held = Held {
        io: ours,
        held: BytesMut::new(),
    };
    let (mut incoming, driver) = serve(held, Limits::default());
    let _driver = tokio::spawn(driver);
    let mut peer = peer(theirs);
    let all = async {
        let (_reader, mut writer) = peer.open(&mut incoming, 1).await;
        for length in [1, 5_000, 100_000] {
            let written = numbered(length);
            let write = async {
                writer.write_all(&written).await.unwrap();
            };
            let ((), heard) = tokio::join!(write, peer.hear_data(1, length));
            assert!(heard == written);
        }
    };
    let most = std::time::Duration::from_secs(20);
    tokio::time::timeout(most, all).await.expect("all comes");
}

#[tokio::test]
async fn a_flush_waits_until_the_connection_has_taken_all_or_the_stream_is_reset() {
    let (mut peer, mut incoming, _driver) = session(Limits::default(), 10_000);
    let (_first_reader, mut first) = peer.open(&mut incoming, 1).await;
    let (_second_reader, mut second) = peer.open(&mut incoming, 3).await;
    first.write_all(&[1; 30_000]).await.unwrap();
    let mut flushing = pin!(first.flush());
    let mut other = pin!(second.flush());
    assert!(poll!(&mut flushing).is_pending());
    assert!(poll!(&mut other).is_pending());
    peer.hear_data(1, 30_000).await;
    flushing.await.unwrap();
    other.await.unwrap();
    first.write_all(&[1; 30_000]).await.unwrap();
    let mut flushing = pin!(first.flush());
    assert!(poll!(&mut flushing).is_pending());
    peer.say(&Frame::RstStream {
        stream: 1,
        status: ResetStatus::CANCEL,
    })
    .await;
    flushing.await.unwrap();
}
