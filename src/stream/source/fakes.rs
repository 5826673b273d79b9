//! An engine without one: a process that does what the test does.

use super::{Dial, Inlet, Joint, Mouth, Source, Steer};
use crate::engine::session::{
    AttachSession, Ended, ExecSession, Kind, PortForwardSession, Session, Wants,
};
use crate::error::{Error, Result};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncWriteExt, duplex};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};

/// A process that ends when it is told to.
pub struct FakeProcess {
    ended: watch::Sender<Option<Ended>>,
    sizes: Mutex<Vec<(u16, u16)>>,
    resized: Notify,
    detaches: AtomicBool,
}

impl Default for FakeProcess {
    fn default() -> Self {
        Self {
            ended: watch::Sender::new(None),
            sizes: Mutex::default(),
            resized: Notify::new(),
            detaches: AtomicBool::new(false),
        }
    }
}

impl FakeProcess {
    /// It ends.
    pub fn end(&self, ended: Ended) {
        self.ended.send_replace(Some(ended));
    }

    /// Its client is let go when it has sent its last.
    pub fn detach_after_stdin(&self) {
        self.detaches.store(true, Ordering::Relaxed);
    }

    /// Waits for a new size of its terminal.
    pub async fn resized(&self) {
        self.resized.notified().await;
    }

    /// All sizes that it got.
    pub fn sizes(&self) -> Vec<(u16, u16)> {
        self.sizes.lock().unwrap().clone()
    }
}

impl Steer for Arc<FakeProcess> {
    async fn resize(&self, width: u16, height: u16) -> Result<()> {
        self.sizes.lock().unwrap().push((width, height));
        self.resized.notify_one();
        Ok(())
    }

    fn stdin_ended(&self) {
        if self.detaches.load(Ordering::Relaxed) {
            self.end(Ended::Detached);
        }
    }

    async fn wait(&self) -> Result<Ended> {
        let mut ended = self.ended.subscribe();
        let ended = ended.wait_for(Option::is_some).await.unwrap();
        Ok(ended.expect("waited for"))
    }

    async fn cut_off(&self) {
        let mut ended = self.ended.subscribe();
        let cut = ended.wait_for(|ended| *ended == Some(Ended::TooSlow));
        cut.await.unwrap();
    }
}

/// A process that says so many bytes and ends with this code.
pub fn says(length: usize, code: i32) -> Joint<Arc<FakeProcess>> {
    let process = Arc::new(FakeProcess::default());
    let (mut says, stdout) = duplex(64 * 1024);
    let told = Arc::clone(&process);
    tokio::spawn(async move {
        let _ = says.write_all(&vec![b'x'; length]).await;
        drop(says);
        told.end(Ended::Exited { code });
    });
    Joint {
        stdin: None,
        stdout: Some(Box::new(stdout) as Inlet),
        stderr: None,
        process,
    }
}

/// Connects to an address of the test's, whatever the port; with none, it refuses.
pub struct FakeDialer(pub Option<SocketAddr>);

impl Dial for FakeDialer {
    fn pod(&self) -> &'static str {
        "ns/p"
    }

    async fn connect(&self, port: u16) -> Result<TcpStream> {
        match self.0 {
            Some(address) => Ok(TcpStream::connect(address).await.unwrap()),
            None => Err(Error::precondition(format!(
                "connect to port {port} of pod ns/p: refused"
            ))),
        }
    }

    async fn gone(&self) {
        std::future::pending::<()>().await;
    }
}

/// Sessions of `cat`: what comes in goes out, and the end of input is its end, with this code.
pub struct FakeSource {
    waiting: Mutex<HashMap<String, Session>>,
    /// The exit code.
    pub code: i32,
    /// Where ports lead to.
    pub pod: Option<SocketAddr>,
}

impl FakeSource {
    /// With nothing that waits.
    pub fn new(code: i32, pod: Option<SocketAddr>) -> Arc<Self> {
        let waiting = Mutex::default();
        Arc::new(Self { waiting, code, pod })
    }

    /// Lets an exec wait under a token.
    pub fn expect_exec(&self, token: &str, wants: Wants) {
        let session = Session::Exec(ExecSession {
            container: "c".to_owned(),
            command: vec!["cat".to_owned()],
            wants,
        });
        self.waiting
            .lock()
            .unwrap()
            .insert(token.to_owned(), session);
    }

    /// Lets a port-forward wait under a token.
    pub fn expect_ports(&self, token: &str, ports: Vec<u16>) {
        let session = Session::PortForward(PortForwardSession {
            sandbox: "s".to_owned(),
            ports,
        });
        self.waiting
            .lock()
            .unwrap()
            .insert(token.to_owned(), session);
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.lock().unwrap().is_empty()
    }

    fn cat(&self) -> Joint<Arc<FakeProcess>> {
        let process = Arc::new(FakeProcess::default());
        let (stdin, mut hears) = duplex(4096);
        let (mut says, stdout) = duplex(4096);
        let (told, code) = (Arc::clone(&process), self.code);
        tokio::spawn(async move {
            let _ = tokio::io::copy(&mut hears, &mut says).await;
            drop(says);
            told.end(Ended::Exited { code });
        });
        Joint {
            stdin: Some(Box::new(stdin) as Mouth),
            stdout: Some(Box::new(stdout) as Inlet),
            stderr: None,
            process,
        }
    }
}

impl Source for FakeSource {
    type Process = Arc<FakeProcess>;
    type Dialer = FakeDialer;

    fn knows(&self, kind: Kind, token: &str) -> bool {
        let waiting = self.waiting.lock().unwrap();
        waiting
            .get(token)
            .is_some_and(|session| session.kind() == kind)
    }

    fn take(&self, _: Kind, token: &str) -> Option<Session> {
        self.waiting.lock().unwrap().remove(token)
    }

    async fn exec(&self, _: ExecSession) -> Result<Joint<Arc<FakeProcess>>> {
        Ok(self.cat())
    }

    async fn attach(&self, _: AttachSession) -> Result<Joint<Arc<FakeProcess>>> {
        Err(Error::precondition("nothing to attach to"))
    }

    async fn dialer(&self, _: PortForwardSession) -> Result<FakeDialer> {
        Ok(FakeDialer(self.pod))
    }
}
