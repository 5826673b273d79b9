//! One plugin that hangs, lies, floods, dies or is not there.

use corten_cni::{Command, Error, PluginError, end_strays};
use rustix::process::{Pid, Signal, kill_process};

use crate::lab::{LONG, Lab, SHORT, attachment, is_gone, list, runs, until};

/// A child in the group, one in a session of its own, and one whose parent is gone and
/// which the kernel's hangup of a leaderless group does not end.
const HANGS: &str = r#"
echo "about to hang" >&2
sleep 1000 & echo $! > "$notes/child"
setsid sh -c 'echo $$ > "$0/session"; sleep 1000 & echo $! > "$0/grandchild"; wait' "$notes" &
(trap '' HUP; sleep 1000 & echo $! > "$notes/orphan")
wait
"#;

async fn add_fails(lab: &Lab, plugin: &str) -> Error {
    lab.client
        .add(&list(&[plugin]), &attachment("c1"), LONG)
        .await
        .expect_err("it is a bad day")
}

#[tokio::test]
async fn a_plugin_that_hangs_is_killed_with_its_children() {
    let lab = Lab::new().plugin(
        "hangs",
        &format!("[ $CNI_COMMAND = DEL ] && exit 0\n{HANGS}"),
    );
    let (network, attached) = (list(&["hangs"]), attachment("c1"));
    let add = lab
        .client
        .add(&network, &attached, std::time::Duration::from_secs(2));
    let error = add.await.expect_err("it hangs");
    let text = error.to_string();
    let Error::PluginTimeout {
        plugin,
        command,
        after,
        stderr,
    } = error
    else {
        panic!("{text}")
    };
    assert_eq!((plugin.as_str(), command), ("hangs", Command::Add));
    assert!(!after.is_zero());
    assert!(stderr.contains("about to hang"), "{stderr}");
    let said = format!("plugin hangs did not finish ADD within {after:.1?}");
    assert!(text.contains(&said), "{text}");
    for note in ["child", "session", "grandchild", "orphan"] {
        is_gone(lab.pid(note).await).await;
    }
    assert_eq!(lab.order(), ["ADD hangs", "DEL hangs"]);
}

#[tokio::test]
async fn a_plugin_dies_with_the_future_that_ran_it() {
    let lab = Lab::new().plugin("hangs", HANGS);
    let (client, network, attached) = (lab.client.clone(), list(&["hangs"]), attachment("c1"));
    let running = tokio::spawn(async move { client.del(&network, &attached, LONG).await });
    let children = [
        lab.pid("child").await,
        lab.pid("grandchild").await,
        lab.pid("orphan").await,
    ];
    running.abort();
    for child in children {
        is_gone(child).await;
    }
}

#[tokio::test]
async fn a_child_that_stays_is_not_waited_for() {
    let lab = Lab::new().plugin(
        "leaves-a-daemon",
        r#"sleep 1000 & echo $! > "$notes/daemon"; printf '{"ips":[]}'"#,
    );
    let added = lab
        .client
        .add(&list(&["leaves-a-daemon"]), &attachment("c1"), LONG)
        .await;
    added.expect("the plugin itself did end");
    let daemon = lab.pid("daemon").await;
    assert!(runs(daemon), "it is left alone");
    let daemon = Pid::from_raw(daemon.cast_signed()).expect("a pid");
    kill_process(daemon, Signal::TERM).expect("it is ours");
}

