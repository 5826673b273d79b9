use super::super::source::fakes::FakeProcess;
use super::super::watch::Phase;
use super::*;
use crate::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, DuplexStream, ReadBuf, duplex};
use tokio::sync::watch;

/// A process under our thumb, and a client's side of all its streams.
struct Scene {
    process: Arc<FakeProcess>,
    /// What the process does.
    inner: [DuplexStream; 3],
    /// What the client does.
    outer: [DuplexStream; 5],
    watch: Watch,
    phase: watch::Sender<Phase>,
    joint: Option<Joint<Arc<FakeProcess>>>,
    streams: Option<Streams>,
}

const ROOM: usize = 1024;

impl Scene {
    fn new(form: Form) -> Self {
        let [(stdin_in, stdin), (stdout_in, stdout), (stderr_in, stderr)] =
            [(); 3].map(|()| duplex(ROOM));
        let [a, b, c, d, e] = [(); 5].map(|()| duplex(ROOM));
        let process = Arc::new(FakeProcess::default());
        let (phase, told) = watch::channel(Phase::Serving);
        Self {
            joint: Some(Joint {
                stdin: Some(Box::new(stdin)),
                stdout: Some(Box::new(stdout)),
                stderr: Some(Box::new(stderr)),
                process: Arc::clone(&process),
            }),
            process,
            inner: [stdin_in, stdout_in, stderr_in],
            streams: Some(Streams {
                stdin: Some(Box::new(a.1)),
                stdout: Some(Outlet::Stream(Box::new(b.1))),
                stderr: Some(Outlet::Stream(Box::new(c.1))),
                error: Some(Outlet::Stream(Box::new(d.1))),
                resize: Some(Box::new(e.1)),
                form,
            }),
            outer: [a.0, b.0, c.0, d.0, e.0],
            watch: Watch {
                traffic: Arc::default(),
                idle: Duration::from_secs(3600),
                phase: told,
                peer: None,
            },
            phase,
        }
    }

    /// Runs to the end while the other side does `play`.
    async fn run<T>(
        mut self,
        play: impl AsyncFnOnce(&Arc<FakeProcess>, [DuplexStream; 3], &mut [DuplexStream; 5]) -> T,
    ) -> (End, T, [String; 3]) {
        let joint = self.joint.take().expect("taken once");
        let streams = self.streams.take().expect("taken once");
        let outer = &mut self.outer;
        let play = play(&self.process, self.inner, outer);
        let start = std::future::ready(Ok(joint));
        let (end, played) = tokio::join!(run(start, streams, &mut self.watch), play);
        let mut said = [const { String::new() }; 3];
        for (said, stream) in said.iter_mut().zip(&mut self.outer[1..4]) {
            stream.read_to_string(said).await.expect("text");
        }
        (end, played, said)
    }
}

