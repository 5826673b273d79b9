//! The trees that Corten shows, held against those that `umoci unpack` makes of the same images:
//! made by umoci, buildah and skopeo, and by hand (`forge.rs`). They come from the real registry,
//! with TLS and a password, and are read through the mount that a container would get.
//!
//! Where the two differ, and what is therefore not compared:
//! - The time of the root: umoci makes entries in it after it has set its time.
//! - An xattr without a value: what reads tars in umoci takes it for none. Corten keeps it.
//! - The time of a directory in which umoci made or removed one that the layer does not mention:
//!   it is new. Corten keeps that of the layers.
//! - The link count of a file that a lower layer has under a name that is hidden by now: umoci
//!   removed it. Layers are shared, so that links of other images count, too: each image here is
//!   on a node of its own.
//! - A directory that is named only in the whiteout of nothing: umoci does not make it.
//! - What a directory that no layer mentions inherits of a setgid parent: nothing.
//!
//! A directory that no layer mentions has in both the time at which it was made.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use corten::{
    id::Digest,
    model::credentials::Secret,
    snapshot::{Layers, Overlay, Projects, Snapshotter},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    HTPASSWD, Served,
    forge::{
        Holes, Item, Layer, Packing, device, directory, fifo, file, hard_link, sparse, symlink,
    },
    node::Node,
    tls,
    tree::{self, Mounted, Tree},
};

/// The real registry, behind TLS and a password, a node that trusts it, and a place for layouts.
pub struct Oracle {
    served: Served,
    work: TempDir,
    started: i64,
}

impl Oracle {
    pub async fn new() -> Self {
        let (work, root) = (TempDir::new().unwrap(), Arc::new(TempDir::new().unwrap()));
        let authority = tls::authority();
        tls::sign(&authority, root.path(), "server");
        fs::write(root.path().join("htpasswd"), HTPASSWD).unwrap();
        fs::write(work.path().join("ca.crt"), authority.pem()).unwrap();
        let at = |name: &str| root.path().join(name).display().to_string();
        let (certificate, key) = (at("server.crt"), at("server.key"));
        let tls = format!(", tls: {{certificate: '{certificate}', key: '{key}'}}");
        let auth = format!(
            "auth: {{htpasswd: {{realm: r, path: '{}'}}}}\n",
            at("htpasswd")
        );
        let served = Served::serve(root, &tls, &auth).await;
        let started = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        Self {
            served,
            work,
            started: started.cast_signed(),
        }
    }

    /// A node without images that trusts the registry.
    fn node(&self) -> Node {
        let node = Node::new();
        let port = self.served.address.rsplit(':').next().unwrap();
        let (server, ca) = (format!("https://localhost:{port}"), self.text("ca.crt"));
        node.hosts("reg.test", &format!("server = {server:?}\nca = {ca:?}\n"));
        node
    }

    fn place(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.place(name).display().to_string()
    }

    /// Copies an image of another kind into the registry as `app:TAG`.
    pub fn push(&self, from: &str, tag: &str, format: &str) {
        let port = self.served.address.rsplit(':').next().unwrap();
        let to = format!("docker://localhost:{port}/app:{tag}");
        let certificates = self.text("");
        let mut skopeo = vec![
            "--insecure-policy",
            "copy",
            "--retry-times",
            "5",
            "--dest-cert-dir",
            &certificates,
        ];
        skopeo.extend(["--dest-creds", "me:secret", "--format", format, from, &to]);
        run("skopeo", &skopeo);
    }

    /// Pulls `app:TAG` and gives the tree that its containers see.
    pub async fn pulled(&self, tag: &str) -> Tree {
        let secret = Secret::Password("me".into(), "secret".into());
        let name = format!("reg.test/app:{tag}");
        let node = self.node();
        let pulled = node.pull_as(&name, secret).await;
        self.seen(
            &node,
            &pulled.unwrap_or_else(|error| panic!("{}", error.chain())),
        )
    }

    /// The tree of an image that a node has.
    fn seen(&self, node: &Node, id: &str) -> Tree {
        let image = node.images.status(id).unwrap().unwrap();
        let layers = Layers::open(&node.root.path().join("layers"), "boot").unwrap();
        let overlay = Overlay::new(Arc::new(layers), Projects::default(), node.root.path());
        let mounts = overlay.view(&image.record.layers);
        let mounted = Mounted::new(&mounts.unwrap()[0]);
        self.read(&mounted.path())
    }

