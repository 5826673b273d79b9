//! The streams of port-forward over SPDY, two for each connection, which come in any order.
//!
//! Invariant: a stream that is no half of anything is refused, and nothing else happens; a half
//! whose other half does not come is told so and goes.

use super::outlet::Outlet;
use super::port_forward::Pair;
use super::spdy::{Cut, Opening, ResetStatus, SpdyUpload};
use futures::FutureExt;
use futures::future::BoxFuture;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;
use tokio::time::Instant;

/// The longest `requestID`, in bytes: clients count.
const LONGEST_REQUEST: usize = 128;

/// Why a stream is no half of a pair.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// A header is missing, or says what it cannot.
    #[error("the header {0} is {1:?}")]
    Header(&'static str, String),
    /// The connection has such a stream.
    #[error("the request {0:?} has two streams of the same type")]
    Twice(String),
}

/// One of the two.
enum Half {
    Data(SpdyUpload, Outlet, BoxFuture<'static, Cut>),
    Error(Outlet),
}

/// A half that waits.
struct Waiting {
    half: Half,
    port: u16,
    until: Instant,
}

/// Halves that wait for each other.
pub struct Pairs {
    creation: Duration,
    waiting: HashMap<String, Waiting>,
}

impl Pairs {
    /// A half may wait this long.
    #[must_use]
    pub fn new(creation: Duration) -> Self {
        let waiting = HashMap::new();
        Self { creation, waiting }
    }

    /// Takes a stream; gives the pair that it completes.
    ///
    /// # Errors
    /// Where it can be no half. It is refused then.
    pub fn add(&mut self, opening: Opening) -> Result<Option<Pair>, Refused> {
        let labels = match Labels::of(&opening) {
            Ok(labels) => labels,
            Err(refused) => {
                opening.refuse(ResetStatus::PROTOCOL_ERROR);
                return Err(refused);
            }
        };
        let Labels {
            request,
            port,
            is_data,
        } = labels;
        match self.waiting.entry(request) {
            Entry::Vacant(place) => {
                place.insert(Waiting {
                    half: accept(opening, is_data),
                    port,
                    until: Instant::now() + self.creation,
                });
                Ok(None)
            }
            Entry::Occupied(other) if matches!(other.get().half, Half::Data(..)) == is_data => {
                opening.refuse(ResetStatus::PROTOCOL_ERROR);
                Err(Refused::Twice(other.key().clone()))
            }
            Entry::Occupied(other) => {
                let waiting = other.remove();
                let port = if is_data { port } else { waiting.port };
                Ok(pair(port, waiting.half, accept(opening, is_data)))
            }
        }
    }

    /// Lets the half go that has waited for too long, when there is one. Can be dropped and called
    /// again at any time.
    pub async fn expire(&mut self) {
        let next = self.waiting.iter().min_by_key(|(_, half)| half.until);
        let Some((request, half)) = next else {
            return std::future::pending().await;
        };
        tokio::time::sleep_until(half.until).await;
        let request = request.clone();
        if let Some(Waiting {
            half: Half::Error(mut error),
            ..
        }) = self.waiting.remove(&request)
        {
            let told = format!(
                "no data stream came within {:?}, which is `[streaming] creation_timeout`",
                self.creation
            );
            // Who sends halves may not read them either: nobody waits for it.
            tokio::spawn(async move {
                let _ = error.write(told.as_bytes()).await;
                let _ = error.finish().await;
            });
        }
    }
}

fn accept(opening: Opening, is_data: bool) -> Half {
    let stream = opening.reply();
    if is_data {
        let (reader, writer) = stream.split();
        let cut = reader.until_cut().boxed();
        Half::Data(reader.into_upload(), Outlet::Relay(writer), cut)
    } else {
        Half::Error(Outlet::Stream(Box::new(stream.into_writer())))
    }
}

fn pair(port: u16, one: Half, other: Half) -> Option<Pair> {
    match (one, other) {
        (Half::Data(from, to, cut), Half::Error(error))
        | (Half::Error(error), Half::Data(from, to, cut)) => Some(Pair {
            port,
            from: Box::new(from),
            to,
            error,
            cut,
        }),
        (Half::Data(..), Half::Data(..)) | (Half::Error(_), Half::Error(_)) => None,
    }
}

/// What a stream says of itself.
struct Labels {
    request: String,
    port: u16,
    is_data: bool,
}

impl Labels {
    fn of(opening: &Opening) -> Result<Self, Refused> {
        let text = |name| opening.headers.get(name).unwrap_or_default();
        let wrong = |name, text: &str| Refused::Header(name, text.to_owned());
        let port = match text("port").parse() {
            Ok(0) | Err(_) => return Err(wrong("port", text("port"))),
            Ok(port) => port,
        };
        let is_data = match text("streamtype") {
            "data" => true,
            "error" => false,
            other => return Err(wrong("streamType", other)),
        };
        let request = match text("requestid") {
            // Clients from before there was one open the error stream and then the data stream.
            "" if is_data => format!("stream {}", opening.id().saturating_sub(2)),
            "" => format!("stream {}", opening.id()),
            request if request.len() > LONGEST_REQUEST => {
                return Err(wrong(
                    "requestID",
                    &request[..request.floor_char_boundary(32)],
                ));
            }
            request => request.to_owned(),
        };
        Ok(Self {
            request,
            port,
            is_data,
        })
    }
}
