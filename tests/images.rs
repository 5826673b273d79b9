//! Pulls from a registry that breaks in every way (`images/fault_registry.rs`), and from a real one: Debian's `docker-registry` on a loopback port, with and without
//! htpasswd, and as a mirror. `cargo test --test images -- --ignored`.

#![expect(clippy::unwrap_used, reason = "a test says what must hold by failing")]

#[path = "images/artifacts.rs"]
mod artifacts;
#[path = "images/bad_input.rs"]
mod bad_input;
#[path = "images/builders.rs"]
mod builders;
#[path = "images/conf.rs"]
mod conf;
#[path = "images/disks.rs"]
mod disks;
#[path = "images/export.rs"]
mod export;
#[path = "images/fault_registry.rs"]
mod fault_registry;
#[path = "images/faults.rs"]
mod faults;
#[path = "images/forge.rs"]
mod forge;
#[path = "images/limits.rs"]
mod limits;
#[path = "images/node.rs"]
mod node;
#[path = "images/oracle.rs"]
mod oracle;
#[path = "images/policy.rs"]
mod policy;
#[path = "images/resume.rs"]
mod resume;
#[path = "images/tls.rs"]
mod tls;
#[path = "images/tree.rs"]
mod tree;

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use corten::{
    content::Content,
    engine::Images,
    error::Kind,
    id::{Digest, ImageRef},
    model::credentials::{Credentials, Secret},
    registry::{HttpRegistry, Settings},
    snapshot::Layers,
};
use serde_json::json;
use tempfile::TempDir;

/// `me` with the password `secret`.
const HTPASSWD: &str = "me:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

/// A client without TLS, as the registry here has none.
fn http() -> reqwest::Client {
    // Another test may have chosen the provider before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .tls_certs_only([])
        .build()
        .unwrap()
}

/// A registry that ends with the test.
struct Served {
    process: Child,
    address: String,
    root: Arc<TempDir>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Served {
    async fn start(auth: bool) -> Self {
        let root = Arc::new(TempDir::new().unwrap());
        fs::write(root.path().join("htpasswd"), HTPASSWD).unwrap();
        let htpasswd = root.path().join("htpasswd").display().to_string();
        let auth = match auth {
            true => format!("auth: {{htpasswd: {{realm: r, path: '{htpasswd}'}}}}\n"),
            false => String::new(),
        };
        Self::serve(root, "", &auth).await
    }

    /// The same images from a registry that is set up in another way.
    async fn again(&self, http: &str) -> Self {
        Self::serve(Arc::clone(&self.root), http, "").await
    }

    async fn serve(root: Arc<TempDir>, http: &str, more: &str) -> Self {
        let address = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .to_string();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: '{}/data'}}}}\nhttp: {{addr: '{address}'{http}}}\n{more}",
            root.path().display()
        );
        let port = address.rsplit(':').next().unwrap();
        let path = root.path().join(format!("{port}.yml"));
        fs::write(&path, config).unwrap();
        let mut command = Command::new("docker-registry");
        command
            .arg("serve")
            .arg(path)
            // A line for each request.
            .stdout(fs::File::create(root.path().join(format!("{port}.log"))).unwrap())
            .stderr(Stdio::null());
        let served = Self {
            process: command.spawn().unwrap(),
            address,
            root,
        };
        while tokio::net::TcpStream::connect(&served.address)
            .await
            .is_err()
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        served
    }

    /// The requests so far, a line each.
    fn log(&self) -> String {
        let port = self.address.rsplit(':').next().unwrap();
        fs::read_to_string(self.root.path().join(format!("{port}.log"))).unwrap()
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/v2/app/{path}", self.address)
    }

    async fn push_blob(&self, bytes: &[u8]) -> serde_json::Value {
        let http = http();
        let digest = Digest::of(bytes);
        let upload = http
            .post(self.url("blobs/uploads/"))
            .basic_auth("me", Some("secret"))
            .send()
            .await
            .unwrap();
        let to = upload.headers()["location"].to_str().unwrap().to_owned();
        let put = http
            .put(format!("{to}&digest={digest}"))
            .basic_auth("me", Some("secret"))
            .body(bytes.to_vec());
        assert!(put.send().await.unwrap().status().is_success());
        json!({"mediaType": "application/octet-stream", "digest": digest, "size": bytes.len()})
    }

    async fn push_manifest(&self, tag: &str, manifest: &serde_json::Value) -> Digest {
        let text = manifest.to_string();
        let put = http()
            .put(self.url(&format!("manifests/{tag}")))
            .basic_auth("me", Some("secret"));
        let put = put
            .header("content-type", manifest["mediaType"].as_str().unwrap())
            .body(text.clone());
        let answer = put.send().await.unwrap();
        assert!(
            answer.status().is_success(),
            "{}",
            answer.text().await.unwrap()
        );
        Digest::of(text.as_bytes())
    }

    /// An image `app:TAG` of schema 2 with three layers, one of each compression.
    async fn push_image(&self, tag: &str) -> Digest {
        let layers = [layer("gzip"), layer("zstd"), layer("plain")];
        let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer)).collect();
        let config = json!({"architecture": "amd64", "os": "linux", "config": {"User": "1002"}, "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        std::io::Write::write_all(&mut gzip, &layers[0]).unwrap();
        let mut config = self.push_blob(config.to_string().as_bytes()).await;
        config["mediaType"] = "application/vnd.docker.container.image.v1+json".into();
        let mut blobs = [
            self.push_blob(&gzip.finish().unwrap()).await,
            self.push_blob(&zstd::encode_all(&layers[1][..], 3).unwrap())
                .await,
            self.push_blob(&layers[2]).await,
        ];
        for blob in &mut blobs {
            blob["mediaType"] = "application/vnd.docker.image.rootfs.diff.tar.gzip".into();
        }
        let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json", "config": config, "layers": blobs});
        self.push_manifest(tag, &manifest).await
    }
}

