//! A blob's bytes from whichever host has them: a connection that breaks is taken up again at the
//! byte where it ended, at the next host first.
//!
//! Invariant: the stream gives each byte once and in order, whatever hosts come and go, and ends
//! only when as many came as the descriptor says.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use futures::stream;
use reqwest::{
    Response, StatusCode,
    header::{CONTENT_RANGE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_RANGE, RANGE},
};
use tokio::time::Instant;

use super::{
    BlobStream, Error, Givers,
    ahead::{Ahead, FIRST, LARGE, Waiting},
    client::place,
    hosts::Endpoint,
    http::{HttpRegistry, Request, note, together},
    pace::Pace,
    patience::Rounds,
};
use crate::{
    id::ImageRef,
    model::{credentials::Credentials, image::Descriptor},
};

/// A blob may break off so often, and once more for each MiB that has come.
const FREE_BREAKS: u64 = 64;
/// A host that stalls costs as much time as so many breaks.
const STALL: u64 = 16;
/// Failures that are told: the last ones say enough.
const TOLD: usize = 4;

/// What is asked for, and by whom.
#[derive(Clone)]
pub(super) struct Wanted {
    /// Whose repository it is in.
    pub image: ImageRef,
    /// The blob.
    pub blob: Descriptor,
    /// Who asks.
    pub credentials: Credentials,
    /// Whom to tell who gives it.
    pub givers: Givers,
    /// The first byte: those before it are there.
    pub from: u64,
}

/// A blob asked of one host.
pub(super) struct Asking {
    registry: HttpRegistry,
    host: Endpoint,
    wanted: Wanted,
    /// What the host called the blob: it may go on only with the same.
    tag: Option<HeaderValue>,
}

struct Blob {
    registry: HttpRegistry,
    hosts: Vec<Endpoint>,
    next_host: usize,
    wanted: Wanted,
    /// Bytes given so far.
    offset: u64,
    open: Option<Open>,
    /// Parts that come side by side.
    ahead: Option<Ahead>,
    /// What the host of this number called the blob: it may go on only with the same.
    tag: Option<(usize, HeaderValue)>,
    /// Failures since the last new byte.
    failures: VecDeque<Error>,
    /// Hosts asked in this round.
    asked: usize,
    rounds: Rounds,
    breaks: u64,
}

struct Open {
    response: Response,
    /// Its number among the hosts.
    host: usize,
    pace: Pace,
    waiting: Waiting,
    /// Bytes to pass over: a host that cannot do ranges starts at the front.
    skip: u64,
    /// Where the body ends: before the blob does, if it is a part.
    end: u64,
}

