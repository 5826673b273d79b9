mod ports;

use super::super::source::Source;
use super::super::source::fakes::{FakeSource, says};
use super::super::watch::{Phase, Traffic};
use super::*;
use crate::engine::session::{ExecSession, PortForwardSession};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tungstenite::protocol::frame::{Frame, FrameHeader};

const V5: Spoken = Spoken {
    coding: Coding::BinaryHalfClose,
    form: Form::Json,
};

/// A client, message by message.
type Client = Listener<DuplexStream>;

/// Who hears what comes.
struct Listener<R> {
    io: R,
    held: Vec<u8>,
}

fn framed(opcode: OpCode, payload: &[u8]) -> Vec<u8> {
    let header = FrameHeader {
        opcode,
        mask: Some([1, 2, 3, 4]),
        ..FrameHeader::default()
    };
    let mut bytes = Vec::new();
    let frame = Frame::from_payload(header, payload.to_vec().into());
    frame.format(&mut bytes).unwrap();
    bytes
}

async fn say(io: &mut (impl AsyncWrite + Unpin), payload: &[u8]) {
    let bytes = framed(OpCode::Data(Data::Binary), payload);
    io.write_all(&bytes).await.unwrap();
}

impl Client {
    async fn say(&mut self, opcode: OpCode, payload: &[u8]) {
        // A session that has ended does not read any more.
        let _ = self.io.write_all(&framed(opcode, payload)).await;
    }

    async fn binary(&mut self, payload: &[u8]) {
        self.say(OpCode::Data(Data::Binary), payload).await;
    }
}

