//! The use cases over fakes: what is joined, what is undone, what is remembered.

mod followed;
mod healthchecks;
mod image_volumes;
mod info;
mod lost_shims;
mod pod_metrics;
mod pods;
mod resources;
mod scopes;
mod sessions;
mod teardown;
mod torn_records;
mod verified;

use super::{Engine, Images, Node, Ports};
use crate::cgroup::fakes::{HostCgroups, SystemdScopes};
use crate::content::Content;
use crate::error::Kind;
use crate::id::{ContainerId, Digest, ImageId, SandboxId};
use crate::metrics::{EventMetrics, HealthMetrics};
use crate::model::container::{
    ContainerConfig, ContainerFilter, ContainerMetadata, ContainerState, StateFilter,
};
use crate::model::host::{CgroupMode, HostFacts};
use crate::model::image::ImageRecord;
use crate::model::pod_cgroup::PodCgroups;
use crate::model::sandbox::{
    PodMetadata, SandboxConfig, SandboxFilter, SandboxState, UserNamespace,
};
use crate::network::fakes::CniNetworks;
use crate::registry::{HttpRegistry, Settings};
use crate::snapshot::Layers;
use crate::snapshot::fakes::Overlay;
use crate::store::Store;
use crate::store::fakes::FileStore;
use crate::task::CreateOrder;
use crate::task::fakes::ShimTasks;
use crate::task::{apparmor, seccomp};
use sha2::{Digest as _, Sha256};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// An engine and the fakes behind it.
struct Bench {
    engine: Arc<Engine>,
    store: Arc<FileStore>,
    tasks: ShimTasks,
    networks: Arc<CniNetworks>,
    cgroups: Arc<HostCgroups>,
    scopes: Arc<SystemdScopes>,
    /// The id of the one image, which has no layers.
    image: String,
    dir: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        Self::under(PodCgroups::Cgroupfs, Arc::default()).await
    }

    /// Under this cgroup driver.
    async fn under(driver: PodCgroups, scopes: Arc<SystemdScopes>) -> Self {
        let driver = (driver, scopes);
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(FileStore::at(dir.path()));
        let (events, _) = mpsc::unbounded_channel();
        let (tasks, networks) = (ShimTasks::new(events), Arc::default());
        Self::with(dir, store, (tasks, networks), driver).await
    }

    /// The same world under a daemon that was started anew.
    async fn restart(self) -> Self {
        self.restart_under(PodCgroups::Cgroupfs).await
    }

    /// The same under another cgroup driver.
    async fn restart_under(self, driver: PodCgroups) -> Self {
        let (outside, driver) = ((self.tasks, self.networks), (driver, self.scopes));
        Self::with(self.dir, self.store, outside, driver).await
    }

    async fn with(
        dir: tempfile::TempDir,
        store: Arc<FileStore>,
        (tasks, networks): (ShimTasks, Arc<CniNetworks>),
        (driver, scopes): (PodCgroups, Arc<SystemdScopes>),
    ) -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        let tasks = tasks.report_to(sender);
        let cgroups = Arc::new(HostCgroups::default());
        let ports = Ports {
            store: Arc::clone(&store) as Arc<dyn Store>,
            tasks: Arc::new(tasks.clone()),
            networks: Arc::clone(&networks) as _,
            cgroups: Arc::clone(&cgroups) as _,
            scopes: Arc::clone(&scopes) as _,
            health: HealthMetrics::default(),
            events: EventMetrics::default(),
            snapshots: Arc::new(Overlay::default()),
            images: images(dir.path()),
            apparmor: apparmor::Profiles::default(),
            seccomp: Arc::new(seccomp::Filters::new(dir.path().join("seccomp"))),
        };
        let image = image_named(&ports.images, "registry/sleep:1").await;
        let node = Node {
            state: dir.path().to_owned(),
            host: host(),
            boot_id: "boot".to_owned(),
            cgroups: driver,
            conf_template: None,
            cdi_dirs: Vec::new(),
            image_healthchecks: false,
        };
        let engine = Engine::start(ports, node, events).await.unwrap();
        Self {
            engine,
            store,
            tasks,
            networks,
            cgroups,
            scopes,
            image,
            dir,
        }
    }

    async fn run(&self, config: SandboxConfig) -> crate::error::Result<SandboxId> {
        self.engine.run_pod_sandbox(config, String::new()).await
    }

    fn sandboxes(&self) -> usize {
        self.engine
            .list_pod_sandbox(&SandboxFilter::default())
            .len()
    }

    /// Nothing of any sandbox is left anywhere.
    fn assert_empty(&self) {
        assert_eq!(self.sandboxes(), 0, "sandboxes in memory");
        assert_eq!(self.store.load().unwrap().sandboxes, vec![], "records");
        assert_eq!(self.tasks.pinned(), 0, "pinned namespaces");
        assert_eq!(self.networks.given(), 0, "addresses");
        assert_eq!(self.scopes.scopes(), vec![], "scopes");
        let files = self.dir.path().join("sandboxes");
        let left = std::fs::read_dir(files)
            .map(Iterator::count)
            .unwrap_or_default();
        assert_eq!(left, 0, "pod directories");
    }
}

