use super::super::source::fakes::FakeDialer;
use super::*;
use tokio::io::{AsyncReadExt, DuplexStream, duplex};
use tokio::net::TcpListener;

struct Scene {
    /// The client's: what it sends and hears.
    data: (DuplexStream, DuplexStream),
    error: DuplexStream,
    traffic: Arc<Traffic>,
}

fn scene(pod: Option<std::net::SocketAddr>) -> (Scene, tokio::task::JoinHandle<()>) {
    let (sends, from) = duplex(1024);
    let (hears, to) = duplex(1024);
    let (error, errors) = duplex(1024);
    let traffic = Arc::<Traffic>::default();
    let flow = Flow::new(Arc::clone(&traffic));
    let pair = Pair {
        port: 80,
        from: Box::new(from),
        to: Outlet::Stream(Box::new(to)),
        error: Outlet::Stream(Box::new(errors)),
    };
    let dialer = dialing(async move { Ok(FakeDialer(pod)) });
    let running = tokio::spawn(async move { forward(dialer, pair, &flow).await });
    let scene = Scene {
        data: (sends, hears),
        error,
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
