//! A session, spoken to frame by frame from the other end.

mod flow;
mod hostile;
mod passing;
mod stall;

use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;

use super::codec::{
    Decoder, Encoder, Frame, GoAwayStatus, Headers, Piece, ResetStatus, data_header,
};
use super::{Incoming, Limits, SpdyError, SpdyReader, SpdyWriter, serve};

/// A peer that says exactly what a test wants.
struct Peer {
    connection: DuplexStream,
    encoder: Encoder,
    decoder: Decoder,
    received: BytesMut,
}

/// What a peer hears; the payload of a frame may come in several.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Frame(Frame),
    Data {
        stream: u32,
        bytes: Vec<u8>,
        fin: bool,
    },
}

type Driver = JoinHandle<Result<(), SpdyError>>;

/// A session whose connection holds `pipe` bytes each way.
fn session(limits: Limits, pipe: usize) -> (Peer, Incoming, Driver) {
    let (ours, theirs) = duplex(pipe);
    let (incoming, driver) = serve(ours, limits);
    (peer(theirs), incoming, tokio::spawn(driver))
}

fn peer(connection: DuplexStream) -> Peer {
    Peer {
        connection,
        encoder: Encoder::default(),
        decoder: Decoder::new(Limits::default().codec),
        received: BytesMut::new(),
    }
}

fn syn_stream(stream: u32) -> Frame {
    Frame::SynStream {
        stream,
        associated: 0,
        priority: 0,
        fin: false,
        unidirectional: false,
        headers: Headers::from_pairs([("streamtype", "data")]),
    }
}

fn rst(stream: u32, status: ResetStatus) -> Heard {
    Heard::Frame(Frame::RstStream { stream, status })
}

fn data(stream: u32, bytes: &[u8], fin: bool) -> Heard {
    let bytes = bytes.to_vec();
    Heard::Data { stream, bytes, fin }
}

impl Peer {
    async fn say(&mut self, frame: &Frame) {
        let mut out = BytesMut::new();
        self.encoder.put(frame, &mut out);
        self.say_bytes(&out).await;
    }

    async fn say_bytes(&mut self, bytes: &[u8]) {
        // A session that ended does not read: what it said before counts.
        let _ = self.connection.write_all(bytes).await;
    }

    async fn send(&mut self, stream: u32, bytes: &[u8], fin: bool) {
        self.say_bytes(&data_header(stream, bytes.len(), fin)).await;
        self.say_bytes(bytes).await;
    }

    /// The next frame, or the next part of a data frame. `None`: closed.
    async fn hear(&mut self) -> Option<Heard> {
        loop {
            let decoded = self.decoder.decode(&self.received, usize::MAX);
            if let Some((taken, piece)) = decoded.expect("a frame") {
                let heard = match piece {
                    Piece::Control(frame) => Heard::Frame(frame),
                    Piece::Data { stream, bytes, fin } => data(stream, bytes, fin),
                };
                self.received.advance(taken);
                return Some(heard);
            }
            if self
                .connection
                .read_buf(&mut self.received)
                .await
                .unwrap_or(0)
                == 0
            {
                return None;
            }
        }
    }

    /// The payload of one stream, as much as this.
    async fn hear_data(&mut self, stream: u32, length: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < length {
            match self.hear().await {
                Some(Heard::Data {
                    stream: of, bytes, ..
                }) if of == stream => all.extend(bytes),
                other => panic!("{other:?} after {} bytes", all.len()),
            }
        }
        all
    }

    /// How far a window was opened, which must come next.
    async fn given(&mut self, stream: u32) -> usize {
        match self.hear().await {
            Some(Heard::Frame(Frame::WindowUpdate { stream: of, delta })) if of == stream => {
                usize::try_from(delta).unwrap()
            }
            other => panic!("{other:?}"),
        }
    }

    /// Passes over all until the answer to a ping.
    async fn hear_all_until(&mut self, ping: Frame) {
        self.say(&ping).await;
        while self.hear().await.expect("an answer") != Heard::Frame(ping.clone()) {}
    }

