//! A client of the streaming server, as small as one can be: the binary channels of Kubernetes over
//! WebSocket, version 13, without pings and without TLS.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// In v5, what says that a channel has ended.
const END: u8 = 255;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;

/// A connection.
pub struct WebSocket(TcpStream);

/// What a session has said, and how it ended.
#[derive(Debug, Default)]
pub struct Said {
    /// Channel 1.
    pub stdout: Vec<u8>,
    /// Channel 2.
    pub stderr: Vec<u8>,
    /// Channel 3: a metav1.Status.
    pub status: String,
}

impl Said {
    /// stdout as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

impl WebSocket {
    /// Opens `http://ADDRESS/PATH` with this protocol of Kubernetes.
    pub async fn open(url: &str, protocol: &str) -> Self {
        Self::begin(url, protocol, None).await
    }

    /// The same, by a client that lets little wait in its socket, in bytes.
    pub async fn open_small(url: &str, protocol: &str, room: u32) -> Self {
        Self::begin(url, protocol, Some(room)).await
    }

    async fn begin(url: &str, protocol: &str, room: Option<u32>) -> Self {
        let (address, path) = url
            .strip_prefix("http://")
            .unwrap()
            .split_once('/')
            .unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        if let Some(room) = room {
            socket.set_recv_buffer_size(room).unwrap();
        }
        let mut stream = socket.connect(address.parse().unwrap()).await.unwrap();
        let request = format!(
            "GET /{path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: {protocol}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        Self(stream)
    }

    /// Sends bytes on a channel.
    pub async fn send(&mut self, channel: u8, data: &[u8]) {
        let length = u16::try_from(data.len() + 1).unwrap();
        // A mask of zeros is one, too.
        let mut frame = vec![0x80 | BINARY, 0x80 | 126];
        frame.extend(length.to_be_bytes());
        frame.extend([0, 0, 0, 0, channel]);
        frame.extend(data);
        self.0.write_all(&frame).await.unwrap();
    }

    /// Says that nothing more comes on a channel.
    pub async fn end(&mut self, channel: u8) {
        self.send(END, &[channel]).await;
    }

    /// The next message that is not empty: its channel and its bytes; `None` at the end.
    pub async fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            let mut head = [0; 2];
            self.0.read_exact(&mut head).await.ok()?;
            let length = match head[1] {
                126 => u64::from(self.0.read_u16().await.ok()?),
                127 => self.0.read_u64().await.ok()?,
                short => u64::from(short),
            };
            let mut body = vec![0; usize::try_from(length).unwrap()];
            self.0.read_exact(&mut body).await.ok()?;
            match (head[0] & 15, body.len()) {
                (BINARY, 2..) if body[0] != END => {
                    let channel = body.remove(0);
                    return Some((channel, body));
                }
                (CLOSE, _) => return None,
                _ => {}
            }
        }
    }

    /// Reads until stdout says this.
    pub async fn until_said(&mut self, words: &str) -> String {
        let mut said = String::new();
        while !said.contains(words) {
            match self.next().await {
                Some((1, more)) => said.push_str(&String::from_utf8_lossy(&more)),
                other => panic!("{words:?} was not said, but {said:?}, then {other:?}"),
            }
        }
        said
    }

    /// Reads to the end.
    pub async fn rest(&mut self) -> Said {
        let mut said = Said::default();
        while let Some((channel, more)) = self.next().await {
            match channel {
                1 => said.stdout.extend(more),
                2 => said.stderr.extend(more),
                3 => said.status.push_str(&String::from_utf8_lossy(&more)),
                other => panic!("channel {other}"),
            }
        }
        said
    }
}
