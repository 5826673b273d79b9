//! Whether the plugins of the node's network could serve a pod now.
//!
//! They are asked in the background (CNI's STATUS, from its version 1.1.0 on; before, whether they
//! are installed), so that Status is answered from memory.
//!
//! Invariant: until they were asked once, nothing is held against them.

use crate::error::{Error, Kind};
use corten_cni::{Client, ConfWatch, NetworkList, NetworkState};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// How often they are asked, where the configuration stays as it is.
pub(super) const AGAIN: Duration = Duration::from_secs(10);
/// For the whole chain.
const LIMIT: Duration = Duration::from_secs(10);

/// What is known now: ready, or why not.
type Verdict = Result<(), String>;

/// What the plugins said last. Dropped, they are asked no more.
pub(super) struct Outlook {
    verdict: watch::Receiver<Verdict>,
    task: JoinHandle<()>,
}

impl Outlook {
    /// Begins to ask the plugins of whatever network the directory gives. Must be called inside a
    /// tokio runtime.
    pub(super) fn start(client: Arc<Client>, conf: &ConfWatch, again: Duration) -> Self {
        let (sender, verdict) = watch::channel(Ok(()));
        let task = tokio::spawn(follow(client, conf.state(), again, sender));
        Self { verdict, task }
    }

    /// What they said last.
    pub(super) fn verdict(&self) -> Verdict {
        self.verdict.borrow().clone()
    }
}

impl Drop for Outlook {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(
    client: Arc<Client>,
    mut conf: watch::Receiver<NetworkState>,
    again: Duration,
    told: watch::Sender<Verdict>,
) {
    loop {
        let list = conf.borrow_and_update().clone();
        let verdict = match &list {
            Ok(list) => ask(&client, list).await,
            // Why there is none is told by who reads the directory.
            Err(_) => Ok(()),
        };
        told.send_if_modified(|before| {
            let is_news = *before != verdict;
            if is_news && list.is_ok() {
                log(&verdict);
            }
            *before = verdict;
            is_news
        });
        tokio::select! {
            changed = conf.changed() => if changed.is_err() { return },
            () = sleep(again) => {}
        }
    }
}

async fn ask(client: &Client, list: &NetworkList) -> Verdict {
    client.status(list, LIMIT).await.map_err(|error| {
        let what = format!("the network {:?} could not serve a pod", list.name());
        Error::new(Kind::Unavailable, what).caused_by(error).chain()
    })
}

fn log(verdict: &Verdict) {
    match verdict {
        Ok(()) => tracing::info!("the pod network is ready again"),
        Err(error) => tracing::warn!(error, "the pod network is not ready"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use tempfile::TempDir;

    /// Ready where the file `ready` lies beside it.
    const PLUGIN: &str = r#"#!/bin/sh
[ "$CNI_COMMAND" = STATUS ] || exit 9
[ -e "${0%/*}/ready" ] && exit 0
echo '{"cniVersion":"1.1.0","code":50,"msg":"its agent is away"}'
exit 1
"#;

    fn node(version: &str) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        let plugin = dir.path().join("moody");
        fs::write(&plugin, PLUGIN).unwrap();
        fs::set_permissions(&plugin, fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(dir.path().join("net.d")).unwrap();
        let list =
            format!(r#"{{"cniVersion":"{version}","name":"n","plugins":[{{"type":"moody"}}]}}"#);
        fs::write(dir.path().join("net.d/1.conflist"), list).unwrap();
        dir
    }

    fn look_at(dir: &Path) -> (Outlook, ConfWatch) {
        let conf = ConfWatch::start(dir.join("net.d"));
        let client = Client::new(vec![dir.to_owned()], dir.join("cache"));
        let again = Duration::from_millis(1);
        (Outlook::start(Arc::new(client), &conf, again), conf)
    }

    async fn await_that(outlook: &Outlook, holds: impl FnMut(&Verdict) -> bool) -> Verdict {
        let mut verdict = outlook.verdict.clone();
        let told = tokio::time::timeout(Duration::from_secs(20), verdict.wait_for(holds));
        told.await.expect("nothing is told").unwrap().clone()
    }

    #[tokio::test]
    async fn what_a_plugin_says_of_itself_is_told_until_it_says_otherwise() {
        let dir = node("1.1.0");
        let (outlook, _conf) = look_at(dir.path());
        let why = await_that(&outlook, Result::is_err).await.unwrap_err();
        assert!(
            why.contains("\"n\"") && why.contains("its agent is away"),
            "{why}"
        );
        fs::write(dir.path().join("ready"), "").unwrap();
        await_that(&outlook, Result::is_ok).await.unwrap();
    }

    #[tokio::test]
    async fn a_plugin_that_is_not_installed_is_told_and_an_old_one_is_not_asked() {
        let dir = node("1.0.0");
        fs::rename(dir.path().join("moody"), dir.path().join("away")).unwrap();
        let (outlook, _conf) = look_at(dir.path());
        let why = await_that(&outlook, Result::is_err).await.unwrap_err();
        assert!(why.contains("moody"), "{why}");
        fs::rename(dir.path().join("away"), dir.path().join("moody")).unwrap();
        await_that(&outlook, Result::is_ok).await.unwrap();
    }
}