impl<R: AsyncRead + Unpin> Listener<R> {
    async fn hear(&mut self) -> Option<(OpCode, Vec<u8>)> {
        loop {
            let mut cursor = io::Cursor::new(&self.held);
            if let Some((header, length)) = FrameHeader::parse(&mut cursor).unwrap() {
                let start = usize::try_from(cursor.position()).unwrap();
                let end = start + usize::try_from(length).unwrap();
                if self.held.len() >= end {
                    let payload = self.held[start..end].to_vec();
                    self.held.drain(..end);
                    return Some((header.opcode, payload));
                }
            }
            if self.io.read_buf(&mut self.held).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// All that comes, by channel, to the close; its code last.
    async fn hear_all(&mut self) -> (Vec<(u8, Vec<u8>)>, u16) {
        let mut all: Vec<(u8, Vec<u8>)> = Vec::new();
        while let Some((opcode, payload)) = self.hear().await {
            match opcode {
                OpCode::Control(Control::Close) => {
                    return (all, u16::from_be_bytes([payload[0], payload[1]]));
                }
                OpCode::Control(_) => {}
                OpCode::Data(_) => match all.iter_mut().find(|(at, _)| *at == payload[0]) {
                    Some((_, bytes)) => bytes.extend_from_slice(&payload[1..]),
                    None => all.push((payload[0], payload[1..].to_vec())),
                },
            }
        }
        (all, 0)
    }
}

fn watch() -> Watch {
    let (sender, phase) = tokio::sync::watch::channel(Phase::Serving);
    // Dropped, it would be an end.
    std::mem::forget(sender);
    Watch {
        traffic: Arc::<Traffic>::default(),
        idle: Duration::from_secs(3600),
        phase,
        peer: None,
    }
}

fn client() -> (Client, Io) {
    let (ours, theirs) = duplex(1 << 20);
    let held = Vec::new();
    (Client { io: ours, held }, Box::new(theirs))
}

/// `cat`, whose exit code is 7.
fn exec(spoken: Spoken, wants: Wants) -> (Client, JoinHandle<End>) {
    let (client, io) = client();
    let served = tokio::spawn(async move {
        let ask = ExecSession {
            container: "c".to_owned(),
            command: Vec::new(),
            wants,
        };
        let source = FakeSource::new(7, None);
        command(io, spoken, wants, source.exec(ask), &mut watch()).await
    });
    (client, served)
}

const WANTS: Wants = Wants {
    stdin: true,
    stdout: true,
    stderr: false,
    tty: false,
};

#[tokio::test]
async fn v5_half_closes_and_the_code_comes_before_the_close() {
    let (mut client, served) = exec(V5, WANTS);
    assert_eq!(
        client.hear().await,
        Some((OpCode::Data(Data::Binary), vec![1]))
    );
    client.binary(b"\x00there ").await;
    client.binary(b"\x00and back").await;
    client.say(OpCode::Control(Control::Ping), b"alive?").await;
    client.binary(&[255, 0]).await;
    let (said, close) = client.hear_all().await;
    assert_eq!(said[0], (1, b"there and back".to_vec()));
    let status = String::from_utf8(said[1].1.clone()).unwrap();
    assert!(
        said[1].0 == 3 && status.contains("NonZeroExitCode"),
        "{status}"
    );
    // Nothing else: clients complain about a half-close from this side.
    assert_eq!((said.len(), close), (2, 1000));
    client.say(OpCode::Control(Control::Close), &[3, 232]).await;
    assert!(matches!(served.await.unwrap(), End::Exited(7)));
}

/// It sits in a pager, say.
#[tokio::test(start_paused = true)]
async fn a_client_that_pauses_gets_all_and_the_code() {
    const LENGTH: usize = 60_000;
    let (ours, theirs) = duplex(10_000);
    let mut client = Client {
        io: ours,
        held: Vec::new(),
    };
    let served = tokio::spawn(async move {
        let start = async { Ok(says(LENGTH, 7)) };
        command(Box::new(theirs), V5, WANTS, start, &mut watch()).await
    });
    tokio::time::sleep(Duration::from_secs(600)).await;
    let (said, close) = client.hear_all().await;
    assert_eq!((said[0].0, said[0].1.len(), close), (1, LENGTH, 1000));
    let status = String::from_utf8(said[1].1.clone()).unwrap();
    assert!(status.contains("\"7\""), "{status}");
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(!served.is_finished(), "it is the client that closes");
    drop(client);
    assert!(matches!(served.await.unwrap(), End::Exited(7)));
}

/// Its last message was on its way when it was told to end.
#[tokio::test]
async fn a_client_whose_connection_is_full_is_told_that_the_daemon_stops() {
    let (ours, theirs) = duplex(10_000);
    let mut client = Client {
        io: ours,
        held: Vec::new(),
    };
    let (phase, told) = tokio::sync::watch::channel(Phase::Serving);
    let served = tokio::spawn(async move {
        let start = async { Ok(says(60_000, 7)) };
        let mut watch = Watch {
            phase: told,
            ..watch()
        };
        command(Box::new(theirs), V5, WANTS, start, &mut watch).await
    });
    // The first message says that it is ready; of the next one a part is there.
    client.hear().await.unwrap();
    client.io.read_buf(&mut client.held).await.unwrap();
    phase.send_replace(Phase::Ending);
    tokio::task::yield_now().await;
    let (said, close) = client.hear_all().await;
    let status = String::from_utf8(said.last().unwrap().1.clone()).unwrap();
    assert!(status.contains("ServiceUnavailable"), "{status}");
    assert_eq!(close, 1000);
    drop(client);
    assert!(matches!(served.await.unwrap(), End::Stopping));
}

/// Without half-close there is no other way to tell it.
#[tokio::test]
async fn the_end_of_the_pods_connections_is_the_end_where_nothing_else_can_tell_it() {
    for coding in [Coding::Binary, Coding::Base64] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let pod = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut connection, _) = listener.accept().await.unwrap();
            connection.write_all(b"bye").await.unwrap();
        });
        let (mut client, io) = client();
        let served = tokio::spawn(async move {
            let dialer = async move { Ok(super::super::source::fakes::FakeDialer(Some(pod))) };
            ports(io, coding, &[80], dialer, &mut watch()).await
        });
        let all = tokio::time::timeout(Duration::from_secs(20), client.hear_all()).await;
        let (said, close) = all.expect("told");
        let wanted = match coding {
            Coding::Base64 => (b'0', b"UAA=Ynll".to_vec()),
            _ => (0, b"P\0bye".to_vec()),
        };
        assert_eq!((&said[0], close), (&wanted, 1000));
        drop(client);
        assert!(matches!(served.await.unwrap(), End::Done));
    }
}

