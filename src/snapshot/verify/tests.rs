//! Each way in which a file can differ is found, with its path, and nothing else is.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, symlink},
};

use rustix::fd::OwnedFd;
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
        let written = inventory::write(
            &tree,
            &Contents::default(),
            &HashMap::new(),
            &root.path().join("inventory"),
        );
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
        self.held_against(None, &Stop::default())
    }

    fn held_against(&self, seals: Option<io::Result<Seals>>, stop: &Stop) -> Verified {
        let recorded = Recorded {
            inventory: &self.root.path().join("inventory"),
            digest: &self.digest,
            seals,
        };
        verify(&self.path(""), recorded, stop)
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
fn nothing_is_read_for_who_has_gone() {
    let (layer, stop) = (Layer::new(), Stop::default());
    stop.ask();
    let verified = layer.held_against(None, &stop);
    assert_eq!(verified.bytes, 0);
    let file = fs::File::open(layer.path("bin/a")).unwrap().into();
    let read = inventory::read_sum(&file, None, &stop);
    assert_eq!(read, Err(rustix::io::Errno::CANCELED));
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

/// Stands in for the kernel: a file is sealed where its owner may not write it, and its seal is of its
/// content.
fn measure(file: &OwnedFd) -> Result<Seal, Errno> {
    let stat = rustix::fs::fstat(file)?;
    if stat.st_mode & 0o200 != 0 {
        return Err(Errno::NODATA);
    }
    let (sum, _) = inventory::read_sum(file, None, &Stop::default())?;
    let mut seal = Seal::default();
    seal[..8].copy_from_slice(&sum.to_le_bytes());
    Ok(seal)
}

/// A layer all of whose files are sealed, and its list of seals.
fn sealed() -> (Layer, PathBuf, Digest) {
    let layer = Layer::new();
    let mut list = Vec::new();
    // In the order of the walk.
    for file in ["bin/a", "bin/hard", "etc/x/y", "etc/x-y"] {
        let path = layer.path(file);
        fs::set_permissions(&path, Permissions::from_mode(0o444)).unwrap();
        list.extend(measure(&fs::File::open(path).unwrap().into()).unwrap());
    }
    let (tree, inventory) = (layer.path(""), layer.root.path().join("inventory"));
    let written = inventory::write(&tree, &Contents::default(), &HashMap::new(), &inventory);
    let (digest, usage) = written.unwrap();
    let path = layer.root.path().join("verity");
    fs::write(&path, &list).unwrap();
    let Layer { root, .. } = layer;
    let layer = Layer {
        root,
        digest,
        usage,
    };
    (layer, path, Digest::of(&list))
}

#[test]
fn each_file_has_its_own_seal() {
    type Break = fn(&Layer, &Path);
    let nothing: Break = |_, _| {};
    let wrong: Break = |_, list| {
        let mut bytes = fs::read(list).unwrap();
        bytes.rotate_left(2 * 32);
        fs::write(list, bytes).unwrap();
    };
    let gone: Break = |layer, _| fs::remove_file(layer.path("bin/a")).unwrap();
    let changed = |path: &str| (Difference::Changed, path.to_owned());
    for (destroy, found) in [
        (nothing, vec![]),
        (
            wrong,
            ["bin/a", "bin/hard", "etc/x/y", "etc/x-y"]
                .map(changed)
                .to_vec(),
        ),
        // The seal of what is gone is passed over.
        (gone, vec![(Difference::Missing, "bin/a".to_owned())]),
    ] {
        let (layer, list, _) = sealed();
        destroy(&layer, &list);
        let digest = Digest::of(&fs::read(&list).unwrap());
        let seals = Seals::open(&list, &digest, measure);
        let verified = layer.held_against(Some(seals), &Stop::default());
        let told = |it: Deviation| (it.difference, it.path.display().to_string());
        let told: Vec<_> = verified.deviations.into_iter().map(told).collect();
        assert_eq!(told, found);
    }
}

#[test]
fn a_file_that_has_lost_its_seal_is_found_and_so_is_a_torn_list() {
    let (layer, list, digest) = sealed();
    let seals = Seals::open(&list, &digest, |_| Err(Errno::NODATA));
    let verified = layer.held_against(Some(seals), &Stop::default());
    assert_eq!(verified.deviations.len(), 4);
    assert!(verified.deviations[0].detail.contains("not sealed"));
    fs::write(&list, b"torn").unwrap();
    let seals = Seals::open(&list, &digest, measure);
    let verified = layer.held_against(Some(seals), &Stop::default());
    let [deviation] = &verified.deviations[..] else {
        panic!("{:?}", verified.deviations)
    };
    assert_eq!(deviation.difference, Difference::Unreadable);
    assert!(deviation.detail.contains("seals"), "{}", deviation.detail);
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
    let (digest, _) = inventory::write(&tree, &contents, &HashMap::new(), &inventory).unwrap();
    let recorded = Recorded {
        inventory: &inventory,
        digest: &digest,
        seals: None,
    };
    let verified = verify(&tree, recorded, &Stop::default());
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
