use super::super::source::fakes::FakeSource;
use super::super::spdy::Headers;
use super::super::spdy::codec::{Decoder, Encoder, Frame, Limits, Piece, data_header};
use super::super::tls::tests as certificates;
use super::*;
use crate::metrics::Metrics;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio_rustls::client::TlsStream;

const TIMES: Times = Times {
    idle: Duration::from_secs(60),
    creation: Duration::from_secs(30),
};

struct Scene {
    address: SocketAddr,
    source: Arc<FakeSource>,
    control: Control,
    served: JoinHandle<Infallible>,
    metrics: Metrics,
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.served.abort();
    }
}

async fn serve() -> Scene {
    serve_with(None).await
}

async fn serve_with(tls: Option<Files>) -> Scene {
    let control = Control::new(TIMES);
    let settings = Settings {
        address: "127.0.0.1:0".parse().unwrap(),
        tls,
        control: control.clone(),
    };
    let server = Server::bind(settings).await.unwrap();
    let source = FakeSource::new(0, None);
    let address = server.base().split_once("://").unwrap().1;
    let metrics = Metrics::default();
    Scene {
        address: address.parse().unwrap(),
        control,
        source: Arc::clone(&source),
        served: tokio::spawn(server.serve(source, metrics.streaming())),
        metrics,
    }
}

const SPDY: &str = "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: ";
const SOCKET: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: ";

impl Scene {
    async fn connect(&self, line: &str, headers: &str) -> TcpStream {
        let mut client = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{line} HTTP/1.1\r\nHost: x\r\n{headers}\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        client
    }

    /// The whole of a refusal.
    async fn refused(&self, line: &str, headers: &str) -> String {
        let mut client = self.connect(line, headers).await;
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// An upgrade's answer, without what follows.
    async fn upgraded(&self, line: &str, headers: &str) -> (String, TcpStream) {
        let mut client = self.connect(line, headers).await;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(client.read_u8().await.unwrap());
        }
        (String::from_utf8(head).unwrap(), client)
    }

    fn refusals(&self, reason: &str) -> bool {
        let counted = format!("corten_streaming_refused_total{{reason=\"{reason}\"}} 1\n");
        self.metrics.text().contains(&counted)
    }

    fn expect(&self, token: &str) {
        let wants = Wants {
            stdin: true,
            stdout: true,
            ..Wants::default()
        };
        self.source.expect_exec(token, wants);
    }
}

#[tokio::test]
async fn a_wrong_or_used_token_is_told_in_plain_text() {
    let scene = serve().await;
    for path in [
        "/exec/guess",
        "/exec/",
        "/",
        "/exec/guess/more",
        "/other/guess",
    ] {
        let answer = scene.refused(&format!("GET {path}"), SPDY).await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
        assert!(answer.contains("text/plain") && answer.contains("no such session"));
    }
    scene.expect("t");
    assert!(
        scene
            .refused("GET /attach/t", "")
            .await
            .starts_with("HTTP/1.1 404")
    );
    let spdy = format!("{SPDY}v4.channel.k8s.io");
    let (head, _client) = scene.upgraded("POST /exec/t", &spdy).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    let again = scene.refused("POST /exec/t", &spdy).await;
    assert!(again.starts_with("HTTP/1.1 404"), "{again}");
}

#[tokio::test]
async fn a_protocol_that_is_refused_leaves_the_token_for_another() {
    let scene = serve().await;
    scene.expect("t");
    let answer = scene
        .refused("POST /exec/t", &format!("{SPDY}v9.channel.k8s.io"))
        .await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(answer.contains("x-accepted-stream-protocol-versions: v4.channel.k8s.io"));
    let answer = scene.refused("GET /exec/t", "Accept: */*").await;
    assert!(
        answer.starts_with("HTTP/1.1 400") && answer.contains("Upgrade"),
        "{answer}"
    );
    let answer = scene.refused("PUT /exec/t", "Content-Length: 0").await;
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
    let (head, mut client) = scene
        .upgraded("GET /exec/t", &format!("{SOCKET}v5.channel.k8s.io"))
        .await;
    assert!(
        head.contains("sec-websocket-protocol: v5.channel.k8s.io"),
        "{head}"
    );
    assert!(scene.source.is_empty());
    // A final binary message of one byte, for the channel of stdout: ready.
    let mut ready = [0; 3];
    client.read_exact(&mut ready).await.unwrap();
    assert_eq!(ready, [0x82, 1, 1]);
}

