use super::super::source::Source;
use super::super::source::fakes::{FakeSource, says};
use super::super::spdy::Headers;
use super::super::spdy::codec::{Decoder, Encoder, Frame, Piece, data_header};
use super::super::tests::held_up;
use super::super::watch::{Phase, Traffic};
use super::*;
use crate::engine::session::{ExecSession, PortForwardSession};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, DuplexStream, duplex};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A client, frame by frame.
struct Client {
    io: DuplexStream,
    encoder: Encoder,
    decoder: Decoder,
    held: Vec<u8>,
}

/// All that a client was told, by stream; what it was reset with.
#[derive(Default)]
struct Told {
    data: BTreeMap<u32, Vec<u8>>,
    ended: Vec<u32>,
    reset: Vec<u32>,
}

impl Told {
    fn text(&self, stream: u32) -> String {
        let bytes = self.data.get(&stream).cloned().unwrap_or_default();
        String::from_utf8(bytes).unwrap()
    }
}

impl Client {
    async fn frame(&mut self, frame: &Frame) {
        let mut bytes = bytes::BytesMut::new();
        self.encoder.put(frame, &mut bytes);
        // A session that has ended does not read any more.
        let _ = self.io.write_all(&bytes).await;
    }

    async fn open(&mut self, stream: u32, headers: &[(&str, &str)]) {
        let headers = Headers::from_pairs(headers.iter().copied());
        self.frame(&Frame::SynStream {
            stream,
            associated: 0,
            priority: 0,
            fin: false,
            unidirectional: false,
            headers,
        })
        .await;
    }

    async fn say(&mut self, stream: u32, bytes: &[u8], fin: bool) {
        let _ = self
            .io
            .write_all(&data_header(stream, bytes.len(), fin))
            .await;
        let _ = self.io.write_all(bytes).await;
    }

    /// Hears until `enough`, or to the end.
    async fn hear(&mut self, enough: impl Fn(&Told) -> bool) -> Told {
        let mut told = Told::default();
        while !enough(&told) {
            if self.io.read_buf(&mut self.held).await.unwrap_or(0) == 0 {
                break;
            }
            while let Some((taken, piece)) = self.decoder.decode(&self.held, usize::MAX).unwrap() {
                match piece {
                    Piece::Data { stream, bytes, fin } => {
                        told.data.entry(stream).or_default().extend(bytes);
                        told.ended.extend(fin.then_some(stream));
                    }
                    Piece::Control(Frame::RstStream { stream, .. }) => told.reset.push(stream),
                    Piece::Control(_) => {}
                }
                self.held.drain(..taken);
            }
        }
        told
    }
}

fn watch() -> (Watch, tokio::sync::watch::Sender<Phase>) {
    let (sender, phase) = tokio::sync::watch::channel(Phase::Serving);
    let watch = Watch {
        traffic: Arc::<Traffic>::default(),
        idle: Duration::from_secs(3600),
        phase,
        peer: None,
    };
    (watch, sender)
}

fn client() -> (Client, Io) {
    let (ours, theirs) = duplex(1 << 20);
    (over(ours), Box::new(theirs))
}

fn over(io: DuplexStream) -> Client {
    Client {
        io,
        encoder: Encoder::default(),
        decoder: Decoder::new(Limits::default().codec),
        held: Vec::new(),
    }
}

const WANTS: Wants = Wants {
    stdin: true,
    stdout: true,
    stderr: false,
    tty: false,
};

/// `cat`, whose exit code is 7.
fn exec(version: u8) -> (Client, JoinHandle<End>) {
    let (client, io) = client();
    let served = tokio::spawn(async move {
        let (mut watch, _phase) = watch();
        let terms = Terms {
            version: Version(version),
            wants: WANTS,
            creation: Duration::from_secs(30),
        };
        let ask = ExecSession {
            container: "c".to_owned(),
            command: Vec::new(),
            wants: WANTS,
        };
        let source = FakeSource::new(7, None);
        command(io, terms, source.exec(ask), &mut watch).await
    });
    (client, served)
}

async fn open_three(client: &mut Client) {
    for (stream, name) in [(1, "error"), (3, "stdin"), (5, "stdout")] {
        client.open(stream, &[("streamType", name)]).await;
    }
}

