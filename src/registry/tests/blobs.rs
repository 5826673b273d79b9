//! Blobs over connections that break, stall and lie.

use super::*;

/// Sends at most 1,000 bytes a connection, though it promises all.
fn cut(asked: &Asked, blob: &[u8], ranges: bool) -> Vec<u8> {
    let from = asked.header("range").and_then(|range| {
        range
            .strip_prefix("bytes=")?
            .strip_suffix('-')?
            .parse()
            .ok()
    });
    let start = from.filter(|_| ranges).unwrap_or(0);
    let part = format!(
        "content-range: bytes {start}-{}/{}\r\n",
        blob.len() - 1,
        blob.len()
    );
    let mut answer = match start {
        0 => reply(200, "", blob),
        _ => reply(206, &part, &blob[start..]),
    };
    let head = answer.len() - (blob.len() - start);
    answer.truncate(
        head + if ranges {
            1000
        } else {
            from.unwrap_or(0) + 1000
        },
    );
    answer
}

#[tokio::test]
async fn a_broken_download_goes_on_where_it_ended() {
    let blob: Vec<u8> = (0..4500u32).map(|number| (number % 251) as u8).collect();
    for ranges in [true, false] {
        let bytes = blob.clone();
        let server = Server::start(move |asked| cut(asked, &bytes, ranges)).await;
        let stream = registry(vec![])
            .blob(
                &server.image("a:1"),
                &descriptor(&blob),
                &Credentials::default(),
            )
            .await
            .unwrap();
        assert!(read(stream).await.unwrap() == blob);
        assert_eq!(server.asked().len(), 5);
        assert_eq!(server.asked()[4].header("range"), Some("bytes=4000-"));
    }
}

/// An answer that ends with its connection and does not say how long it is.
fn unmeasured(body: &[u8]) -> Vec<u8> {
    [b"HTTP/1.1 200 X\r\nconnection: close\r\n\r\n", body].concat()
}

async fn blob_of(server: &Server, blob: &[u8]) -> Result<Vec<u8>, Error> {
    let (image, blob) = (server.image("a:1"), descriptor(blob));
    let nobody = Credentials::default();
    read(registry(vec![]).blob(&image, &blob, &nobody).await?).await
}

#[tokio::test]
async fn a_blob_of_another_length_is_refused() {
    let never = Server::start(|_| unmeasured(b"")).await;
    let error = blob_of(&never, b"0123").await.unwrap_err();
    assert!(
        matches!(&error, Error::All(all) if matches!(all[0], Error::Short { offset: 0, size: 4, .. })),
        "{error}"
    );
    assert_eq!(never.asked().len(), 4, "it is given up after four rounds");
    let more = Server::start(|_| unmeasured(b"too much")).await;
    assert!(matches!(
        blob_of(&more, b"too").await,
        Err(Error::TooLarge { limit: 3, .. })
    ));
    let says_more = Server::start(|_| reply(200, "", b"too much")).await;
    let error = blob_of(&says_more, b"too").await.unwrap_err().to_string();
    assert!(
        error.ends_with("sends 8 bytes, expected 3 bytes"),
        "{error}"
    );
    assert_eq!(says_more.asked().len(), 1);
}

#[tokio::test]
async fn a_part_must_be_the_one_that_was_asked_for() {
    for range in ["bytes 3-9/10", "bytes 5-9/11", "all", ""] {
        let server = Server::start(move |asked| match asked.header("range") {
            None => reply(200, "", b"0123456789")[..]
                .strip_suffix(b"56789")
                .unwrap()
                .to_vec(),
            Some(_) => reply(206, &format!("content-range: {range}\r\n"), b"56789"),
        })
        .await;
        let error = blob_of(&server, b"0123456789").await.unwrap_err();
        assert!(
            error.to_string().contains("expected bytes 5- of 10"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn the_rest_is_asked_of_the_same_blob() {
    let server = Server::start(|asked| {
        let mut answer = cut(asked, &[7; 1500], true);
        let head = b"HTTP/1.1 200 X\r\n".len();
        answer.splice(head..head, *b"etag: \"one\"\r\n");
        answer
    })
    .await;
    blob_of(&server, &[7; 1500]).await.unwrap();
    assert_eq!(server.asked()[0].header("if-range"), None);
    assert_eq!(server.asked()[1].header("if-range"), Some("\"one\""));
}

#[tokio::test]
async fn a_host_without_time_is_asked_again_when_it_says() {
    let server = Server::start(|asked| match asked.target.contains("/blobs/") {
        true => reply(429, "retry-after: 1\r\n", b""),
        false => reply(503, "retry-after: 3600\r\n", b""),
    })
    .await;
    let (image, blob, nobody) = (
        server.image("a:1"),
        descriptor(b"x"),
        Credentials::default(),
    );
    let registry = registry(vec![]);
    let began = tokio::time::Instant::now();
    assert!(registry.blob(&image, &blob, &nobody).await.is_err());
    assert!(began.elapsed() >= Duration::from_secs(3), "three pauses");
    assert_eq!(server.asked().len(), 4);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let error = registry.resolve(&image, &nobody).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Sentinel(Sentinel::RegistryUnavailable));
    // An hour is more than anybody waits; until it is over the host is left alone.
    let error = registry
        .resolve(&image, &nobody)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("is not asked for 3599 s more"), "{error}");
    assert!(registry.blob(&image, &blob, &nobody).await.is_err());
    assert_eq!(server.asked().len(), 5);
    // Somebody else may have more luck.
    assert!(registry.resolve(&image, &password()).await.is_err());
    assert_eq!(server.asked().len(), 6);
}

#[tokio::test]
async fn a_host_that_stalls_is_left_for_the_next() {
    let blob = b"0123456789";
    // Promises ten bytes, sends five, and keeps the line open.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stalled = listener.local_addr().unwrap();
    let stalling = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream
            .write_all(b"HTTP/1.1 200 X\r\ncontent-length: 10\r\n\r\n01234")
            .await
            .unwrap();
        std::future::pending::<()>().await;
    });
    let server = Server::start(|asked| cut(asked, b"0123456789", true)).await;
    let root = TempDir::new().unwrap();
    fs::create_dir(root.path().join("reg.test")).unwrap();
    let hosts = format!(
        "server = \"http://{}\"\n[host.\"http://{stalled}\"]\n",
        server.address
    );
    fs::write(root.path().join("reg.test/hosts.toml"), hosts).unwrap();
    let registry = HttpRegistry::new(Settings {
        config_paths: vec![root.path().to_owned()],
        progress_timeout: Duration::from_millis(200),
        ..Settings::default()
    });
    let image: ImageRef = "reg.test/a:1".parse().unwrap();
    let stream = registry
        .blob(&image, &descriptor(blob), &Credentials::default())
        .await
        .unwrap();
    assert_eq!(read(stream).await.unwrap(), blob);
    // On a busy machine even the first bytes may come too late; then it starts at the front.
    assert!(matches!(
        server.asked()[0].header("range"),
        Some("bytes=5-") | None
    ));
    stalling.abort();
}
