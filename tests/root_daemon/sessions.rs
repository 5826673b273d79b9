//! Exec, Attach and PortForward through the streaming server: what becomes of processes,
//! descriptors and containers.

use crate::cri::Cri;
use crate::logs;
use crate::node::in_a_node;
use crate::pods::{self, idle, in_namespaces, joined, shell};
use crate::processes;
use crate::wait::until_true;
use crate::websocket::WebSocket;
use corten_proto::runtime::v1::*;
use tonic::Code;

const V5: &str = "v5.channel.k8s.io";
const STDIN: u8 = 0;
const RESIZE: u8 = 4;

fn exec_of(id: &str, script: &str) -> ExecRequest {
    ExecRequest {
        container_id: id.to_owned(),
        cmd: ["sh", "-c", script].map(str::to_owned).to_vec(),
        stdin: true,
        stdout: true,
        stderr: true,
        tty: false,
    }
}

fn attach_to(id: &str) -> AttachRequest {
    AttachRequest {
        container_id: id.to_owned(),
        stdin: true,
        stdout: true,
        stderr: true,
        tty: false,
    }
}

impl Cri {
    /// An exec that has begun.
    async fn exec_session(&self, request: ExecRequest) -> WebSocket {
        let answer = self.runtime().exec(request).await.unwrap();
        WebSocket::open(&answer.into_inner().url, V5).await
    }

    async fn attach_url(&self, request: AttachRequest) -> String {
        self.runtime()
            .attach(request)
            .await
            .unwrap()
            .into_inner()
            .url
    }

    /// A connection to a port of a pod, by the channels 0 and 1.
    async fn forwarded(&self, pod: &str, port: u16) -> WebSocket {
        let request = PortForwardRequest {
            pod_sandbox_id: pod.to_owned(),
            port: vec![port.into()],
        };
        let answer = self.runtime().port_forward(request).await.unwrap();
        let mut socket = WebSocket::open(&answer.into_inner().url, V5).await;
        for channel in [0, 1] {
            assert_eq!(
                socket.next().await,
                Some((channel, port.to_le_bytes().into()))
            );
        }
        socket
    }
}

fn shims(verb: &str) -> usize {
    let all = processes::all();
    all.iter().filter(|process| process.is_shim(verb)).count()
}

async fn await_no_session() {
    let gone = async || shims("exec") + shims("dial") == 0;
    until_true("no exec and no dialer is left", 20, gone).await;
}