    fn read(&self, root: &Path) -> Tree {
        let mut tree = tree::read(root, self.started);
        let root = tree.get_mut(Path::new("")).unwrap();
        let words: Vec<&str> = root.split(' ').collect();
        *root = [&words[..2], &words[3..]].concat().join(" ");
        tree
    }

    /// What umoci makes of a tag of an OCI layout.
    pub fn unpacked(&self, layout: &str, tag: &str) -> Tree {
        let bundle = TempDir::new_in(self.work.path()).unwrap();
        let image = format!("{}:{tag}", self.text(layout));
        let to = bundle.path().join("bundle");
        run(
            "umoci",
            &["unpack", "--image", &image, to.to_str().unwrap()],
        );
        self.read(&to.join("rootfs"))
    }

    /// An image of these layers looks the same to Corten as to umoci.
    async fn agrees(&self, tag: &str, layers: &[Layer]) -> String {
        self.agrees_besides(tag, layers, &[]).await
    }

    /// The same, but for names of which the head of this file tells why they differ.
    pub async fn agrees_besides(&self, tag: &str, layers: &[Layer], names: &[&str]) -> String {
        layout(&self.place(&format!("{tag}-travels")), tag, layers);
        let simple: Vec<_> = layers.iter().map(Layer::simple).collect();
        layout(&self.place(tag), tag, &simple);
        let travels = self.text(&format!("{tag}-travels"));
        self.push(&format!("oci:{travels}:{tag}"), tag, "oci");
        let (mut ours, mut theirs) = (self.pulled(tag).await, self.unpacked(tag, tag));
        for name in names {
            assert!(ours.remove(Path::new(name)).is_some(), "{tag}: {name}");
            theirs.remove(Path::new(name));
        }
        apart(tag, &ours, &theirs)
    }
}

/// How two trees differ, a few lines for each name; empty where they do not.
pub fn apart(what: &str, ours: &Tree, theirs: &Tree) -> String {
    let differences = tree::differences(ours, theirs);
    match differences.is_empty() {
        true => String::new(),
        false => format!("{what}:\n{}\n", differences.join("\n")),
    }
}