#[tokio::test]
async fn pings_are_answered() {
    let (mut client, _served) = exec(V5, WANTS);
    client.hear().await;
    client.say(OpCode::Control(Control::Ping), b"alive?").await;
    let pong = (OpCode::Control(Control::Pong), b"alive?".to_vec());
    assert_eq!(client.hear().await, Some(pong));
}

#[tokio::test]
async fn base64_is_spoken_both_ways() {
    let spoken = Spoken {
        coding: Coding::Base64,
        form: Form::Text,
    };
    let (mut client, _served) = exec(spoken, WANTS);
    assert_eq!(
        client.hear().await,
        Some((OpCode::Data(Data::Text), b"1".to_vec()))
    );
    client.say(OpCode::Data(Data::Text), b"0aGVsbG8=").await;
    let answer = client.hear().await.unwrap();
    assert_eq!(answer, (OpCode::Data(Data::Text), b"1aGVsbG8=".to_vec()));
}

#[tokio::test]
async fn readiness_is_told_on_the_lowest_channel_there_is() {
    let wants = Wants {
        stdout: false,
        ..WANTS
    };
    let (mut client, _served) = exec(V5, wants);
    assert_eq!(
        client.hear().await,
        Some((OpCode::Data(Data::Binary), vec![3]))
    );
}

#[tokio::test]
async fn a_client_that_closes_or_breaks_the_protocol_ends_its_command() {
    let (mut client, served) = exec(V5, WANTS);
    client.say(OpCode::Control(Control::Close), &[3, 232]).await;
    assert!(matches!(served.await.unwrap(), End::ClientGone));

    let (mut client, served) = exec(V5, WANTS);
    client.io.write_all(&[0x82, 1, 0]).await.unwrap();
    let (_, close) = client.hear_all().await;
    let end = served.await.unwrap();
    assert!(matches!(end, End::Wrong(_)), "{end:?}");
    assert_eq!(close, 1002);
}

#[tokio::test]
async fn what_a_client_sends_after_its_mistake_is_read_until_it_closes() {
    let (mut client, served) = exec(V5, WANTS);
    client.io.write_all(&[0x82, 1, 0]).await.unwrap();
    let (_, close) = client.hear_all().await;
    assert_eq!(close, 1002);
    // More than what is between the two.
    client.io.write_all(&vec![0; 3 << 20]).await.unwrap();
    drop(client);
    assert!(matches!(served.await.unwrap(), End::Wrong(_)));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_held_back_hears_a_sign_of_life() {
    let (client, io) = duplex(1 << 20);
    let (mut client, io): (Client, Io) = (
        Client {
            io: client,
            held: Vec::new(),
        },
        Box::new(io),
    );
    let served = tokio::spawn(async move {
        // A process that reads nothing.
        let start = async {
            let (stdin, unread) = duplex(1);
            std::mem::forget(unread);
            Ok(Joint {
                stdin: Some(Box::new(stdin)),
                stdout: None,
                stderr: None,
                process: Arc::new(super::super::source::fakes::FakeProcess::default()),
            })
        };
        command(io, V5, WANTS, start, &mut watch()).await
    });
    client.hear().await;
    client.binary(&vec![0; 200 * 1024]).await;
    for _ in 0..3 {
        let (opcode, _) = client.hear().await.unwrap();
        assert_eq!(opcode, OpCode::Control(Control::Pong));
    }
    assert!(!served.is_finished());
}

#[tokio::test]
async fn ports_have_two_channels_each_that_begin_with_their_number() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let pod = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut connection, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut read, mut write) = connection.split();
                tokio::io::copy(&mut read, &mut write).await.unwrap();
            });
        }
    });
    let (mut client, io) = client();
    let served = tokio::spawn(async move {
        let source = FakeSource::new(0, Some(pod));
        let ask = PortForwardSession {
            sandbox: "s".to_owned(),
            ports: Vec::new(),
        };
        let dialer = async move { source.dialer(ask).await };
        let mut watch = watch();
        ports(
            io,
            Coding::BinaryHalfClose,
            &[80, 0x1234],
            dialer,
            &mut watch,
        )
        .await
    });
    for wanted in [[0, 80, 0], [1, 80, 0], [2, 0x34, 0x12], [3, 0x34, 0x12]] {
        assert_eq!(client.hear().await.unwrap().1, wanted);
    }
    for channel in [2, 0] {
        client.binary(&[&[channel], &b"hello"[..]].concat()).await;
        assert_eq!(
            client.hear().await.unwrap().1,
            [&[channel], &b"hello"[..]].concat()
        );
        client.binary(&[255, channel]).await;
    }
    let (said, close) = client.hear_all().await;
    assert_eq!((said.iter().all(|(at, _)| *at == 255), close), (true, 1000));
    drop(client);
    assert!(matches!(served.await.unwrap(), End::Done));
}