/// A layer of one file of 100 kB that says which it is.
fn layer(name: &str) -> Vec<u8> {
    let content = name.repeat(100_000 / name.len());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_uid(rustix::process::geteuid().as_raw().into());
    header.set_gid(rustix::process::getegid().as_raw().into());
    let mut builder = tar::Builder::new(Vec::new());
    builder
        .append_data(&mut header, name, content.as_bytes())
        .unwrap();
    builder.into_inner().unwrap()
}

fn images(root: &Path) -> Arc<Images> {
    let settings = Settings {
        config_paths: vec![root.join("certs.d")],
        ..Settings::default()
    };
    let content = Arc::new(Content::open(&root.join("images")).unwrap());
    let layers = Arc::new(Layers::open(&root.join("layers"), "boot").unwrap());
    Images::open(
        Arc::new(HttpRegistry::new(settings)),
        content,
        layers,
        vec![],
        8,
    )
    .unwrap()
}

async fn pull(images: &Arc<Images>, name: &str, secret: Secret) -> Result<String, Kind> {
    let name: ImageRef = name.parse().unwrap();
    let pulled = images
        .pull(&name, Credentials::new(secret, ""), Arc::new(|_| {}))
        .await;
    pulled
        .map(|id| id.to_string())
        .map_err(|error| error.kind())
}

fn secret(password: &str) -> Secret {
    Secret::Password("me".into(), password.into())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker-registry"]
async fn a_real_registry_serves_tags_digests_and_indexes() {
    let served = Served::start(false).await;
    let digest = served.push_image("1").await;
    let images = images(served.root.path());
    let name = format!("{}/app", served.address);
    let by_digest = pull(&images, &format!("{name}@{digest}"), Secret::Anonymous)
        .await
        .unwrap();
    let image = images.status(&by_digest).unwrap().unwrap();
    assert_eq!(
        (
            image.record.tags.len(),
            image.record.digests.len(),
            image.record.layers.len()
        ),
        (0, 1, 3)
    );
    assert_eq!(
        pull(&images, &format!("{name}:1"), Secret::Anonymous)
            .await
            .unwrap(),
        by_digest
    );
    let size = fs::read_dir(served.root.path().join("images/blobs"))
        .unwrap()
        .count();
    assert_eq!(size, 2);
    let platform =
        json!({"os": "linux", "architecture": corten::model::image::Platform::host().architecture});
    let entry = json!({"mediaType": "application/vnd.docker.distribution.manifest.v2+json", "digest": digest, "size": 1000, "platform": platform});
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.list.v2+json", "manifests": [entry]});
    let index = served.push_manifest("many", &index).await;
    assert_eq!(
        pull(&images, &format!("{name}:many"), Secret::Anonymous)
            .await
            .unwrap(),
        by_digest
    );
    let image = images.status(&format!("{name}@{index}")).unwrap().unwrap();
    assert_eq!(
        (image.record.tags.len(), image.record.digests.len()),
        (2, 2)
    );
    assert_eq!(
        pull(&images, &format!("{name}:absent"), Secret::Anonymous).await,
        Err(Kind::NotFound)
    );
    assert_eq!(images.check(&[]).await.unwrap().findings, []);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker-registry"]
async fn a_real_registry_asks_for_a_password() {
    let served = Served::start(true).await;
    served.push_image("1").await;
    let images = images(served.root.path());
    let name = format!("{}/app:1", served.address);
    assert_eq!(
        pull(&images, &name, Secret::Anonymous).await,
        Err(Kind::Unauthenticated)
    );
    assert_eq!(
        pull(&images, &name, secret("wrong")).await,
        Err(Kind::Unauthenticated)
    );
    assert!(images.list(None).unwrap().is_empty());
    pull(&images, &name, secret("secret")).await.unwrap();
    // What is on the node is no proof that somebody else may have it.
    assert_eq!(
        pull(&images, &name, Secret::Anonymous).await,
        Err(Kind::Unauthenticated)
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker-registry"]
async fn a_real_registry_is_a_mirror_of_another() {
    let served = Served::start(false).await;
    served.push_image("1").await;
    let folder = served.root.path().join("certs.d/reg.invalid");
    fs::create_dir_all(&folder).unwrap();
    let hosts = format!(
        "[host.\"http://127.0.0.1:1\"]\n[host.\"http://{}\"]\ncapabilities = [\"pull\", \"resolve\"]\n",
        served.address
    );
    fs::write(folder.join("hosts.toml"), hosts).unwrap();
    let images = images(served.root.path());
    pull(&images, "reg.invalid/app:1", Secret::Anonymous)
        .await
        .unwrap();
    let image = images.status("reg.invalid/app:1").unwrap().unwrap();
    let trees = fs::read_dir(served.root.path().join("layers")).unwrap();
    let trees = trees
        .map(|entry| entry.unwrap().path().join("fs"))
        .filter(|tree| tree.is_dir());
    let mut files: Vec<_> = trees
        .flat_map(|tree| {
            fs::read_dir(tree)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        })
        .collect();
    files.sort();
    assert_eq!(
        (files, image.record.layers.len()),
        (vec!["gzip".into(), "plain".into(), "zstd".into()], 3)
    );
}
