//! Sessions over SPDY/3.1: which stream is what, told by its headers.
//!
//! ```text
//! exec, attach   streamType: error, stdin, stdout, stderr, resize   (one of each that was asked for)
//! port-forward   streamType: error, data; port: N; requestID: any   (a pair for each connection)
//! ```
//!
//! Invariant: all streams of a session are gone when its connection says goodbye.

use super::end::{End, Form};
use super::outlet::Outlet;
use super::pairs::{Pairs, Refused};
use super::port_forward::{self, STALL};
use super::remote_command::{self, Streams};
use super::source::{Dial, Inlet, Joint, Mouth, Steer};
use super::spdy::{self, Incoming, Limits, ResetStatus, SpdyError};
use super::watch::Watch;
use super::websocket::Io;
use crate::engine::session::Wants;
use crate::error::{Result, chain};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

/// More streams than any command has.
pub(super) const COMMAND_STREAMS: usize = 16;

/// How long a client may take for goodbyes where its session was cut.
const GOODBYE: Duration = Duration::from_secs(5);

/// A negotiated protocol of exec and attach, `vN.channel.k8s.io`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version(pub u8);

impl Version {
    fn form(self) -> Form {
        match self.0 {
            4.. => Form::Json,
            _ => Form::Text,
        }
    }

    fn has_resize(self) -> bool {
        self.0 >= 3
    }
}

/// What an exec or an attach is about.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// The protocol.
    pub version: Version,
    /// The streams that were asked for.
    pub wants: Wants,
    /// How long the client may take to open them.
    pub creation: Duration,
}

/// An exec or an attach.
pub async fn command<P: Steer>(
    io: Io,
    terms: Terms,
    start: impl Future<Output = Result<Joint<P>>>,
    watch: &mut Watch,
) -> End {
    let limits = Limits {
        streams: COMMAND_STREAMS,
        ..Limits::default()
    };
    let (mut incoming, driver) = spdy::serve(io, limits);
    let after = watch.clone();
    let session = async move {
        let mut gathered = Gathered::default();
        let gathering = gather(&mut gathered, &mut incoming, terms);
        let whole = tokio::time::timeout(terms.creation, gathering).await;
        let mut streams = gathered.streams(terms.version);
        if let Err(end) = whole.unwrap_or(Err(End::NoStreams(terms.creation))) {
            remote_command::part(&mut streams, &end, watch).await;
            return end;
        }
        let end = tokio::select! {
            end = remote_command::run(start, streams, watch) => end,
            never = refuse_all(&mut incoming) => never,
        };
        gathered.finish().await;
        end
    };
    converse(session, driver, after).await
}

/// As many connections to a pod's ports as the client opens.
pub async fn ports<D: Dial>(
    io: Io,
    dialer: impl Future<Output = Result<D>> + Send + 'static,
    creation: Duration,
    watch: &mut Watch,
) -> End {
    let limits = Limits {
        stall: Some(STALL),
        ..Limits::default()
    };
    let (mut incoming, driver) = spdy::serve(io, limits);
    let after = watch.clone();
    let session = async move {
        let dialer = port_forward::dialing(dialer);
        let gone = port_forward::pod_gone(dialer.clone());
        tokio::pin!(gone);
        let mut running = JoinSet::new();
        let mut pairs = Pairs::new(creation);
        loop {
            let whole = tokio::select! {
                opening = incoming.accept() => match opening {
                    Some(opening) => pairs.add(opening),
                    None => break,
                },
                () = pairs.expire() => Ok(None),
                Some(_) = running.join_next() => Ok(None),
                end = watch.cut() => return end,
                end = &mut gone => return end,
            };
            match whole {
                Ok(None) => {}
                Ok(Some(pair)) => {
                    let (dialer, traffic) = (dialer.clone(), Arc::clone(&watch.traffic));
                    running.spawn(async move {
                        port_forward::forward(dialer, pair, &traffic).await;
                    });
                }
                Err(refused) => told_in_the_log(&refused),
            }
        }
        tokio::select! {
            end = watch.cut() => end,
            end = gone => end,
            () = async { while running.join_next().await.is_some() {} } => End::ClientGone,
        }
    };
    converse(session, driver, after).await
}

fn told_in_the_log(refused: &Refused) {
    tracing::debug!(error = chain(refused), "a stream was refused");
}

