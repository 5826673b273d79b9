//! A registry that breaks in every way a registry can: it serves what is pushed, unless the fault
//! that a test has chosen for a request says otherwise. One request a connection, so that a cut
//! connection is a cut answer.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use corten::id::Digest;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What a client asked for.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Path and query.
    pub target: String,
    /// A header a line; the client writes their names in lower case.
    pub headers: String,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.headers.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// Whether it is for a blob and not for a manifest.
    pub fn is_blob(&self) -> bool {
        self.target.contains("/blobs/")
    }

    /// The first byte that is asked for and, where it is named, the last.
    pub fn range(&self) -> Option<(usize, Option<usize>)> {
        let range = self.header("range")?.strip_prefix("bytes=")?;
        let (from, last) = range.split_once('-')?;
        Some((from.parse().ok()?, last.parse().ok()))
    }
}

/// What goes wrong with one answer.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Nothing.
    None,
    /// The connection ends after so many bytes of the answer, head included.
    CutAfter(usize),
    /// This status with these header lines (each ending in CR LF).
    Status(u16, String),
    /// A range is answered with the whole.
    NoRanges,
    /// So many bytes at a time, with a pause after each.
    Slowly(usize, Duration),
    /// These bytes as the body.
    Body(Vec<u8>),
    /// These bytes as the body, without a word of how many they are.
    Unmeasured(Vec<u8>),
    /// No answer at all, and no end.
    Silence,
    /// So many bytes of the body, and then nothing and no end.
    HoldAfter(usize),
}

type Choose = dyn Fn(&Asked, usize) -> Fault + Send + Sync;

/// What is pushed, by the last part of its path.
type Things = Arc<Mutex<HashMap<String, Vec<u8>>>>;

/// Connections that began with TLS, which is not spoken here.
#[derive(Default)]
struct Hellos {
    kept: AtomicBool,
    /// Those that are kept waiting.
    all: Mutex<Vec<Option<TcpStream>>>,
}

/// The registry; it ends with the test.
pub struct FaultRegistry {
    pub address: String,
    things: Things,
    asked: Arc<Mutex<Vec<Asked>>>,
    choose: Arc<Mutex<Arc<Choose>>>,
    hellos: Arc<Hellos>,
    task: JoinHandle<()>,
}