#[tokio::test]
async fn a_command_hears_its_client_and_tells_its_code() {
    for (version, wanted) in [(4, "NonZeroExitCode"), (1, "exit code 7")] {
        let (mut client, served) = exec(version);
        open_three(&mut client).await;
        client.say(3, b"over there", false).await;
        client.say(3, b" and back", true).await;
        let told = client.hear(|_| false).await;
        assert_eq!(told.text(5), "over there and back");
        assert!(told.text(1).contains(wanted), "{}", told.text(1));
        let mut ended = told.ended.clone();
        ended.sort_unstable();
        assert_eq!((ended, told.reset), (vec![1, 3, 5], vec![]));
        drop(client);
        assert!(matches!(served.await.unwrap(), End::Exited(7)));
    }
}

/// It sits in a pager, say.
#[tokio::test(start_paused = true)]
async fn a_client_that_pauses_gets_all_and_the_code() {
    const LENGTH: usize = 40_000;
    let (ours, theirs) = duplex(10_000);
    let mut client = over(ours);
    let served = tokio::spawn(async move {
        let (mut watch, _phase) = watch();
        let terms = Terms {
            version: Version(4),
            wants: WANTS,
            creation: Duration::from_secs(30),
        };
        let start = async { Ok(says(LENGTH, 7)) };
        command(Box::new(theirs), terms, start, &mut watch).await
    });
    open_three(&mut client).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    let told = client.hear(|told| told.ended.contains(&1)).await;
    assert_eq!(told.data.get(&5).map_or(0, Vec::len), LENGTH);
    assert!(told.text(1).contains("\"7\""), "{}", told.text(1));
    assert!(!served.is_finished(), "it is the client that closes");
    drop(client);
    assert!(matches!(served.await.unwrap(), End::Exited(7)));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_more_is_left_when_it_is_idle() {
    let (ours, theirs) = duplex(10_000);
    let mut client = over(ours);
    let served = tokio::spawn(async move {
        let (mut watch, _phase) = watch();
        let terms = Terms {
            version: Version(4),
            wants: WANTS,
            creation: Duration::from_secs(30),
        };
        let start = async { Ok(says(40_000, 7)) };
        command(Box::new(theirs), terms, start, &mut watch).await
    });
    open_three(&mut client).await;
    let end = served.await.unwrap();
    assert!(matches!(end, End::Exited(7) | End::Idle(_)), "{end:?}");
}

#[tokio::test]
async fn a_client_that_goes_ends_its_command() {
    let (mut client, served) = exec(4);
    open_three(&mut client).await;
    client.say(3, b"x", false).await;
    client.hear(|told| told.data.contains_key(&5)).await;
    drop(client);
    assert!(matches!(
        served.await.unwrap(),
        End::ClientGone | End::ClientLost(_)
    ));
}

#[tokio::test(start_paused = true)]
async fn streams_must_come_in_time() {
    let (mut client, served) = exec(4);
    client.open(1, &[("streamType", "error")]).await;
    client.open(3, &[("streamType", "stdin")]).await;
    let told = client.hear(|_| false).await;
    assert!(told.text(1).contains("did not open its streams"));
    assert!(told.text(1).contains("Timeout"), "{}", told.text(1));
    drop(client);
    assert!(matches!(served.await.unwrap(), End::NoStreams(_)));
}

#[tokio::test]
async fn streams_that_make_no_sense_are_refused_and_the_session_goes_on() {
    let (mut client, served) = exec(4);
    client.open(1, &[("streamType", "error")]).await;
    let wrong = [&[("streamType", "error")][..], &[("streamType", "x")], &[]];
    for (stream, headers) in (3..).step_by(2).zip(wrong) {
        client.open(stream, headers).await;
        let told = client.hear(|told| !told.reset.is_empty()).await;
        assert_eq!(told.reset, [stream], "{headers:?}");
    }
    client.open(9, &[("streamType", "stdin")]).await;
    client.open(11, &[("streamType", "stdout")]).await;
    client.say(9, b"there", true).await;
    let told = client.hear(|_| false).await;
    assert_eq!(told.text(11), "there");
    drop(client);
    assert!(matches!(served.await.unwrap(), End::Exited(7)));
}

#[tokio::test]
async fn a_thousand_streams_are_not_taken() {
    let (mut client, served) = exec(4);
    open_three(&mut client).await;
    for stream in (7..2007).step_by(2) {
        client.open(stream, &[("streamType", "stdout")]).await;
    }
    client.say(3, b"still here", true).await;
    let told = client.hear(|_| false).await;
    drop(client);
    // Refused one by one, or sent away: nothing of it is kept.
    match served.await.unwrap() {
        End::Exited(7) => assert_eq!(told.reset.len(), 1000),
        End::Wrong(why) => assert!(why.contains("streams"), "{why}"),
        other => panic!("{other:?}"),
    }
}

/// A pod that sends back what it gets, line by line, and resets whoever says "reset".
async fn pod() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut connection, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut buffer = [0; 1024];
                while let Ok(read @ 1..) = connection.read(&mut buffer).await {
                    if buffer[..read].starts_with(b"reset") {
                        connection.set_zero_linger().unwrap();
                        return;
                    }
                    connection.write_all(&buffer[..read]).await.unwrap();
                }
                connection.write_all(b"bye").await.unwrap();
            });
        }
    });
    address
}

