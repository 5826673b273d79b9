//! ExecSync.

use crate::node::in_a_node;
use crate::processes;
use std::time::{Duration, Instant};
use tonic::Code;

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_exec_gives_output_and_code() {
    in_a_node(async |node| {
        let (_pod, id) = node.idle().await;
        let done = node
            .cri
            .exec(&id, "echo out; echo err >&2; exit 3", 10)
            .await
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&done.stdout), "out\n");
        assert_eq!(String::from_utf8_lossy(&done.stderr), "err\n");
        assert_eq!(done.exit_code, 3);
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_exec_runs_inside_the_container() {
    in_a_node(async |node| {
        let (_pod, id) = node.idle().await;
        let pid = node.cri.pid(&id).await.to_string();
        for name in ["mnt", "net", "pid", "ipc", "uts"] {
            let inside = node
                .cri
                .ask(&id, &format!("readlink /proc/self/ns/{name}"))
                .await;
            assert_eq!(inside, processes::link(&pid, &format!("ns/{name}")));
        }
        let cgroup = |text: String| {
            text.lines()
                .find(|l| l.contains("memory") || l.starts_with("0::/"))
                .map(str::to_owned)
        };
        let of_exec = cgroup(node.cri.ask(&id, "cat /proc/self/cgroup").await);
        let of_init = cgroup(node.cri.ask(&id, "cat /proc/1/cgroup").await);
        assert_eq!(of_exec, of_init);
        assert!(of_exec.is_some());
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_exec_of_what_is_not_there_fails_or_says_127() {
    in_a_node(async |node| {
        let (_pod, id) = node.idle().await;
        let done = node.cri.exec(&id, "/no/such/program", 10).await.unwrap();
        assert_eq!(done.exit_code, 127);
        assert!(!done.stderr.is_empty());
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_exec_whose_time_is_over_is_killed_with_all_that_it_started() {
    in_a_node(async |node| {
        let (_pod, id) = node.idle().await;
        let begun = Instant::now();
        let refusal = node
            .cri
            .exec(&id, "/bin/sleep 301 & /bin/sleep 302", 1)
            .await
            .unwrap_err();
        assert_eq!(refusal.code(), Code::DeadlineExceeded, "{refusal}");
        assert!(begun.elapsed() >= Duration::from_secs(1));
        let sleeps: Vec<_> = processes::all()
            .into_iter()
            .filter(|p| p.names("301") || p.names("302"))
            .collect();
        assert_eq!(sleeps, [], "gone when the call returns");
        assert_eq!(node.cri.ask(&id, "echo still here").await, "still here");
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_exec_does_not_wait_for_a_background_child() {
    in_a_node(async |node| {
        let (_pod, id) = node.idle().await;
        let begun = Instant::now();
        let done = node
            .cri
            .exec(&id, "echo hi; /bin/sleep 303 &", 60)
            .await
            .unwrap();
        assert_eq!((done.exit_code, done.stdout.as_slice()), (0, &b"hi\n"[..]));
        assert!(begun.elapsed() < Duration::from_secs(20));
        let child = processes::all()
            .into_iter()
            .find(|process| process.names("303"));
        assert!(child.is_some(), "what was left in the background goes on");
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_exec_output_is_cut_where_a_message_would_be_too_large() {
    in_a_node(async |node| {
        let (_pod, id) = node.idle().await;
        let script = "head -c 20000000 /dev/zero; echo said >&2; exit 6";
        let done = node.cri.exec(&id, script, 60).await.unwrap();
        assert_eq!(done.exit_code, 6, "it was not stopped");
        let size = done.stdout.len() + done.stderr.len();
        assert!(size <= (16 << 20) - (64 << 10), "{size}");
        assert!(size > 15 << 20, "{size}");
    });
}

#[test]
#[ignore = "needs root: run by tests/run root"]
fn root_many_execs_at_once_each_get_their_own_answer() {
    in_a_node(async |node| {
        let (_pod, id) = node.idle().await;
        let ask = async |number: i32| {
            let done = node
                .cri
                .exec(&id, &format!("echo {number}; exit {number}"), 30)
                .await
                .unwrap();
            assert_eq!(
                (done.exit_code, done.stdout),
                (number, format!("{number}\n").into_bytes())
            );
        };
        futures::future::join_all((1..=10).map(ask)).await;
    });
}