#[tokio::test]
async fn an_error_structure_is_decoded_from_either_stream() {
    let told = r#"printf '{"cniVersion":"1.1.0","code":11,"msg":"later","details":"pool busy"}'"#;
    let lab = Lab::new()
        .plugin("says-code-11", &format!("{told}; exit 1"))
        .plugin("says-it-on-stderr", &format!("{told} >&2; exit 1"));
    for plugin in ["says-code-11", "says-it-on-stderr"] {
        let Error::RollbackFailed { source, rollback } = add_fails(&lab, plugin).await else {
            panic!("{plugin}: its DEL fails too")
        };
        let later = PluginError {
            code: 11,
            msg: "later".into(),
            details: "pool busy".into(),
        };
        assert_eq!(source.plugin_error(), Some(&later));
        assert_eq!(rollback.len(), 1);
        let text = source.to_string();
        assert!(
            text.contains("later; pool busy [code 11]") && text.contains("may succeed"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn an_exit_without_a_word_shows_what_was_printed() {
    let lab = Lab::new().plugin(
        "fails-in-prose",
        r#"[ $CNI_COMMAND = DEL ] || { echo no such bridge >&2; exit 3; }"#,
    );
    match add_fails(&lab, "fails-in-prose").await {
        Error::PluginExited {
            code: 3, output, ..
        } => assert!(output.contains("no such bridge")),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn garbage_is_no_result() {
    let lab = Lab::new()
        .plugin("prints-garbage", "echo '<html>'")
        .plugin("prints-nothing", "");
    for (plugin, shown) in [("prints-garbage", "<html>"), ("prints-nothing", "nothing")] {
        match add_fails(&lab, plugin).await {
            Error::PluginOutput { output, .. } => assert!(output.contains(shown), "{output}"),
            other => panic!("{plugin}: {other}"),
        }
    }
}

#[tokio::test]
async fn a_flood_is_cut_off() {
    let flood = "[ $CNI_COMMAND = DEL ] || head -c 3000000 /dev/zero | tr '\\0' x";
    let lab = Lab::new().plugin("floods-stdout", flood).plugin(
        "floods-stderr",
        &format!("({flood}; echo the end) >&2; exit 1"),
    );
    match add_fails(&lab, "floods-stdout").await {
        Error::PluginOutput { reason, .. } => assert!(reason.contains("larger"), "{reason}"),
        other => panic!("{other}"),
    }
    let text = add_fails(&lab, "floods-stderr").await.to_string();
    assert!(
        text.contains("the end") && text.len() < 4000,
        "{} bytes: {text}",
        text.len()
    );
}

#[tokio::test]
async fn a_plugin_that_reads_nothing_is_no_error() {
    let lab = Lab::new().program("never-reads", "#!/bin/sh\nprintf '{\"ips\":[]}'\n");
    let mut attached = attachment("c1");
    let much = serde_json::Value::from("x".repeat(1 << 20));
    attached.args.clear();
    attached.capabilities.insert("portMappings".into(), much);
    let text = r#"{"cniVersion":"1.1.0","name":"net","plugins":[{"type":"never-reads","capabilities":{"portMappings":true}}]}"#;
    let network = corten_cni::NetworkList::from_bytes(text.as_bytes()).unwrap();
    lab.client.add(&network, &attached, LONG).await.unwrap();
}

#[tokio::test]
async fn a_signal_is_named() {
    let lab = Lab::new().plugin("is-killed", "[ $CNI_COMMAND = DEL ] || kill -9 $$");
    match add_fails(&lab, "is-killed").await {
        Error::PluginKilled { signal, .. } => assert_eq!(signal, 9),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_missing_plugin_is_told_before_anything_runs() {
    let lab = Lab::new().well_behaved("first");
    let network = list(&["first", "absent"]);
    let error = lab
        .client
        .add(&network, &attachment("c1"), LONG)
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::PluginMissing { .. }), "{text}");
    for part in [
        "absent",
        "nothing-here",
        lab.path().join("bin").to_str().unwrap(),
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert_eq!(lab.order(), [""; 0]);
}

#[tokio::test]
async fn a_file_that_is_no_program_is_told() {
    let lab = Lab::new().program("is-text", "hello");
    let path = lab.path().join("bin/is-text");
    let unreadable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&path, unreadable).unwrap();
    let error = lab
        .client
        .del(&list(&["is-text"]), &attachment("c1"), LONG)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::PluginStart { .. }), "{error}");
    assert!(
        error.to_string().contains(path.to_str().unwrap()),
        "{error}"
    );
}

#[tokio::test]
async fn a_plugin_that_is_being_written_is_waited_for() {
    let lab = Lab::new().well_behaved("is-written");
    let path = lab.path().join("bin/is-written");
    let writer = std::fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .unwrap();
    let (client, network) = (lab.client.clone(), list(&["is-written"]));
    let adding = tokio::spawn(async move { client.add(&network, &attachment("c1"), LONG).await });
    tokio::time::sleep(SHORT).await;
    assert!(!adding.is_finished(), "the file is busy");
    drop(writer);
    adding.await.unwrap().unwrap();
}

/// As a daemon that was killed leaves it: its parent is gone.
fn leave_running(lab: &Lab, plugin: &str, id: &str) {
    let program = lab.path().join("bin").join(plugin);
    let mut shell = std::process::Command::new("sh");
    shell
        .args(["-c", "\"$0\" </dev/null >/dev/null 2>&1 &"])
        .arg(program);
    shell.env("CNI_COMMAND", "ADD").env("CNI_CONTAINERID", id);
    assert!(shell.status().expect("sh(1) is there").success());
}

#[tokio::test]
async fn what_a_killed_daemon_left_running_is_ended() {
    let id = format!("left-{}", std::process::id());
    let lab = Lab::new().plugin("hangs", HANGS);
    let other = Lab::new().plugin("hangs", HANGS);
    leave_running(&lab, "hangs", &id);
    leave_running(&other, "hangs", &format!("{id}-other"));
    let mut pids = Vec::new();
    for note in ["child", "session", "grandchild", "orphan"] {
        pids.push(lab.pid(note).await);
    }
    let untouched = other.pid("orphan").await;
    assert!(end_strays(&id).await > pids.len(), "and the plugin itself");
    assert!(!pids.into_iter().any(runs), "they are gone when it returns");
    assert!(runs(untouched));
    assert_eq!(end_strays(&id).await, 0);
    end_strays(&format!("{id}-other")).await;
    assert!(!runs(untouched));
}

#[tokio::test]
async fn what_a_killed_daemon_left_running_may_come_to_its_end() {
    let id = format!("works-{}", std::process::id());
    let body = r#"touch "$notes/begun"; sleep 0.3; touch "$notes/done""#;
    let lab = Lab::new().plugin("works", body);
    leave_running(&lab, "works", &id);
    until(|| lab.path().join("notes/begun").exists().then_some(())).await;
    assert_eq!(end_strays(&id).await, 0);
    assert!(lab.path().join("notes/done").exists());
}