    async fn open(&mut self, incoming: &mut Incoming, stream: u32) -> (SpdyReader, SpdyWriter) {
        self.say(&syn_stream(stream)).await;
        let opening = incoming.accept().await.expect("a stream");
        assert_eq!(opening.id(), stream);
        assert_eq!(opening.headers.get("streamType"), Some("data"));
        let halves = opening.reply().split();
        let reply = Frame::SynReply {
            stream,
            fin: false,
            headers: Headers::default(),
        };
        let mut heard = self.hear().await;
        // The windows that streams have now, where it keeps them.
        while matches!(heard, Some(Heard::Frame(Frame::Settings(_)))) {
            heard = self.hear().await;
        }
        assert_eq!(heard, Some(Heard::Frame(reply)));
        halves
    }
}

#[tokio::test]
async fn bytes_flow_both_ways_and_each_direction_ends_alone() {
    let (mut peer, mut incoming, driver) = session(Limits::default(), 1 << 20);
    let (mut reader, mut writer) = peer.open(&mut incoming, 1).await;
    peer.send(1, b"to the ser", false).await;
    peer.send(1, b"ver", true).await;
    let mut text = String::new();
    reader.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "to the server");
    writer.write_all(b"and back").await.unwrap();
    assert_eq!(peer.hear().await, Some(data(1, b"and back", false)));
    writer.shutdown().await.unwrap();
    assert_eq!(peer.hear().await, Some(data(1, b"", true)));
    let again = writer.write_all(b"more").await.unwrap_err();
    assert_eq!(again.kind(), std::io::ErrorKind::BrokenPipe);
    drop((reader, writer, incoming));
    let goodbye = Frame::GoAway {
        last_good: 1,
        status: GoAwayStatus::OK,
    };
    assert_eq!(
        peer.hear().await,
        Some(Heard::Frame(goodbye)),
        "no reset: both had ended"
    );
    assert_eq!(peer.hear().await, None, "closed for writing");
    drop(peer);
    driver.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_half_that_is_dropped_unfinished_resets_its_stream_only() {
    let (mut peer, mut incoming, _driver) = session(Limits::default(), 1 << 20);
    let (reader, writer) = peer.open(&mut incoming, 1).await;
    let (_other_reader, mut other) = peer.open(&mut incoming, 3).await;
    drop(reader);
    assert_eq!(peer.hear().await, Some(rst(1, ResetStatus::CANCEL)));
    drop(writer);
    other.write_all(b"still here").await.unwrap();
    assert_eq!(
        peer.hear().await,
        Some(data(3, b"still here", false)),
        "no second reset"
    );
    drop(other);
    assert_eq!(peer.hear().await, Some(rst(3, ResetStatus::CANCEL)));
}

#[tokio::test]
async fn a_stream_that_is_only_written_to_passes_over_what_comes() {
    let (mut peer, mut incoming, _driver) = session(Limits::default(), 1 << 20);
    peer.say(&syn_stream(1)).await;
    let mut writer = incoming.accept().await.unwrap().reply().into_writer();
    assert!(matches!(
        peer.hear().await,
        Some(Heard::Frame(Frame::SynReply { stream: 1, .. }))
    ));
    peer.send(1, &[0; 32 << 10], false).await;
    for stream in [1, 0] {
        let update = Frame::WindowUpdate {
            stream,
            delta: 32 << 10,
        };
        assert_eq!(peer.hear().await, Some(Heard::Frame(update)));
    }
    writer.write_all(b"out").await.unwrap();
    writer.shutdown().await.unwrap();
    drop(writer);
    assert_eq!(peer.hear().await, Some(data(1, b"out", false)));
    assert_eq!(peer.hear().await, Some(data(1, b"", true)));
    peer.say(&Frame::Ping(9)).await;
    assert_eq!(
        peer.hear().await,
        Some(Heard::Frame(Frame::Ping(9))),
        "no reset"
    );
}