fn same(what: &str, ours: &Tree, theirs: &Tree) {
    let differences = tree::differences(ours, theirs);
    assert!(
        differences.is_empty(),
        "{what}:\n{}",
        differences.join("\n")
    );
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    let said = text(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    text(&output.stdout)
}

/// Writes an OCI layout of one image.
fn layout(place: &Path, tag: &str, layers: &[Layer]) {
    let blobs = place.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let put = |media_type: &str, bytes: &[u8]| -> Value {
        let digest = Digest::of(bytes);
        fs::write(blobs.join(digest.hex()), bytes).unwrap();
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    };
    let blob = |layer: &Layer| put(layer.media_type(), &layer.blob());
    let layers_json: Vec<_> = layers.iter().map(blob).collect();
    let diff_ids: Vec<_> = layers.iter().map(Layer::diff_id).collect();
    let config = json!({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let config = put(
        "application/vnd.oci.image.config.v1+json",
        config.to_string().as_bytes(),
    );
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": manifest_type, "config": config, "layers": layers_json});
    let mut entry = put(manifest_type, manifest.to_string().as_bytes());
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    fs::write(place.join("index.json"), index.to_string()).unwrap();
    let version = json!({"imageLayoutVersion": "1.0.0"}).to_string();
    fs::write(place.join("oci-layout"), version).unwrap();
}

/// A base as distributions have it.
fn base() -> Layer {
    Layer::of(&[
        directory("."),
        directory("etc").mode(0o750).owned(3, 4),
        file("etc/passwd", b"root"),
        file("etc/shadow", b"secret").mode(0o640).owned(0, 42),
        directory("tmp").mode(0o1777).time(1_234_567),
        directory("usr").time(7),
        directory("usr/lib")
            .mode(0o2755)
            .owned(0, 50)
            .xattr("user.base", b"1"),
        file("usr/lib/a", b"a"),
        file("usr/lib/b", b"b"),
        symlink("lib", "usr/lib"),
        symlink("absolute", "/usr/lib"),
        directory("var"),
        directory("var/gone"),
        file("var/gone/x", b"x"),
        directory("var/emptied"),
        file("var/emptied/x", b"x"),
        file("program", b"#!").mode(0o4755),
    ])
}

/// A 4755 file, capabilities of version 2: cap_net_raw+ep.
const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn long(prefix: &str, length: usize) -> String {
    let mut name = prefix.to_owned();
    while name.len() + 51 < length {
        name += &format!("{}/", "n".repeat(50));
    }
    let rest = length - name.len();
    name + &"e".repeat(rest)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker-registry, umoci and skopeo"]
async fn root_every_kind_of_entry_is_as_umoci_makes_it() {
    let oracle = Oracle::new().await;
    let (gnu, pax) = (long("gnu/", 180), long("pax/", 700));
    let items = [
        directory(".").mode(0o711).time(5),
        directory("d").mode(0o3775).owned(7, 8).time(6),
        file("d/plain", b"content").owned(1000, 1000),
        file("d/setuid", b"x").mode(0o4711).owned(1000, 1000),
        file("d/empty", b"").mode(0),
        file("d/capable", b"x").xattr("security.capability", CAPABILITY),
        file("d/user", b"x").xattr("user.k", b"v\0\n=w"),
        directory("d/marked")
            .xattr("user.d", b"1")
            .xattr("trusted.other", b"2"),
        symlink("d/relative", "plain").owned(9, 9).time(77),
        symlink("d/dangling", "/no/where"),
        hard_link("d/again", "d/plain"),
        hard_link("other", "d/plain"),
        hard_link("d/link-of-link", "d/relative"),
        fifo("d/fifo").mode(0o622),
        device(b'3', "d/null", 1, 3).mode(0o666),
        device(b'4', "d/disk", 8, 300).owned(0, 6),
        file(&gnu, b"gnu long"),
        symlink("d/long-link", &long("/t/", 300)),
        hard_link("d/long-hard-link", &gnu),
        file("short", b"pax long").pax("path", pax.as_bytes()),
        file("d/large-owner", b"x").owned(3_000_000, 4_000_000_000),
        file("d/pax-owner", b"x")
            .pax("uid", b"4294967294")
            .pax("gid", b"2097152"),
        file("d/before", b"x").time(-86_400),
        file("d/half", b"x").pax("mtime", b"-1.5"),
        file("d/nanos", b"x").pax("mtime", b"1700000000.123456789"),
        directory("d/old").time(-1),
        sparse("d/gnu-holes", Holes::Gnu, 1 << 20, &[0, 65536, 1_000_448]),
        sparse("d/pax-holes", Holes::Pax01, 1 << 20, &[4096]),
        sparse("d/map-holes", Holes::Pax10, (1 << 20) + 7, &[512, 524_288]),
        sparse("d/all-hole", Holes::Gnu, 1 << 20, &[]),
        file("d/\u{e4}\u{f6} \u{1f980}", b"x"),
        file("implied/by/file", b"x"),
    ];
    let apart = oracle.agrees("kinds", &[Layer::of(&items)]).await;
    assert!(apart.is_empty(), "{apart}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker-registry, umoci and skopeo"]
async fn root_layers_on_layers_are_as_umoci_makes_them() {
    let (oracle, mut apart) = (Oracle::new().await, String::new());
    let cases: &[(&str, &[Item])] = &[
        (
            "whiteouts",
            &[
                file("etc/.wh.passwd", b""),
                file("var/.wh.gone", b""),
                file(".wh.program", b""),
            ],
        ),
        (
            "opaque",
            &[
                directory("var/emptied"),
                file("var/emptied/.wh..wh..opq", b""),
                file("var/emptied/new", b"n"),
            ],
        ),
        (
            "opaque-after",
            &[
                directory("var/emptied"),
                file("var/emptied/new", b"n"),
                file("var/emptied/.wh..wh..opq", b""),
            ],
        ),
        ("opaque-implied", &[file("var/emptied/.wh..wh..opq", b"")]),
        (
            "opaque-root",
            &[file(".wh..wh..opq", b""), file("only", b"o")],
        ),
        (
            "whiteout-and-again",
            &[
                file("var/.wh.gone", b""),
                directory("var/gone"),
                file("var/gone/new", b"n"),
            ],
        ),
        (
            "again-and-whiteout",
            &[
                directory("var/gone"),
                file("var/gone/new", b"n"),
                file("var/.wh.gone", b""),
            ],
        ),
        (
            "whiteout-of-nothing",
            &[file("var/.wh.never", b""), file("new/.wh.never", b"")],
        ),
        (
            "missing-parents",
            &[
                file("tmp/x", b"x"),
                file("etc/y", b"y"),
                file("var/deep/er/z", b"z"),
            ],
        ),
        (
            "through-link",
            &[
                file("lib/c", b"c"),
                file("absolute/d", b"d"),
                file("lib/.wh.a", b""),
            ],
        ),
        (
            "links-below",
            &[
                hard_link("usr/lib/c", "usr/lib/a"),
                hard_link("copy", "etc/shadow"),
                hard_link("lib/again", "lib/b"),
            ],
        ),
        (
            "link-to-link-below",
            &[hard_link("one", "lib"), hard_link("two", "one")],
        ),
        ("file-over-directory", &[file("var", b"v")]),
        (
            "directory-over-file",
            &[directory("program"), file("program/x", b"x")],
        ),
        (
            "directory-over-link",
            &[directory("lib"), file("lib/x", b"x")],
        ),
        (
            "link-over-directory",
            &[symlink("var", "usr"), file("var/x", b"x")],
        ),
        (
            "attributes",
            &[
                directory("usr/lib")
                    .mode(0o700)
                    .owned(1, 2)
                    .time(3)
                    .xattr("user.new", b"2"),
                file("etc/passwd", b"new").mode(0o600),
            ],
        ),
        (
            "same-name-twice",
            &[
                file("twice", b"1").mode(0o4755),
                file("twice", b"22"),
                directory("thrice"),
                file("thrice/x", b""),
                symlink("thrice", "etc"),
            ],
        ),
        (
            "links-then-new-target",
            &[hard_link("kept", "etc/passwd"), file("etc/passwd", b"new")],
        ),
    ];
    for (name, items) in cases {
        let besides: &[&str] = match *name {
            "again-and-whiteout" => &["var/gone"],
            "whiteout-of-nothing" => &["new"],
            "missing-parents" => &["var"],
            "links-then-new-target" => &["kept"],
            _ => &[],
        };
        let layers = [base(), Layer::of(items)];
        apart += &oracle.agrees_besides(name, &layers, besides).await;
    }
    let third = Layer::of(&[file("var/gone/third", b"3"), file("tmp/third", b"3")]);
    let second = Layer::of(&[file("var/.wh.gone", b""), file("tmp/second", b"2")]);
    let three = [base(), second.clone(), third];
    apart += &oracle.agrees_besides("three", &three, &["var"]).await;
    let empty = Layer::of(&[]);
    apart += &oracle
        .agrees(
            "empty",
            &[empty.clone(), base(), empty.clone(), empty.clone()],
        )
        .await;
    apart += &oracle.agrees("nothing", &[empty]).await;
    apart += &oracle
        .agrees("same-twice", &[base(), second.clone(), base(), second])
        .await;
    let many = |number: usize| {
        Layer::of(&[
            file(&format!("tmp/{number}"), b"x"),
            file(&format!("tmp/.wh.{}", number / 2), b""),
        ])
    };
    let layers: Vec<_> = [base()].into_iter().chain((2..128).map(many)).collect();
    apart += &oracle.agrees("layers-127", &layers).await;
    assert!(apart.is_empty(), "{apart}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker-registry, umoci and skopeo"]
async fn root_every_packing_is_the_same_layer() {
    let (oracle, mut apart) = (Oracle::new().await, String::new());
    for packing in [
        Packing::Plain,
        Packing::Gzip,
        Packing::Zstd,
        Packing::ZstdFrames,
        Packing::ZstdChunked,
        Packing::Estargz,
    ] {
        let items = [
            directory("."),
            file("landmark", format!("{packing:?}").repeat(900).as_bytes()),
        ];
        let layers = [base(), Layer::of(&items)].map(|layer| layer.packed(packing));
        apart += &oracle
            .agrees(&format!("{packing:?}").to_lowercase(), &layers)
            .await;
    }
    assert!(apart.is_empty(), "{apart}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker-registry, umoci, buildah and skopeo"]
async fn root_images_of_every_builder_are_as_umoci_unpacks_them() {
    let oracle = Oracle::new().await;
    by_umoci(&oracle);
    by_buildah(&oracle);
    for built in ["umoci", "buildah"] {
        let theirs = oracle.unpacked(built, "1");
        let layout = format!("oci:{}:1", oracle.text(built));
        for format in ["oci", "v2s2"] {
            let tag = format!("{built}-{format}");
            oracle.push(&layout, &tag, format);
            same(&tag, &oracle.pulled(&tag).await, &theirs);
        }
        for kind in ["docker-archive", "oci-archive"] {
            let archive = oracle.text(&format!("{built}.{kind}"));
            let to = format!("{kind}:{archive}:example.test/{built}:1");
            run("skopeo", &["--insecure-policy", "copy", &layout, &to]);
            let node = oracle.node();
            let imported = node
                .images
                .import(Path::new(&archive), &[], Arc::new(|_| {}));
            let imported = imported
                .await
                .unwrap_or_else(|error| panic!("{}", error.chain()));
            same(
                kind,
                &oracle.seen(&node, imported[0].record.id.0.as_str()),
                &theirs,
            );
        }
    }
}

/// An image as umoci makes it: a tree unpacked, changed by hand and packed again, twice.
fn by_umoci(oracle: &Oracle) {
    let (layout, image) = (oracle.text("umoci"), oracle.text("umoci") + ":1");
    run("umoci", &["init", "--layout", &layout]);
    run("umoci", &["new", "--image", &image]);
    for script in [
        "mkdir -p etc usr/lib var/gone tmp; chmod 1777 tmp; echo a >usr/lib/a; ln usr/lib/a usr/lib/b; ln -s usr/lib lib
         echo x >var/gone/x; mknod null c 1 3; mkfifo fifo; chown 3000000:7 etc; touch -d 1960-01-01 etc; chmod 4755 usr/lib/a",
        "rm -r var/gone; echo y >tmp/y; ln usr/lib/a tmp/link; rm fifo; mkdir fifo; echo b >usr/lib/c; chmod 700 etc",
    ] {
        let bundle = TempDir::new_in(oracle.work.path()).unwrap();
        let to = bundle.path().join("b");
        let to = to.to_str().unwrap();
        run("umoci", &["unpack", "--image", &image, to]);
        run("sh", &["-ec", &format!("cd {to}/rootfs; {script}")]);
        for (name, value) in [("user.k", &b"v"[..]), ("security.capability", CAPABILITY)] {
            let path = format!("{to}/rootfs/usr/lib/a");
            rustix::fs::setxattr(path, name, value, rustix::fs::XattrFlags::empty()).unwrap();
        }
        run("umoci", &["repack", "--image", &image, to]);
    }
}

/// An image as buildah makes it, with its layers and a file of each kind that it keeps.
///
/// What it copies over another file has another length: buildah takes two files of one length and
/// one second for the same, and its layer would be empty or not with the time of day.
fn by_buildah(oracle: &Oracle) {
    let (root, run_root) = (oracle.text("buildah-root"), oracle.text("buildah-run"));
    let buildah = |arguments: &[&str]| {
        let mut all = vec![
            "--root",
            &root,
            "--runroot",
            &run_root,
            "--storage-driver",
            "vfs",
        ];
        all.extend(arguments);
        run("buildah", &all)
    };
    let context = oracle.place("context");
    fs::create_dir_all(&context).unwrap();
    let at = context.display().to_string();
    let script = "mkdir -p tree/d; echo a >tree/d/a; ln tree/d/a tree/d/b; ln -s a tree/d/l; chmod 2750 tree/d; echo e >tree/d/e; echo other >c";
    run("sh", &["-ec", &format!("cd {at}; {script}")]);
    let file = "FROM scratch\nCOPY tree /tree\nCOPY --chown=1000:1001 c /opt/app/c\nCOPY c /tree/d/e\nENTRYPOINT [\"/c\"]\n";
    fs::write(context.join("Containerfile"), file).unwrap();
    buildah(&[
        "build",
        "--layers",
        "--isolation",
        "chroot",
        "-t",
        "localhost/built:1",
        &at,
    ]);
    let to = format!("oci:{}:1", oracle.text("buildah"));
    buildah(&["push", "localhost/built:1", &to]);
    let to = format!(
        "docker-archive:{}:localhost/built:1",
        oracle.text("built.tar")
    );
    buildah(&["push", "localhost/built:1", &to]);
}
