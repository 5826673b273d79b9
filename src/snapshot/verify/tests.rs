//! Each way in which a file can differ is found, with its path, and nothing else is.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, symlink},
};

use tempfile::TempDir;

use super::*;
use crate::{
    snapshot::inventory,
    unpack::{Contents, Usage},
};

struct Layer {
    root: TempDir,
    digest: Digest,
    usage: Usage,
}

impl Layer {
    /// `bin/a`, a hard link and a symbolic link to it, `etc/x-y`, `etc/x/y`.
    fn new() -> Self {
        let root = TempDir::new().unwrap();
        let tree = root.path().join("fs");
        for directory in ["bin", "etc/x"] {
            fs::create_dir_all(tree.join(directory)).unwrap();
        }
        fs::write(tree.join("bin/a"), vec![7; 300_000]).unwrap();
        fs::hard_link(tree.join("bin/a"), tree.join("bin/hard")).unwrap();
        symlink("a", tree.join("bin/soft")).unwrap();
        for file in ["etc/x-y", "etc/x/y"] {
            fs::write(tree.join(file), file).unwrap();
        }
        let written = inventory::write(&tree, &Contents::default(), &root.path().join("inventory"));
        let (digest, usage) = written.unwrap();
        Self {
            root,
            digest,
            usage,
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join("fs").join(path)
    }

    fn verified(&self) -> Verified {
        let inventory = self.root.path().join("inventory");
        verify(&self.path(""), &inventory, &self.digest)
    }

    fn found(&self) -> Vec<(Difference, String)> {
        let deviations = self.verified().deviations.into_iter();
        let told = |it: Deviation| (it.difference, it.path.display().to_string());
        deviations.map(told).collect()
    }
}

#[test]
fn what_nobody_touched_is_as_it_was_and_each_inode_is_read_once() {
    let verified = Layer::new().verified();
    assert_eq!(verified.deviations, []);
    assert_eq!(verified.bytes, 300_000 + 2 * 7);
}

#[test]
fn every_difference_is_found_at_its_path() {
    type Break = fn(&Layer);
    let cases: [(Break, Difference, &str); 8] = [
        (
            |it| fs::write(it.path("etc/x/y"), "etc/x/z").unwrap(),
            Difference::Changed,
            "etc/x/y",
        ),
        (
            |it| fs::write(it.path("etc/x-y"), "").unwrap(),
            Difference::Changed,
            "etc/x-y",
        ),
        (
            |it| fs::set_permissions(it.path("bin"), Permissions::from_mode(0o700)).unwrap(),
            Difference::Changed,
            "bin",
        ),
        (
            |it| fs::remove_file(it.path("etc/x-y")).unwrap(),
            Difference::Missing,
            "etc/x-y",
        ),
        (
            |it| fs::remove_file(it.path("etc/x/y")).unwrap(),
            Difference::Missing,
            "etc/x/y",
        ),
        (
            |it| fs::write(it.path("zzz"), "").unwrap(),
            Difference::Extra,
            "zzz",
        ),
        (
            |it| {
                fs::remove_file(it.path("bin/soft")).unwrap();
                symlink("b", it.path("bin/soft")).unwrap();
            },
            Difference::Changed,
            "bin/soft",
        ),
        (
            |it| fs::write(it.root.path().join("inventory"), "").unwrap(),
            Difference::Unreadable,
            "",
        ),
    ];
    for (destroy, difference, path) in cases {
        let layer = Layer::new();
        destroy(&layer);
        assert_eq!(layer.found(), [(difference, path.to_owned())]);
    }
}

/// A file of 8 KiB with 512 bytes at 0 and at 4 KiB.
fn sparse_layer() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let records: [(&str, &[u8]); 3] = [
        ("GNU.sparse.size", b"8192"),
        ("GNU.sparse.numblocks", b"2"),
        ("GNU.sparse.map", b"0,512,4096,512"),
    ];
    builder.append_pax_extensions(records).unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_size(1024);
    header.set_mode(0o644);
    header.set_uid(rustix::process::geteuid().as_raw().into());
    header.set_gid(rustix::process::getegid().as_raw().into());
    builder
        .append_data(&mut header, "sparse", &[7; 1024][..])
        .unwrap();
    builder.into_inner().unwrap()
}

#[test]
fn a_sparse_file_is_compared_where_it_has_data() {
    let tar = sparse_layer();
    let root = TempDir::new().unwrap();
    let tree = root.path().join("fs");
    fs::create_dir(&tree).unwrap();
    let unpacked = crate::unpack::unpack(
        &tar[..],
        &tree,
        &crate::unpack::Expected {
            blob: None,
            diff_id: Digest::of(&tar),
            limit: 1 << 20,
            devices: crate::model::image_policy::DeviceNodes::Allow,
        },
    );
    let inventory = root.path().join("inventory");
    let contents = unpacked.unwrap().contents;
    let (digest, _) = inventory::write(&tree, &contents, &inventory).unwrap();
    let verified = verify(&tree, &inventory, &digest);
    assert_eq!((verified.deviations, verified.bytes), (vec![], 1024));
}

#[test]
fn what_a_tree_takes_is_what_the_disk_says() {
    let layer = Layer::new();
    fs::write(layer.root.path().join("record.json"), "{}").unwrap();
    let output = std::process::Command::new("du")
        .args(["--block-size=1", "--summarize"])
        .arg(layer.root.path())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let bytes: u64 = text.split_whitespace().next().unwrap().parse().unwrap();
    assert_eq!(layer.usage.bytes, bytes);
    // The layer's folder, `fs`, `bin`, `etc`, `etc/x`; three files, a link; record and inventory.
    assert_eq!(layer.usage.inodes, 5 + 3 + 1 + 2);
}