fn images(dir: &Path) -> Arc<Images> {
    let settings = Settings {
        config_paths: Vec::new(),
        ..Settings::default()
    };
    let registry = Arc::new(HttpRegistry::new(settings));
    let content = Arc::new(Content::open(&dir.join("images")).unwrap());
    let layers = Arc::new(Layers::open(&dir.join("layers"), "boot").unwrap());
    Images::open(registry, content, layers, Vec::new(), 8).unwrap()
}

/// Stores an image without layers whose containers run `sleep`.
async fn image_named(images: &Arc<Images>, name: &str) -> String {
    let config = r#"{"author":"NAME","config":{"Cmd":["sleep","1"]},"rootfs":{"diff_ids":[]}}"#;
    let config = config.replace("NAME", name).into_bytes();
    let digest = |bytes: &[u8]| {
        let bytes = Sha256::digest(bytes);
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        Digest::from_hex(&hex).unwrap()
    };
    let (config_digest, manifest) = (digest(&config), b"{}".to_vec());
    let record = ImageRecord {
        id: ImageId(config_digest.clone()),
        tags: [name.parse().unwrap()].into(),
        digests: [].into(),
        manifest: digest(&manifest),
        layers: Vec::new(),
        targets: vec![],
        tagged: std::collections::BTreeMap::new(),
        removed: false,
    };
    let blobs = vec![(config_digest, config), (digest(&manifest), manifest)];
    images
        .store(record, blobs)
        .await
        .unwrap()
        .record
        .id
        .to_string()
}

fn host() -> HostFacts {
    HostFacts {
        kernel: "6.18".to_owned(),
        architecture: "amd64".to_owned(),
        cgroups: CgroupMode::Hybrid,
        controllers: vec!["memory".to_owned()],
        recursive_read_only: true,
        idmapped_mounts: true,
        user_namespaces: false,
        no_user_namespaces: "its kernel is too old".to_owned(),
        apparmor: false,
        apparmor_profile: false,
        selinux: false,
        seccomp: true,
        swap_accounting: true,
        capability_bounds: u64::MAX,
        max_open_files: 20_000,
    }
}

fn pod(name: &str) -> SandboxConfig {
    let metadata = PodMetadata {
        name: name.to_owned(),
        uid: format!("uid-{name}"),
        namespace: "default".to_owned(),
        attempt: 0,
    };
    SandboxConfig {
        metadata,
        hostname: name.to_owned(),
        ..SandboxConfig::default()
    }
}

impl Bench {
    /// A ready pod with one created container.
    async fn with_container(&self) -> ContainerId {
        let sandbox = self.run(pod("a")).await.unwrap();
        self.create(&sandbox, "main").await.unwrap()
    }

    fn sandbox_of(&self, container: &ContainerId) -> SandboxId {
        let container = self.engine.container_status(container.as_str()).unwrap();
        container.sandbox_id.clone()
    }

    async fn create(&self, sandbox: &SandboxId, name: &str) -> crate::error::Result<ContainerId> {
        let config = self.container(name);
        self.engine.create_container(sandbox.as_str(), config).await
    }

    fn container(&self, name: &str) -> ContainerConfig {
        let metadata = ContainerMetadata {
            name: name.to_owned(),
            attempt: 0,
        };
        ContainerConfig {
            metadata,
            image: self.image.clone(),
            ..ContainerConfig::default()
        }
    }

    fn state(&self, id: &ContainerId) -> ContainerState {
        self.engine
            .container_status(id.as_str())
            .unwrap()
            .state
            .clone()
    }

