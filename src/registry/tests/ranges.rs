//! Large blobs: one connection where that is enough, ranges side by side where it is not.

use super::*;
use crate::registry::ahead::{Budget, FIRST, LARGE};
use std::sync::Condvar;

const SIZE: usize = LARGE as usize + 1_000_000;
const BLOCK: usize = 64 * 1024;

/// No two parts of it are the same.
fn blob() -> Vec<u8> {
    let mut bytes = vec![0; SIZE];
    for (number, block) in bytes.chunks_mut(BLOCK).enumerate() {
        block[..8].copy_from_slice(&number.to_le_bytes());
    }
    bytes
}

/// Nobody here holds the bytes against their digest.
fn named(blob: &[u8]) -> Descriptor {
    Descriptor {
        size: blob.len() as u64,
        ..descriptor(b"blob")
    }
}

/// First and, where it is named, last byte of what is asked for.
fn range(asked: &Asked) -> (usize, Option<usize>) {
    let range = asked.header("range").unwrap().strip_prefix("bytes=");
    let (from, last) = range.unwrap().split_once('-').unwrap();
    (from.parse().unwrap(), last.parse().ok())
}

fn part(asked: &Asked, blob: &[u8]) -> Vec<u8> {
    let (from, last) = range(asked);
    let last = last.unwrap_or(blob.len() - 1);
    let head = format!("content-range: bytes {from}-{last}/{}\r\n", blob.len());
    reply(206, &head, &blob[from..=last])
}

async fn pull(registry: &HttpRegistry, server: &Server, blob: &[u8]) -> Vec<u8> {
    let (image, blob, nobody) = (server.image("a:1"), named(blob), Credentials::default());
    let stream = registry.blob(&image, &blob, &nobody);
    let read = read(stream.await.unwrap());
    let all = tokio::time::timeout(Duration::from_secs(60), read).await;
    all.expect("no part waits for ever").unwrap()
}

/// Requests after the first.
fn rest(server: &Server) -> Vec<(usize, Option<usize>)> {
    server.asked().iter().skip(1).map(range).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn who_waits_for_a_host_asks_for_four_ranges_at_once() {
    let bytes = blob();
    let (served, fourth) = (bytes.clone(), (Mutex::new(false), Condvar::new()));
    let server = Server::start(move |asked| {
        let number = (range(asked).0 - FIRST.min(range(asked).0 as u64) as usize) >> 21;
        let mut is_there = fourth.0.lock().unwrap();
        *is_there |= number == 3;
        fourth.1.notify_all();
        // The one that is needed next comes after all others have been asked for. What would hear them may
        // have been this thread's to do.
        if range(asked).0 as u64 == FIRST && !*is_there {
            tokio::task::block_in_place(|| {
                drop(fourth.1.wait_while(is_there, |is_there| !*is_there));
            });
        }
        part(asked, &served)
    })
    .await;
    assert!(pull(&registry(vec![]), &server, &bytes).await == bytes);
    let asked = rest(&server);
    assert_eq!(asked.len(), (SIZE - FIRST as usize).div_ceil(2 << 20));
    assert!(asked.iter().all(|(_, last)| last.is_some()), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_part_that_breaks_ends_in_one_connection_from_there() {
    let bytes = blob();
    let served = bytes.clone();
    let broken = FIRST as usize + (4 << 20);
    let server = Server::start(move |asked| {
        let mut answer = part(asked, &served);
        if range(asked) == (broken, Some(broken + (2 << 20) - 1)) {
            answer.truncate(1_000_000);
        }
        answer
    })
    .await;
    assert!(pull(&registry(vec![]), &server, &bytes).await == bytes);
    assert_eq!(rest(&server).last(), Some(&(broken, None)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_connection_does_where_others_have_the_room_or_the_host_is_quick_enough() {
    let bytes = blob();
    let served = bytes.clone();
    let server = Server::start(move |asked| part(asked, &served)).await;
    let alone = [(FIRST as usize, None)];
    let crowded = registry(vec![]);
    let all = crowded.parts().take_all();
    assert!(pull(&crowded, &server, &bytes).await == bytes);
    assert_eq!(rest(&server), alone);
    drop(all);
    let limited = registry(vec![]);
    limited.set(Settings {
        bandwidth_limit: Some(1 << 40),
        ..Settings::default()
    });
    server.asked.lock().unwrap().clear();
    assert!(pull(&limited, &server, &bytes).await == bytes);
    assert_eq!(rest(&server), alone);
    // Who takes longer than the host is no quicker with more of it.
    server.asked.lock().unwrap().clear();
    let (image, blob) = (server.image("a:1"), named(&bytes));
    let nobody = Credentials::default();
    let registry = registry(vec![]);
    let mut stream = registry.blob(&image, &blob, &nobody).await.unwrap();
    let mut came = 0;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.unwrap();
        assert!(bytes[came..].starts_with(&chunk));
        came += chunk.len();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!((came, &rest(&server)[..]), (SIZE, &alone[..]));
}

impl Budget {
    /// All parts that there may be.
    fn take_all(&self) -> Vec<tokio::sync::OwnedSemaphorePermit> {
        std::iter::from_fn(|| self.take()).collect()
    }
}