fn forward(pod: Option<std::net::SocketAddr>) -> (Client, JoinHandle<End>) {
    let (client, io) = client();
    let served = tokio::spawn(async move {
        let (mut watch, _phase) = watch();
        let source = FakeSource::new(0, pod);
        let ask = PortForwardSession {
            sandbox: "s".to_owned(),
            ports: Vec::new(),
        };
        let dialer = async move { source.dialer(ask).await };
        ports(io, dialer, Duration::from_secs(30), &mut watch).await
    });
    (client, served)
}

async fn open_pair(client: &mut Client, first: u32, request: &str) {
    for (stream, name) in [(first, "error"), (first + 2, "data")] {
        let headers = [("streamType", name), ("port", "80"), ("requestID", request)];
        client.open(stream, &headers).await;
    }
}

#[tokio::test]
async fn each_direction_of_a_connection_ends_for_itself() {
    let (mut client, served) = forward(Some(pod().await));
    open_pair(&mut client, 1, "0").await;
    client.say(3, b"hello", true).await;
    let told = client.hear(|told| told.ended.len() == 2).await;
    assert_eq!(
        (told.text(3), told.text(1)),
        ("hellobye".to_owned(), String::new())
    );
    drop(client);
    assert!(matches!(
        served.await.unwrap(),
        End::ClientGone | End::ClientLost(_)
    ));
}

#[tokio::test]
async fn a_storm_of_resets_leaves_the_session_and_its_error_streams_alone() {
    let (mut client, _served) = forward(Some(pod().await));
    open_pair(&mut client, 1, "quiet").await;
    for pair in 1..50 {
        let first = 1 + pair * 4;
        open_pair(&mut client, first, &pair.to_string()).await;
        client.say(first + 2, b"reset", false).await;
        let told = client
            .hear(|told| !told.reset.is_empty() && !told.ended.is_empty())
            .await;
        assert_eq!(told.reset, [first + 2]);
        assert_eq!(
            (told.ended, told.data.get(&first).map_or(0, Vec::len)),
            (vec![first], 0)
        );
    }
    client.say(3, b"still there", false).await;
    let told = client.hear(|told| told.data.contains_key(&3)).await;
    assert_eq!(told.text(3), "still there");
}

/// It takes connections and reads nothing of the first.
async fn half_deaf_pod() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (_deaf, _) = listener.accept().await.unwrap();
        let (mut other, _) = listener.accept().await.unwrap();
        let (mut read, mut write) = other.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    });
    address
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_its_pod_does_not_read_does_not_hold_the_others_up_for_ever() {
    let (mut client, _served) = forward(Some(half_deaf_pod().await));
    open_pair(&mut client, 1, "deaf").await;
    client.say(3, b"to have it dialled first", false).await;
    open_pair(&mut client, 5, "other").await;
    client.say(7, b"first", false).await;
    let told = client.hear(|told| told.text(7) == "first").await;
    assert_eq!(told.text(7), "first");
    let (mut hears, mut says) = tokio::io::split(client.io);
    let flood = tokio::spawn(async move {
        let frame = [&data_header(3, 64 << 10, false)[..], &[0; 64 << 10]].concat();
        for _ in 0..256 {
            says.write_all(&frame).await.unwrap();
        }
        says.write_all(&data_header(7, 5, false)).await.unwrap();
        says.write_all(b"still").await.unwrap();
        says
    });
    let mut heard = Vec::new();
    let hear = async {
        while !heard.ends_with(b"still") {
            assert!(hears.read_buf(&mut heard).await.unwrap() > 0);
        }
    };
    let most = Duration::from_secs(600);
    tokio::time::timeout(most, hear).await.expect("it goes on");
    drop(flood.await.unwrap());
    // Its client reads the error stream as the end of the whole session.
    let mut decoder = Decoder::new(Limits::default().codec);
    let mut heard = &heard[..];
    while let Ok(Some((taken, piece))) = decoder.decode(heard, usize::MAX) {
        let words = matches!(
            piece,
            Piece::Data {
                stream: 1,
                bytes: [_, ..],
                ..
            }
        );
        assert!(!words, "{piece:?}");
        heard = &heard[taken..];
    }
}

