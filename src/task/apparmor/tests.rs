//! A parser that is a script, and a list that is a file.

use super::*;
use std::os::unix::fs::PermissionsExt;

const LIST: &str = "corten-default (enforce)\nmy profile (x) (complain)\n/usr/bin/man (enforce)\n";

struct Bench {
    dir: tempfile::TempDir,
    profiles: Profiles,
}

impl Bench {
    /// The parser keeps what it is given in the file `given`, and then does `end`.
    fn new(list: &str, end: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (parser, loaded) = (dir.path().join("parser"), dir.path().join("profiles"));
        let given = dir.path().join("given");
        let script = format!("#!/bin/sh\ncat > {}\n{end}\n", given.display());
        fs::write(&parser, script).unwrap();
        fs::set_permissions(&parser, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(&loaded, list).unwrap();
        let parsers = vec![dir.path().join("absent"), parser];
        let profiles = Profiles { parsers, loaded };
        Self { dir, profiles }
    }

    fn given(&self) -> Option<String> {
        fs::read_to_string(self.dir.path().join("given")).ok()
    }
}

#[test]
fn a_profile_is_loaded_when_the_list_has_its_whole_name() {
    let bench = Bench::new(LIST, "");
    for name in [DEFAULT, "my profile (x)", "/usr/bin/man"] {
        bench.profiles.ready(name).unwrap();
    }
    for name in ["my profile", "corten", "man", ""] {
        let error = bench.profiles.ready(name).unwrap_err();
        assert_eq!(error.kind(), Kind::FailedPrecondition, "{name:?}");
    }
    assert_eq!(bench.given(), None, "nothing was loaded");
}

#[test]
fn the_kernel_judges_what_is_no_line_of_the_list() {
    let bench = Bench::new(LIST, "");
    bench.profiles.ready(":ns:other").unwrap();
    bench.profiles.ready("one//&two").unwrap();
    fs::remove_file(&bench.profiles.loaded).unwrap();
    bench.profiles.ready("any").unwrap();
}

#[test]
fn the_default_is_loaded_again_when_it_is_gone() {
    let bench = Bench::new("", "");
    bench.profiles.ready(DEFAULT).unwrap();
    assert_eq!(bench.given().as_deref(), Some(PROFILE));
}

#[test]
fn what_the_parser_says_is_told() {
    let bench = Bench::new("", "echo line 3: odd >&2; exit 1");
    let error = bench.profiles.load_default().unwrap_err();
    assert!(error.to_string().contains("line 3: odd"), "{error}");
    let none = Profiles {
        parsers: Vec::new(),
        ..bench.profiles.clone()
    };
    let error = none.load_default().unwrap_err();
    assert!(error.to_string().contains("package apparmor"), "{error}");
}

#[test]
fn the_profile_has_the_name_that_containers_are_given() {
    assert!(PROFILE.contains(&format!("\nprofile {DEFAULT} flags=")));
    assert_eq!(DEFAULT, crate::model::spec::APPARMOR_DEFAULT);
}
