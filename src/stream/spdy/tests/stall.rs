//! Streams that nobody reads, and who waits behind them.

use super::flow::{MIB, numbered};
use super::*;
use crate::stream::spdy::Cut;

/// With more unread for stream 1 than may be.
async fn stalled(streams: u32) -> (Peer, Incoming, Driver, Vec<(SpdyReader, SpdyWriter)>) {
    let limits = Limits {
        stall: Some(Duration::from_secs(25)),
        ..Limits::default()
    };
    let (mut peer, mut incoming, driver) = session(limits, 10 * MIB);
    let mut open = Vec::new();
    for at in 0..streams {
        open.push(peer.open(&mut incoming, 2 * at + 1).await);
    }
    peer.send(1, &numbered(256 << 10), false).await;
    (peer, incoming, driver, open)
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_nobody_reads_stalls_others_for_a_while_only() {
    let (mut peer, _incoming, _driver, open) = stalled(2).await;
    let began = tokio::time::Instant::now();
    assert_eq!(open[0].0.until_cut().await, Cut::Stalled);
    assert!((25..30).contains(&began.elapsed().as_secs()));
    let reset = rst(1, ResetStatus::FLOW_CONTROL_ERROR);
    while peer.hear().await.expect("a reset") != reset {}
    // A reset by the peer is another.
    peer.say(&Frame::RstStream {
        stream: 3,
        status: ResetStatus::CANCEL,
    })
    .await;
    assert_eq!(open[1].0.until_cut().await, Cut::Reset);
}

/// Others that have ended have nothing to say that could wait.
#[tokio::test(start_paused = true)]
async fn a_stream_that_nobody_reads_is_left_alone_where_no_other_waits() {
    let limits = Limits {
        stall: Some(Duration::from_secs(25)),
        ..Limits::default()
    };
    let (mut peer, mut incoming, _driver) = session(limits, 10 * MIB);
    let (mut reader, _writer) = peer.open(&mut incoming, 1).await;
    let (_other, _other_writer) = peer.open(&mut incoming, 3).await;
    let _error = {
        peer.say(&syn_stream(5)).await;
        incoming.accept().await.unwrap().reply().into_writer()
    };
    peer.send(3, b"", true).await;
    peer.send(1, &numbered(256 << 10), true).await;
    let hours = Duration::from_secs(4 * 3600);
    let cut = tokio::time::timeout(hours, reader.until_cut()).await;
    assert!(cut.is_err(), "{cut:?}");
    let mut heard = Vec::new();
    reader.read_to_end(&mut heard).await.unwrap();
    assert!(heard == numbered(256 << 10));
}

/// Who takes a byte from time to time holds the others up as well.
#[tokio::test(start_paused = true)]
async fn a_stream_that_is_read_byte_by_byte_stalls_others_for_a_while_only() {
    let (_peer, _incoming, _driver, mut open) = stalled(2).await;
    let began = tokio::time::Instant::now();
    let cut = open[0].0.until_cut();
    let sips = async {
        while open[0].0.read_exact(&mut [0]).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let (cut, ()) = tokio::join!(cut, sips);
    assert_eq!(cut, Cut::Stalled);
    assert!((25..30).contains(&began.elapsed().as_secs()));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_read_slowly_is_left_alone() {
    let (_peer, _incoming, _driver, mut open) = stalled(2).await;
    let mut heard = vec![0; 256 << 10];
    for part in heard.chunks_mut(4 << 10) {
        tokio::time::sleep(Duration::from_secs(2)).await;
        open[0].0.read_exact(part).await.unwrap();
    }
    assert!(heard == numbered(256 << 10));
}