#[tokio::test]
async fn what_is_said_is_heard_and_the_code_is_told_last() {
    let scene = Scene::new(Form::Json);
    let traffic = Arc::clone(&scene.watch.traffic);
    let (end, heard, said) = scene
        .run(
            async |process, [mut stdin, mut stdout, mut stderr], client| {
                client[0].write_all(b"question").await.unwrap();
                client[0].shutdown().await.unwrap();
                let mut heard = String::new();
                stdin.read_to_string(&mut heard).await.unwrap();
                stdout.write_all(b"answer").await.unwrap();
                stderr.write_all(b"complaint").await.unwrap();
                process.end(Ended::Exited { code: 3 });
                heard
            },
        )
        .await;
    assert!(matches!(end, End::Exited(3)), "{end:?}");
    assert_eq!(heard, "question");
    assert_eq!(&said[..2], ["answer", "complaint"]);
    assert!(said[2].contains("NonZeroExitCode") && said[2].contains("\"3\""));
    assert_eq!(traffic.totals(), (8, 15));
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_its_process_up_and_nothing_is_kept() {
    let scene = Scene::new(Form::Json);
    let play = async |process: &Arc<FakeProcess>,
                      [_stdin, mut stdout, _stderr]: [DuplexStream; 3],
                      client: &mut [DuplexStream; 5]| {
        let much = vec![b'x'; 4 * OUTPUT];
        let mut taken = 0;
        // Written until nobody takes any more.
        while let Ok(written) =
            tokio::time::timeout(Duration::from_millis(100), stdout.write(&much)).await
        {
            taken += written.unwrap();
        }
        process.end(Ended::Exited { code: 0 });
        drop(stdout);
        let mut all = vec![0; taken];
        client[1].read_exact(&mut all).await.unwrap();
        taken
    };
    let (end, taken, said) = scene.run(play).await;
    assert!(taken <= OUTPUT + 2 * ROOM, "{taken}");
    assert!(matches!(end, End::Exited(0)));
    assert_eq!(said[2], r#"{"status":"Success"}"#);
}

#[tokio::test]
async fn a_process_that_has_closed_its_stdin_holds_nobody_up() {
    let scene = Scene::new(Form::Text);
    let (end, (), said) = scene
        .run(async |process, [stdin, stdout, stderr], client| {
            drop(stdin);
            client[0].write_all(&vec![0; 100 * ROOM]).await.unwrap();
            drop((stdout, stderr));
            process.end(Ended::Exited { code: 0 });
        })
        .await;
    assert!(matches!(end, End::Exited(0)), "{end:?}");
    assert_eq!(said[2], "");
}

#[tokio::test]
async fn sizes_reach_the_terminal() {
    let scene = Scene::new(Form::Json);
    let process = Arc::clone(&scene.process);
    scene
        .run(async |process, inner, client| {
            client[4]
                .write_all(br#"{"Width":80,"Height":24}"#)
                .await
                .unwrap();
            process.resized().await;
            drop(inner);
            process.end(Ended::Gone);
        })
        .await;
    assert_eq!(process.sizes(), [(80, 24)]);
}

#[tokio::test]
async fn who_is_let_go_after_its_last_word_gets_what_was_said_and_hears_of_success() {
    let scene = Scene::new(Form::Json);
    let (end, heard, said) = scene
        .run(async |process, [mut stdin, mut stdout, stderr], client| {
            process.detach_after_stdin();
            stdout.write_all(b"so far").await.unwrap();
            client[0].write_all(b"last word").await.unwrap();
            client[0].shutdown().await.unwrap();
            let mut heard = String::new();
            stdin.read_to_string(&mut heard).await.unwrap();
            drop((stdout, stderr));
            heard
        })
        .await;
    assert!(matches!(end, End::Detached), "{end:?}");
    assert_eq!(heard, "last word");
    assert_eq!((said[0].as_str(), said[1].as_str()), ("so far", ""));
    assert_eq!(said[2], r#"{"status":"Success"}"#);
}

/// It only sends sizes: that they end is no last word.
#[tokio::test]
async fn who_has_no_stdin_to_end_is_not_let_go() {
    let mut scene = Scene::new(Form::Json);
    scene.process.detach_after_stdin();
    scene.streams.as_mut().unwrap().stdin = None;
    let (end, (), _) = scene
        .run(async |process, inner, client| {
            client[4]
                .write_all(br#"{"Width":80,"Height":24}"#)
                .await
                .unwrap();
            client[4].shutdown().await.unwrap();
            process.resized().await;
            drop(inner);
            process.end(Ended::Gone);
        })
        .await;
    assert!(matches!(end, End::Gone), "{end:?}");
}

/// What is left of a stream whose connection is over.
struct Broken;

impl AsyncRead for Broken {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
    }
}

#[tokio::test]
async fn who_loses_its_connection_has_not_said_its_last_word() {
    let mut scene = Scene::new(Form::Json);
    scene.process.detach_after_stdin();
    scene.streams.as_mut().unwrap().stdin = Some(Box::new(Broken));
    let (end, (), _) = scene
        .run(async |process, [mut stdin, stdout, stderr], _| {
            // It is closed once what came is known.
            stdin.read_to_end(&mut Vec::new()).await.unwrap();
            tokio::task::yield_now().await;
            drop((stdout, stderr));
            process.end(Ended::Gone);
        })
        .await;
    assert!(matches!(end, End::Gone), "{end:?}");
}

#[tokio::test(start_paused = true)]
async fn who_was_cut_off_gets_what_it_was_given_and_then_the_reason() {
    let scene = Scene::new(Form::Json);
    let (end, (), said) = scene
        .run(async |process, [_stdin, mut stdout, stderr], _client| {
            stdout.write_all(b"as far as it came").await.unwrap();
            process.end(Ended::TooSlow);
            drop((stdout, stderr));
        })
        .await;
    assert!(matches!(end, End::TooSlow), "{end:?}");
    assert_eq!(said[0], "as far as it came");
    assert!(said[2].contains("faster than this client"), "{}", said[2]);
}

#[tokio::test(start_paused = true)]
async fn who_was_cut_off_after_the_containers_end_hears_of_no_success() {
    let scene = Scene::new(Form::Json);
    let (end, (), said) = scene
        .run(async |process, [_stdin, mut stdout, stderr], _client| {
            stdout.write_all(b"as far as it came").await.unwrap();
            process.end(Ended::Gone);
            // Time moves on when nobody has anything to do any more: the end was seen.
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            process.end(Ended::TooSlow);
            drop((stdout, stderr));
        })
        .await;
    assert!(matches!(end, End::TooSlow), "{end:?}");
    assert!(said[2].contains("faster than this client"), "{}", said[2]);
}

#[tokio::test(start_paused = true)]
async fn who_was_cut_off_and_reads_nothing_is_left_after_a_while() {
    let mut scene = Scene::new(Form::Json);
    let joint = scene.joint.take().unwrap();
    let streams = scene.streams.take().unwrap();
    let [_stdin, mut stdout, _stderr] = scene.inner;
    let flood = async {
        let _ = stdout.write_all(&vec![0; 10 * OUTPUT]).await;
        std::future::pending::<()>().await;
    };
    scene.process.end(Ended::TooSlow);
    let start = std::future::ready(Ok(joint));
    let end = tokio::select! {
        end = run(start, streams, &mut scene.watch) => end,
        () = flood => unreachable!(),
    };
    assert!(matches!(end, End::TooSlow), "{end:?}");
}

#[tokio::test(start_paused = true)]
async fn who_is_cut_off_after_the_containers_end_and_reads_nothing_is_left_after_a_while() {
    let mut scene = Scene::new(Form::Json);
    let joint = scene.joint.take().unwrap();
    let streams = scene.streams.take().unwrap();
    let [_stdin, mut stdout, _stderr] = scene.inner;
    let process = Arc::clone(&scene.process);
    let flood = async {
        process.end(Ended::Gone);
        tokio::time::sleep(Duration::from_secs(1)).await;
        process.end(Ended::TooSlow);
        let _ = stdout.write_all(&vec![0; 10 * OUTPUT]).await;
        std::future::pending::<()>().await;
    };
    let start = std::future::ready(Ok(joint));
    let end = tokio::select! {
        end = run(start, streams, &mut scene.watch) => end,
        () = flood => unreachable!(),
    };
    assert!(matches!(end, End::TooSlow), "{end:?}");
}

#[tokio::test]
async fn what_cannot_be_started_is_told_on_the_error_stream() {
    let mut scene = Scene::new(Form::Text);
    let error = Error::precondition("container c does not run");
    let start = std::future::ready(Err::<Joint<Arc<FakeProcess>>, _>(error));
    let end = run(start, scene.streams.take().unwrap(), &mut scene.watch).await;
    assert!(matches!(end, End::Failed(_)), "{end:?}");
    let mut told = String::new();
    scene.outer[3].read_to_string(&mut told).await.unwrap();
    assert_eq!(told, "container c does not run");
}

#[tokio::test]
async fn a_client_that_breaks_ends_the_session() {
    let scene = Scene::new(Form::Json);
    let mut watch = scene.watch;
    let [stdin, mut stdout, stderr] = scene.inner;
    drop(scene.outer);
    stdout.write_all(b"for nobody").await.unwrap();
    let start = std::future::ready(Ok(scene.joint.unwrap()));
    let end = run(start, scene.streams.unwrap(), &mut watch).await;
    assert!(matches!(end, End::ClientLost(_)), "{end:?}");
    drop((stdin, stderr));
}

#[tokio::test]
async fn a_session_is_told_that_the_daemon_stops() {
    let scene = Scene::new(Form::Json);
    let phase = scene.phase.clone();
    let (end, _inner, said) = scene
        .run(async |_, inner, _| {
            phase.send_replace(Phase::Ending);
            inner
        })
        .await;
    assert!(matches!(end, End::Stopping), "{end:?}");
    assert!(said[2].contains("ServiceUnavailable"), "{}", said[2]);
}