/// It reads when it is told to, and says how much that was.
async fn pausing_pod() -> (
    std::net::SocketAddr,
    tokio::sync::oneshot::Sender<()>,
    JoinHandle<usize>,
) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (go_on, told) = tokio::sync::oneshot::channel();
    let heard = tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        told.await.unwrap();
        let mut all = Vec::new();
        connection.read_to_end(&mut all).await.unwrap();
        all.len()
    });
    (address, go_on, heard)
}

#[tokio::test]
async fn a_connection_whose_pod_pauses_is_left_alone_where_no_other_waits() {
    const LENGTH: usize = 16 << 20;
    let (pod, go_on, heard) = pausing_pod().await;
    let (mut client, served) = forward(Some(pod));
    open_pair(&mut client, 1, "paused").await;
    let (mut hears, mut says) = tokio::io::split(client.io);
    let said = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&said);
    let saying = tokio::spawn(async move {
        for _ in 0..LENGTH >> 16 {
            let frame = [&data_header(3, 64 << 10, false)[..], &[0; 64 << 10]].concat();
            says.write_all(&frame).await.unwrap();
            counted.fetch_add(1, Ordering::Relaxed);
        }
        says.write_all(&data_header(3, 0, true)).await.unwrap();
        says
    });
    tokio::spawn(async move { tokio::io::copy(&mut hears, &mut tokio::io::sink()).await });
    held_up(&said).await;
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(3000)).await;
    tokio::time::resume();
    assert!(!saying.is_finished() && !served.is_finished());
    go_on.send(()).unwrap();
    assert_eq!(heard.await.unwrap(), LENGTH);
    drop(saying.await.unwrap());
}

#[tokio::test]
async fn a_port_that_is_not_reached_is_told_to_its_pair_alone() {
    let (mut client, served) = forward(None);
    for pair in 0..3 {
        open_pair(&mut client, 1 + pair * 4, &pair.to_string()).await;
        let told = client
            .hear(|told| told.reset.len() == 1 && told.ended.len() == 1)
            .await;
        let text = told.text(1 + pair * 4);
        assert!(text.contains("port 80 of pod ns/p: refused"), "{text}");
    }
    assert!(!served.is_finished());
}

#[tokio::test]
async fn halves_that_are_none_are_refused_and_the_session_goes_on() {
    let (mut client, served) = forward(Some(pod().await));
    let long = "1".repeat(1000);
    let wrong: [&[(&str, &str)]; 5] = [
        &[("streamType", "data"), ("requestID", &long), ("port", "80")],
        &[("streamType", "data"), ("requestID", "1")],
        &[("streamType", "data"), ("requestID", "1"), ("port", "0")],
        &[
            ("streamType", "data"),
            ("requestID", "1"),
            ("port", "65536"),
        ],
        &[("streamType", "x"), ("requestID", "1"), ("port", "80")],
    ];
    for (at, headers) in (0..).zip(wrong) {
        let stream = 1 + at * 2;
        client.open(stream, headers).await;
        // Much sooner than a half that is one is let go.
        let told = client.hear(|told| !told.reset.is_empty());
        let told = tokio::time::timeout(Duration::from_secs(15), told).await;
        assert_eq!(told.unwrap().reset, [stream], "{headers:?}");
    }
    // Streams without a request belong together by their numbers, as old clients open them.
    client
        .open(21, &[("streamType", "error"), ("port", "80")])
        .await;
    client
        .open(23, &[("streamType", "data"), ("port", "80")])
        .await;
    client.say(23, b"old", false).await;
    let told = client.hear(|told| told.data.contains_key(&23)).await;
    assert_eq!(told.text(23), "old");
    assert!(!served.is_finished());
}

#[tokio::test(start_paused = true)]
async fn half_of_a_pair_is_let_go() {
    let (mut client, served) = forward(None);
    let headers = [("streamType", "error"), ("port", "80"), ("requestID", "1")];
    client.open(1, &headers).await;
    let told = client.hear(|told| !told.ended.is_empty()).await;
    assert!(told.text(1).contains("no data stream"), "{}", told.text(1));
    assert!(!served.is_finished());
}
