//! Ports whose pod does not read.

use super::*;
use crate::stream::tests::held_up;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Listens, and leaves what comes to its first connection unread until it is told to go on; says how much
/// that was. Others are answered with what they say.
async fn half_deaf_pod() -> (
    std::net::SocketAddr,
    tokio::sync::oneshot::Sender<()>,
    JoinHandle<usize>,
) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (go_on, told) = tokio::sync::oneshot::channel::<()>();
    let heard = tokio::spawn(async move {
        let (mut deaf, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            while let Ok((mut other, _)) = listener.accept().await {
                let (mut read, mut write) = other.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            }
        });
        let _ = told.await;
        let mut all = Vec::new();
        let _ = deaf.read_to_end(&mut all).await;
        all.len()
    });
    (address, go_on, heard)
}

fn forward_to(pod: std::net::SocketAddr, asked: &'static [u16]) -> (Client, JoinHandle<End>) {
    let (client, io) = client();
    let served = tokio::spawn(async move {
        let dialer = async move { Ok(super::super::super::source::fakes::FakeDialer(Some(pod))) };
        ports(io, Coding::BinaryHalfClose, asked, dialer, &mut watch()).await
    });
    (client, served)
}

#[tokio::test]
async fn a_port_that_its_pod_does_not_read_is_given_up_for_the_others() {
    let (pod, _deaf, _) = half_deaf_pod().await;
    let (mut client, served) = forward_to(pod, &[80, 81]);
    for _ in 0..4 {
        client.hear().await.unwrap();
    }
    // Dialled in order.
    client.binary(b"\x00first").await;
    let (hears, mut says) = tokio::io::split(client.io);
    let mut client = Listener {
        io: hears,
        held: Vec::new(),
    };
    let said = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&said);
    let saying = tokio::spawn(async move {
        for _ in 0..256 {
            say(&mut says, &[&[0][..], &[0; 64 << 10]].concat()).await;
            counted.fetch_add(1, Ordering::Relaxed);
        }
        say(&mut says, b"\x02still").await;
        says
    });
    held_up(&said).await;
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(40)).await;
    tokio::time::resume();
    let (mut reason, mut ended) = (String::new(), false);
    let most = Duration::from_secs(20);
    let told = async {
        loop {
            match client.hear().await.expect("it goes on") {
                (OpCode::Data(_), said) if said[0] == 1 => {
                    reason.push_str(std::str::from_utf8(&said[1..]).unwrap());
                }
                (OpCode::Data(_), said) if said == [255, 0] => ended = true,
                (OpCode::Data(_), said) if said[0] == 2 => return said,
                _ => {}
            }
        }
    };
    let said = tokio::time::timeout(most, told).await.expect("it goes on");
    assert_eq!(said, b"\x02still");
    assert!(ended && reason.contains("port 80 of pod ns/p"), "{reason}");
    assert!(!served.is_finished());
    drop(saying.await.unwrap());
}

#[tokio::test]
async fn a_port_whose_pod_pauses_is_left_alone_where_no_other_waits() {
    const LENGTH: usize = 16 << 20;
    let (pod, go_on, heard) = half_deaf_pod().await;
    let (mut client, served) = forward_to(pod, &[80]);
    client.hear().await.unwrap();
    let (mut hears, mut says) = tokio::io::split(client.io);
    tokio::spawn(async move { tokio::io::copy(&mut hears, &mut tokio::io::sink()).await });
    let said = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&said);
    let saying = tokio::spawn(async move {
        for _ in 0..LENGTH >> 16 {
            say(&mut says, &[&[0][..], &[0; 64 << 10]].concat()).await;
            counted.fetch_add(1, Ordering::Relaxed);
        }
        say(&mut says, &[255, 0]).await;
        says
    });
    held_up(&said).await;
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(3000)).await;
    tokio::time::resume();
    assert!(!saying.is_finished() && !served.is_finished());
    go_on.send(()).unwrap();
    assert_eq!(heard.await.unwrap(), LENGTH);
    drop(saying.await.unwrap());
}
