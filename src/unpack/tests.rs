//! Layers are built here entry by entry, the hostile ones by writing the header's bytes.

mod order;

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::Path,
    process::Command,
};

use ::tar::{Builder, EntryType, Header};
use tempfile::TempDir;

use super::*;

const LIMIT: u64 = 64 << 20;

/// A layer under construction; entries belong to the user that runs the tests.
struct Layer(Builder<Vec<u8>>);

impl Layer {
    fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    fn add(mut self, kind: EntryType, name: &str, mode: u32, link: &str, data: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(1_000_000_000);
        header.set_uid(rustix::process::geteuid().as_raw().into());
        header.set_gid(rustix::process::getegid().as_raw().into());
        header.set_size(data.len() as u64);
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }

    fn dir(self, name: &str, mode: u32) -> Self {
        self.add(EntryType::Directory, name, mode, "", b"")
    }

    fn file(self, name: &str, data: &[u8]) -> Self {
        self.add(EntryType::Regular, name, 0o644, "", data)
    }

    fn symlink(self, name: &str, target: &str) -> Self {
        self.add(EntryType::Symlink, name, 0o777, target, b"")
    }

    fn link(self, name: &str, target: &str) -> Self {
        self.add(EntryType::Link, name, 0o644, target, b"")
    }

    fn pax<'a>(mut self, records: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        self.0.append_pax_extensions(records).unwrap();
        self
    }

    fn done(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }

    fn unpack(self) -> (TempDir, Result<Unpacked, Error>) {
        unpack_tar(&self.done())
    }
}

fn sha(bytes: &[u8]) -> Digest {
    Digest::of(bytes)
}

fn expected(tar: &[u8], blob: &[u8]) -> Expected {
    Expected {
        blob: Some((sha(blob), blob.len() as u64)),
        diff_id: sha(tar),
        limit: LIMIT,
        devices: DeviceNodes::Allow,
    }
}

fn unpack_tar(tar: &[u8]) -> (TempDir, Result<Unpacked, Error>) {
    unpack_blob(tar, tar)
}

fn unpack_blob(tar: &[u8], blob: &[u8]) -> (TempDir, Result<Unpacked, Error>) {
    let directory = TempDir::new().unwrap();
    let result = unpack(blob, directory.path(), &expected(tar, blob));
    (directory, result)
}

fn gzip(tar: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(tar).unwrap();
    encoder.finish().unwrap()
}

fn read(root: &TempDir, path: &str) -> String {
    fs::read_to_string(root.path().join(path)).unwrap()
}

fn small() -> Vec<u8> {
    Layer::new()
        .dir("./", 0o755)
        .dir("./etc/", 0o750)
        .file("etc/passwd", b"root:x:0:0\n")
        .symlink("etc/link", "/etc/passwd")
        .link("etc/hard", "etc/passwd")
        .add(EntryType::Regular, "bin", 0o4755, "", b"#!")
        .done()
}

#[test]
fn a_tree_has_names_modes_links_and_times() {
    let (root, result) = unpack_tar(&small());
    let unpacked = result.unwrap();
    assert_eq!(unpacked.implied, Vec::<std::path::PathBuf>::new());
    assert_eq!(
        unpacked.usage,
        Usage {
            bytes: 4 * 4096,
            inodes: 5
        }
    );
    assert_eq!(read(&root, "etc/passwd"), "root:x:0:0\n");
    let stat = |path: &str| fs::symlink_metadata(root.path().join(path)).unwrap();
    assert_eq!(stat("etc").mode() & 0o7777, 0o750);
    assert_eq!(stat("etc").mtime(), 1_000_000_000);
    assert_eq!(stat("etc/link").mtime(), 1_000_000_000);
    assert_eq!(stat("bin").mode() & 0o7777, 0o4755);
    assert_eq!(stat("etc/hard").ino(), stat("etc/passwd").ino());
    assert_eq!(
        fs::read_link(root.path().join("etc/link")).unwrap(),
        Path::new("/etc/passwd")
    );
}

#[test]
fn each_compression_gives_the_same_tree() {
    let tar = small();
    let members = [gzip(&tar[..700]), gzip(&tar[700..])].concat();
    let frames = [
        zstd::encode_all(&tar[..512], 3).unwrap(),
        zstd::encode_all(&tar[512..], 3).unwrap(),
    ]
    .concat();
    for blob in [
        gzip(&tar),
        members,
        zstd::encode_all(&tar[..], 3).unwrap(),
        frames,
        tar.clone(),
    ] {
        let (root, result) = unpack_blob(&tar, &blob);
        result.unwrap();
        assert_eq!(read(&root, "etc/passwd"), "root:x:0:0\n");
    }
}

