//! A session whose peer says anything: it ends, without a panic, and its streams with it. Streams are echoed.
#![no_main]

#[path = "../../../src/stream/spdy/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the daemon uses all of it")]
mod spdy;

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use spdy::{Limits, Opening, ResetStatus, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

fuzz_target!(|bytes: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(session(bytes));
});

async fn session(bytes: &[u8]) {
    let limits = Limits {
        streams: 4,
        unread: 4 << 10,
        ..Limits::default()
    };
    let (ours, theirs) = duplex(1000);
    let (mut incoming, driver) = serve(ours, limits);
    let server = tokio::spawn(driver);
    let streams = tokio::spawn(async move {
        let mut echoes = tokio::task::JoinSet::new();
        while let Some(opening) = incoming.accept().await {
            echoes.spawn(answer(opening));
        }
        while let Some(ended) = echoes.join_next().await {
            ended.expect("no panic");
        }
    });
    let (mut heard, mut said) = tokio::io::split(theirs);
    let listening = tokio::spawn(async move {
        // The session may end before all is said.
        let _ = tokio::io::copy(&mut heard, &mut tokio::io::sink()).await;
    });
    let _ = said.write_all(bytes).await;
    let _ = said.shutdown().await;
    drop(said);
    let ended = async {
        let _ = server.await.expect("no panic");
        streams.await.expect("no panic");
        listening.await.expect("no panic");
    };
    tokio::time::timeout(Duration::from_secs(60), ended)
        .await
        .expect("it ends");
}

async fn answer(opening: Opening) {
    if opening.headers.get("refuse").is_some() {
        return opening.refuse(ResetStatus::REFUSED_STREAM);
    }
    let (mut reader, mut writer) = opening.reply().split();
    let mut buffer = [0; 100];
    while let Ok(read @ 1..) = reader.read(&mut buffer).await {
        if writer.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
    let _ = writer.shutdown().await;
}
