//! Verifiers as shell scripts in a directory.

use std::{fs, path::Path, time::Duration};

use tempfile::TempDir;

use super::*;
use crate::id::Digest;

fn subject() -> Subject {
    Subject {
        name: "reg.test/app:1".parse().unwrap(),
        target: Descriptor {
            media_type: "application/vnd.oci.image.index.v1+json".into(),
            digest: Digest::of(b"manifest"),
            size: 8,
            platform: None,
            annotations: std::collections::BTreeMap::new(),
        },
    }
}

/// Another process writes it: a file that is open for writing, also in a child that another test
/// just forked, cannot be executed.
fn script(directory: &Path, name: &str, text: &str) {
    let scratch = TempDir::new().unwrap();
    let draft = scratch.path().join(name);
    fs::write(&draft, format!("#!/bin/sh\n{text}\n")).unwrap();
    let mut install = std::process::Command::new("install");
    install
        .args(["-m", "755"])
        .arg(draft)
        .arg(directory.join(name));
    assert!(install.status().unwrap().success());
}

fn programs(directory: &Path) -> Programs {
    Programs {
        directory: directory.to_owned(),
        most: 10,
        time_limit: Duration::from_secs(60),
    }
}

async fn refusal(programs: &Programs) -> String {
    let error = crate::error::Error::from(programs.verify(&subject()).await.unwrap_err());
    let kind = Kind::Sentinel(Sentinel::SignatureValidationFailed);
    assert_eq!(error.kind(), kind);
    error.chain()
}

#[tokio::test]
async fn nobody_to_ask_refuses_nothing() {
    let root = TempDir::new().unwrap();
    programs(root.path()).verify(&subject()).await.unwrap();
    let absent = root.path().join("absent");
    programs(&absent).verify(&subject()).await.unwrap();
    let file = root.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(
        refusal(&programs(&file))
            .await
            .contains("list the verifiers")
    );
}

#[tokio::test]
async fn a_verifier_is_told_what_the_image_is() {
    let root = TempDir::new().unwrap();
    let heard = root.path().join("heard");
    let bin = root.path().join("bin");
    fs::create_dir(&bin).unwrap();
    let text = format!("echo \"$*\" >{0}; cat >>{0}", heard.display());
    script(&bin, "one", &text);
    programs(&bin).verify(&subject()).await.unwrap();
    let digest = Digest::of(b"manifest");
    let wanted = format!(
        "-name reg.test/app:1 -digest {digest} -stdin-media-type application/vnd.oci.descriptor.v1+json\n{{\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"digest\":\"{digest}\",\"size\":8}}"
    );
    assert_eq!(fs::read_to_string(heard).unwrap(), wanted);
}

/// cargo sets this for every test.
#[tokio::test]
async fn of_the_daemons_environment_a_verifier_sees_what_it_needs() {
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
    let root = TempDir::new().unwrap();
    let (heard, bin) = (root.path().join("heard"), root.path().join("bin"));
    fs::create_dir(&bin).unwrap();
    script(&bin, "one", &format!("env >{}", heard.display()));
    programs(&bin).verify(&subject()).await.unwrap();
    let heard = fs::read_to_string(heard).unwrap();
    // The shell adds its own.
    let own = ["PWD", "OLDPWD", "SHLVL", "_"];
    let names = heard.lines().filter_map(|line| line.split('=').next());
    let names: Vec<_> = names.filter(|name| !own.contains(name)).collect();
    assert!(names.contains(&"PATH"), "{heard}");
    let known = |name: &&str| super::programs::ENVIRONMENT.contains(name);
    assert!(names.iter().all(known), "{heard}");
}

#[tokio::test]
async fn all_must_agree() {
    let root = TempDir::new().unwrap();
    script(root.path(), "a", "exit 0");
    script(root.path(), "b", "echo not signed by us; exit 3");
    let text = refusal(&programs(root.path())).await;
    for words in [
        "verifier b",
        "reg.test/app:1",
        "exit code 3",
        "not signed by us",
    ] {
        assert!(text.contains(words), "{text}");
    }
    let one = Programs {
        most: 1,
        ..programs(root.path())
    };
    one.verify(&subject()).await.unwrap();
}

#[tokio::test]
async fn no_verdict_is_a_refusal() {
    let root = TempDir::new().unwrap();
    fs::write(root.path().join("a"), "no program").unwrap();
    assert!(
        refusal(&programs(root.path()))
            .await
            .contains("cannot judge")
    );
    script(root.path(), "a", "echo half >&2; kill -9 $$");
    let text = refusal(&programs(root.path())).await;
    assert!(text.contains("signal 9") && text.contains("half"), "{text}");
}

#[tokio::test]
async fn one_that_takes_too_long_is_killed_with_what_it_started() {
    let root = TempDir::new().unwrap();
    let bin = root.path().join("bin");
    fs::create_dir(&bin).unwrap();
    let (pid, started) = (root.path().join("pid"), root.path().join("started"));
    let text = format!(
        "echo asking; sleep 1000 & echo $! >{}; mv {} {}; wait",
        pid.display(),
        pid.display(),
        started.display()
    );
    script(&bin, "slow", &text);
    let slow = Programs {
        time_limit: Duration::from_secs(2),
        ..programs(&bin)
    };
    let text = refusal(&slow).await;
    assert!(text.contains("within 2 s: asking"), "{text}");
    let child = fs::read_to_string(started).unwrap();
    let status = Path::new("/proc").join(child.trim()).join("stat");
    // Killed at once, and gone when whoever adopted it has reaped it.
    let ended = || fs::read_to_string(&status).map_or(true, |stat| stat.contains(") Z"));
    for _ in 0..500 {
        if ended() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{child} still runs");
}

#[tokio::test]
async fn a_chatty_one_is_cut_and_heard_to_its_end() {
    let root = TempDir::new().unwrap();
    script(root.path(), "a", "yes word | head -c 1000000; exit 1");
    let text = refusal(&programs(root.path())).await;
    assert!((30_000..40_000).contains(&text.len()), "{}", text.len());
    // One that does not read what it is told.
    script(root.path(), "a", "exec <&-; exit 0");
    programs(root.path()).verify(&subject()).await.unwrap();
}