/// Runs a session as long as its connection lives, and lets the connection end after it.
async fn converse(
    session: impl Future<Output = End>,
    driver: impl Future<Output = Result<(), SpdyError>>,
    mut after: Watch,
) -> End {
    tokio::pin!(driver);
    let end = tokio::select! {
        end = session => end,
        over = &mut driver => return of(over),
    };
    // The streams are dropped: the driver says goodbye and ends when its client has closed.
    let patience = end.is_cut().then_some(GOODBYE);
    let over = after.see_off(driver, patience).await;
    match (end, over) {
        // It knows better why.
        (End::ClientGone, Some(over)) => of(over),
        (end, _) => end,
    }
}

fn of(over: Result<(), SpdyError>) -> End {
    match over {
        Ok(()) => End::ClientGone,
        Err(SpdyError::Connection(error)) => End::ClientLost(error.to_string()),
        Err(error) => End::Wrong(chain(&error)),
    }
}

/// More than was asked for is nobody's.
async fn refuse_all(incoming: &mut Incoming) -> End {
    while let Some(opening) = incoming.accept().await {
        opening.refuse(ResetStatus::REFUSED_STREAM);
    }
    // No more will come; whether the client has gone is for the connection to say.
    std::future::pending().await
}

/// The streams that a client has opened.
#[derive(Default)]
struct Gathered {
    stdin: Option<Inlet>,
    resize: Option<Inlet>,
    stdout: Option<Outlet>,
    stderr: Option<Outlet>,
    error: Option<Outlet>,
    /// Directions that are not used, and end with the session.
    idle: Vec<Mouth>,
}

impl Gathered {
    fn has(&self, terms: Terms) -> bool {
        let Terms { version, wants, .. } = terms;
        self.error.is_some()
            && (!wants.stdin || self.stdin.is_some())
            && (!wants.stdout || self.stdout.is_some())
            && (!wants.stderr || self.stderr.is_some())
            && (!(wants.tty && version.has_resize()) || self.resize.is_some())
    }

    fn streams(&mut self, version: Version) -> Streams {
        Streams {
            stdin: self.stdin.take(),
            resize: self.resize.take(),
            stdout: self.stdout.take(),
            stderr: self.stderr.take(),
            error: self.error.take(),
            form: version.form(),
        }
    }

    /// Where a stream of this type belongs, unless there is one.
    fn place(&mut self, name: Option<&str>) -> Option<Place<'_>> {
        let free = match name? {
            "stdin" => Place::In(&mut self.stdin),
            "resize" => Place::In(&mut self.resize),
            "stdout" => Place::Out(&mut self.stdout),
            "stderr" => Place::Out(&mut self.stderr),
            "error" => Place::Out(&mut self.error),
            _ => return None,
        };
        match &free {
            Place::In(Some(_)) | Place::Out(Some(_)) => None,
            _ => Some(free),
        }
    }

    async fn finish(&mut self) {
        for mouth in &mut self.idle {
            // The client has gone.
            let _ = mouth.shutdown().await;
        }
    }
}

/// Waits for the streams that were asked for. One that was not, or that is there, is refused, as
/// servers of Kubernetes pass over it.
async fn gather(gathered: &mut Gathered, incoming: &mut Incoming, terms: Terms) -> Result<(), End> {
    while !gathered.has(terms) {
        let opening = incoming.accept().await.ok_or(End::ClientGone)?;
        match gathered.place(opening.headers.get("streamtype")) {
            None => opening.refuse(ResetStatus::PROTOCOL_ERROR),
            Some(Place::Out(place)) => {
                let writer = opening.reply().into_writer();
                *place = Some(Outlet::Stream(Box::new(writer)));
            }
            Some(Place::In(place)) => {
                let (reader, mut writer) = opening.reply().split();
                *place = Some(Box::new(reader));
                if terms.version == Version(1) {
                    // Clients of v1 wait for it before they send.
                    let _ = writer.shutdown().await;
                }
                gathered.idle.push(Box::new(writer));
            }
        }
    }
    Ok(())
}

/// Where a stream belongs.
enum Place<'a> {
    In(&'a mut Option<Inlet>),
    Out(&'a mut Option<Outlet>),
}

#[cfg(test)]
mod tests;
