//! The store on a real directory; the cases that need marks of overlayfs need root.

mod borrowed;

use std::{fs, os::unix::fs::symlink, path::PathBuf};

use tempfile::TempDir;

use super::{home::Home, *};
use crate::{
    id::Digest,
    unpack::{Contents, PendingLink, Unpacked},
};

fn chain(name: &str) -> ChainId {
    ChainId(Digest::of(name.as_bytes()))
}

fn place(name: &str, below: Option<&str>) -> Place {
    Place {
        chain: chain(name),
        below: below.map(chain),
        diff_id: Digest::of(b"tar"),
    }
}

fn unpacked(implied: &[&str]) -> Unpacked {
    Unpacked {
        usage: Usage {
            bytes: 4096,
            inodes: 1,
        },
        implied: implied.iter().map(PathBuf::from).collect(),
        links: vec![],
        whiteouts: vec![],
        opaque_root: false,
        contents: Contents::default(),
    }
}

/// A store with a base: `tmp` 1777, `etc/passwd`, `lib -> usr/lib`.
fn with_base(root: &TempDir) -> Arc<Layers> {
    let layers = Arc::new(Layers::open(root.path(), "boot").unwrap());
    add_base(&layers);
    layers
}

fn add_base(layers: &Arc<Layers>) {
    let staged = layers.begin().unwrap();
    let tree = staged.tree();
    for (directory, mode) in [
        ("tmp", 0o1777),
        ("etc", 0o750),
        ("usr/lib", 0o755),
        ("", 0o711),
    ] {
        fs::create_dir_all(tree.join(directory)).unwrap();
        fs::set_permissions(tree.join(directory), fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::write(tree.join("etc/passwd"), "root").unwrap();
    symlink("usr/lib", tree.join("lib")).unwrap();
    staged.commit(&place("base", None), &unpacked(&[])).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn implied_directories_get_the_attributes_they_have_below() {
    let root = TempDir::new().unwrap();
    let layers = with_base(&root);
    let staged = layers.begin().unwrap();
    fs::create_dir_all(staged.tree().join("tmp/new")).unwrap();
    fs::create_dir_all(staged.tree().join("etc")).unwrap();
    staged
        .commit(
            &place("top", Some("base")),
            &unpacked(&["", "etc", "tmp", "tmp/new"]),
        )
        .unwrap();
    let tree = &layers.trees(&[chain("base"), chain("top")]).unwrap()[0];
    assert_eq!(
        (mode(tree), mode(&tree.join("tmp")), mode(&tree.join("etc"))),
        (0o711, 0o1777, 0o750)
    );
    let below = &layers.trees(&[chain("base")]).unwrap()[0];
    let time = |path: &Path| fs::metadata(path.join("etc")).unwrap().modified().unwrap();
    assert_eq!(time(tree), time(below));
}

#[test]
fn links_into_lower_layers_are_made_and_others_refused() {
    let root = TempDir::new().unwrap();
    let layers = with_base(&root);
    let commit = |name: &str, target: &str| {
        let staged = layers.begin().unwrap();
        let link = |path: &str, target: &str| PendingLink {
            path: path.into(),
            target: target.into(),
        };
        let links = vec![link("hard", target), link("again", "hard")];
        staged.commit(
            &place(name, Some("base")),
            &Unpacked {
                links,
                ..unpacked(&[])
            },
        )
    };
    commit("good", "etc/passwd").unwrap();
    let tree = &layers.trees(&[chain("base"), chain("good")]).unwrap()[0];
    assert_eq!(fs::read_to_string(tree.join("again")).unwrap(), "root");
    for target in ["etc/shadow", "lib/../etc/passwd", "etc", "lib/libc.so"] {
        assert!(
            matches!(commit("bad", target), Err(Error::DanglingLink { .. })),
            "{target}"
        );
    }
    assert!(layers.get(&chain("bad")).is_none());
}

#[test]
fn what_is_written_through_a_link_below_lands_where_it_leads() {
    let root = TempDir::new().unwrap();
    let layers = with_base(&root);
    let staged = layers.begin().unwrap();
    fs::create_dir_all(staged.tree().join("lib/sub")).unwrap();
    fs::write(staged.tree().join("lib/sub/new"), "new").unwrap();
    let before = unpacked(&["", "lib", "lib/sub"]);
    staged.commit(&place("top", Some("base")), &before).unwrap();
    let tree = &layers.trees(&[chain("base"), chain("top")]).unwrap()[0];
    assert_eq!(
        fs::read_to_string(tree.join("usr/lib/sub/new")).unwrap(),
        "new"
    );
    assert!(
        fs::symlink_metadata(tree.join("lib")).is_err(),
        "the link below shows again"
    );
    let staged = layers.begin().unwrap();
    fs::create_dir_all(staged.tree().join("usr/lib/sub")).unwrap();
    fs::create_dir_all(staged.tree().join("lib/sub")).unwrap();
    fs::write(staged.tree().join("usr/lib/sub/one"), "1").unwrap();
    fs::write(staged.tree().join("lib/sub/two"), "2").unwrap();
    let links = vec![PendingLink {
        path: "hard".into(),
        target: "lib/sub/new".into(),
    }];
    let both = Unpacked {
        links,
        ..unpacked(&["lib"])
    };
    staged.commit(&place("both", Some("top")), &both).unwrap();
    let tree = &layers.trees(&[chain("both")]).unwrap()[0];
    assert_eq!(fs::read_dir(tree.join("usr/lib/sub")).unwrap().count(), 2);
    assert_eq!(fs::read_to_string(tree.join("hard")).unwrap(), "new");
}

#[test]
fn a_layer_is_there_wholly_or_not_at_all() {
    let root = TempDir::new().unwrap();
    let layers = with_base(&root);
    drop(layers.begin().unwrap());
    assert!(matches!(
        layers
            .begin()
            .unwrap()
            .commit(&place("top", Some("absent")), &unpacked(&[])),
        Err(Error::Missing(_))
    ));
    std::mem::forget(layers.begin().unwrap());
    fs::create_dir(root.path().join("a".repeat(64))).unwrap();
    let again = Layers::open(root.path(), "boot").unwrap();
    assert_eq!(again.all().len(), 1);
    let visible = fs::read_dir(root.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let visible: Vec<_> = visible
        .filter(|name| ![".trash", ".empty", ".points"].contains(&name.as_str()))
        .collect();
    assert_eq!(visible, [chain("base").0.hex()]);
}

#[test]
fn a_new_boot_keeps_only_what_is_durable() {
    let root = TempDir::new().unwrap();
    let layers = with_base(&root);
    drop(layers);
    assert_eq!(Layers::open(root.path(), "boot").unwrap().all().len(), 1);
    assert_eq!(Layers::open(root.path(), "next").unwrap().all().len(), 0);
    let root = TempDir::new().unwrap();
    with_base(&root).make_durable().unwrap();
    let next = Arc::new(Layers::open(root.path(), "next").unwrap());
    assert_eq!(next.usage(), next.get(&chain("base")).unwrap().usage);
    next.forget(vec![chain("base")]).discard().unwrap();
    assert!(next.get(&chain("base")).is_none());
    assert!(matches!(
        next.trees(&[chain("base")]),
        Err(Error::Missing(_))
    ));
}

/// A sync takes a while, and a layer may be removed and pulled anew meanwhile.
#[test]
fn a_layer_that_came_during_a_sync_is_not_taken_for_durable() {
    let root = TempDir::new().unwrap();
    let layers = with_base(&root);
    let path = root.path().join(chain("base").0.hex());
    let synced = Home::open(path.clone()).unwrap().unwrap();
    layers.forget(vec![chain("base")]).discard().unwrap();
    assert!(Home::open(path).unwrap().is_none());
    add_base(&layers);
    layers.mark(&synced).unwrap();
    assert!(!layers.get(&chain("base")).unwrap().durable);
    let next = Layers::open(root.path(), "next").unwrap();
    assert_eq!(next.all().len(), 0, "nor on the disk");
}

#[test]
fn a_root_is_described_and_taken_away() {
    let root = TempDir::new().unwrap();
    let layers = with_base(&root);
    let overlay = Overlay::new(Arc::clone(&layers), Projects::default(), root.path());
    let container = TempDir::new_in(root.path()).unwrap();
    let mounts = overlay.prepare(container.path(), &[chain("base")]).unwrap();
    let options = &mounts[0].options;
    assert!(options[0].starts_with("lowerdir+=") && options[0].ends_with("/fs"));
    let points = format!("lowerdir+={}", root.path().join(".points").display());
    assert_eq!(options[1], points, "below the image's own");
    assert!(options.contains(&"volatile".to_owned()));
    assert_eq!(mode(&container.path().join(UPPER)), 0o711);
    fs::write(container.path().join("upper/file"), b"x").unwrap();
    assert_eq!(overlay.usage(container.path()).unwrap().inodes, 1);
    let one = overlay.usage(container.path()).unwrap();
    for name in ["again", "third"] {
        fs::hard_link(
            container.path().join("upper/file"),
            container.path().join("upper").join(name),
        )
        .unwrap();
    }
    assert_eq!(overlay.usage(container.path()).unwrap(), one, "one file");
    overlay.remove(container.path()).unwrap();
    assert!(!container.path().join(UPPER).exists() && !container.path().join(WORK).exists());
    overlay.remove(container.path()).unwrap();
    assert_eq!(overlay.view(&[chain("base")]).unwrap()[0].options.len(), 3);
    assert!(
        overlay
            .prepare(container.path(), &[chain("absent")])
            .is_err()
    );
}

#[test]
fn root_marks_of_lower_layers_hide_what_is_below() {
    let root = TempDir::new().unwrap();
    let layers = with_base(&root);
    let staged = layers.begin().unwrap();
    fs::create_dir(staged.tree().join("etc")).unwrap();
    let device = rustix::fs::FileType::CharacterDevice;
    rustix::fs::mknodat(
        rustix::fs::CWD,
        staged.tree().join("tmp"),
        device,
        0.into(),
        0,
    )
    .unwrap();
    rustix::fs::setxattr(
        staged.tree().join("etc"),
        "trusted.overlay.opaque",
        b"y",
        rustix::fs::XattrFlags::empty(),
    )
    .unwrap();
    fs::set_permissions(staged.tree().join("etc"), fs::Permissions::from_mode(0o700)).unwrap();
    staged
        .commit(&place("middle", Some("base")), &unpacked(&[]))
        .unwrap();
    let staged = layers.begin().unwrap();
    for directory in ["etc/x", "tmp"] {
        fs::create_dir_all(staged.tree().join(directory)).unwrap();
    }
    let links = vec![PendingLink {
        path: "hard".into(),
        target: "etc/passwd".into(),
    }];
    let hidden = staged.commit(
        &place("top", Some("middle")),
        &Unpacked {
            links,
            ..unpacked(&[])
        },
    );
    assert!(matches!(hidden, Err(Error::DanglingLink { .. })));
    let staged = layers.begin().unwrap();
    for directory in ["etc", "tmp"] {
        fs::create_dir(staged.tree().join(directory)).unwrap();
    }
    fs::set_permissions(staged.tree().join("tmp"), fs::Permissions::from_mode(0o755)).unwrap();
    staged
        .commit(&place("top", Some("middle")), &unpacked(&["etc", "tmp"]))
        .unwrap();
    let tree = &layers
        .trees(&[chain("base"), chain("middle"), chain("top")])
        .unwrap()[0];
    assert_eq!(
        (mode(&tree.join("etc")), mode(&tree.join("tmp"))),
        (0o700, 0o755)
    );
}

#[test]
fn a_layer_that_leaves_is_gone_at_once_and_can_come_again() {
    let root = TempDir::new().unwrap();
    let layers = with_base(&root);
    let tree = layers.trees(&[chain("base")]).unwrap().remove(0);
    let leaving = layers.forget(vec![chain("base")]);
    assert!(layers.get(&chain("base")).is_none());
    assert!(tree.exists(), "the disk comes later");
    let again = layers.begin().unwrap();
    fs::write(again.tree().join("new"), "").unwrap();
    // Written just before the wait.
    let record = again.tree().with_file_name("record.json");
    let commit = std::thread::spawn(move || again.commit(&place("base", None), &unpacked(&[])));
    while !record.exists() {
        assert!(!commit.is_finished(), "it did not wait");
        std::thread::yield_now();
    }
    leaving.discard().unwrap();
    commit.join().unwrap().unwrap();
    assert!(layers.get(&chain("base")).is_some() && tree.join("new").exists());
}

/// A whiteout in a directory that overlayfs does not merge would be listed.
#[test]
fn root_whiteouts_that_hide_nothing_go() {
    let root = TempDir::new().unwrap();
    let layers = with_base(&root);
    let commit = |name: &str, paths: &[&str], implied: &[&str], opaque: bool| {
        let staged = layers.begin().unwrap();
        for path in paths {
            let path = staged.tree().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let device = rustix::fs::FileType::CharacterDevice;
            rustix::fs::mknodat(rustix::fs::CWD, path, device, 0.into(), 0).unwrap();
        }
        if opaque {
            let (mark, flags) = ("trusted.overlay.opaque", rustix::fs::XattrFlags::empty());
            rustix::fs::setxattr(staged.tree().join("etc"), mark, b"y", flags).unwrap();
        }
        let unpacked = Unpacked {
            whiteouts: paths.iter().map(PathBuf::from).collect(),
            ..unpacked(implied)
        };
        staged
            .commit(&place(name, Some("base")), &unpacked)
            .unwrap();
        layers
            .trees(&[chain("base"), chain(name)])
            .unwrap()
            .remove(0)
    };
    let all = ["etc/passwd", "etc/never", "new/never", "new/nor", "lib/a"];
    let tree = commit("top", &all, &["etc", "lib", "new"], false);
    let left = |path: &str| fs::symlink_metadata(tree.join(path)).is_ok();
    assert!(left("etc/passwd"));
    for path in ["etc/never", "new/never", "new/nor", "usr/lib/a", "lib"] {
        assert!(!left(path), "{path}");
    }
    // Nor is what an opaque directory hides hidden twice.
    let tree = commit("opaque", &["etc/passwd"], &[], true);
    assert_eq!(fs::read_dir(tree.join("etc")).unwrap().count(), 0);
}

#[test]
fn a_link_means_the_file_of_before() {
    let root = TempDir::new().unwrap();
    let layers = with_base(&root);
    let staged = layers.begin().unwrap();
    fs::create_dir(staged.tree().join("etc")).unwrap();
    fs::write(staged.tree().join("etc/passwd"), "new").unwrap();
    let links = vec![PendingLink {
        path: "kept".into(),
        target: "etc/passwd".into(),
    }];
    let unpacked = Unpacked {
        links,
        ..unpacked(&[])
    };
    staged
        .commit(&place("top", Some("base")), &unpacked)
        .unwrap();
    let tree = &layers.trees(&[chain("base"), chain("top")]).unwrap()[0];
    assert_eq!(fs::read_to_string(tree.join("kept")).unwrap(), "root");
    assert_eq!(fs::read_to_string(tree.join("etc/passwd")).unwrap(), "new");
}
