//! Bytes that are passed on, from where they come to where they can go.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, ready};

use bytes::BufMut;
use bytes::buf::Limit;
use futures::{FutureExt, poll};

use super::flow::numbered;
use super::*;
use crate::stream::spdy::codec::Setting;

/// However many pass on what came, and have not got rid of it.
#[tokio::test(start_paused = true)]
async fn what_is_passed_on_counts_until_it_is_consumed() {
    const STREAMS: u32 = 40;
    let (mut peer, mut incoming, _driver) = session(Limits::default(), 10_000);
    let mut uploads = Vec::new();
    for at in 0..STREAMS {
        let (reader, writer) = peer.open(&mut incoming, 2 * at + 1).await;
        uploads.push((reader.into_upload(), writer));
    }
    let part = numbered(8 << 10);
    let mut bytes = Vec::new();
    for at in 0..STREAMS {
        bytes.extend(data_header(2 * at + 1, part.len(), true));
        bytes.extend(&part);
    }
    let (mut hears, mut says) = tokio::io::split(peer.connection);
    tokio::spawn(async move { tokio::io::copy(&mut hears, &mut tokio::io::sink()).await });
    let said = Arc::new(AtomicUsize::new(0));
    let counted = said.clone();
    let saying = tokio::spawn(async move {
        for part in bytes.chunks(1000) {
            says.write_all(part).await.unwrap();
            counted.fetch_add(part.len(), Ordering::Relaxed);
        }
        says
    });
    // Each holds all that comes for it.
    let look = std::time::Duration::from_millis(300);
    let mut held = 0;
    for (upload, _) in &mut uploads {
        let chunks = std::future::poll_fn(|cx| {
            let mut slices = [std::io::IoSlice::new(&[]); 4];
            let used = ready!(upload.poll_chunks(cx, &mut slices))?;
            let all = slices[..used].iter().map(|slice| slice.len()).sum();
            Poll::Ready(Ok::<usize, std::io::Error>(all))
        });
        match tokio::time::timeout(look, chunks).await {
            Ok(all) => held += all.unwrap(),
            Err(_) => break,
        }
    }
    tokio::time::sleep(look).await;
    let most = Limits::default().unread + super::super::driver::BUFFER + 11_000;
    let said = said.load(Ordering::Relaxed);
    assert!((1..=most).contains(&held) && said <= most, "{held} {said}");
    // And all comes, whatever of it is consumed at once.
    for (upload, _) in &mut uploads {
        let mut heard = Vec::new();
        loop {
            let taken = std::future::poll_fn(|cx| {
                let mut slices = [std::io::IoSlice::new(&[]); 4];
                let used = ready!(upload.poll_chunks(cx, &mut slices))?;
                let first = slices[..used].first();
                let first = first.map_or(&[][..], |slice| &slice[..slice.len().min(3000)]);
                heard.extend_from_slice(first);
                Poll::Ready(Ok::<usize, std::io::Error>(first.len()))
            });
            match taken.await.unwrap() {
                0 => break,
                taken => upload.consume(taken),
            }
        }
        assert!(heard == part, "{}", heard.len());
    }
    saying.await.unwrap();
}

/// Gives so many bytes at once.
fn says(length: usize) -> impl FnMut(&mut Limit<&mut BytesMut>) -> std::io::Result<usize> {
    move |place| {
        let length = length.min(place.remaining_mut());
        place.put_slice(&numbered(length));
        Ok(length)
    }
}

#[tokio::test]
async fn who_waits_to_pass_something_on_has_read_nothing() {
    let (mut peer, mut incoming, _driver) = session(Limits::default(), 10_000);
    let (_first, mut closed) = peer.open(&mut incoming, 1).await;
    // Windows of streams are kept from now on, and that of the first is closed.
    closed.write_all(&numbered(64 << 10)).now_or_never();
    let shut = Setting {
        flags: 0,
        id: Setting::INITIAL_WINDOW,
        value: 0,
    };
    peer.say(&Frame::Settings(vec![shut])).await;
    peer.hear_all_until(Frame::Ping(1)).await;
    let (_second, mut open) = peer.open(&mut incoming, 3).await;
    let (_third, mut late) = peer.open(&mut incoming, 5).await;
    for stream in [3, 5] {
        peer.say(&Frame::WindowUpdate {
            stream,
            delta: 1 << 20,
        })
        .await;
    }
    peer.hear_all_until(Frame::Ping(3)).await;
    let mut never = |_: &mut Limit<&mut BytesMut>| -> std::io::Result<usize> {
        panic!("it reads before it can pass it on")
    };
    assert!(poll!(pin!(closed.relay(&mut never))).is_pending());
    // A whole frame, most of which the connection does not take; who comes next waits for that.
    let sent = open.relay(&mut says(1 << 20)).await.unwrap();
    assert_eq!(sent, 32 << 10);
    assert!(poll!(pin!(late.relay(&mut never))).is_pending());
    assert!(poll!(pin!(open.relay(&mut never))).is_pending());
    assert!(peer.hear_data(3, sent).await == numbered(sent));
    // Nothing there is no frame, and keeps the turn from nobody.
    let nothing = std::io::ErrorKind::WouldBlock;
    let refused = open.relay(&mut |_| Err(nothing.into())).await;
    assert_eq!(refused.unwrap_err().kind(), nothing);
    assert_eq!(open.relay(&mut says(0)).await.unwrap(), 0);
    assert_eq!(late.relay(&mut says(5)).await.unwrap(), 5);
    assert!(peer.hear_data(5, 5).await == numbered(5));
}