/// A channel's number has 8 bits, and 255 is no channel.
#[tokio::test]
async fn channels_of_a_websocket_are_for_between_1_and_127_ports() {
    let scene = serve().await;
    let socket = format!("{SOCKET}v4.channel.k8s.io");
    for (number, answer) in [(0, "400"), (1, "101"), (127, "101"), (128, "400")] {
        scene.source.expect_ports("t", vec![80; number]);
        let mut client = scene.connect("GET /portforward/t", &socket).await;
        let mut head = [0; 12];
        client.read_exact(&mut head).await.unwrap();
        let head = String::from_utf8_lossy(&head).into_owned();
        assert!(head.ends_with(answer), "{number}: {head}");
    }
}

#[tokio::test]
async fn what_is_no_request_is_turned_away() {
    let scene = serve().await;
    let long = format!("X-Long: {}", "x".repeat(LONGEST_HEAD));
    let answer = scene.refused("GET /exec/t", &long).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer:.60}");
    let answer = scene.refused("\u{1}\u{2}", "").await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer:.60}");
}

#[tokio::test]
async fn sessions_go_on_while_the_daemon_drains_and_new_ones_are_refused() {
    let scene = serve().await;
    for token in ["old", "new"] {
        scene.expect(token);
    }
    let socket = format!("{SOCKET}v4.channel.k8s.io");
    let (_, mut client) = scene.upgraded("GET /exec/old", &socket).await;
    let mut ready = [0; 3];
    client.read_exact(&mut ready).await.unwrap();
    let control = scene.control.clone();
    let drained = tokio::spawn(async move { control.drain(Duration::from_millis(300)).await });
    let mut phase = scene.control.phase.subscribe();
    phase
        .wait_for(|phase| *phase != Phase::Serving)
        .await
        .unwrap();
    let refused = scene.refused("GET /exec/new", &socket).await;
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    // stdin "a", masked with zeros; it comes back on stdout.
    client
        .write_all(&[0x82, 0x82, 0, 0, 0, 0, 0, b'a'])
        .await
        .unwrap();
    let mut echo = [0; 4];
    client.read_exact(&mut echo).await.unwrap();
    assert_eq!(echo, [0x82, 2, 1, b'a']);
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    let told = String::from_utf8_lossy(&rest);
    assert!(told.contains("ServiceUnavailable"), "{told}");
    drop(client);
    assert_eq!(drained.await.unwrap(), 1);
}

/// The answer's head is read.
async fn upgraded_over_tls(line: &str, headers: &str) -> (TlsStream<TcpStream>, Scene) {
    let dir = tempfile::tempdir().unwrap();
    let files = certificates::files(dir.path());
    let authority = certificates::authority();
    certificates::write(&files, &certificates::signed(&authority));
    let scene = serve_with(Some(files)).await;
    scene.expect("t");
    let client = TcpStream::connect(scene.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let connector = certificates::connector(&authority, None);
    let mut client = connector.connect(name, client).await.unwrap();
    let request = format!("{line} HTTP/1.1\r\nHost: x\r\n{headers}\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"));
    (client, scene)
}

/// More than all buffers on the way hold.
const MUCH: usize = 8 << 20;

#[tokio::test]
async fn a_session_over_spdy_and_tls_is_whole() {
    let spdy = format!("{SPDY}v4.channel.k8s.io");
    let (client, _scene) = upgraded_over_tls("POST /exec/t", &spdy).await;
    let (mut hears, mut says) = tokio::io::split(client);
    let said = tokio::spawn(async move {
        let (mut encoder, mut bytes) = (Encoder::default(), bytes::BytesMut::new());
        for (stream, name) in [(1, "error"), (3, "stdin"), (5, "stdout")] {
            let opened = Frame::SynStream {
                stream,
                associated: 0,
                priority: 0,
                fin: false,
                unidirectional: false,
                headers: Headers::from_pairs([("streamType", name)]),
            };
            encoder.put(&opened, &mut bytes);
        }
        says.write_all(&bytes).await.unwrap();
        for _ in 0..MUCH >> 16 {
            says.write_all(&data_header(3, 1 << 16, false))
                .await
                .unwrap();
            says.write_all(&vec![b'x'; 1 << 16]).await.unwrap();
        }
        says.flush().await.unwrap();
        says
    });
    let (mut decoder, mut held, mut echo) = (Decoder::new(Limits::default()), Vec::new(), 0);
    let most = Duration::from_secs(60);
    // The end of stdin is not said: nothing but what it wrote makes the server write.
    while echo < MUCH {
        let read = tokio::time::timeout(most, hears.read_buf(&mut held)).await;
        assert!(read.expect("all comes").unwrap() > 0);
        while let Some((taken, piece)) = decoder.decode(&held, usize::MAX).unwrap() {
            if let Piece::Data {
                stream: 5, bytes, ..
            } = piece
            {
                echo += bytes.len();
            }
            held.drain(..taken);
        }
    }
    let mut says = said.await.unwrap();
    says.write_all(&data_header(3, 0, true)).await.unwrap();
    says.flush().await.unwrap();
    hears.read_to_end(&mut held).await.unwrap();
    let told = String::from_utf8_lossy(&held);
    assert!(told.contains("Success"), "{told}");
}