#[tokio::test]
async fn another_protocol_goes_through_a_tunnel_both_ways() {
    let (mut client, io) = client();
    let mut inner = tunnel(io);
    client.binary(b"in").await;
    let mut read = [0; 2];
    inner.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"in");
    inner.write_all(b"out").await.unwrap();
    assert_eq!(client.hear().await.unwrap().1, b"out");
    inner.shutdown().await.unwrap();
    let (opcode, code) = client.hear().await.unwrap();
    assert_eq!(
        (opcode, &code[..]),
        (OpCode::Control(Control::Close), &[3, 232][..])
    );
    drop(client);
    assert_eq!(inner.read(&mut read).await.unwrap(), 0);
}

#[tokio::test]
async fn a_goodbye_through_a_tunnel_is_answered_once_and_is_the_end() {
    let (mut client, io) = client();
    let mut inner = tunnel(io);
    client.binary(b"last").await;
    client.say(OpCode::Control(Control::Close), &[3, 232]).await;
    let mut read = Vec::new();
    inner.read_to_end(&mut read).await.unwrap();
    assert_eq!(read, b"last");
    let refused = inner.write(b"more").await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::BrokenPipe);
    inner.shutdown().await.unwrap();
    let (opcode, _) = client.hear().await.unwrap();
    assert_eq!(opcode, OpCode::Control(Control::Close));
    assert_eq!(client.hear().await, None);
}

/// Between the parts of a message there is no place for anything else.
#[tokio::test]
async fn a_ping_is_answered_after_the_message_that_a_full_connection_holds_up() {
    let (ours, theirs) = duplex(100);
    let mut client = Client {
        io: ours,
        held: Vec::new(),
    };
    let mut inner = tunnel(Box::new(theirs));
    let message: Vec<u8> = (0..=250).cycle().take(1000).collect();
    let begun = inner.write(&message).await.unwrap();
    assert!((1..100).contains(&begun), "{begun}");
    client.say(OpCode::Control(Control::Ping), b"there?").await;
    client.binary(b"said").await;
    let mut read = [0; 4];
    inner.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"said");
    let writes = async {
        inner.write_all(&message[begun..]).await.unwrap();
        inner.flush().await.unwrap();
    };
    let hears = async { [client.hear().await.unwrap(), client.hear().await.unwrap()] };
    let ((), [first, second]) = tokio::join!(writes, hears);
    assert_eq!(first.1, message);
    assert_eq!(second, (OpCode::Control(Control::Pong), b"there?".to_vec()));
}

/// Each byte of what a client says may be a read of its own.
#[tokio::test]
async fn a_tunnel_is_read_whatever_pieces_it_comes_in() {
    let (client, io) = client();
    let mut inner = tunnel(io);
    let (mut whole, said) = duplex(1000);
    let mut speaker = Client {
        io: said,
        held: Vec::new(),
    };
    speaker.binary(b"one").await;
    speaker.say(OpCode::Control(Control::Pong), b"").await;
    speaker.binary(b"").await;
    speaker.binary(b"two").await;
    drop(speaker);
    let mut bytes = Vec::new();
    whole.read_to_end(&mut bytes).await.unwrap();
    let (mut client, mut read) = (client.io, Vec::new());
    let mut buffer = [0; 2];
    for byte in bytes {
        client.write_all(&[byte]).await.unwrap();
        while let Some(Ok(taken)) = inner.read(&mut buffer).now_or_never() {
            read.extend_from_slice(&buffer[..taken]);
        }
    }
    assert_eq!(read, b"onetwo");
}
