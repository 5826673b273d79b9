use super::super::source::fakes::FakeDialer;
use super::*;
use tokio::io::{AsyncReadExt, BufReader, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::oneshot;

struct Scene {
    /// The client's: what it sends and hears.
    data: (DuplexStream, DuplexStream),
    error: DuplexStream,
    reset: oneshot::Sender<Cut>,
    traffic: Arc<Traffic>,
}

fn scene(pod: Option<std::net::SocketAddr>) -> (Scene, tokio::task::JoinHandle<()>) {
    counted_scene(pod, Traffic::default())
}

fn counted_scene(
    pod: Option<std::net::SocketAddr>,
    traffic: Traffic,
) -> (Scene, tokio::task::JoinHandle<()>) {
    let (sends, from) = duplex(1024);
    let (hears, to) = duplex(1024);
    let (error, errors) = duplex(1024);
    let (reset, until_reset) = oneshot::channel();
    let traffic = Arc::new(traffic);
    let counted = Arc::clone(&traffic);
    let pair = Pair {
        port: 80,
        from: Box::new(BufReader::new(from)),
        to: Outlet::Stream(Box::new(to)),
        error: Outlet::Stream(Box::new(errors)),
        cut: Box::pin(async move {
            match until_reset.await {
                Ok(cut) => cut,
                Err(_) => std::future::pending().await,
            }
        }),
    };
    let dialer = dialing(async move { Ok(FakeDialer(pod)) });
    let running = tokio::spawn(async move { forward(dialer, pair, &counted).await });
    let scene = Scene {
        data: (sends, hears),
        error,
        reset,
        traffic,
    };
    (scene, running)
}

async fn text(stream: &mut DuplexStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn a_pod_may_answer_after_its_client_has_ended() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (mut scene, running) = scene(Some(listener.local_addr().unwrap()));
    let (mut pod, _) = listener.accept().await.unwrap();
    scene.data.0.write_all(b"question").await.unwrap();
    scene.data.0.shutdown().await.unwrap();
    let mut heard = String::new();
    pod.read_to_string(&mut heard).await.unwrap();
    pod.write_all(b"late answer").await.unwrap();
    drop(pod);
    assert_eq!(text(&mut scene.data.1).await, "late answer");
    assert_eq!(text(&mut scene.error).await, "");
    running.await.unwrap();
    assert_eq!(
        (heard.as_str(), scene.traffic.totals()),
        ("question", (8, 11))
    );
}

#[tokio::test]
async fn a_client_may_go_on_after_its_pod_has_ended() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (mut scene, running) = scene(Some(listener.local_addr().unwrap()));
    let (mut pod, _) = listener.accept().await.unwrap();
    pod.shutdown().await.unwrap();
    assert_eq!(text(&mut scene.data.1).await, "");
    scene.data.0.write_all(b"still").await.unwrap();
    scene.data.0.shutdown().await.unwrap();
    let mut heard = String::new();
    pod.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "still");
    running.await.unwrap();
}

#[tokio::test]
async fn a_slow_client_slows_its_pod() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (_scene, _running) = scene(Some(listener.local_addr().unwrap()));
    let (pod, _) = listener.accept().await.unwrap();
    let much = vec![0; 1 << 20];
    let mut taken = 0;
    // What the kernel's own buffers hold is a few MiB.
    while let Ok(ready) =
        tokio::time::timeout(std::time::Duration::from_millis(300), pod.writable()).await
    {
        ready.unwrap();
        taken += pod.try_write(&much).unwrap_or(0);
        assert!(taken < 64 << 20, "nobody holds it back");
    }
}

#[tokio::test]
async fn who_cannot_be_reached_is_told_on_the_error_stream() {
    let (mut scene, running) = scene(None);
    let told = text(&mut scene.error).await;
    assert_eq!(told, "connect to port 80 of pod ns/p: refused");
    running.await.unwrap();
}

/// What the pod hears at the end: an end, or a reset.
async fn last_heard(pod: &mut TcpStream) -> io::Result<u64> {
    tokio::io::copy(pod, &mut tokio::io::sink()).await
}

/// A client of Kubernetes waits for the end of its error stream after it has reset the other.
#[tokio::test]
async fn a_clients_reset_ends_a_connection_that_its_pod_does_not_read() {
    // Its buffer is full soon.
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let (mut scene, running) = scene(Some(listener.local_addr().unwrap()));
    let (mut pod, _) = listener.accept().await.unwrap();
    let most = Duration::from_millis(300);
    let flood = vec![0; 16 * 1024];
    while let Ok(said) = tokio::time::timeout(most, scene.data.0.write_all(&flood)).await {
        said.unwrap();
    }
    assert!(scene.reset.send(Cut::Reset).is_ok());
    let told = tokio::time::timeout(Duration::from_secs(20), text(&mut scene.error)).await;
    assert_eq!(told.expect("its error stream ends"), "");
    running.await.unwrap();
    let heard = last_heard(&mut pod).await.unwrap_err();
    assert_eq!(heard.kind(), io::ErrorKind::ConnectionReset);
}

/// What is said on an error stream of SPDY would end all of the session's connections.
#[tokio::test]
async fn a_connection_that_held_up_others_is_reset_and_counted_without_words() {
    let metrics = crate::metrics::Metrics::default();
    let live = metrics.streaming().start("portforward", "spdy");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let pod = Some(listener.local_addr().unwrap());
    let (mut scene, running) = counted_scene(pod, Traffic::counting(live.stalls()));
    let (mut pod, _) = listener.accept().await.unwrap();
    assert!(scene.reset.send(Cut::Stalled).is_ok());
    assert_eq!(text(&mut scene.error).await, "");
    running.await.unwrap();
    let heard = last_heard(&mut pod).await.unwrap_err();
    assert_eq!(heard.kind(), io::ErrorKind::ConnectionReset);
    let counted =
        "corten_streaming_connections_stalled_total{kind=\"portforward\",transport=\"spdy\"} 1\n";
    let figures = metrics.text();
    assert!(figures.contains(counted), "{figures}");
}

#[tokio::test]
async fn a_pod_sees_no_end_where_its_client_has_told_none() {
    for has_ended in [true, false] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (mut scene, running) = scene(Some(listener.local_addr().unwrap()));
        let (mut pod, _) = listener.accept().await.unwrap();
        scene.data.0.write_all(b"begun").await.unwrap();
        pod.read_exact(&mut [0; 5]).await.unwrap();
        if has_ended {
            scene.data.0.shutdown().await.unwrap();
            assert_eq!(last_heard(&mut pod).await.unwrap(), 0);
        }
        // Its session ends.
        running.abort();
        assert!(running.await.unwrap_err().is_cancelled());
        assert_eq!(last_heard(&mut pod).await.is_ok(), has_ended);
    }
}