#[tokio::test]
async fn the_peers_reset_reaches_both_halves_and_no_other_stream() {
    let (mut peer, mut incoming, _driver) = session(Limits::default(), 1 << 20);
    let (mut reader, mut writer) = peer.open(&mut incoming, 1).await;
    let (_reader, mut other) = peer.open(&mut incoming, 3).await;
    peer.send(1, b"lost", false).await;
    peer.say(&Frame::RstStream {
        stream: 1,
        status: ResetStatus::CANCEL,
    })
    .await;
    peer.send(1, b"sent before it knew", false).await;
    peer.say(&Frame::Ping(1)).await;
    assert_eq!(peer.hear().await, Some(Heard::Frame(Frame::Ping(1))));
    let error = reader.read(&mut [0; 100]).await.unwrap_err();
    assert_eq!(error.to_string(), "the stream was reset: CANCEL");
    let error = writer.write(b"x").await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    drop((reader, writer));
    other.write_all(b"goes on").await.unwrap();
    assert_eq!(
        peer.hear().await,
        Some(data(3, b"goes on", false)),
        "no reset is answered"
    );
}

#[tokio::test]
async fn openings_are_refused_one_by_one_and_all_when_nobody_accepts() {
    let (mut peer, mut incoming, driver) = session(Limits::default(), 1 << 20);
    let (mut reader, mut writer) = peer.open(&mut incoming, 1).await;
    peer.say(&syn_stream(3)).await;
    incoming
        .accept()
        .await
        .unwrap()
        .refuse(ResetStatus::PROTOCOL_ERROR);
    assert_eq!(peer.hear().await, Some(rst(3, ResetStatus::PROTOCOL_ERROR)));
    peer.say(&syn_stream(5)).await;
    drop(incoming.accept().await.unwrap());
    assert_eq!(peer.hear().await, Some(rst(5, ResetStatus::CANCEL)));
    drop(incoming);
    peer.say(&syn_stream(7)).await;
    assert_eq!(peer.hear().await, Some(rst(7, ResetStatus::REFUSED_STREAM)));
    assert!(!driver.is_finished(), "a stream is open");
    peer.send(1, b"", true).await;
    assert_eq!(reader.read(&mut [0; 1]).await.unwrap(), 0);
    writer.shutdown().await.unwrap();
    drop((reader, writer));
    assert_eq!(peer.hear().await, Some(data(1, b"", true)));
    let goodbye = Frame::GoAway {
        last_good: 7,
        status: GoAwayStatus::OK,
    };
    assert_eq!(peer.hear().await, Some(Heard::Frame(goodbye)));
}

#[tokio::test]
async fn who_goes_is_noticed_by_all() {
    let (mut peer, mut incoming, driver) = session(Limits::default(), 1 << 20);
    let (mut reader, mut writer) = peer.open(&mut incoming, 1).await;
    drop(peer);
    driver.await.unwrap().unwrap();
    assert!(incoming.accept().await.is_none());
    let error = reader.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionAborted);
    assert!(writer.write(b"x").await.is_err());
    assert!(writer.shutdown().await.is_err());
}

#[tokio::test]
async fn a_driver_that_is_dropped_ends_all() {
    let (mut peer, mut incoming, driver) = session(Limits::default(), 1 << 20);
    let (mut reader, _writer) = peer.open(&mut incoming, 1).await;
    driver.abort();
    assert!(reader.read(&mut [0; 1]).await.is_err());
    assert!(incoming.accept().await.is_none());
    assert_eq!(
        peer.hear().await,
        None,
        "the connection is closed though handles live"
    );
}

#[tokio::test]
async fn goaway_ends_the_openings_and_not_the_streams() {
    let (mut peer, mut incoming, _driver) = session(Limits::default(), 1 << 20);
    let (_reader, mut writer) = peer.open(&mut incoming, 1).await;
    peer.say(&Frame::GoAway {
        last_good: 0,
        status: GoAwayStatus::OK,
    })
    .await;
    assert!(incoming.accept().await.is_none());
    writer.write_all(b"x").await.unwrap();
    assert_eq!(peer.hear().await, Some(data(1, b"x", false)));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_broke_the_protocol_and_never_closes_is_left_after_a_while() {
    let limits = Limits {
        linger: Duration::from_secs(1),
        ..Limits::default()
    };
    let (mut peer, _incoming, driver) = session(limits, 1 << 20);
    peer.say(&syn_stream(2)).await;
    assert!(matches!(
        peer.hear().await,
        Some(Heard::Frame(Frame::GoAway { .. }))
    ));
    driver.await.unwrap().unwrap_err();
}
