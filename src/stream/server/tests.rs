use super::super::source::fakes::FakeSource;
use super::*;
use crate::metrics::Metrics;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

const TIMES: Times = Times {
    idle: Duration::from_secs(60),
    creation: Duration::from_secs(30),
};

struct Scene {
    address: SocketAddr,
    source: Arc<FakeSource>,
    control: Control,
    served: JoinHandle<Infallible>,
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.served.abort();
    }
}

async fn serve() -> Scene {
    let settings = Settings {
        address: "127.0.0.1:0".parse().unwrap(),
        tls: None,
        times: TIMES,
    };
    let server = Server::bind(settings).await.unwrap();
    let source = FakeSource::new(0, None);
    let address = server.base().strip_prefix("http://").unwrap();
    Scene {
        address: address.parse().unwrap(),
        control: server.control(),
        source: Arc::clone(&source),
        served: tokio::spawn(server.serve(source, Metrics::default().streaming())),
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