/// Gives one byte at a time, as a slow network may.
struct Dribble<'a>(&'a [u8]);

impl io::Read for Dribble<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(1);
        io::Read::read(&mut self.0, &mut buffer[..length])
    }
}

#[test]
fn the_compression_is_known_from_single_bytes() {
    let (tar, root) = (small(), TempDir::new().unwrap());
    let blob = gzip(&tar);
    unpack(Dribble(&blob), root.path(), &expected(&tar, &blob)).unwrap();
}

#[test]
fn wrong_bytes_are_refused() {
    let tar = small();
    let blob = gzip(&tar);
    let refused = |bytes: &[u8], expected: &Expected| {
        unpack(bytes, TempDir::new().unwrap().path(), expected).unwrap_err()
    };
    let good = expected(&tar, &blob);
    let other = sha(b"other");
    let wrong_blob = Expected {
        blob: Some((other.clone(), blob.len() as u64)),
        ..good.clone()
    };
    assert!(matches!(
        refused(&blob, &wrong_blob),
        Error::DigestMismatch {
            what: "layer blob",
            ..
        }
    ));
    let wrong_diff = Expected {
        diff_id: other,
        ..good.clone()
    };
    assert!(matches!(
        refused(&blob, &wrong_diff),
        Error::DigestMismatch {
            what: "uncompressed layer",
            ..
        }
    ));
    assert!(matches!(
        refused(&blob[..blob.len() / 2], &good),
        Error::Decompress { format: "gzip", .. }
    ));
    let longer = [&tar[..], b"tail"].concat();
    assert!(matches!(
        refused(&longer, &expected(&tar, &tar)),
        Error::SizeMismatch { .. }
    ));
    let trailing = [&blob[..], b"not gzip"].concat();
    assert!(matches!(
        refused(&trailing, &good),
        Error::Decompress { .. } | Error::SizeMismatch { .. }
    ));
}

#[test]
fn a_bomb_ends_at_the_limit() {
    let zeros = vec![0u8; 4 << 20];
    let tar = Layer::new().file("zeros", &zeros).done();
    let root = TempDir::new().unwrap();
    let mut limits = expected(&tar, &gzip(&tar));
    limits.limit = 1 << 20;
    let result = unpack(&gzip(&tar)[..], root.path(), &limits);
    assert!(matches!(result, Err(Error::TooLarge { limit }) if limit == 1 << 20));
}

#[test]
fn names_that_leave_the_root_are_refused() {
    for layer in [
        Layer::new().file("../escape", b"x"),
        Layer::new().file("a/../../escape", b"x"),
        Layer::new().dir("..", 0o755),
        Layer::new()
            .file("passwd", b"x")
            .link("hard", "../../../../etc/passwd"),
        Layer::new().symlink("./", "/etc"),
        Layer::new().file("a/.wh...", b""),
    ] {
        let (_root, result) = layer.unpack();
        assert!(matches!(result, Err(Error::Name(_))), "{result:?}");
    }
}

