//! Images as builders shape them: docker build's configs of schema 2, BuildKit's indexes with
//! attestations, Kaniko's layers that begin with `/`, one file a layer as ko and jib make them,
//! layers that registries do not have. What umoci knows is held against it (`oracle.rs`).

use corten::{
    error::Kind,
    id::Digest,
    model::image::{ImageUser, Platform},
};
use serde_json::{Value, json};

use super::{
    fault_registry::FaultRegistry,
    forge::{Item, Layer, directory, file, hard_link, symlink},
    node::{Node, layer_of},
    oracle::Oracle,
};

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn platform(os: &str, architecture: &str) -> Value {
    json!({"os": os, "architecture": architecture})
}

/// An entry of an index.
fn entry(digest: &Digest, platform: &Value, annotations: &Value) -> Value {
    json!({"mediaType": OCI_MANIFEST, "digest": digest, "size": 500, "platform": platform, "annotations": annotations})
}

/// Pushes what BuildKit says of how `image` was built: a manifest too, whose layers are statements.
fn attest(registry: &FaultRegistry, config_type: &str, image: &Digest) -> (Digest, Value) {
    let mut statement = registry.push_blob(b"{\"_type\": \"https://in-toto.io/Statement/v0.1\"}");
    statement["mediaType"] = "application/vnd.in-toto+json".into();
    let mut config = registry.push_blob(br#"{"architecture":"unknown","os":"unknown","config":{},"rootfs":{"type":"layers","diff_ids":[]}}"#);
    config["mediaType"] = config_type.into();
    let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [statement]});
    let digest = registry.push_manifest("attestation", &manifest);
    let about = json!({"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": image});
    (digest, about)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_buildkit_gives_the_image_and_not_its_attestation() {
    let registry = FaultRegistry::start().await;
    let image = registry.push_image("image", &[layer_of("image", b"i")]);
    let other = registry.push_image("other", &[layer_of("other", b"o")]);
    let here = platform("linux", &Platform::host().architecture);
    let unknown = platform("unknown", "unknown");
    for config_type in [
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.oci.empty.v1+json",
    ] {
        let (attestation, about) = attest(&registry, config_type, &image);
        let entries = [
            entry(&attestation, &unknown, &about),
            // Tools that copy indexes are known to lose what does not matter to them.
            entry(&attestation, &Value::Null, &about),
            entry(&attestation, &unknown, &json!({})),
            entry(&other, &platform("linux", "other"), &json!({})),
            entry(&image, &here, &json!({})),
            entry(&attestation, &here, &about),
        ];
        let index_type = "application/vnd.oci.image.index.v1+json";
        let index = |entries: &[Value]| json!({"schemaVersion": 2, "mediaType": index_type, "manifests": entries});
        registry.push_manifest("built", &index(&entries));
        let node = Node::new();
        let id = node.pull(&registry.image("built")).await.unwrap();
        assert_eq!(node.file("image"), b"i");
        let image = node.images.status(&id).unwrap().unwrap();
        assert_eq!(image.artifact, None);
        // One that has nothing else is refused with what it has.
        registry.push_manifest("built", &index(&entries[..4]));
        let (kind, text) = Node::new().refusal(&registry.image("built")).await;
        assert_eq!(kind, Kind::NotFound, "{text}");
        for words in ["no image for", "linux/other"] {
            assert!(text.contains(words), "{text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_as_docker_build_writes_it() {
    let registry = FaultRegistry::start().await;
    let (blob, diff_id) = layer_of("etc/app", b"a");
    // The config of the container of the last step, steps without a layer, null for nothing.
    let run = json!({"Hostname": "", "Domainname": "", "User": "1000:1000", "AttachStdin": false, "Tty": false,
        "Env": ["PATH=/bin"], "Cmd": ["sh"], "Image": "sha256:a", "Volumes": null, "WorkingDir": "/srv", "Entrypoint": null,
        "OnBuild": null, "Labels": null, "ArgsEscaped": true, "ExposedPorts": {"80/tcp": {}},
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 30_000_000_000_u64}, "StopSignal": "SIGQUIT"});
    let history = json!([{"created": "2024-01-01T00:00:00Z", "created_by": "ADD file"},
        {"created": "2024-01-01T00:00:00Z", "created_by": "CMD [\"sh\"]", "empty_layer": true}]);
    let config = json!({"architecture": "amd64", "config": run, "container": "c", "container_config": run, "created": "2024-01-01T00:00:00Z",
        "docker_version": "24.0.7", "history": history, "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff_id]}});
    let mut config = registry.push_blob(config.to_string().as_bytes());
    config["mediaType"] = "application/vnd.docker.container.image.v1+json".into();
    let mut layer = registry.push_blob(&blob);
    layer["mediaType"] = "application/vnd.docker.image.rootfs.diff.tar.gzip".into();
    let manifest_type = "application/vnd.docker.distribution.manifest.v2+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": manifest_type, "config": config, "layers": [layer]});
    registry.push_manifest("docker", &manifest);
    let node = Node::new();
    let id = node.pull(&registry.image("docker")).await.unwrap();
    let image = node.images.status(&id).unwrap().unwrap();
    assert_eq!(image.config.user(), ImageUser::Uid(1000));
    assert_eq!(image.config.stop_signal, "SIGQUIT");
    assert_eq!(
        (&*image.config.working_dir, &image.config.entrypoint[..]),
        ("/srv", &[][..])
    );
    assert_eq!(node.file("etc/app"), b"a");
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_that_registries_do_not_have_are_refused() {
    let registry = FaultRegistry::start().await;
    let (blob, diff_id) = layer_of("a", b"a");
    let config = json!({"rootfs": {"type": "layers", "diff_ids": [diff_id]}});
    let config = registry.push_blob(config.to_string().as_bytes());
    for media_type in [
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
    ] {
        let mut layer = registry.push_blob(&blob);
        layer["mediaType"] = media_type.into();
        layer["urls"] = json!(["https://elsewhere.test/layer"]);
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]});
        registry.push_manifest("foreign", &manifest);
        let name = registry.image("foreign");
        let (_, text) = Node::new().refusal(&name).await;
        for words in [
            &*name,
            Digest::of(&blob).as_str(),
            "foreign layer",
            media_type,
        ] {
            assert!(text.contains(words), "{text}");
        }
    }
}

