//! The sizes of a client's terminal: JSON objects one after the other, `{"Width":80,"Height":24}`.
//!
//! Invariant: of sizes that come faster than they can be set, the last one counts; a client that
//! sends something else only loses its sizes.

use super::source::Inlet;
use serde::Deserialize;
use tokio::io::AsyncReadExt;

/// More than a size takes, in bytes.
const ROOM: usize = 4096;

/// The size of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Size {
    /// In columns.
    #[serde(rename = "Width", alias = "width")]
    pub width: u16,
    /// In rows.
    #[serde(rename = "Height", alias = "height")]
    pub height: u16,
}

/// A stream of sizes.
pub struct Sizes {
    from: Inlet,
    held: Vec<u8>,
}

impl Sizes {
    /// Of what comes from here.
    #[must_use]
    pub fn new(from: Inlet) -> Self {
        let held = Vec::new();
        Self { from, held }
    }

    /// The last size that has come; `None` when no more will.
    pub async fn next(&mut self) -> Option<Size> {
        loop {
            let (last, rest) = last_of(&self.held).ok()?;
            self.held.drain(..rest);
            if last.is_some() {
                return last;
            }
            if self.held.len() >= ROOM {
                return None;
            }
            let mut more = [0; 512];
            match self.from.read(&mut more).await {
                Ok(0) | Err(_) => return None,
                Ok(read) => self.held.extend_from_slice(&more[..read]),
            }
        }
    }
}

/// The last whole size, and where what is not whole begins.
fn last_of(bytes: &[u8]) -> Result<(Option<Size>, usize), serde_json::Error> {
    let mut sizes = serde_json::Deserializer::from_slice(bytes).into_iter::<Size>();
    let mut last = None;
    let mut end = 0;
    loop {
        match sizes.next() {
            Some(Ok(size)) => {
                last = Some(size);
                end = sizes.byte_offset();
            }
            Some(Err(error)) if error.is_eof() => return Ok((last, end)),
            Some(Err(error)) => return Err(error),
            None => return Ok((last, bytes.len())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    #[tokio::test]
    async fn the_last_size_counts_and_pieces_are_joined() {
        let (mut client, server) = tokio::io::duplex(1024);
        let mut sizes = Sizes::new(Box::new(server));
        let three = br#"{"Width":1,"Height":1}{"Width":2,"Height":2} {"Width":3,"Height":4}{"Wi"#;
        client.write_all(three).await.unwrap();
        let size = sizes.next().await.unwrap();
        assert_eq!((size.width, size.height), (3, 4));
        client
            .write_all(br#"dth":65535,"Height":5}"#)
            .await
            .unwrap();
        assert_eq!(sizes.next().await.unwrap().width, 65535);
        drop(client);
        assert_eq!(sizes.next().await, None);
    }

    #[tokio::test]
    async fn what_is_no_size_ends_the_stream() {
        let endless = format!("{{\"{}", "x".repeat(3 * ROOM));
        for wrong in ["x", "{\"Width\":-1,\"Height\":2}", "[]", &endless] {
            let sent: &'static [u8] = wrong.to_owned().leak().as_bytes();
            assert_eq!(Sizes::new(Box::new(sent)).next().await, None, "{wrong:.9}");
        }
    }
}
