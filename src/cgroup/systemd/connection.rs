//! One conversation with systemd: a call, its answer, and the end of the job that it began.

use super::message::{FIXED, MessageKind, Received, Writer, call, rest};
use std::io::{self, ErrorKind};
use std::path::Path;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// A method, and what it is given.
pub struct Method {
    /// Its name.
    pub member: &'static str,
    /// The types of its arguments.
    pub signature: &'static str,
    /// Its arguments.
    pub arguments: Writer,
}

/// How a method that begins a job has ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// The job is over, with this result.
    Over(String),
    /// There was none: systemd refuses.
    Refused {
        /// The error's name.
        name: String,
        /// The error's text.
        message: String,
    },
}

/// A connection that is good for one method.
pub struct Connection {
    stream: BufReader<UnixStream>,
}

const SERIAL: u32 = 1;

impl Connection {
    /// Connects, and says who this is.
    ///
    /// # Errors
    /// What the socket says; `PermissionDenied` where systemd does not believe it.
    pub async fn open(socket: &Path) -> io::Result<Self> {
        let mut stream = BufReader::new(UnixStream::connect(socket).await?);
        let uid = rustix::process::geteuid().as_raw().to_string();
        let uid: String = uid.bytes().map(|digit| format!("{digit:02x}")).collect();
        // Both at once: a message that systemd reads together with BEGIN lies there until more comes.
        let hello = format!("\0AUTH EXTERNAL {uid}\r\nBEGIN\r\n");
        stream.write_all(hello.as_bytes()).await?;
        let mut answer = String::new();
        // Nobody sends more of a line than this.
        (&mut stream).take(1024).read_line(&mut answer).await?;
        match answer.split_whitespace().next() {
            Some("OK") => {}
            None => return Err(ErrorKind::UnexpectedEof.into()),
            Some(_) => {
                let answer = answer.trim_end().to_owned();
                return Err(io::Error::new(ErrorKind::PermissionDenied, answer));
            }
        }
        Ok(Self { stream })
    }

    /// Calls a method that begins a job, and waits for the job's end. Signals of the end cannot be
    /// missed: they come by the connection that asked. That of a job which had nothing to do comes before
    /// the answer that names it.
    ///
    /// # Errors
    /// Where the connection ends, or what comes cannot be read.
    pub async fn run(mut self, method: &Method) -> io::Result<Answer> {
        let message = call(SERIAL, method.member, method.signature, &method.arguments);
        self.stream.write_all(&message).await?;
        let (mut job, mut over) = (None, Vec::new());
        loop {
            let is_asked = |(path, _): &&(String, String)| job.as_ref() == Some(path);
            if let Some((_, result)) = over.iter().find(is_asked) {
                return Ok(Answer::Over(result.clone()));
            }
            let message = self.receive().await?;
            match message.kind {
                MessageKind::Return if message.answers == SERIAL => {
                    job = Some(message.body().text()?);
                }
                MessageKind::Error if message.answers == SERIAL => {
                    return Ok(Answer::Refused {
                        message: message.body().text().unwrap_or_default(),
                        name: message.error,
                    });
                }
                MessageKind::Signal if message.member == "JobRemoved" => {
                    over.push(removed(&message)?);
                }
                _ => {}
            }
        }
    }

    async fn receive(&mut self) -> io::Result<Received> {
        let mut fixed = [0; FIXED];
        self.stream.read_exact(&mut fixed).await?;
        let mut message = vec![0; FIXED + rest(&fixed)?];
        let (head, tail) = message.split_at_mut(FIXED);
        head.copy_from_slice(&fixed);
        self.stream.read_exact(tail).await?;
        Received::parse(&message)
    }
}

/// The job's path and its result, of `(uoss)`: number, path, unit, result.
fn removed(signal: &Received) -> io::Result<(String, String)> {
    let mut values = signal.body();
    values.number()?;
    let job = values.text()?;
    values.text()?;
    Ok((job, values.text()?))
}
