//! A blob's bytes from whichever host has them: a connection that breaks is taken up again at the
//! byte where it ended, at the next host first.
//!
//! Invariant: the stream gives each byte once and in order, whatever hosts come and go, and ends
//! only when as many came as the descriptor says.

use bytes::Bytes;
use futures::stream;
use reqwest::{
    Response, StatusCode,
    header::{HeaderValue, RANGE},
};

use super::{
    BlobStream, Error,
    client::place,
    hosts::Endpoint,
    http::{HttpRegistry, Request, note, together},
};
use crate::{
    id::ImageRef,
    model::{credentials::Credentials, image::Descriptor},
};

/// Rounds over all hosts without a single new byte before a blob is given up.
const ROUNDS: usize = 3;

struct Blob {
    registry: HttpRegistry,
    hosts: Vec<Endpoint>,
    next_host: usize,
    image: ImageRef,
    blob: Descriptor,
    credentials: Credentials,
    /// Bytes given so far.
    offset: u64,
    open: Option<Open>,
    /// Failures since the last new byte.
    failures: Vec<Error>,
}

struct Open {
    response: Response,
    /// Bytes to pass over: a host that cannot do ranges starts at the front.
    skip: u64,
}

/// Opens a blob at the first host that has it.
pub(super) async fn open(
    registry: HttpRegistry,
    hosts: Vec<Endpoint>,
    image: &ImageRef,
    blob: &Descriptor,
    credentials: &Credentials,
) -> Result<BlobStream, Error> {
    let mut blob = Blob {
        registry,
        hosts,
        next_host: 0,
        image: image.clone(),
        blob: blob.clone(),
        credentials: credentials.clone(),
        offset: 0,
        open: None,
        failures: Vec::new(),
    };
    blob.connect(1).await?;
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
        while self.offset < self.blob.size {
            if self.open.is_none() {
                self.connect(ROUNDS).await?;
            }
            if let Some(bytes) = self.read().await? {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    /// New bytes of the open response, or `None` after a failure, which is noted.
    async fn read(&mut self) -> Result<Option<Bytes>, Error> {
        let Some(open) = &mut self.open else {
            return Ok(None);
        };
        let place = place(open.response.url());
        let ended = match open.response.chunk().await {
            Ok(Some(mut bytes)) => {
                let skipped = open.skip.min(bytes.len() as u64);
                open.skip -= skipped;
                // The cast cannot lose: it is at most the chunk's length.
                let bytes = bytes.split_off(skipped as usize);
                return self.take(bytes, place);
            }
            Ok(None) => Error::Status {
                place,
                status: 200,
                message: format!("ended after {} bytes", self.offset),
            },
            Err(source) => Error::Transport {
                operation: "read from",
                place,
                source: source.without_url(),
            },
        };
        self.open = None;
        self.failures.push(ended);
        Ok(None)
    }

    fn take(&mut self, bytes: Bytes, place: String) -> Result<Option<Bytes>, Error> {
        self.offset += bytes.len() as u64;
        if self.offset > self.blob.size {
            return Err(Error::TooLarge {
                place,
                limit: self.blob.size,
            });
        }
        if bytes.is_empty() {
            return Ok(None);
        }
        self.failures.clear();
        Ok(Some(bytes))
    }

    /// Opens the blob at its offset, at one host after the other, for so many rounds.
    async fn connect(&mut self, rounds: usize) -> Result<(), Error> {
        while self.failures.len() < rounds * self.hosts.len() {
            let host = self.hosts[self.next_host % self.hosts.len()].clone();
            self.next_host += 1;
            match self.ask(&host).await {
                Ok(open) => {
                    self.open = Some(open);
                    return Ok(());
                }
                Err(error) => self.failures.push(note(&host, error)),
            }
        }
        Err(together(std::mem::take(&mut self.failures)))
    }

    async fn ask(&self, host: &Endpoint) -> Result<Open, Error> {
        let path = format!("blobs/{}", self.blob.digest);
        let mut request = Request::new(&self.image, path, &self.credentials);
        if self.offset > 0 {
            let range =
                HeaderValue::try_from(format!("bytes={}-", self.offset)).expect("digits are ASCII");
            request.headers.insert(RANGE, range);
        }
        let response = self.registry.ask(host, &request).await?;
        let partial = response.status() == StatusCode::PARTIAL_CONTENT;
        Ok(Open {
            response,
            skip: if partial { 0 } else { self.offset },
        })
    }
}
