//! Pulls from a registry with faults: what can be got is got, and what cannot leaves nothing.

use std::{process::Command, time::Duration};

use corten::{
    error::{Kind, Sentinel},
    model::credentials::Secret,
    registry::Settings,
};
use serde_json::json;
use tokio::time::Instant;

use super::{
    fault_registry::{Asked, Fault, FaultRegistry},
    node::{Node, gzip, layer_of, noise, tar_of},
};

const UNAVAILABLE: Kind = Kind::Sentinel(Sentinel::RegistryUnavailable);

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_goes_on_wherever_the_connection_ends() {
    let registry = FaultRegistry::start().await;
    registry.push_image("1", &[layer_of("file", b"whole")]);
    registry.break_with(|_, _| Fault::None);
    Node::new().pull(&registry.image("1")).await.unwrap();
    // Manifest, config and layer: each answer in turn ends after so many of its bytes.
    let requests = registry.asked();
    assert_eq!(requests.len(), 3);
    for broken in 0..requests.len() {
        for end in (broken..usize::MAX).step_by(5) {
            registry.break_with(move |_, number| match number == broken {
                true => Fault::CutAfter(end),
                false => Fault::None,
            });
            let node = Node::new();
            let pulled = node.pull(&registry.image("1")).await;
            pulled.unwrap_or_else(|error| panic!("{broken}, {end}: {}", error.chain()));
            assert_eq!(node.file("file"), b"whole");
            if registry.asked().len() == requests.len() && end > 100 {
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_piece_comes_once_where_ranges_are_known() {
    let registry = FaultRegistry::start().await;
    let content = noise(300_000);
    registry.push_image("1", &[layer_of("file", &content)]);
    let cut = |asked: &Asked, _| match asked.header("range").is_some() || asked.is_blob() {
        true => Fault::CutAfter(20_000),
        false => Fault::None,
    };
    registry.break_with(cut);
    let node = Node::new();
    node.pull(&registry.image("1")).await.unwrap();
    assert!(node.file("file") == content);
    let pieces = registry
        .asked()
        .iter()
        .filter(|asked| asked.header("range").is_some())
        .count();
    assert!((15..=20).contains(&pieces), "{pieces}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_without_ranges_is_read_from_the_front() {
    let registry = FaultRegistry::start().await;
    let content = noise(100_000);
    registry.push_image("1", &[layer_of("file", &content)]);
    registry.break_with(|asked, number| match asked.header("range").is_some() {
        true => Fault::NoRanges,
        false if asked.is_blob() => Fault::CutAfter(30_000 + number),
        false => Fault::None,
    });
    let node = Node::new();
    node.pull(&registry.image("1")).await.unwrap();
    assert!(node.file("file") == content);
    assert!(
        registry
            .asked()
            .iter()
            .any(|asked| asked.header("range").is_some())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_registry_is_asked_again_when_it_says() {
    let registry = FaultRegistry::start().await;
    registry.push_image("1", &[layer_of("file", b"x")]);
    registry.break_with(|_, number| match number {
        0 => Fault::Status(429, "retry-after: 1\r\n".into()),
        1 => Fault::Status(503, String::new()),
        _ => Fault::None,
    });
    let began = Instant::now();
    Node::new().pull(&registry.image("1")).await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1));
    registry.break_with(|_, _| Fault::Status(429, "retry-after: 3600\r\n".into()));
    let (kind, text) = Node::new().refusal(&registry.image("1")).await;
    assert_eq!((kind, registry.asked().len()), (UNAVAILABLE, 1));
    assert!(text.contains("answered 429"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_without_progress_is_left_for_the_next() {
    let (slow, good) = (FaultRegistry::start().await, FaultRegistry::start().await);
    let content = noise(50_000);
    for registry in [&slow, &good] {
        registry.push_image("1", &[layer_of("file", &content)]);
    }
    let settings = || Settings {
        progress_timeout: Duration::from_millis(500),
        first_pause: Duration::from_millis(1),
        ..Settings::default()
    };
    let trickle = Fault::Slowly(1, Duration::from_millis(100));
    for fault in [Fault::Silence, trickle] {
        slow.break_with(move |_, _| fault.clone());
        let node = Node::with(settings());
        let hosts = format!(
            "server = \"http://{}\"\n[host.\"http://{}\"]\n",
            good.address, slow.address
        );
        node.hosts("reg.test", &hosts);
        node.pull("reg.test/app:1").await.unwrap();
        assert!(node.file("file") == content);
        assert!(!slow.asked().is_empty());
        let alone = Node::with(settings());
        let (kind, text) = alone.refusal(&slow.image("1")).await;
        assert_eq!(kind, UNAVAILABLE);
        assert!(text.contains("made no progress"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_gives_wrong_bytes_is_left_for_the_next() {
    let (wrong, good) = (FaultRegistry::start().await, FaultRegistry::start().await);
    let content = noise(50_000);
    let layer = layer_of("file", &content);
    for registry in [&wrong, &good] {
        registry.push_image("1", std::slice::from_ref(&layer));
    }
    let hosts = format!(
        "server = \"http://{}\"\n[host.\"http://{}\"]\n",
        good.address, wrong.address
    );
    let mut flipped = layer.0.clone();
    flipped[30_000] ^= 1;
    let other = gzip(&tar_of("file", b"another"));
    let longer = [&layer.0[..], b"more"].concat();
    let last = |bytes: &Vec<u8>| {
        let bytes = bytes.clone();
        move |_: &Asked, number| match number > 1 {
            true => Fault::Unmeasured(bytes.clone()),
            false => Fault::None,
        }
    };
    // Wrong in the middle, too long, and too short, which the next host goes on with at first.
    for (bytes, asked) in [(&flipped, 1), (&longer, 1), (&other, 2)] {
        wrong.break_with(last(bytes));
        good.break_with(|_, _| Fault::None);
        let node = Node::new();
        node.hosts("reg.test", &hosts);
        node.pull("reg.test/app:1").await.unwrap();
        assert!(node.file("file") == content);
        assert_eq!((wrong.asked().len(), good.asked().len()), (3, asked));
    }
    // The config too.
    wrong.break_with(|asked, _| match asked.is_blob() {
        true => Fault::Unmeasured(b"{}".into()),
        false => Fault::None,
    });
    let node = Node::new();
    node.hosts("reg.test", &hosts);
    node.pull("reg.test/app:1").await.unwrap();
    // Where all hosts are wrong, each is asked once.
    wrong.break_with(last(&flipped));
    let always = flipped.clone();
    good.break_with(move |_, _| Fault::Unmeasured(always.clone()));
    let node = Node::new();
    node.hosts("reg.test", &hosts);
    let (kind, text) = node.refusal("reg.test/app:1").await;
    assert_eq!(kind, Kind::Internal);
    assert!(text.contains("layer sha256:"), "{text}");
    assert_eq!((wrong.asked().len(), good.asked().len()), (3, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_lead_to_registries_and_nowhere_else() {
    let (registry, elsewhere) = (FaultRegistry::start().await, FaultRegistry::start().await);
    for one in [&registry, &elsewhere] {
        one.push_image("1", &[layer_of("file", b"x")]);
    }
    let redirect = |to: String| {
        move |asked: &Asked, _| match asked.is_blob() {
            true => Fault::Status(307, format!("location: {to}{}\r\n", asked.target)),
            false => Fault::None,
        }
    };
    registry.break_with(redirect(format!("http://{}", elsewhere.address)));
    Node::new().pull(&registry.image("1")).await.unwrap();
    assert_eq!(elsewhere.asked().len(), 2);
    for to in [
        "file:///etc/passwd?",
        "http://169.254.169.254",
        "http://[fe80::1]",
        "ftp://x",
    ] {
        registry.break_with(redirect(to.into()));
        let (_, text) = Node::new().refusal(&registry.image("1")).await;
        assert!(text.contains("redirects to"), "{text}");
    }
    let itself = format!("http://{}", registry.address);
    registry.break_with(redirect(itself));
    let (_, text) = Node::new().refusal(&registry.image("1")).await;
    assert!(text.contains("more than 10 in a row"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_askers_share_a_pull_and_none_goes_unchecked() {
    let registry = FaultRegistry::start().await;
    registry.push_image("1", &[layer_of("file", &noise(20_000))]);
    registry.break_with(|asked, _| match asked.header("authorization") {
        Some("Basic bWU6c2VjcmV0") if asked.is_blob() => {
            Fault::Slowly(2_000, Duration::from_millis(10))
        }
        Some("Basic bWU6c2VjcmV0" | "Basic eW91OnNlY3JldA==") => Fault::None,
        _ => Fault::Status(401, "www-authenticate: Basic realm=\"r\"\r\n".into()),
    });
    let node = Node::new();
    let image = registry.image("1");
    let user = |name: &str| Secret::Password(name.into(), "secret".into());
    let askers = (0..20).map(|_| node.pull_as(&image, user("me")));
    let (mine, yours, nobodys) = futures::join!(
        futures::future::try_join_all(askers),
        node.pull_as(&image, user("you")),
        node.pull(&image),
    );
    assert_eq!(mine.unwrap()[0], yours.unwrap());
    assert_eq!(nobodys.unwrap_err().kind(), Kind::Unauthenticated);
    let asked = registry.asked();
    let layer = |asked: &&Asked| asked.is_blob() && asked.header("authorization").is_some();
    let manifests = |secret: &str| {
        let header = format!("Basic {secret}");
        asked
            .iter()
            .filter(|asked| !asked.is_blob() && asked.header("authorization") == Some(&header))
            .count()
    };
    assert_eq!(
        (manifests("bWU6c2VjcmV0"), manifests("eW91OnNlY3JldA==")),
        (1, 1)
    );
    let layers: std::collections::BTreeMap<&str, usize> =
        asked
            .iter()
            .filter(layer)
            .fold(Default::default(), |mut all, asked| {
                *all.entry(asked.target.as_str()).or_default() += 1;
                all
            });
    assert!(layers.values().any(|count| *count == 1), "{layers:?}");
}

/// The other half of the next test: environment variables are a process's own.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs within proxies_come_from_the_environment"]
async fn a_pull_in_a_process_of_its_own() {
    let Ok(name) = std::env::var("CORTEN_TEST_PULL") else {
        return;
    };
    let node = Node::new();
    node.hosts("reg.invalid", "server = \"http://reg.invalid\"\n");
    node.pull(&name).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn proxies_come_from_the_environment() {
    let proxy = FaultRegistry::start().await;
    proxy.push_image("1", &[layer_of("file", b"x")]);
    let pull = |no_proxy: &str| {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args([
            "--ignored",
            "--exact",
            "faults::a_pull_in_a_process_of_its_own",
        ]);
        child
            .env("CORTEN_TEST_PULL", "reg.invalid/app:1")
            .env("NO_PROXY", no_proxy);
        child.env("HTTP_PROXY", format!("http://{}", proxy.address));
        tokio::task::spawn_blocking(move || child.output().unwrap())
    };
    let pulled = pull("other.invalid").await.unwrap();
    assert!(
        pulled.status.success(),
        "{}",
        String::from_utf8_lossy(&pulled.stdout)
    );
    let asked = proxy.asked();
    assert_eq!(asked[0].target, "http://reg.invalid/v2/app/manifests/1");
    assert!(!pull("reg.invalid").await.unwrap().status.success());
    assert_eq!(proxy.asked().len(), asked.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn all_downloads_together_keep_to_the_bandwidth() {
    let registry = FaultRegistry::start().await;
    let layers: Vec<_> = ["a", "b", "c", "d"]
        .map(|name| layer_of(name, &[noise(50_000), name.into()].concat()))
        .into();
    registry.push_image("1", &layers);
    let node = Node::with(Settings {
        bandwidth_limit: Some(100_000),
        ..Settings::default()
    });
    let began = Instant::now();
    node.pull(&registry.image("1")).await.unwrap();
    assert!(
        began.elapsed() >= Duration::from_millis(1_500),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_changes_between_two_requests_is_refused() {
    let registry = FaultRegistry::start().await;
    let image = registry.push_image("1", &[layer_of("file", b"x")]);
    let entry = json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": image, "size": 1});
    registry.push_manifest("many", &json!({"schemaVersion": 2, "manifests": [entry]}));
    registry.break_with(|asked, _| match asked.target.contains("manifests/sha256") {
        true => Fault::Body(b"{\"schemaVersion\": 2}".into()),
        false => Fault::None,
    });
    let (_, text) = Node::new().refusal(&registry.image("many")).await;
    assert!(text.contains(&format!("expected {image}")), "{text}");
}