    fn exit(&self, id: &ContainerId) -> (i32, String) {
        match self.state(id) {
            ContainerState::Exited(exit) => (exit.code, exit.reason),
            other => panic!("{other:?}"),
        }
    }

    async fn stop(&self, id: &ContainerId, grace: Duration) {
        self.engine
            .stop_container(id.as_str(), grace)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_container_lives_through_its_states() {
    let bench = Bench::new().await;
    let id = bench.with_container().await;
    assert_eq!(bench.state(&id), ContainerState::Created);
    bench.engine.start_container(id.as_str()).await.unwrap();
    assert_eq!(bench.state(&id), ContainerState::Running);
    let again = bench.engine.start_container(id.as_str()).await.unwrap_err();
    assert_eq!(again.kind(), Kind::FailedPrecondition);
    bench.stop(&id, Duration::from_secs(60)).await;
    bench.stop(&id, Duration::from_secs(60)).await;
    assert_eq!(bench.exit(&id), (143, "Error".to_owned()));
    assert_eq!(bench.tasks.signals(), [15]);
    bench.engine.remove_container(id.as_str()).await.unwrap();
    bench.engine.remove_container(id.as_str()).await.unwrap();
    assert_eq!(bench.tasks.containers(), 0);
    assert_eq!(bench.store.load().unwrap().containers, vec![]);
}

#[tokio::test(start_paused = true)]
async fn who_ignores_the_signal_is_killed_after_the_grace() {
    let bench = Bench::new().await;
    let id = bench.with_container().await;
    bench.engine.start_container(id.as_str()).await.unwrap();
    bench.tasks.ignore_term();
    bench.stop(&id, Duration::from_secs(30)).await;
    assert_eq!(bench.tasks.signals(), [15, 9]);
    assert_eq!(bench.exit(&id), (137, "Error".to_owned()));
}

#[tokio::test]
async fn a_container_that_was_never_started_is_not_asked_but_ended() {
    let bench = Bench::new().await;
    let id = bench.with_container().await;
    bench.stop(&id, Duration::from_secs(60)).await;
    assert_eq!(bench.tasks.signals(), [9]);
}

#[tokio::test]
async fn a_create_that_fails_leaves_nothing_and_can_be_asked_again() {
    let bench = Bench::new().await;
    let sandbox = bench.run(pod("a")).await.unwrap();
    for verb in ["launch", "create"] {
        bench.tasks.refuse(verb);
        let error = bench.create(&sandbox, "main").await.unwrap_err();
        assert!(
            error.chain().contains("told to refuse"),
            "{verb}: {}",
            error.chain()
        );
        assert_eq!(bench.store.load().unwrap().containers, vec![], "{verb}");
        let left = bench.engine.list_containers(&ContainerFilter::default());
        assert!(left.is_empty(), "{verb}");
    }
    bench.tasks.refuse("");
    bench.create(&sandbox, "main").await.unwrap();
}

#[tokio::test]
async fn a_second_create_of_the_same_container_gets_the_first() {
    let bench = Bench::new().await;
    let sandbox = bench.run(pod("a")).await.unwrap();
    let both = futures::join!(
        bench.create(&sandbox, "main"),
        bench.create(&sandbox, "main")
    );
    let id = both.0.unwrap();
    assert_eq!(both.1.unwrap(), id);
    assert_eq!(bench.create(&sandbox, "main").await.unwrap(), id);
    assert_eq!(bench.tasks.containers(), 1);
    bench.stop(&id, Duration::ZERO).await;
    let exited = bench.create(&sandbox, "main").await.unwrap_err();
    assert_eq!(exited.kind(), Kind::AlreadyExists);
}

#[tokio::test]
async fn a_container_whose_shim_was_killed_is_ended_and_says_so() {
    let bench = Bench::new().await;
    let id = bench.with_container().await;
    bench.engine.start_container(id.as_str()).await.unwrap();
    bench.tasks.lose_shim(&id);
    bench.stop(&id, Duration::from_secs(60)).await;
    assert_eq!(bench.exit(&id), (255, "Unknown".to_owned()));
    bench.engine.remove_container(id.as_str()).await.unwrap();
}

#[tokio::test]
async fn a_stopped_pod_ends_its_containers_and_takes_no_new_one() {
    let bench = Bench::new().await;
    let id = bench.with_container().await;
    let sandbox = bench.sandbox_of(&id);
    bench
        .engine
        .stop_pod_sandbox(sandbox.as_str())
        .await
        .unwrap();
    assert_eq!(bench.exit(&id).0, 137);
    let error = bench.create(&sandbox, "other").await.unwrap_err();
    assert_eq!(error.kind(), Kind::FailedPrecondition);
    bench
        .engine
        .remove_pod_sandbox(sandbox.as_str())
        .await
        .unwrap();
    assert!(bench.engine.container_status(id.as_str()).is_err());
    bench.assert_empty();
}

#[tokio::test]
async fn a_start_finds_running_containers_and_ends_those_without_a_shim() {
    let bench = Bench::new().await;
    let runs = bench.with_container().await;
    let sandbox = bench.sandbox_of(&runs);
    let lost = bench.create(&sandbox, "lost").await.unwrap();
    for id in [&runs, &lost] {
        bench.engine.start_container(id.as_str()).await.unwrap();
    }
    bench.tasks.forget(&lost);
    let bench = bench.restart().await;
    assert_eq!(bench.state(&runs), ContainerState::Running);
    assert_eq!(bench.exit(&lost), (255, "Unknown".to_owned()));
    let running = ContainerFilter {
        state: Some(StateFilter::Running),
        ..Default::default()
    };
    assert_eq!(bench.engine.list_containers(&running).len(), 1);
    bench.stop(&runs, Duration::from_secs(60)).await;
    assert_eq!(bench.exit(&runs).0, 143);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_undone_at_once_is_undone_later() {
    let bench = Bench::new().await;
    bench.networks.fail();
    bench.tasks.refuse("unpin");
    assert!(bench.run(pod("a")).await.is_err());
    assert_eq!(bench.tasks.pinned(), 2, "nothing could be unpinned");
    bench.tasks.refuse("");
    while bench.tasks.pinned() > 0 || !bench.store.load().unwrap().sandboxes.is_empty() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    bench.assert_empty();
}

#[tokio::test]
async fn a_pod_whose_holder_was_killed_is_not_ready_any_more() {
    let bench = Bench::new().await;
    let id = bench.run(pod("a")).await.unwrap();
    bench.tasks.end_holder(&id);
    let state = || {
        bench
            .engine
            .pod_sandbox_status(id.as_str())
            .unwrap()
            .sandbox
            .state
    };
    while state() == SandboxState::Ready {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        bench.create(&id, "main").await.unwrap_err().kind(),
        Kind::FailedPrecondition
    );
}

#[tokio::test]
async fn a_start_whose_caller_goes_away_comes_to_its_end() {
    use futures::FutureExt;
    let bench = Bench::new().await;
    let id = bench.with_container().await;
    assert!(
        bench
            .engine
            .start_container(id.as_str())
            .now_or_never()
            .is_none()
    );
    while bench.state(&id) != ContainerState::Running {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_shim_that_does_not_answer_at_a_start_keeps_nobody_from_ending_its_container() {
    let bench = Bench::new().await;
    let id = bench.with_container().await;
    bench.engine.start_container(id.as_str()).await.unwrap();
    bench.tasks.refuse("reconnect");
    let bench = bench.restart().await;
    assert_eq!(bench.state(&id), ContainerState::Running);
    bench.stop(&id, Duration::from_secs(60)).await;
    assert_eq!(bench.exit(&id), (255, "Unknown".to_owned()));
}

#[tokio::test]
async fn an_exit_record_that_a_power_cut_emptied_is_no_record() {
    let bench = Bench::new().await;
    let id = bench.with_container().await;
    bench.engine.start_container(id.as_str()).await.unwrap();
    let path = CreateOrder::exit_record(&bench.store.container_dir(&id));
    std::fs::write(path, "").unwrap();
    bench.tasks.forget(&id);
    let bench = bench.restart().await;
    assert_eq!(bench.exit(&id), (255, "Unknown".to_owned()));
}

#[tokio::test]
async fn a_node_without_its_shim_is_not_ready_and_says_why() {
    let bench = Bench::new().await;
    assert!(bench.engine.status().runtime.ok);
    bench.tasks.refuse("ready");
    let runtime = bench.engine.status().runtime;
    assert_eq!(
        (runtime.ok, runtime.reason.as_str()),
        (false, "ShimNotReady")
    );
    assert!(!runtime.message.is_empty());
}
