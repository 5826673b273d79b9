//! Windows, back-pressure, and who may write next.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use futures::poll;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::*;
use crate::stream::spdy::Stall;
use crate::stream::spdy::codec::Setting;

const MIB: usize = 1 << 20;

/// Bytes that show where they are.
fn numbered(length: usize) -> Vec<u8> {
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
    reader.read_exact(&mut [0; 32_000]).await.unwrap();
    peer.say(&Frame::Ping(1)).await;
    assert_eq!(
        peer.hear().await,
        Some(Heard::Frame(Frame::Ping(1))),
        "not for each read"
    );
    reader.read_exact(&mut [0; 8000]).await.unwrap();
    let mut given = [0, 0];
    for stream in [1, 0] {
        let Some(Heard::Frame(Frame::WindowUpdate { stream: of, delta })) = peer.hear().await
        else {
            panic!("no WINDOW_UPDATE");
        };
        assert_eq!(of, stream);
        given[usize::from(stream == 0)] = delta;
    }
    assert_eq!(given[0], given[1]);
    assert!((32_768..=40_000).contains(&given[0]), "{given:?}");
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

/// What is thrown away unread would else be missing from the session's window for ever.
#[tokio::test]
async fn a_reset_gives_the_sessions_window_back() {
    const PART: u32 = 40_000;
    let (mut peer, mut incoming, _driver) = session(Limits::default(), 10 * MIB);
    let given = Frame::WindowUpdate {
        stream: 0,
        delta: PART,
    };
    let part = [0; PART as usize];
    let (_reader, _writer) = peer.open(&mut incoming, 1).await;
    peer.send(1, &part, false).await;
    peer.say(&Frame::RstStream {
        stream: 1,
        status: ResetStatus::CANCEL,
    })
    .await;
    peer.say(&Frame::Ping(1)).await;
    assert_eq!(peer.hear().await, Some(Heard::Frame(given.clone())));
    assert_eq!(peer.hear().await, Some(Heard::Frame(Frame::Ping(1))));

    let (reader, _writer) = peer.open(&mut incoming, 3).await;
    peer.send(3, &part, false).await;
    peer.say(&Frame::Ping(3)).await;
    assert_eq!(peer.hear().await, Some(Heard::Frame(Frame::Ping(3))));
    drop(reader);
    let told = [peer.hear().await, peer.hear().await];
    assert!(
        told.contains(&Some(Heard::Frame(given.clone()))),
        "{told:?}"
    );

    let (_reader, _writer) = peer.open(&mut incoming, 5).await;
    peer.send(5, b"", true).await;
    peer.send(5, &part, false).await;
    let reset = rst(5, ResetStatus::STREAM_ALREADY_CLOSED);
    assert_eq!(peer.hear().await, Some(reset));
    // It comes in pieces, and so does what is given back.
    let told = peer.hear().await;
    let Some(Heard::Frame(Frame::WindowUpdate { stream: 0, delta })) = told else {
        panic!("{told:?}");
    };
    assert!(delta >= 32 << 10, "{delta}");
}

#[tokio::test]
async fn a_window_may_be_filled_before_the_connection_is_held_back() {
    let (mut peer, mut incoming, _driver) = session(Limits::default(), 10 * MIB);
    let (_reader, _writer) = peer.open(&mut incoming, 1).await;
    for _ in 0..64 {
        peer.send(1, &[0; 1 << 10], false).await;
    }
    peer.say(&Frame::Ping(1)).await;
    let heard = tokio::time::timeout(std::time::Duration::from_secs(20), peer.hear()).await;
    assert_eq!(
        heard.expect("an answer"),
        Some(Heard::Frame(Frame::Ping(1)))
    );
}

/// How long a connection is unread before its one stream with unread bytes is reset, in seconds.
async fn stalled_for(streams: u32) -> u64 {
    let limits = Limits {
        stall: Some(Stall {
            others: Duration::from_secs(25),
            alone: Duration::from_secs(120),
        }),
        ..Limits::default()
    };
    let (mut peer, mut incoming, _driver) = session(limits, 10 * MIB);
    let mut open = Vec::new();
    for at in 0..streams {
        open.push(peer.open(&mut incoming, 2 * at + 1).await);
    }
    let began = tokio::time::Instant::now();
    peer.send(1, &[0; 256 << 10], false).await;
    let reset = rst(1, ResetStatus::FLOW_CONTROL_ERROR);
    // What is thrown away is given back to the session first.
    let mut heard = peer.hear().await;
    while let Some(Heard::Frame(Frame::WindowUpdate { stream: 0, .. })) = heard {
        heard = peer.hear().await;
    }
    assert_eq!(heard, Some(reset));
    open[0].0.until_reset().await;
    began.elapsed().as_secs()
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_nobody_reads_stalls_its_session_for_a_while_only() {
    assert!((25..30).contains(&stalled_for(4).await));
    assert!((120..125).contains(&stalled_for(2).await));
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