/// A file as builds that can be repeated make it.
fn without_time(name: &str, content: &[u8]) -> Item {
    file(name, content).time(0)
}

/// As jib has it: dependencies, resources and classes; here down to a layer for each file, in
/// directories that no layer has.
fn one_file_a_layer() -> Vec<Layer> {
    let jar = |number: usize| format!("app/libs/{}/{number}.jar", number % 7);
    let layer = |number: usize| Layer::of(&[without_time(&jar(number), &[7; 300]).mode(0o444)]);
    (0..60).map(layer).collect()
}

/// As ko has it: the program and its data, with directories of their own that may not be written.
fn as_ko() -> Vec<Layer> {
    let folder = |name: &str| directory(name).mode(0o555).time(0);
    let data = [
        folder("var"),
        folder("var/run"),
        folder("var/run/ko"),
        without_time("var/run/ko/page", b"p").mode(0o444),
        symlink("var/run/ko/HEAD", "page").time(0),
    ];
    let program = [
        folder("ko-app"),
        without_time("ko-app/app", b"\x7fELF").mode(0o555),
    ];
    vec![base(), Layer::of(&data), Layer::of(&program)]
}

fn base() -> Layer {
    Layer::of(&[
        directory("."),
        directory("etc").mode(0o750),
        file("etc/passwd", b"root"),
        directory("var"),
        directory("var/gone"),
        file("var/gone/x", b"x"),
        directory("workspace").owned(5, 6),
    ])
}

/// As Kaniko has it: each layer begins with the root and names all parents again.
fn as_kaniko() -> Vec<Layer> {
    let step = [
        directory(""),
        directory("etc").mode(0o750),
        file("etc/passwd", b"root\nme"),
        file("var/.wh.gone", b""),
        directory("workspace").owned(5, 6),
        file("workspace/a", b"a"),
        hard_link("workspace/b", "workspace/a"),
    ];
    let absolute = [directory(""), file("/workspace/c", b"c").owned(7, 8)];
    vec![base(), Layer::of(&step), Layer::of(&absolute)]
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker-registry, umoci and skopeo"]
async fn root_layers_of_other_builders_are_as_umoci_unpacks_them() {
    let (oracle, mut apart) = (Oracle::new().await, String::new());
    for (name, layers, besides) in [
        ("jib", one_file_a_layer(), &[][..]),
        ("ko", as_ko(), &[]),
        ("kaniko", as_kaniko(), &["var"]),
    ] {
        apart += &oracle.agrees_besides(name, &layers, besides).await;
        // The same as schema 2, which skopeo makes of it.
        let tag = format!("{name}-2");
        oracle.push(&format!("oci:{}:{name}", oracle.text(name)), &tag, "v2s2");
        let (mut ours, mut theirs) = (oracle.pulled(&tag).await, oracle.unpacked(name, name));
        for path in besides {
            ours.remove(std::path::Path::new(path));
            theirs.remove(std::path::Path::new(path));
        }
        apart += &super::oracle::apart(&tag, &ours, &theirs);
    }
    assert!(apart.is_empty(), "{apart}");
}
