use super::*;

/// Less than [`SECOND_LOOK`], which would hide a watch that sees nothing.
const LIMIT: Duration = Duration::from_secs(20);

fn conf(name: &str) -> String {
    format!(r#"{{"cniVersion":"1.0.0","name":"{name}","type":"bridge"}}"#)
}

fn put(dir: &Path, file: &str, name: &str) {
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join(file), conf(name)).unwrap();
}

/// Waits until the directory gives this network, or none.
async fn gives(state: &mut watch::Receiver<NetworkState>, name: Option<&str>) {
    let is_so = |now: &NetworkState| now.as_ref().ok().map(NetworkList::name) == name;
    let waited = timeout(LIMIT, state.wait_for(is_so)).await;
    waited
        .unwrap_or_else(|_| panic!("{name:?} was awaited"))
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_comes_changes_and_goes_is_seen() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("net.d");
    put(&dir, "20-b.conf", "b");
    let watch = ConfWatch::start(dir.clone());
    let mut state = watch.state();
    assert_eq!(state.borrow().as_ref().unwrap().name(), "b", "at once");
    put(&dir, "10-a.conf", "a");
    gives(&mut state, Some("a")).await;
    put(&dir, "10-a.conf", "a2");
    gives(&mut state, Some("a2")).await;
    fs::remove_file(dir.join("10-a.conf")).unwrap();
    gives(&mut state, Some("b")).await;
    fs::rename(dir.join("20-b.conf"), temp.path().join("away")).unwrap();
    gives(&mut state, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_made_late_and_made_again_is_seen() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("etc/cni/net.d");
    let watch = ConfWatch::start(dir.clone());
    let mut state = watch.state();
    assert!(state.borrow().is_err());
    for name in ["first", "second"] {
        put(&dir, "10.conf", name);
        gives(&mut state, Some(name)).await;
        fs::remove_dir_all(temp.path().join("etc")).unwrap();
        gives(&mut state, None).await;
    }
    put(&dir, "10.conf", "third");
    gives(&mut state, Some("third")).await;
    fs::rename(temp.path().join("etc/cni"), temp.path().join("etc/old")).unwrap();
    gives(&mut state, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_a_link_may_be_turned() {
    let temp = tempfile::tempdir().unwrap();
    let (dir, next) = (temp.path().join("net.d"), temp.path().join("next"));
    for name in ["one", "two"] {
        put(&temp.path().join(name), "10.conf", name);
    }
    std::os::unix::fs::symlink("one", &dir).unwrap();
    let watch = ConfWatch::start(dir.clone());
    let mut state = watch.state();
    gives(&mut state, Some("one")).await;
    std::os::unix::fs::symlink("two", &next).unwrap();
    fs::rename(&next, &dir).unwrap();
    gives(&mut state, Some("two")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plugins_beside_a_list_are_watched_too() {
    let temp = tempfile::tempdir().unwrap();
    // Deeper than the temporary directories of other tests, whose coming and going is seen too.
    let dir = temp.path().join("net.d");
    fs::create_dir(&dir).unwrap();
    fs::write(
        dir.join("10.conflist"),
        r#"{"cniVersion":"1.1.0","name":"net"}"#,
    )
    .unwrap();
    let watch = ConfWatch::start(dir.clone());
    let mut state = watch.state();
    for (file, count) in [("10-bridge.conf", 1), ("20-bridge.conf", 2)] {
        put(&dir.join("net"), file, "ignored");
        let has_all = |now: &NetworkState| {
            now.as_ref()
                .is_ok_and(|list| list.plugin_types().count() == count)
        };
        timeout(LIMIT, state.wait_for(has_all))
            .await
            .expect(file)
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_inotify_the_directory_is_polled() {
    let temp = tempfile::tempdir().unwrap();
    let (sender, mut state) = watch::channel(load(temp.path()));
    let task = tokio::spawn(follow(temp.path().to_owned(), Eyes::Poll, sender));
    put(temp.path(), "10.conf", "polled");
    gives(&mut state, Some("polled")).await;
    task.abort();
}