#[tokio::test]
async fn a_session_over_websocket_and_tls_is_whole() {
    let socket = format!("{SOCKET}v5.channel.k8s.io");
    let (mut client, _scene) = upgraded_over_tls("GET /exec/t", &socket).await;
    client
        .write_all(&[0x82, 0x82, 0, 0, 0, 0, 0, b'a'])
        .await
        .unwrap();
    let mut echo = [0; 7];
    client.read_exact(&mut echo).await.unwrap();
    assert_eq!(echo, [0x82, 1, 1, 0x82, 2, 1, b'a']);
    client
        .write_all(&[0x82, 0x82, 0, 0, 0, 0, 255, 0])
        .await
        .unwrap();
    let mut rest = Vec::new();
    while !String::from_utf8_lossy(&rest).contains("Success") {
        assert!(client.read_buf(&mut rest).await.unwrap() > 0);
    }
}

#[tokio::test]
async fn each_refusal_is_counted_by_its_reason() {
    let scene = serve().await;
    for token in ["t", "other"] {
        scene.expect(token);
    }
    scene.source.expect_ports("ports", Vec::new());
    let spdy = format!("{SPDY}v9.channel.k8s.io");
    let socket = format!("{SOCKET}v4.channel.k8s.io");
    for (line, headers, reason) in [
        ("GET /metrics", "", "path"),
        ("PUT /exec/t", "Content-Length: 0", "method"),
        ("GET /exec/guess", &spdy, "token"),
        ("GET /exec/t", "", "upgrade"),
        ("GET /exec/t", &spdy, "protocol"),
        ("GET /portforward/ports", &socket, "ports"),
        ("\u{1}\u{2}", "", "request"),
    ] {
        let answer = scene.refused(line, headers).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{reason}: {answer}");
        assert!(scene.refusals(reason), "{reason}: {}", scene.metrics.text());
    }
    scene.control.drain(Duration::ZERO).await;
    scene.refused("GET /exec/other", &socket).await;
    assert!(scene.refusals("stopping"));
}

#[tokio::test]
async fn an_address_that_is_taken_is_told_with_its_key_and_what_to_do() {
    let scene = serve().await;
    let settings = Settings {
        address: scene.address,
        tls: None,
        control: Control::new(TIMES),
    };
    let taken = Server::bind(settings).await.err().unwrap();
    let text = taken.chain();
    let address = scene.address.to_string();
    for word in [&address, "`[streaming] address`", "ss -ltnp", "in use"] {
        assert!(text.contains(word), "{word}: {text}");
    }
}

/// It takes its goodbye no more than anything else.
#[tokio::test(start_paused = true)]
async fn who_does_not_answer_has_ended_with_the_daemon() {
    let control = Control::new(TIMES);
    let entered = control.enter();
    let mut watch = Watch {
        traffic: Arc::default(),
        idle: TIMES.idle,
        phase: control.phase.subscribe(),
        peer: None,
    };
    let deaf = tokio::spawn(async move {
        let end = watch.over().await;
        drop(entered);
        end
    });
    assert_eq!(control.live(), 1);
    assert_eq!(control.drain(Duration::from_secs(1)).await, 1);
    assert_eq!(control.live(), 0, "it was waited for");
    assert!(matches!(deaf.await.unwrap(), End::Stopping));
}

#[tokio::test]
async fn a_drain_without_sessions_takes_no_time() {
    let scene = serve().await;
    assert_eq!(scene.control.drain(Duration::from_secs(3600)).await, 0);
}

#[test]
fn the_url_is_one_that_a_client_of_the_node_can_reach() {
    let reach = |address: &str| reachable(address.parse().unwrap()).to_string();
    assert_eq!(reach("0.0.0.0:80"), "127.0.0.1:80");
    assert_eq!(reach("[::]:80"), "[::1]:80");
    assert_eq!(reach("10.1.2.3:80"), "10.1.2.3:80");
}
