//! `registries.conf`, `hosts.toml` and the node's credentials, as pulls see them.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, process::Command, time::Duration};

use corten::{
    error::{Kind, Sentinel},
    registry::Settings,
};
use tempfile::TempDir;

use super::{
    fault_registry::{Asked, Fault, FaultRegistry},
    node::{Node, layer_of},
};

/// A node with a registries.conf and an auth.json.
struct Configured {
    node: Node,
    files: TempDir,
}

impl Configured {
    fn new() -> Self {
        let files = TempDir::new().unwrap();
        let node = Node::with(Settings {
            registries_conf: Some(files.path().join("registries.conf")),
            auth_files: vec![files.path().join("auth.json")],
            first_pause: Duration::from_millis(1),
            ..Settings::default()
        });
        Self { node, files }
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.files.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Host, what it is asked for, and line of each host of a pull.
    fn explained(&self, name: &str) -> Vec<(String, String, usize)> {
        let explained = self.node.images.explain_pull(name).unwrap();
        let routes = explained.into_iter().flat_map(|(_, routes)| routes);
        let told = routes.map(|route| {
            let line = route.place.map_or(0, |place| place.line);
            (route.url, route.asked_for.join(" "), line)
        });
        told.collect()
    }
}

async fn registry() -> FaultRegistry {
    let registry = FaultRegistry::start().await;
    registry.push_image("1", &[layer_of("file", b"x")]);
    registry
}

fn targets(registry: &FaultRegistry) -> Vec<String> {
    let asked = registry.asked().into_iter().map(|asked| asked.target);
    asked
        .filter(|target| target.contains("/manifests/"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_asked_for_where_the_files_say_and_the_command_line_tells() {
    let (mirror, primary) = (registry().await, registry().await);
    mirror.break_with(|_, _| Fault::Status(404, String::new()));
    let with = Configured::new();
    let conf = format!(
        "[[registry]]\nprefix = 'reg.test/team'\nlocation = '{}/moved'\n[[registry.mirror]]\nlocation = '{}/copy'\n",
        primary.address, mirror.address
    );
    with.write("registries.conf", &conf);
    with.node.pull("reg.test/team/app:1").await.unwrap();
    assert_eq!(targets(&mirror), ["/v2/copy/app/manifests/1"]);
    assert_eq!(targets(&primary), ["/v2/moved/app/manifests/1"]);
    assert!(
        with.node
            .images
            .status("reg.test/team/app:1")
            .unwrap()
            .is_some()
    );
    let all = "tag manifests blobs".to_owned();
    assert_eq!(
        with.explained("reg.test/team/app:1"),
        [
            (
                format!("http://{}/v2/copy/app", mirror.address),
                all.clone(),
                5
            ),
            (
                format!("http://{}/v2/moved/app", primary.address),
                all.clone(),
                2
            )
        ]
    );
    // Outside of the prefix nothing is said.
    let plain = ("https://reg.test/v2/other".to_owned(), all.clone(), 0);
    assert_eq!(with.explained("reg.test/other:1"), [plain]);
    // hosts.toml for the registry itself counts before, _default after.
    with.node
        .hosts("_default", "\n[host.\"http://any.test\"]\n");
    assert_eq!(with.explained("reg.test/team/app:1").len(), 2);
    let default = ("http://any.test/v2/other".to_owned(), all.clone(), 2);
    assert_eq!(with.explained("reg.test/other:1")[0], default);
    with.node.hosts(
        "reg.test",
        "server = \"https://own.test\"\n[host.\"http://m.test\"]\ncapabilities = [\"pull\"]\n",
    );
    assert_eq!(
        with.explained("reg.test/team/app:1"),
        [
            (
                "http://m.test/v2/team/app".to_owned(),
                "manifests blobs".to_owned(),
                2
            ),
            ("https://own.test/v2/team/app".to_owned(), all, 1)
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn mirrors_for_digests_or_tags_serve_nothing_else() {
    let (digests, tags, primary) = (registry().await, registry().await, registry().await);
    let with = Configured::new();
    let mirror = |registry: &FaultRegistry, pull: &str| {
        format!(
            "[[registry.mirror]]\nlocation = '{}'\npull-from-mirror = '{pull}-only'\n",
            registry.address
        )
    };
    let conf = format!(
        "[[registry]]\nprefix = 'reg.test'\nlocation = '{}'\n{}{}",
        primary.address,
        mirror(&digests, "digest"),
        mirror(&tags, "tag")
    );
    with.write("registries.conf", &conf);
    with.node.pull("reg.test/app:1").await.unwrap();
    assert_eq!((digests.asked().len(), primary.asked().len()), (0, 0));
    assert_eq!(tags.asked().len(), 3);
    let image = with.node.images.status("reg.test/app:1").unwrap().unwrap();
    let digest = image.record.digests.first().unwrap().to_string();
    with.node.images.remove("reg.test/app:1").await.unwrap();
    with.node.images.reclaim().await.unwrap();
    with.node.pull(&digest).await.unwrap();
    assert_eq!(
        (
            digests.asked().len(),
            tags.asked().len(),
            primary.asked().len()
        ),
        (3, 3, 0)
    );
    assert_eq!(with.explained(&digest)[1].1, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_blocked_is_not_asked_for() {
    let registry = registry().await;
    let with = Configured::new();
    with.write(
        "registries.conf",
        &format!(
            "[[registry]]\nlocation = '{}'\n\nblocked = true\n",
            registry.address
        ),
    );
    let (kind, text) = with.node.refusal(&registry.image("1")).await;
    assert_eq!(kind, Kind::PermissionDenied);
    assert!(text.contains("registries.conf:2 blocks it"), "{text}");
    assert_eq!(registry.asked().len(), 0);
    // The file is read again when it has changed, and a mistake in it names its line.
    with.write("registries.conf", "x = 1\n[[registry]]\nlocation = 7\n");
    let (kind, text) = with.node.refusal(&registry.image("1")).await;
    assert_eq!(kind, Kind::FailedPrecondition);
    assert!(text.contains("line 3"), "{text}");
    with.write("registries.conf", "");
    with.node.pull(&registry.image("1")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_insecure_registry_may_be_without_tls() {
    let registry = registry().await;
    let port = registry.address.rsplit(':').next().unwrap();
    let with = Configured::new();
    // This name is not taken for this machine's own, so only the file allows plain HTTP.
    let location = format!("0.0.0.0:{port}");
    with.write(
        "registries.conf",
        &format!("[[registry]]\nlocation = '{location}'\n"),
    );
    let (kind, _) = with.node.refusal(&format!("{location}/app:1")).await;
    assert_eq!(kind, Kind::Sentinel(Sentinel::RegistryUnavailable));
    with.write(
        "registries.conf",
        &format!("[[registry]]\nlocation = '{location}'\ninsecure = true\n"),
    );
    with.node.pull(&format!("{location}/app:1")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_insecure_registry_that_never_answers_tls_costs_one_wait() {
    let registry = registry().await;
    registry.keep_tls_waiting();
    let port = registry.address.rsplit(':').next().unwrap();
    let location = format!("0.0.0.0:{port}");
    let with = Configured::new();
    let conf =
        format!("[[registry]]\nprefix = 'reg.test'\nlocation = '{location}'\ninsecure = true\n");
    with.write("registries.conf", &conf);
    with.node.hosts(&location, "dial_timeout = '300ms'\n");
    with.node.pull("reg.test/app:1").await.unwrap();
    // Manifest, config and layer.
    assert_eq!((registry.asked().len(), registry.hellos()), (3, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn short_names_are_looked_for_in_order_and_known_by_their_short_name() {
    let (first, second) = (registry().await, registry().await);
    first.break_with(|_, _| Fault::Status(404, String::new()));
    let with = Configured::new();
    with.write(
        "registries.conf",
        &format!(
            "unqualified-search-registries = ['{}', '{}']\n[aliases]\n'nick' = '{}/app'\n",
            first.address, second.address, second.address
        ),
    );
    let pull = async |name: &str| {
        let nobody = corten::model::credentials::Credentials::default();
        let pulled = with
            .node
            .images
            .pull_named(name, nobody, std::sync::Arc::new(|_| {}));
        pulled.await
    };
    let id = pull("app:1").await.unwrap();
    assert_eq!(targets(&first).len(), 1);
    let image = with.node.images.status("app:1").unwrap().unwrap();
    assert_eq!(image.record.id, id);
    assert_eq!(
        image.record.tags.first().unwrap().to_string(),
        second.image("1")
    );
    assert_eq!(pull("nick:1").await.unwrap(), id);
    assert!(with.node.images.status("nick:1").unwrap().is_some());
    let error = pull("app:absent").await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(
        error.chain().contains(&first.address) && error.chain().contains(&second.address),
        "{}",
        error.chain()
    );
    assert!(with.node.images.remove("app:1").await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nodes_own_credentials_are_used_where_there_are_no_others() {
    let registry = registry().await;
    registry.break_with(|asked: &Asked, _| match asked.header("authorization") {
        Some("Basic bWU6c2VjcmV0") => Fault::None,
        _ => Fault::Status(401, "www-authenticate: Basic\r\n".into()),
    });
    let with = Configured::new();
    assert_eq!(
        with.node.refusal(&registry.image("1")).await.0,
        Kind::Unauthenticated
    );
    with.write(
        "auth.json",
        &format!(
            "{{\"auths\": {{\"{}/app\": {{\"auth\": \"bWU6c2VjcmV0\"}}}}}}",
            registry.address
        ),
    );
    with.node.pull(&registry.image("1")).await.unwrap();
}

/// The other half of the next test: a helper is found by the PATH of a process.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs within a_helper_is_asked_for_credentials"]
async fn a_pull_with_a_helper() {
    let Ok(name) = std::env::var("CORTEN_TEST_HELPED") else {
        return;
    };
    let node = Node::with(Settings {
        credential_helpers: vec!["corten-test".into()],
        ..Settings::default()
    });
    node.pull(&name).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_helper_is_asked_for_credentials() {
    let registry = registry().await;
    registry.break_with(|asked: &Asked, _| match asked.header("authorization") {
        Some("Basic bWU6c2VjcmV0") => Fault::None,
        _ => Fault::Status(401, "www-authenticate: Basic\r\n".into()),
    });
    let folder = TempDir::new().unwrap();
    let helper = folder.path().join("docker-credential-corten-test");
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = get ] && [ \"$(cat)\" = '{}' ] || exit 1\necho '{{\"ServerURL\": \"x\", \"Username\": \"me\", \"Secret\": \"secret\"}}'\n",
        registry.address
    );
    fs::write(&helper, script).unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--ignored", "--exact", "conf::a_pull_with_a_helper"]);
    child.env("CORTEN_TEST_HELPED", registry.image("1"));
    child.env("PATH", format!("{}:/usr/bin:/bin", folder.path().display()));
    let ended = tokio::task::spawn_blocking(move || child.output().unwrap())
        .await
        .unwrap();
    assert!(
        ended.status.success(),
        "{}",
        String::from_utf8_lossy(&ended.stdout)
    );
}
