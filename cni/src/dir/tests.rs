use super::*;

const GOOD: &str = r#"{"cniVersion":"1.0.0","name":"NAME","plugins":[{"type":"bridge"}]}"#;

fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

fn good(name: &str) -> String {
    GOOD.replace("NAME", name)
}

#[test]
fn the_first_in_lexical_order_is_the_network() {
    let dir = directory(&[
        ("20-b.conflist", &good("b")),
        (
            "10-a.conf",
            r#"{"cniVersion":"0.4.0","name":"a","type":"bridge"}"#,
        ),
        ("00-x.conflist.bak", &good("x")),
        ("00-notes.txt", "no configuration"),
    ]);
    assert_eq!(load(dir.path()).unwrap().name(), "a");
}

#[test]
fn an_unusable_file_is_passed_over() {
    let dir = directory(&[("10-a.conflist", "{"), ("20-b.json", &good("b"))]);
    assert_eq!(load(dir.path()).unwrap().name(), "b");
}

#[test]
fn each_unusable_file_is_explained() {
    let loopback = r#"{"cniVersion":"1.0.0","name":"lo","type":"loopback"}"#;
    let dir = directory(&[("10-a.conflist", "{"), ("99-loopback.conf", loopback)]);
    fs::create_dir(dir.path().join("30-d.conf")).unwrap();
    std::os::unix::fs::symlink("/nowhere", dir.path().join("20-gone.conf")).unwrap();
    let none = load(dir.path()).unwrap_err();
    let files: Vec<_> = none
        .unusable
        .iter()
        .map(|it| it.file.to_str().unwrap())
        .collect();
    assert_eq!(files, ["10-a.conflist", "20-gone.conf", "99-loopback.conf"]);
    let text = none.to_string();
    for part in [
        "10-a.conflist: it is no JSON",
        "20-gone.conf: No such file",
        "gives no address",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn an_absent_or_empty_directory_says_what_to_do() {
    let dir = directory(&[]);
    for path in [dir.path().to_owned(), dir.path().join("absent")] {
        let text = load(&path).unwrap_err().to_string();
        assert!(text.contains("put a .conflist there"), "{text}");
        assert!(text.contains(path.to_str().unwrap()), "{text}");
    }
}

#[test]
fn plugins_beside_a_list_are_appended_in_order() {
    let dir = directory(&[
        ("10-a.conflist", &good("net")),
        ("net/20-tuning.conf", r#"{"type":"tuning"}"#),
        ("net/10-portmap.conf", r#"{"type":"portmap"}"#),
        ("net/readme", "none"),
        ("other/10-x.conf", r#"{"type":"x"}"#),
    ]);
    let list = load(dir.path()).unwrap();
    assert_eq!(
        list.plugin_types().collect::<Vec<_>>(),
        ["bridge", "portmap", "tuning"]
    );
}

#[test]
fn a_list_may_have_all_its_plugins_beside_it() {
    let dir = directory(&[
        ("10-a.conflist", r#"{"cniVersion":"1.1.0","name":"net"}"#),
        ("net/10-bridge.conf", r#"{"type":"bridge"}"#),
    ]);
    assert_eq!(
        load(dir.path()).unwrap().plugin_types().collect::<Vec<_>>(),
        ["bridge"]
    );
}

#[test]
fn a_list_may_forbid_what_is_beside_it() {
    let only = good("net").replacen('{', r#"{"loadOnlyInlinedPlugins":true,"#, 1);
    let dir = directory(&[
        ("10-a.conflist", &only),
        ("net/10-x.conf", r#"{"type":"x"}"#),
    ]);
    assert_eq!(
        load(dir.path()).unwrap().plugin_types().collect::<Vec<_>>(),
        ["bridge"]
    );
}

#[test]
fn a_fault_beside_a_list_names_its_file() {
    let dir = directory(&[("10-a.conflist", &good("net")), ("net/10-x.conf", "{}")]);
    let error = NetworkList::from_file(&dir.path().join("10-a.conflist")).unwrap_err();
    assert!(error.to_string().contains("net/10-x.conf"), "{error}");
}

#[test]
fn a_huge_file_is_refused() {
    let dir = directory(&[("10-a.conf", &" ".repeat((1 << 20) + 1))]);
    assert!(
        load(dir.path())
            .unwrap_err()
            .to_string()
            .contains("larger than 1 MiB")
    );
}