/// Opens a blob at the first host that has it. One of which all bytes are there is asked of nobody.
pub(super) async fn open(
    registry: HttpRegistry,
    hosts: Vec<Endpoint>,
    wanted: Wanted,
) -> Result<BlobStream, Error> {
    let rounds = Rounds::new(registry.settings().first_pause);
    let mut blob = Blob {
        registry,
        hosts,
        next_host: 0,
        offset: wanted.from,
        wanted,
        open: None,
        ahead: None,
        tag: None,
        failures: VecDeque::new(),
        asked: 0,
        rounds,
        breaks: 0,
    };
    if blob.offset == 0 || blob.offset < blob.wanted.blob.size {
        blob.connect().await?;
    }
    Ok(Box::pin(stream::unfold(Some(blob), |state| async move {
        let mut blob = state?;
        match blob.next().await {
            Ok(Some(bytes)) => Some((Ok(bytes), Some(blob))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })))
}

impl Blob {
    /// The next bytes; `None` when all have come.
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        while self.offset < self.wanted.blob.size {
            if let Some(bytes) = self.side_by_side().await? {
                self.registry.bandwidth().take(bytes.len() as u64).await;
                return Ok(Some(bytes));
            }
            if self.open.is_none() {
                self.connect().await?;
            }
            if let Some(bytes) = self.read().await? {
                self.registry.bandwidth().take(bytes.len() as u64).await;
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    /// The next part of those that come side by side. A failure ends that way of getting them.
    async fn side_by_side(&mut self) -> Result<Option<Bytes>, Error> {
        let Some(ahead) = &mut self.ahead else {
            return Ok(None);
        };
        match ahead.next().await {
            Some(Ok(bytes)) => return self.take(bytes, String::new()),
            Some(Err(error)) => self.broke(error)?,
            None => {}
        }
        self.ahead = None;
        Ok(None)
    }

    /// New bytes of the open response, or `None` at its end and after a failure, which is noted.
    async fn read(&mut self) -> Result<Option<Bytes>, Error> {
        let Some(open) = &mut self.open else {
            return Ok(None);
        };
        let began = Instant::now();
        let read = open.pace.chunk(&mut open.response).await;
        open.waiting.add(began);
        let ended = match read {
            Ok(Some(mut bytes)) => {
                let skipped = open.skip.min(bytes.len() as u64);
                open.skip -= skipped;
                let place = place(open.response.url());
                // The cast cannot lose: it is at most the chunk's length.
                let bytes = bytes.split_off(skipped as usize);
                self.wanted.givers.gave(&self.hosts[open.host]);
                return self.take(bytes, place);
            }
            Ok(None) if self.offset == open.end => {
                self.go_on();
                return Ok(None);
            }
            Ok(None) => Error::Short {
                place: place(open.response.url()),
                offset: self.offset,
                size: self.wanted.blob.size,
            },
            Err(error) => error,
        };
        self.open = None;
        self.broke(ended)?;
        Ok(None)
    }

    /// After the first part: the same host is asked for the rest, in the way that is quickest.
    fn go_on(&mut self) {
        let Some(open) = self.open.take() else {
            return;
        };
        self.next_host = open.host;
        if open.waiting.is_most() && !self.registry.bandwidth().is_limited() {
            let budget = self.registry.parts().clone();
            self.ahead = Some(Ahead::new(self.asking(open.host), budget, self.offset));
        }
    }

    fn asking(&self, number: usize) -> Asking {
        let tag = self.tag.as_ref().filter(|(whose, _)| *whose == number);
        Asking {
            registry: self.registry.clone(),
            host: self.hosts[number].clone(),
            wanted: self.wanted.clone(),
            tag: tag.map(|(_, tag)| tag.clone()),
        }
    }

    /// Notes that a body broke off. One that does so again and again is given up, although each
    /// time some bytes came.
    fn broke(&mut self, error: Error) -> Result<(), Error> {
        self.breaks += match error {
            Error::Stalled { .. } => STALL,
            _ => 1,
        };
        tracing::debug!(blob = %self.wanted.blob.digest, offset = self.offset, error = crate::error::chain(&error), "download broke off");
        self.keep(error);
        match self.breaks > FREE_BREAKS + (self.offset >> 20) {
            true => Err(self.give_up()),
            false => Ok(()),
        }
    }

    fn keep(&mut self, error: Error) {
        if self.failures.len() >= TOLD.max(self.hosts.len()) {
            self.failures.pop_front();
        }
        self.failures.push_back(error);
    }

    fn take(&mut self, bytes: Bytes, place: String) -> Result<Option<Bytes>, Error> {
        self.offset += bytes.len() as u64;
        if self.offset > self.wanted.blob.size {
            return Err(Error::TooLarge {
                place,
                limit: self.wanted.blob.size,
            });
        }
        if bytes.is_empty() {
            return Ok(None);
        }
        self.failures.clear();
        self.asked = 0;
        self.rounds.reset();
        Ok(Some(bytes))
    }

    /// Opens the blob at its offset, at one host after the other; when none had time, again after
    /// a pause.
    async fn connect(&mut self) -> Result<(), Error> {
        loop {
            while self.asked < self.hosts.len() {
                let number = self.next_host % self.hosts.len();
                self.next_host += 1;
                self.asked += 1;
                match self.ask(number).await {
                    Ok(open) => {
                        self.open = Some(open);
                        return Ok(());
                    }
                    Err(error) => {
                        let error = note(&self.hosts[number], error);
                        self.keep(error);
                    }
                }
            }
            match self.rounds.pause(self.failures.make_contiguous()) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(self.give_up()),
            }
            self.asked = 0;
        }
    }

    fn give_up(&mut self) -> Error {
        together(std::mem::take(&mut self.failures).into())
    }

    async fn ask(&mut self, number: usize) -> Result<Open, Error> {
        let size = self.wanted.blob.size;
        let begins = self.offset == self.wanted.from && size - self.offset >= LARGE;
        let first = begins.then_some(self.offset + FIRST);
        let response = self.asking(number).range(self.offset, first).await?;
        let partial = response.status() == StatusCode::PARTIAL_CONTENT;
        check(&response, partial.then_some(self.offset), size)?;
        self.tag = strong_tag(&response).map(|tag| (number, tag));
        Ok(Open {
            response,
            host: number,
            pace: Pace::new(self.registry.settings().progress_timeout),
            waiting: Waiting::new(),
            skip: if partial { 0 } else { self.offset },
            end: first.filter(|_| partial).unwrap_or(size),
        })
    }
}

impl Asking {
    /// Asks for the bytes from this one on, to the end or up to another. The host that began is held
    /// to what it called the blob (If-Range, RFC 9110 §13.1.5): if it has another one now it sends
    /// that from the front, and the digest tells.
    pub async fn range(&self, from: u64, to: Option<u64>) -> Result<Response, Error> {
        let path = format!("blobs/{}", self.wanted.blob.digest);
        let mut request = Request::new(&self.wanted.image, path, &self.wanted.credentials);
        if from > 0 || to.is_some() {
            let last = to.map(|to| (to - 1).to_string()).unwrap_or_default();
            let range = HeaderValue::try_from(format!("bytes={from}-{last}"));
            request
                .headers
                .insert(RANGE, range.expect("digits are ASCII"));
        }
        if let Some(tag) = self.tag.as_ref().filter(|_| from > 0) {
            request.headers.insert(IF_RANGE, tag.clone());
        }
        self.registry.ask(&self.host, &request).await
    }

    /// The blob's bytes.
    pub fn size(&self) -> u64 {
        self.wanted.blob.size
    }

    /// How long a host may make no progress.
    pub fn patience(&self) -> Duration {
        self.registry.settings().progress_timeout
    }
}

/// A strong entity tag: a weak one does not stand for bytes.
fn strong_tag(response: &Response) -> Option<HeaderValue> {
    let tag = response.headers().get(ETAG)?;
    tag.as_bytes().starts_with(b"\"").then(|| tag.clone())
}

/// Holds what a response says of itself against what was asked for: `from` this byte on, if it is
/// a part. A host that says nothing is believed; the digest comes at the end.
pub(super) fn check(response: &Response, from: Option<u64>, size: u64) -> Result<(), Error> {
    let wrong = |expected: String, actual: String| {
        Err(Error::Range {
            place: place(response.url()),
            expected,
            actual,
        })
    };
    let Some(from) = from else {
        return match response.content_length() {
            Some(length) if length != size => {
                wrong(format!("{size} bytes"), format!("{length} bytes"))
            }
            _ => Ok(()),
        };
    };
    let said = text(response.headers(), &CONTENT_RANGE);
    match content_range(&said) {
        Some((start, total)) if start == from && total.is_none_or(|total| total == size) => Ok(()),
        _ => wrong(
            format!("bytes {from}- of {size}"),
            format!("{:?}", said.chars().take(100).collect::<String>()),
        ),
    }
}

fn text(headers: &HeaderMap, name: &HeaderName) -> String {
    let value = headers.get(name).map(HeaderValue::as_bytes);
    String::from_utf8_lossy(value.unwrap_or_default()).into_owned()
}

/// The first byte and, where it is known, the whole length: `bytes 5-9/10`, `bytes 5-9/*`.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let start = range.split_once('-')?.0.trim().parse().ok()?;
    match total.trim() {
        "*" => Some((start, None)),
        total => Some((start, Some(total.parse().ok()?))),
    }
}

#[cfg(test)]
mod tests {
    use super::content_range;

    #[test]
    fn content_ranges_are_read() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
        for text in ["", "bytes */10", "bytes 5-9", "items 5-9/10", "bytes -9/10"] {
            assert_eq!(content_range(text), None, "{text}");
        }
    }
}