impl Drop for FaultRegistry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FaultRegistry {
    /// One without faults.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let things = Things::default();
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let none: Arc<Choose> = Arc::new(|_, _| Fault::None);
        let choose = Arc::new(Mutex::new(none));
        let hellos = Arc::<Hellos>::default();
        let (to, log, chosen, tls) = (
            things.clone(),
            asked.clone(),
            choose.clone(),
            hellos.clone(),
        );
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (to, log, chosen, tls) = (to.clone(), log.clone(), chosen.clone(), tls.clone());
                tokio::spawn(async move {
                    if let Some((stream, asked, number)) = hear(stream, &log, &tls).await {
                        let fault = chosen.lock().unwrap().clone()(&asked, number);
                        let thing = to.lock().unwrap().get(asked.name()).cloned();
                        say(stream, answer(&asked, thing, &fault), &fault).await;
                    }
                });
            }
        });
        Self {
            address,
            things,
            asked,
            choose,
            hellos,
            task,
        }
    }

    /// Chooses the fault of each request from now on, by the request and how many came before it.
    pub fn break_with(&self, choose: impl Fn(&Asked, usize) -> Fault + Send + Sync + 'static) {
        self.asked.lock().unwrap().clear();
        *self.choose.lock().unwrap() = Arc::new(choose);
    }

    /// What was asked for since the last change of faults.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// From now on who begins with TLS gets no answer, and no end.
    pub fn keep_tls_waiting(&self) {
        self.hellos.kept.store(true, Ordering::SeqCst);
    }

    /// How many have begun with TLS.
    pub fn hellos(&self) -> usize {
        self.hellos.all.lock().unwrap().len()
    }

    /// `ADDRESS/app:TAG`.
    pub fn image(&self, tag: &str) -> String {
        format!("{}/app:{tag}", self.address)
    }

    /// Keeps a blob and gives its descriptor.
    pub fn push_blob(&self, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes);
        self.keep(digest.as_str(), bytes);
        json!({"mediaType": "application/octet-stream", "digest": digest, "size": bytes.len()})
    }

    /// Keeps a manifest under its tag and digest.
    pub fn push_manifest(&self, tag: &str, manifest: &Value) -> Digest {
        let bytes = manifest.to_string().into_bytes();
        let digest = Digest::of(&bytes);
        self.keep(tag, &bytes);
        self.keep(digest.as_str(), &bytes);
        digest
    }

    /// Pushes an image of these compressed layers, which unpack to tars of these digests.
    pub fn push_image(&self, tag: &str, layers: &[(Vec<u8>, Digest)]) -> Digest {
        let diff_ids: Vec<_> = layers.iter().map(|(_, diff_id)| diff_id).collect();
        let config = json!({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        let config = self.push_blob(config.to_string().as_bytes());
        let layers: Vec<_> = layers
            .iter()
            .map(|(blob, _)| self.push_blob(blob))
            .collect();
        let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": layers});
        self.push_manifest(tag, &manifest)
    }

    fn keep(&self, name: &str, bytes: &[u8]) {
        let mut things = self.things.lock().unwrap();
        things.insert(name.to_owned(), bytes.to_vec());
    }
}

impl Asked {
    fn name(&self) -> &str {
        let path = self.target.split('?').next().unwrap_or_default();
        path.rsplit('/').next().unwrap_or_default()
    }
}

async fn hear(
    mut stream: TcpStream,
    log: &Mutex<Vec<Asked>>,
    hellos: &Hellos,
) -> Option<(TcpStream, Asked, usize)> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return None;
        }
        // What begins like TLS is no request, and no head ends it.
        if bytes[0] == 0x16 {
            let kept = hellos.kept.load(Ordering::SeqCst).then_some(stream);
            hellos.all.lock().unwrap().push(kept);
            return None;
        }
    }
    let head = String::from_utf8_lossy(&bytes).to_string();
    let (line, headers) = head.split_once("\r\n")?;
    let asked = Asked {
        target: line.split(' ').nth(1)?.to_owned(),
        headers: headers.replace('\r', ""),
    };
    let mut log = log.lock().unwrap();
    log.push(asked.clone());
    let number = log.len() - 1;
    drop(log);
    Some((stream, asked, number))
}

fn answer(asked: &Asked, thing: Option<Vec<u8>>, fault: &Fault) -> Vec<u8> {
    let whole = |status: u16, headers: &str, body: &[u8]| {
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
        );
        [head.as_bytes(), body].concat()
    };
    let thing = match fault {
        Fault::Unmeasured(bytes) => {
            let head = "HTTP/1.1 200 X\r\nconnection: close\r\n\r\n";
            return [head.as_bytes(), bytes].concat();
        }
        Fault::Status(status, headers) => return whole(*status, headers, b""),
        Fault::Body(bytes) => Some(bytes.clone()),
        _ => thing,
    };
    let Some(thing) = thing else {
        return whole(404, "", b"");
    };
    let size = thing.len();
    match asked.range().filter(|_| !matches!(fault, Fault::NoRanges)) {
        Some((from, last)) if from < size => {
            let last = last.unwrap_or(usize::MAX).min(size - 1);
            let range = format!("content-range: bytes {from}-{last}/{size}\r\n");
            whole(206, &range, &thing[from..=last])
        }
        Some(_) => whole(416, "", b""),
        None => whole(200, "", &thing),
    }
}

/// A client that has seen enough closes early: a failed write is no failed test.
async fn say(mut stream: TcpStream, mut answer: Vec<u8>, fault: &Fault) {
    match fault {
        Fault::Silence => std::future::pending().await,
        Fault::CutAfter(bytes) => answer.truncate(*bytes),
        Fault::HoldAfter(bytes) => {
            let head = answer.windows(4).position(|four| four == b"\r\n\r\n");
            answer.truncate(head.unwrap() + 4 + bytes);
            let _ = stream.write_all(&answer).await;
            std::future::pending::<()>().await;
        }
        Fault::Slowly(bytes, pause) => {
            for part in answer.chunks(*bytes) {
                if stream.write_all(part).await.is_err() {
                    return;
                }
                tokio::time::sleep(*pause).await;
            }
            return;
        }
        _ => {}
    }
    let _ = stream.write_all(&answer).await;
    let _ = stream.shutdown().await;
}