#[test]
fn absolute_names_and_links_stay_inside() {
    let outside = TempDir::new().unwrap();
    let target = outside.path().to_str().unwrap().to_owned();
    let layer = Layer::new()
        .file("/absolute", b"a")
        .dir("inner", 0o755)
        .symlink("to-inner", "/inner")
        .symlink("up", "../../../../inner")
        .symlink("out", &target)
        .file("to-inner/one", b"1")
        .file("up/two", b"2");
    let (root, result) = layer.unpack();
    result.unwrap();
    assert_eq!(read(&root, "absolute"), "a");
    assert_eq!(read(&root, "inner/one"), "1");
    assert_eq!(read(&root, "inner/two"), "2");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn a_hard_link_through_a_link_cannot_reach_the_host() {
    let (root, result) = Layer::new()
        .symlink("etc", "/etc")
        .link("stolen", "etc/passwd")
        .unpack();
    let unpacked = result.unwrap();
    assert_eq!(
        unpacked.links,
        vec![PendingLink {
            path: "stolen".into(),
            target: "etc/passwd".into()
        }]
    );
    assert!(!root.path().join("stolen").exists());
}

#[test]
fn later_entries_replace_earlier_ones_of_the_same_layer() {
    let layer = Layer::new()
        .dir("d", 0o755)
        .file("d/x", b"old")
        .symlink("d", "e")
        .dir("e", 0o755)
        .file("d/y", b"through the link")
        .file("f", b"1")
        .link("g", "f")
        .file("f", b"2");
    let (root, result) = layer.unpack();
    let unpacked = result.unwrap();
    assert!(!root.path().join("e/x").exists());
    assert_eq!(read(&root, "e/y"), "through the link");
    assert_eq!(
        (read(&root, "f"), read(&root, "g")),
        ("2".into(), "1".into())
    );
    assert_eq!(
        unpacked.usage,
        Usage {
            bytes: 5 * 4096,
            inodes: 6
        }
    );
}

#[test]
fn directories_that_are_not_mentioned_are_noted() {
    let (root, result) = Layer::new()
        .file("a/b/c", b"1")
        .dir("a", 0o700)
        .file("a/d", b"2")
        .unpack();
    let unpacked = result.unwrap();
    assert_eq!(
        unpacked.implied,
        vec![std::path::PathBuf::from(""), "a/b".into()]
    );
    assert_eq!(
        fs::metadata(root.path().join("a"))
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o700
    );
}

#[test]
fn malformed_archives_are_refused() {
    let mut broken_sum = small();
    broken_sum[148] = b'7';
    let mut huge_extension = Layer::new()
        .pax([("path", &b"x"[..])])
        .file("y", b"")
        .done();
    let mut header = Header::new_gnu();
    header
        .as_mut_bytes()
        .copy_from_slice(&huge_extension[..512]);
    header.set_size(4 << 30);
    header.set_cksum();
    huge_extension[..512].copy_from_slice(header.as_bytes());
    let unknown = Layer::new()
        .add(EntryType::new(b'V'), "volume", 0o644, "", b"")
        .done();
    let half = small()[..700].to_vec();
    for tar in [broken_sum, huge_extension, unknown, half] {
        let (_root, result) = unpack_tar(&tar);
        assert!(matches!(result, Err(Error::Malformed(_))), "{result:?}");
    }
}

#[test]
fn extended_attributes_of_the_container_are_kept_and_others_dropped() {
    let layer = Layer::new()
        .pax([
            ("SCHILY.xattr.user.note", &b"kept"[..]),
            ("SCHILY.xattr.trusted.overlay.redirect", &b"/etc"[..]),
            ("SCHILY.xattr.user.overlay.opaque", &b"y"[..]),
            ("mtime", &b"-1.25"[..]),
        ])
        .file("file", b"");
    let (root, result) = layer.unpack();
    result.unwrap();
    let path = root.path().join("file");
    let mut names = Vec::with_capacity(1024);
    rustix::fs::listxattr(&path, rustix::buffer::spare_capacity(&mut names)).unwrap();
    assert_eq!(names, b"user.note\0");
    let stat = fs::metadata(&path).unwrap();
    assert_eq!((stat.mtime(), stat.mtime_nsec()), (-2, 750_000_000));
}

#[test]
fn sparse_files_of_each_format_are_whole_and_sparse() {
    let source = TempDir::new().unwrap();
    let file = fs::File::create(source.path().join("sparse")).unwrap();
    file.set_len(3 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"middle", 1 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"end", (3 << 20) - 3).unwrap();
    for format in [
        &["--format=gnu"][..],
        &["--format=posix", "--sparse-version=0.0"],
        &["--format=posix", "--sparse-version=0.1"],
        &["--format=posix", "--sparse-version=1.0"],
    ] {
        let mut tar = Command::new("tar");
        tar.args(["--sparse", "-C"]).arg(source.path());
        let tar = tar_output(tar.args(format).args(["-c", "sparse"]));
        assert!(tar.len() < 1 << 20, "tar found the holes");
        let (root, result) = unpack_tar(&tar);
        result.unwrap();
        let (want, got) = (source.path().join("sparse"), root.path().join("sparse"));
        assert!(
            fs::read(want).unwrap() == fs::read(&got).unwrap(),
            "{format:?}"
        );
        assert!(fs::metadata(&got).unwrap().blocks() < 2048, "{format:?}");
    }
}

fn tar_output(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

#[test]
fn long_names_of_each_format_are_whole() {
    let source = TempDir::new().unwrap();
    let deep = format!("{}/{}", "d".repeat(120), "f".repeat(200));
    fs::create_dir(source.path().join("d".repeat(120))).unwrap();
    fs::write(source.path().join(&deep), b"deep").unwrap();
    fs::hard_link(source.path().join(&deep), source.path().join("zz")).unwrap();
    for format in ["--format=gnu", "--format=posix"] {
        let tar = tar_output(Command::new("tar").arg("-C").arg(source.path()).args([
            format,
            "--sort=name",
            "-c",
            ".",
        ]));
        let (root, result) = unpack_tar(&tar);
        result.unwrap();
        assert_eq!(read(&root, &deep), "deep");
        assert_eq!(fs::metadata(root.path().join("zz")).unwrap().nlink(), 2);
    }
}

#[test]
fn root_whiteouts_become_what_overlayfs_reads() {
    let layer = Layer::new()
        .dir("./", 0o755)
        .dir("d", 0o755)
        .file("d/.wh.gone", b"")
        .file("d/.wh.wh-then-file", b"")
        .file("d/wh-then-file", b"new")
        .dir("d/kept", 0o755)
        .file("d/.wh.kept", b"")
        .file("d/.wh.reborn", b"")
        .dir("d/reborn", 0o755)
        .file("d/.wh.implied", b"")
        .file("d/implied/file", b"")
        .dir("o", 0o755)
        .file("o/.wh..wh..opq", b"")
        .file(".wh..wh.plnk", b"");
    let (root, result) = layer.unpack();
    let unpacked = result.unwrap();
    let gone = fs::symlink_metadata(root.path().join("d/gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    assert_eq!(read(&root, "d/wh-then-file"), "new");
    for opaque in ["d/kept", "d/reborn", "d/implied", "o"] {
        let mut value = [0; 8];
        let length = rustix::fs::getxattr(
            root.path().join(opaque),
            "trusted.overlay.opaque",
            &mut value,
        );
        assert_eq!(
            length.map(|length| value[..length].to_vec()),
            Ok(b"y".to_vec()),
            "{opaque}"
        );
    }
    assert!(
        !unpacked.opaque_root && unpacked.implied.is_empty(),
        "{:?}",
        unpacked.implied
    );
    assert!(!root.path().join(".wh..wh.plnk").exists());
    assert!(
        Layer::new()
            .file(".wh..wh..opq", b"")
            .unpack()
            .1
            .unwrap()
            .opaque_root
    );
}

/// What a layer makes the process remember ends it at the entry that is too many.
#[test]
fn a_layer_of_too_many_entries_or_records_is_refused() {
    let refused = |layer: Layer, limits| {
        let (tar, directory) = (layer.done(), TempDir::new().unwrap());
        match unpack_within(&tar[..], directory.path(), &expected(&tar, &tar), limits) {
            Err(Error::TooMany { entry, what, .. }) => Some((entry, what)),
            other => other.map(|_| None).unwrap(),
        }
    };
    let few = Limits {
        entries: 4,
        ..Limits::DEFAULT
    };
    let little = Limits {
        remembered: 400,
        ..Limits::DEFAULT
    };
    let files = |count| (0..count).fold(Layer::new(), |layer, n| layer.file(&n.to_string(), b""));
    assert_eq!(refused(files(3), few), None);
    assert_eq!(refused(files(5), few), Some(("4".into(), "entries")));
    let implied = Layer::new().file("a/b/c/d/e/file", b"").file("next", b"");
    assert_eq!(refused(implied, few), Some(("next".into(), "entries")));
    let what = "bytes of directories and links";
    let implied = Layer::new().file("a/b/c/d/e/f/file", b"").file("next", b"");
    assert_eq!(refused(implied, little), Some(("next".into(), what)));
    let again = (0..20).fold(Layer::new(), |layer, _| layer.dir("same", 0o755));
    assert_eq!(refused(again, little), None);
    let links = (0..5).fold(Layer::new(), |layer, n| layer.link(&n.to_string(), "below"));
    assert_eq!(refused(links, little), Some(("3".into(), what)));
}

#[test]
fn root_owners_capabilities_and_devices_are_kept() {
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut device = Header::new_gnu();
    device.set_path("null").unwrap();
    device.set_entry_type(EntryType::Char);
    device.set_device_major(1).unwrap();
    device.set_device_minor(3).unwrap();
    device.set_mode(0o666);
    device.set_size(0);
    device.set_mtime(0);
    device.set_uid(0);
    device.set_gid(5);
    device.set_cksum();
    let mut layer = Layer::new()
        .pax([
            ("SCHILY.xattr.security.capability", &capability[..]),
            ("uid", b"3000000"),
            ("gid", b"4000000000"),
        ])
        .add(EntryType::Regular, "ping", 0o4755, "", b"#!");
    layer.0.append(&device, io::empty()).unwrap();
    let (root, result) = layer.unpack();
    result.unwrap();
    let ping = fs::metadata(root.path().join("ping")).unwrap();
    assert_eq!(
        (ping.uid(), ping.gid(), ping.mode() & 0o7777),
        (3_000_000, 4_000_000_000, 0o4755)
    );
    let mut value = [0; 64];
    let length =
        rustix::fs::getxattr(root.path().join("ping"), "security.capability", &mut value).unwrap();
    assert_eq!(&value[..length], &capability);
    let null = fs::metadata(root.path().join("null")).unwrap();
    assert!(null.file_type().is_char_device());
    assert_eq!(
        (null.rdev(), null.mode() & 0o7777, null.gid()),
        (rustix::fs::makedev(1, 3), 0o666, 5)
    );
}