fn runs(argument: &str) -> bool {
    processes::all()
        .iter()
        .any(|process| process.names(argument))
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_session_of_exec_has_streams_and_a_code() {
    in_a_node(async |node| {
        let (_pod, id) = node.idle().await;
        let script = "cat; echo err >&2; exit 7";
        let mut session = node.cri.exec_session(exec_of(&id, script)).await;
        session.send(STDIN, b"in and out").await;
        session.end(STDIN).await;
        let said = session.rest().await;
        assert_eq!(
            (said.text().as_str(), said.stderr.as_slice()),
            ("in and out", &b"err\n"[..])
        );
        assert!(said.status.contains("NonZeroExitCode"), "{}", said.status);
        assert!(said.status.contains("\"7\""), "{}", said.status);
        await_no_session().await;
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_session_of_exec_is_the_containers_user_in_its_cgroup() {
    in_a_node(async |node| {
        let pod = node.run(pods::pod("pod")).await;
        let mut container = idle("c");
        let security = container.linux.as_mut().unwrap().security_context.as_mut();
        security.unwrap().run_as_user = Some(Int64Value { value: 1234 });
        let id = node.launch(&pod, container).await;
        // Of the process that Start has executed, and of this one.
        let of = |process: &str| {
            format!(
                "grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp)' /proc/{process}/status; \
                 sed 's/exec-.*//;s,/$,,' /proc/{process}/cgroup; \
                 tr '\\0' '\\n' </proc/{process}/environ | grep -vE '^(PWD|SHLVL|OLDPWD|_)=' | sort"
            )
        };
        let script = format!("{{ {}; }}; echo ---; {{ {}; }}", of("1"), of("$$"));
        let mut session = node.cri.exec_session(exec_of(&id, &script)).await;
        let said = session.rest().await.text();
        let (inits, own) = said.split_once("---\n").unwrap();
        assert_eq!(inits, own);
        assert!(own.contains("1234") && own.contains("PATH="), "{own}");
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_session_with_a_terminal_has_a_size_and_a_name() {
    in_a_node(async |node| {
        let (_pod, id) = node.idle().await;
        let script = "until [ \"$(stty size)\" = '33 99' ]; do :; done; tty; echo $TERM; exit 3";
        let request = ExecRequest {
            stderr: false,
            tty: true,
            ..exec_of(&id, script)
        };
        let mut session = node.cri.exec_session(request).await;
        session.send(RESIZE, br#"{"Width":99,"Height":33}"#).await;
        let said = session.rest().await;
        assert!(said.text().contains("/dev/pts/"), "{said:?}");
        assert!(said.text().ends_with("xterm\r\n"), "{said:?}");
        assert!(said.status.contains("\"3\""), "{said:?}");
        await_no_session().await;
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_client_that_goes_leaves_no_process() {
    in_a_node(async |node| {
        let (_pod, id) = node.idle().await;
        for tty in [false, true] {
            let script = "trap '' HUP; setsid sleep 771 & echo up; while :; do sleep 772; done";
            let request = ExecRequest {
                stderr: !tty,
                tty,
                ..exec_of(&id, script)
            };
            let mut session = node.cri.exec_session(request).await;
            session.until_said("up").await;
            drop(session);
            await_no_session().await;
            assert!(!runs("771") && !runs("772"));
        }
        assert_eq!(node.cri.ask(&id, "echo on").await, "on");
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_killed_daemon_leaves_neither_execs_nor_dialers() {
    in_a_node(async |node| {
        let pod = node.run(pods::pod("pod")).await;
        let server = shell("c", "exec nc -ll -p 80 -e cat");
        let id = node.launch(&pod, joined(server, &pod.config)).await;
        let request = ExecRequest {
            stderr: false,
            tty: true,
            ..exec_of(&id, "setsid sleep 773 & echo up; sleep 774")
        };
        let mut session = node.cri.exec_session(request).await;
        session.until_said("up").await;
        let url = node.cri.attach_url(attach_to(&id)).await;
        let _attached = WebSocket::open(&url, V5).await;
        let mut port = node.cri.forwarded(&pod.id, 80).await;
        port.send(0, b"ping").await;
        assert_eq!(port.next().await, Some((0, b"ping".to_vec())));
        // A dialer shows that it is not in reserve once it is quiet.
        let both = async || (shims("exec"), shims("dial")) == (1, 1);
        until_true("an exec and a dialer are there", 20, both).await;
        node.kill_daemon();
        await_no_session().await;
        until_true("its processes end", 5, async || {
            !runs("773") && !runs("774")
        })
        .await;
        node.start_daemon().await;
        assert_eq!(node.cri.ask(&id, "echo on").await, "on");
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_who_attaches_types_and_hears_and_leaves_the_container_alone() {
    in_a_node(async |node| {
        let pod = node.run(pods::pod("pod")).await;
        let mut container = shell("c", "while read word; do echo got $word; done; echo over");
        container.stdin = true;
        let id = node.launch(&pod, container).await;
        let mut sessions = Vec::new();
        for _ in 0..2 {
            let url = node.cri.attach_url(attach_to(&id)).await;
            sessions.push(WebSocket::open(&url, V5).await);
        }
        for session in &mut sessions {
            // The answer of an attach is not waited for by who types: both are there once they hear.
            session.send(STDIN, b"one\n").await;
            session.until_said("got one").await;
        }
        sessions[0].end(STDIN).await;
        drop(sessions.remove(0));
        sessions[0].send(STDIN, b"two\n").await;
        sessions[0].until_said("got two").await;
        let path = node.cri.status(&id).await.unwrap().log_path;
        // Who is attached may hear it first: another process writes the log.
        until_true("the lines are logged", 10, async || {
            let lines: Vec<_> = logs::read(&path).into_iter().map(|l| l.text).collect();
            lines == ["got one", "got one", "got two"]
        })
        .await;
        node.cri.stop(&id, 0).await.unwrap();
        let said = sessions[0].rest().await;
        assert_eq!(said.text(), "", "{said:?}");
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_stdin_once_ends_with_the_first_client() {
    in_a_node(async |node| {
        let pod = node.run(pods::pod("pod")).await;
        let mut container = shell("c", "cat; echo over");
        (container.stdin, container.stdin_once) = (true, true);
        let id = node.launch(&pod, container).await;
        let url = node.cri.attach_url(attach_to(&id)).await;
        let mut session = WebSocket::open(&url, V5).await;
        session.send(STDIN, b"all there is\n").await;
        session.end(STDIN).await;
        assert_eq!(session.rest().await.text(), "all there is\nover\n");
        assert_eq!(node.cri.ended(&id).await.exit_code, 0);
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_client_that_does_not_read_is_cut_off_and_others_miss_nothing() {
    const LINES: usize = 12_000;
    const EAGER: usize = 4;
    in_a_node(async |node| {
        let pod = node.run(pods::pod("pod")).await;
        let flood = format!(
            "long=$(head -c 1500 /dev/zero | tr '\\0' x); read go; \
             for i in $(seq {LINES}); do echo $i $long; done"
        );
        let mut container = shell("c", &flood);
        container.stdin = true;
        let id = node.launch(&pod, container).await;
        let url = node.cri.attach_url(attach_to(&id)).await;
        let mut lazy = WebSocket::open_small(&url, V5, 4096).await;
        let mut eager = Vec::new();
        for _ in 0..EAGER {
            let url = node.cri.attach_url(attach_to(&id)).await;
            eager.push(WebSocket::open(&url, V5).await);
        }
        let here = async || attached(&id) == EAGER + 1;
        until_true("all are attached", 10, here).await;
        eager[0].send(STDIN, b"go\n").await;
        let all: Vec<_> = (1..=LINES).collect();
        let said = eager.iter_mut().map(WebSocket::rest);
        for said in futures::future::join_all(said).await {
            assert_eq!(numbers(&said.text()), all, "{}", said.status);
        }
        let some = lazy.rest().await;
        assert!(numbers(&some.text()).len() < LINES);
        let told = async || {
            let log = std::fs::read_to_string(node.scratch.join("corten.log"));
            log.unwrap().contains("too_slow")
        };
        until_true("the daemon logs why", 30, told).await;
        let path = node.cri.ended(&id).await.log_path;
        let log = logs::read(&path).into_iter().map(|line| line.text);
        assert_eq!(numbers(&log.collect::<Vec<_>>().join("\n")), all);
    });
}

/// How many clients of both outputs a container has.
fn attached(id: &str) -> usize {
    let shim = processes::shim_of(id).unwrap().pid;
    let fds = std::fs::read_dir(format!("/proc/{shim}/fd"))
        .unwrap()
        .flatten();
    let pipes = fds.filter(|fd| {
        let target = std::fs::read_link(fd.path()).unwrap_or_default();
        target.to_string_lossy().starts_with("pipe:")
    });
    // Its own three ends, and two for each client.
    pipes.count().saturating_sub(3) / 2
}

/// The first words of whole lines.
fn numbers(text: &str) -> Vec<usize> {
    let words = text.lines().filter_map(|line| line.split(' ').next());
    words.filter_map(|word| word.parse().ok()).collect()
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_ports_of_all_kinds_of_pods_are_reached() {
    in_a_node(async |node| {
        let host = NamespaceOption {
            network: NamespaceMode::Node.into(),
            pid: NamespaceMode::Container.into(),
            ..Default::default()
        };
        let kinds = [
            (pods::pod("own"), 81),
            (in_namespaces(pods::pod("host"), host), 12_082),
            (
                in_namespaces(pods::pod("users"), crate::userns::own_users()),
                83,
            ),
        ];
        for (config, port) in kinds {
            let pod = node.run(config).await;
            let script = format!("exec nc -ll -p {port} -e cat");
            node.launch(&pod, joined(shell("c", &script), &pod.config))
                .await;
            until_true("somebody answers", 10, async || {
                let mut session = node.cri.forwarded(&pod.id, port).await;
                session.send(0, b"ping").await;
                session.next().await == Some((0, b"ping".to_vec()))
            })
            .await;
            let mut nobody = node.cri.forwarded(&pod.id, 9).await;
            let (channel, why) = nobody.next().await.unwrap();
            let why = String::from_utf8(why).unwrap();
            assert_eq!(channel, 1);
            assert!(why.contains("port 9") && why.contains("refused"), "{why}");
        }
        await_no_session().await;
    });
}

/// What goes on would keep the pod's network from going.
#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_a_forwarded_port_ends_with_its_pod() {
    in_a_node(async |node| {
        let pod = node.run(pods::pod("pod")).await;
        let container = shell("c", "exec nc -ll -p 80 -e cat");
        node.launch(&pod, joined(container, &pod.config)).await;
        let mut session = node.cri.forwarded(&pod.id, 80).await;
        session.send(0, b"ping").await;
        assert!(session.next().await.is_some());
        node.cri.stop_pod(&pod.id).await.unwrap();
        while session.next().await.is_some() {}
        await_no_session().await;
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_sessions_of_what_does_not_run_are_refused() {
    in_a_node(async |node| {
        let pod = node.run(pods::pod("pod")).await;
        let id = node.cri.create(&pod, &idle("c")).await.unwrap();
        let code = |refused: Result<_, tonic::Status>| refused.unwrap_err().code();
        let exec = node.cri.runtime().exec(exec_of(&id, "true")).await;
        assert_eq!(code(exec.map(drop)), Code::FailedPrecondition);
        let attach = node.cri.runtime().attach(attach_to(&id)).await;
        assert_eq!(code(attach.map(drop)), Code::FailedPrecondition);
        let both = ExecRequest {
            tty: true,
            ..exec_of(&id, "true")
        };
        let exec = node.cri.runtime().exec(both).await;
        assert_eq!(code(exec.map(drop)), Code::InvalidArgument);
        node.cri.stop_pod(&pod.id).await.unwrap();
        let ports = PortForwardRequest {
            pod_sandbox_id: pod.id.clone(),
            port: Vec::new(),
        };
        let ports = node.cri.runtime().port_forward(ports).await;
        assert_eq!(code(ports.map(drop)), Code::FailedPrecondition);
    });
}
