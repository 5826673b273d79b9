//! What an entry means depends on those before it: links, directories that hand something down.

use super::*;

/// It may be that a lower layer has the directory: there it is, beneath the root.
#[test]
fn links_to_where_this_layer_has_nothing_lead_to_a_directory_that_is_made() {
    let outside = TempDir::new().unwrap();
    let target = outside.path().to_str().unwrap().to_owned();
    let (root, result) = Layer::new()
        .symlink("out", &target)
        .symlink("a", "b/../c")
        .symlink("c", "../usr/lib")
        .file("out/file", b"1")
        .file("a/sub/file", b"2")
        .unpack();
    let unpacked = result.unwrap();
    let beneath = |path: &str| root.path().join(path.trim_start_matches('/'));
    assert_eq!(fs::read(beneath(&target).join("file")).unwrap(), b"1");
    assert_eq!(fs::read(beneath("usr/lib/sub/file")).unwrap(), b"2");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    for implied in ["usr", "usr/lib", "usr/lib/sub"] {
        assert!(unpacked.implied.contains(&implied.into()), "{implied}");
    }
    assert!(!unpacked.implied.contains(&"b".into()));
    for (from, to) in [("loop", "loop"), ("one", "two/x")] {
        let (_root, result) = Layer::new()
            .symlink(from, to)
            .symlink("two", "one")
            .file(&format!("{from}/file"), b"")
            .unpack();
        let error = crate::error::chain(&result.unwrap_err());
        assert!(error.contains("symbolic links"), "{error}");
    }
}

/// The name that came last counts, and a link means what its target was then.
#[test]
fn links_to_lower_layers_and_what_comes_after_them() {
    let (_root, result) = Layer::new()
        .link("kept", "etc/passwd")
        .file("etc/passwd", b"new")
        .link("replaced", "etc/shadow")
        .file("replaced", b"")
        .file("link", b"")
        .link("link", "etc/shadow")
        .link("made", "x")
        .dir("made", 0o755)
        .unpack();
    let links = result.unwrap().links.into_iter();
    let paths: Vec<_> = links.map(|link| link.path).collect();
    assert_eq!(paths, [Path::new("kept"), Path::new("link")]);
}

/// Directories stay open under the names that they were reached by: not beyond the life of what a name
/// leads through.
#[test]
fn what_replaces_a_link_takes_what_comes_after_it() {
    let (root, result) = Layer::new()
        .dir("real", 0o755)
        .symlink("link", "real")
        .file("link/before", b"")
        .file("real/other", b"")
        .dir("link", 0o755)
        .file("link/after", b"")
        .file("real/late", b"")
        .unpack();
    result.unwrap();
    for file in ["real/before", "real/late", "link/after"] {
        assert!(root.path().join(file).exists(), "{file}");
    }
    assert!(!root.path().join("real/after").exists());
    assert!(root.path().join("link").is_dir() && !root.path().join("link").is_symlink());
}

/// Directories that are not open any more are opened again.
#[test]
fn more_directories_than_may_be_open_hold_their_files() {
    let names: Vec<_> = (0..600)
        .map(|number| format!("{}/d{number}", number % 2))
        .collect();
    let mut layer = Layer::new();
    for round in 0..2 {
        for name in &names {
            layer = layer.file(&format!("{name}/{round}"), name.as_bytes());
        }
    }
    let (root, result) = layer.unpack();
    result.unwrap();
    for name in &names {
        for round in 0..2 {
            assert_eq!(read(&root, &format!("{name}/{round}")), *name);
        }
    }
}

/// What a directory hands down to its entries must not change theirs.
#[test]
fn root_entries_inherit_nothing_of_their_directory() {
    // user::rwx, group::rwx, other::---, in the kernel's form.
    let acl: Vec<u8> = [
        &[2u8, 0, 0, 0][..],
        &[1, 0, 7, 0, 0xff, 0xff, 0xff, 0xff],
        &[4, 0, 7, 0, 0xff, 0xff, 0xff, 0xff],
        &[32, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
    ]
    .concat();
    let key = "SCHILY.xattr.system.posix_acl_default";
    let (root, result) = Layer::new()
        .pax([(key, &acl[..]), ("gid", b"50")])
        .dir("d", 0o2775)
        .file("d/file", b"x")
        .file("d/implied/file", b"x")
        .dir("d/own", 0o755)
        .unpack();
    result.unwrap();
    let stat = |path: &str| {
        let stat = fs::metadata(root.path().join(path)).unwrap();
        (stat.gid(), stat.mode() & 0o7777)
    };
    assert_eq!(stat("d"), (50, 0o2775));
    assert_eq!(stat("d/file"), (0, 0o644));
    assert_eq!(stat("d/implied"), (0, 0o755));
    assert_eq!(stat("d/own"), (0, 0o755));
    let default = |path: &str| {
        let mut value = [0; 64];
        let name = "system.posix_acl_default";
        let length = rustix::fs::getxattr(root.path().join(path), name, &mut value);
        length.map(|length| value[..length].to_vec()).ok()
    };
    assert_eq!(default("d"), Some(acl));
    assert_eq!((default("d/implied"), default("d/own")), (None, None));
}

#[test]
fn devices_are_refused_where_nobody_wants_them() {
    for (kind, refused) in [
        (EntryType::Char, true),
        (EntryType::Block, true),
        (EntryType::Fifo, false),
    ] {
        let tar = Layer::new().add(kind, "d", 0o600, "", b"").done();
        let directory = TempDir::new().unwrap();
        let strict = Expected {
            devices: DeviceNodes::Refuse,
            ..expected(&tar, &tar)
        };
        let result = unpack(&tar[..], directory.path(), &strict);
        match result {
            Err(error) => {
                assert!(refused, "{kind:?}: {error}");
                assert!(error.to_string().contains("\"d\" is a device node"));
                assert_eq!(error.kind(), crate::error::Kind::PermissionDenied);
            }
            Ok(_) => assert!(!refused, "{kind:?}"),
        }
    }
}

/// By their names, what directories get last would go through the link to others.
#[test]
fn what_a_directory_gets_last_does_not_go_through_the_link_that_replaces_it() {
    let (root, result) = Layer::new()
        .dir("e/", 0o755)
        .dir("e/in/", 0o755)
        .dir("d/", 0o2700)
        .dir("d/in/", 0o2700)
        .file("d/in/file", b"")
        .symlink("d", "e")
        .file("e/in/last", b"")
        // Nor through one above it.
        .symlink("to", "other")
        .dir("other/", 0o755)
        .dir("to/in/", 0o2700)
        .symlink("to", "e")
        .unpack();
    result.unwrap();
    for directory in ["e", "e/in"] {
        let stat = fs::symlink_metadata(root.path().join(directory)).unwrap();
        let told = (stat.mode() & 0o7777, stat.mtime());
        assert_eq!(told, (0o755, 1_000_000_000), "{directory}");
    }
    let link = fs::symlink_metadata(root.path().join("d")).unwrap();
    assert!(link.is_symlink());
}

/// One directory under two names has what its last entry says.
#[test]
fn a_directory_is_the_same_whatever_link_leads_to_it() {
    let (root, result) = Layer::new()
        .dir("usr/", 0o755)
        .dir("usr/lib/", 0o2755)
        .symlink("lib", "usr")
        .dir("lib/lib/", 0o700)
        .file("usr/lib/last", b"")
        .unpack();
    result.unwrap();
    let stat = fs::symlink_metadata(root.path().join("usr/lib")).unwrap();
    let told = (stat.mode() & 0o7777, stat.mtime());
    assert_eq!(told, (0o700, 1_000_000_000));
}
