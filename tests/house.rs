//! The house's own rules, held against the source: which module may import which, who may name
//! tonic, where `unsafe` is, how long a file is, and that the table of errors names every kind.
//!
//! ```text
//! main → cri, admin, stream → engine → ports → (shim api, cni, proto)
//! metrics is beside them: who counts imports it
//! model is below all and imports only id, error and oci-spec
//! ```
//!
//! Each rule is a function from a file to complaints, tried on a sample that breaks it (at the end
//! of this file) and then on every file. A rule about a room that is not there would hold without
//! meaning anything, so the rooms are listed too.

#[path = "house/scan.rs"]
mod scan;

use scan::{Names, scan};
use std::fs;
use std::path::{Path, PathBuf};

/// A top-level module of the daemon, and what it may import besides `id` and `error`.
struct Room {
    name: &'static str,
    stage: Stage,
    may: &'static [&'static str],
}

/// Whether a room is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It is.
    Built,
    /// It is not, so that whoever begins it comes by here.
    Later,
}

const PORTS: [&str; 9] = [
    "cgroup", "content", "network", "nri", "registry", "snapshot", "store", "task", "verifier",
];

/// What the engine joins.
const BELOW_ENGINE: &[&str] = &[
    "cgroup",
    "content",
    "failpoint",
    "metrics",
    "model",
    "network",
    "nri",
    "registry",
    "snapshot",
    "store",
    "task",
    "trees",
    "unpack",
    "verifier",
];

const fn room(name: &'static str, may: &'static [&'static str]) -> Room {
    Room {
        name,
        stage: Stage::Built,
        may,
    }
}

const fn later(name: &'static str, may: &'static [&'static str]) -> Room {
    Room {
        name,
        stage: Stage::Later,
        may,
    }
}

/// What puts all others together, beside `main` and `lib`.
const JOINS: [&str; 3] = ["lib", "main", "daemon"];

/// All other rooms.
const ROOMS: [Room; 23] = [
    room("error", &[]),
    room("failpoint", &[]),
    room("id", &[]),
    room("model", &[]),
    room("config", &["model"]),
    room("trees", &[]),
    room("unpack", &["model", "trees"]),
    room("cgroup", &["model"]),
    room("content", &["model"]),
    room("network", &["model"]),
    room("registry", &["model"]),
    // A layer comes as a stream, and is a directory when it is committed.
    room("snapshot", &["model", "trees", "unpack"]),
    room("store", &["model", "trees"]),
    room("task", &["metrics", "model"]),
    room("verifier", &["model"]),
    later("nri", &["model"]),
    room("engine", BELOW_ENGINE),
    room("cri", &["engine", "model"]),
    room("admin", &["engine", "model", "config", "log"]),
    room("stream", &["engine", "metrics", "model"]),
    // Others count with it; it asks nobody.
    room("metrics", &[]),
    room("cli", &["config", "model"]),
    room("log", &[]),
];

/// The rooms that may name tonic and the generated types: the edge, and the command line as their
/// client.
const GRPC_ROOMS: [&str; 3] = ["cri", "admin", "cli"];
/// Crates that only they may name.
const GRPC_CRATES: [&str; 4] = ["prost", "tonic", "tonic_prost", "corten_proto"];
/// Crates that `model` may import from: data and codecs, nothing that asks the system.
const PURE_CRATES: [&str; 7] = [
    "base64",
    "core",
    "oci_spec",
    "serde",
    "serde_json",
    "std",
    "thiserror",
];
/// Words that say nothing about what is inside.
const EMPTY_NAMES: [&str; 8] = [
    "util", "utils", "helper", "helpers", "common", "manager", "misc", "shared",
];
const LONGEST_FILE: usize = 600;

// === rules ===

/// A source file of the daemon, the shim or the plugins.
struct Source {
    /// Relative to its crate's `src`.
    path: PathBuf,
    text: String,
    names: Names,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let path = PathBuf::from(path);
        let names = scan(&path, text).unwrap_or_else(|error| panic!("{error}"));
        let text = text.to_owned();
        Self { path, text, names }
    }

    /// The first component: `task` for `task/shim.rs` and for `task.rs`.
    fn room(&self) -> String {
        let path = self.path.with_extension("");
        let first = path.components().next();
        first.map_or_else(String::new, |first| {
            first.as_os_str().to_string_lossy().into_owned()
        })
    }

    /// Declared under `#[cfg(test)]`; that it is, [`tests_are_only_tests`] holds.
    fn is_test(&self) -> bool {
        self.path.file_stem().is_some_and(|stem| stem == "tests")
            || self
                .path
                .components()
                .any(|part| part.as_os_str() == "tests")
    }

    fn complaint(&self, line: usize, what: impl std::fmt::Display) -> String {
        format!("{}:{line}: {what}", self.path.display())
    }
}

/// Imports go one way.
fn arrows(source: &Source) -> Vec<String> {
    let own = source.room();
    let Some(room) = ROOMS.iter().find(|room| room.name == own) else {
        // It joins: see JOINS.
        return Vec::new();
    };
    let allowed = |name: &str| {
        name == own
            || (matches!(name, "id" | "error") && own != "error")
            || room.may.contains(&name)
    };
    let is_room = |name: &str| ROOMS.iter().any(|room| room.name == name);
    let wrong = source.names.rooms.iter();
    wrong
        .filter(|(name, _)| is_room(name) && !allowed(name))
        .map(|(name, line)| source.complaint(*line, format!("{own} must not import {name}")))
        .collect()
}

/// Only the edge speaks gRPC.
fn grpc_at_the_edge(source: &Source) -> Vec<String> {
    let own = source.room();
    let named = source.names.crates.iter();
    named
        .filter(|(name, _)| {
            GRPC_CRATES.contains(&name.as_str()) && !GRPC_ROOMS.contains(&own.as_str())
        })
        .map(|(name, line)| source.complaint(*line, format!("{own} must not name {name}")))
        .collect()
}

/// The shim's and the plugins' types are known to the engine and the ports, not above.
fn children_below_the_engine(source: &Source) -> Vec<String> {
    let own = source.room();
    let joins = JOINS.contains(&own.as_str());
    let below = own == "engine" || own == "failpoint" || PORTS.contains(&own.as_str());
    let may = below || joins;
    let named = source.names.crates.iter();
    named
        .filter(|(name, _)| matches!(name.as_str(), "corten_shim" | "corten_cni") && !may)
        .map(|(name, line)| source.complaint(*line, format!("{own} must not name {name}")))
        .collect()
}

/// `model` decides, and asks nobody.
fn model_is_pure(source: &Source) -> Vec<String> {
    if source.room() != "model" {
        return Vec::new();
    }
    let declared = |name: &str| {
        source
            .names
            .modules
            .iter()
            .any(|(module, _)| module == name)
    };
    let mut wrong: Vec<String> = source
        .names
        .crates
        .iter()
        .filter(|(name, _)| !PURE_CRATES.contains(&name.as_str()) && !declared(name))
        .map(|(name, line)| source.complaint(*line, format!("model must not import {name}")))
        .collect();
    for (at, text) in source.text.lines().enumerate() {
        for io in [
            "std::fs",
            "std::net::Tcp",
            "std::process",
            "std::thread",
            "SystemTime",
            "Instant",
        ] {
            if text.contains(io) && !text.trim_start().starts_with("//") {
                wrong.push(source.complaint(at + 1, format!("model must not use {io}")));
            }
        }
    }
    wrong
}

fn no_unsafe(source: &Source) -> Vec<String> {
    let lines = source.names.unsafes.iter();
    lines
        .map(|line| source.complaint(*line, "`unsafe` belongs in shim/src/sys alone"))
        .collect()
}

/// In the shim one room may.
fn unsafe_in_sys(source: &Source) -> Vec<String> {
    match source.room().as_str() {
        "sys" => Vec::new(),
        _ => no_unsafe(source),
    }
}

fn short_files(source: &Source) -> Vec<String> {
    match source.text.lines().count() {
        lines if lines > LONGEST_FILE => {
            vec![source.complaint(lines, format!("longer than {LONGEST_FILE} lines"))]
        }
        _ => Vec::new(),
    }
}

fn telling_names(source: &Source) -> Vec<String> {
    let empty = |name: &str| EMPTY_NAMES.contains(&name);
    let of_path = source.path.with_extension("");
    let parts = of_path
        .components()
        .map(|part| (part.as_os_str().to_string_lossy().into_owned(), 0));
    parts
        .chain(source.names.modules.iter().cloned())
        .filter(|(name, _)| empty(name))
        .map(|(name, line)| source.complaint(line, format!("the name {name} says nothing")))
        .collect()
}

/// Files of tests are left out by their name, so their name must mean that.
fn tests_are_only_tests(source: &Source) -> Vec<String> {
    let declared = source.names.modules.iter();
    declared
        .filter(|(name, _)| name == "tests" && !source.is_test())
        .map(|(_, line)| source.complaint(*line, "`mod tests` without #[cfg(test)]"))
        .collect()
}

/// A new kind of error must not compile before it has its code.
fn the_table_names_every_kind(source: &Source) -> Vec<String> {
    let lines = source.names.catch_alls.iter();
    lines
        .map(|line| source.complaint(*line, "an arm takes every kind that is left"))
        .collect()
}

// === the house ===

fn files_below(directory: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a folder of the checkout") {
        let path = entry.expect("an entry of the checkout").path();
        if path.is_dir() {
            files_below(&path, into);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            into.push(path);
        }
    }
}

/// The files of a crate's `src`, or of another folder of the checkout.
fn sources(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files = Vec::new();
    files_below(&root, &mut files);
    assert!(!files.is_empty(), "no source below {}", root.display());
    let source = |file: &PathBuf| {
        let text = fs::read_to_string(file).expect("Rust is UTF-8");
        let path = file
            .strip_prefix(&root)
            .expect("it was found below its root");
        Source::new(&path.to_string_lossy(), &text)
    };
    files.iter().map(source).collect()
}

/// Holds a rule against files, tests included or not.
fn hold(rule: fn(&Source) -> Vec<String>, sources: &[&Source]) {
    let complaints: Vec<String> = sources.iter().flat_map(|source| rule(source)).collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

fn product(sources: &[Source]) -> Vec<&Source> {
    sources.iter().filter(|source| !source.is_test()).collect()
}

#[test]
fn every_room_is_known_and_there() {
    let sources = sources("src");
    let known = |name: &str| ROOMS.iter().any(|room| room.name == name);
    for source in &sources {
        let room = source.room();
        assert!(
            JOINS.contains(&room.as_str()) || known(&room),
            "src/{room} is a new room: say in ROOMS what it may import"
        );
    }
    for room in &ROOMS {
        let there = sources.iter().any(|source| source.room() == room.name);
        let right = match room.stage {
            Stage::Built => there,
            Stage::Later => !there,
        };
        let name = room.name;
        assert!(
            right,
            "src/{name}: there: {there}; mark it in ROOMS as what it is"
        );
    }
}

#[test]
fn imports_go_one_way() {
    let sources = sources("src");
    hold(arrows, &product(&sources));
    hold(children_below_the_engine, &product(&sources));
}

#[test]
fn only_the_edge_names_tonic() {
    let sources = sources("src");
    hold(grpc_at_the_edge, &product(&sources));
    let edge = |source: &&Source| GRPC_ROOMS.contains(&source.room().as_str());
    let names = |source: &Source| source.names.crates.iter().any(|(name, _)| name == "tonic");
    assert!(
        sources.iter().filter(edge).any(names),
        "nobody speaks gRPC: is it found at all?"
    );
}

#[test]
fn the_model_is_pure() {
    hold(model_is_pure, &product(&sources("src")));
}

#[test]
fn unsafe_is_in_the_shims_sys_alone() {
    for folder in ["src", "cni/src", "proto/src"] {
        hold(no_unsafe, &sources(folder).iter().collect::<Vec<_>>());
    }
    let shim = sources("shim/src");
    hold(unsafe_in_sys, &shim.iter().collect::<Vec<_>>());
    let found = shim.iter().any(|source| !source.names.unsafes.is_empty());
    assert!(found, "the shim has no `unsafe` at all: is it found?");
}

/// That a point without the feature is nothing is a test beside each of the two macros.
#[test]
fn what_is_installed_has_no_failpoints() {
    let read =
        |path: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    for manifest in ["Cargo.toml", "shim/Cargo.toml"] {
        let text = read(manifest);
        assert!(text.contains("\nfailpoints = "), "{manifest}: it has moved");
        assert!(!text.contains("\ndefault = "), "{manifest}: no defaults");
    }
    let build = read("deploy/build");
    assert!(!build.contains("--features") && !build.contains("--all-features"));
    let checked = build
        .lines()
        .filter(|line| line.starts_with("check_faults \""));
    assert_eq!(checked.count(), 3, "every program is looked through");
}

#[test]
fn files_are_short_and_their_names_tell() {
    for folder in ["src", "shim/src", "cni/src"] {
        let sources = sources(folder);
        let all: Vec<&Source> = sources.iter().collect();
        hold(short_files, &all);
        hold(telling_names, &all);
        hold(tests_are_only_tests, &all);
    }
}

#[test]
fn the_table_of_errors_is_exhaustive() {
    let sources = sources("src");
    let table = sources
        .iter()
        .find(|source| source.path == Path::new("cri/status.rs"));
    hold(
        the_table_names_every_kind,
        &[table.expect("src/cri/status.rs")],
    );
}

// === each rule can fail ===

/// The rule complains about this text, and is content with that one.
fn tells_apart(rule: fn(&Source) -> Vec<String>, path: &str, bad: &str, good: &str) {
    let complaints = |text: &str| rule(&Source::new(path, text));
    assert!(!complaints(bad).is_empty(), "{path} was taken:\n{bad}");
    assert_eq!(complaints(good), Vec::<String>::new(), "{path}:\n{good}");
}

#[test]
fn an_arrow_that_goes_up_or_sideways_is_found_in_every_form() {
    let good = "use crate::error::Error; // use crate::engine::Engine;\n";
    for bad in [
        "use crate::engine::Engine;",
        "use crate::{error::Error, engine::{Engine, Other}};",
        "use super::super::engine::Engine;",
        "fn f() { crate::engine::start() }",
        "fn f() { println!(\"{}\", crate::engine::X) }",
        "mod inner { use super::super::super::engine; }",
    ] {
        tells_apart(arrows, "task/shim.rs", bad, good);
    }
    tells_apart(
        arrows,
        "task/mod.rs",
        "use super::engine;",
        "use super::error::Kind;",
    );
    tells_apart(
        arrows,
        "task/mod.rs",
        "use crate::store::Store;",
        "use crate::task::Task;",
    );
    tells_apart(
        arrows,
        "cri/mod.rs",
        "use crate::admin::X;",
        "use crate::engine::Engine;",
    );
    tells_apart(
        arrows,
        "model/a.rs",
        "use crate::task::X;",
        "use super::container::Container;",
    );
    tells_apart(arrows, "error.rs", "use crate::id::X;", "use std::fmt;");
    let joined = "#[cfg(test)]\nmod tests { use crate::store::fakes::a_sandbox; }";
    tells_apart(
        arrows,
        "task/mod.rs",
        "mod x { use crate::store::X; }",
        joined,
    );
}

#[test]
fn grpc_children_and_impurities_are_found() {
    let good = "/// tonic\nfn f() { let s = \"tonic::Code\"; }";
    tells_apart(grpc_at_the_edge, "engine/a.rs", "use tonic::Code;", good);
    tells_apart(
        grpc_at_the_edge,
        "error.rs",
        "fn f() -> tonic::Code { x }",
        good,
    );
    tells_apart(
        grpc_at_the_edge,
        "main.rs",
        "use corten_proto::v1;",
        "use corten::cri;",
    );
    assert!(grpc_at_the_edge(&Source::new("cri/a.rs", "use tonic::Code;")).is_empty());
    tells_apart(
        children_below_the_engine,
        "cri/a.rs",
        "use corten_shim::api;",
        "use std::io;",
    );
    assert!(
        children_below_the_engine(&Source::new("task/a.rs", "use corten_shim::api;")).is_empty()
    );
    tells_apart(
        model_is_pure,
        "model/a.rs",
        "use tokio::fs;",
        "use std::fmt;",
    );
    tells_apart(
        model_is_pure,
        "model/a.rs",
        "fn f() { std::fs::read(p) }",
        "// std::fs",
    );
    tells_apart(
        model_is_pure,
        "model/mod.rs",
        "use b::C;",
        "mod b; use b::C;",
    );
}

#[test]
fn unsafe_length_and_names_are_found() {
    let quoted = "#![forbid(unsafe_code)]\n// unsafe\nconst A: &str = \"unsafe\";";
    tells_apart(no_unsafe, "a.rs", "fn f() { unsafe { g() } }", quoted);
    tells_apart(no_unsafe, "a.rs", "fn f() { m!(unsafe { g() }) }", quoted);
    tells_apart(unsafe_in_sys, "parent/a.rs", "unsafe fn f() {}", quoted);
    assert!(unsafe_in_sys(&Source::new("sys/a.rs", "unsafe fn f() {}")).is_empty());
    let (long, short) = ("\n".repeat(LONGEST_FILE + 1), "\n".repeat(LONGEST_FILE));
    tells_apart(short_files, "a.rs", &long, &short);
    tells_apart(telling_names, "a.rs", "mod utils;", "mod mounts;");
    assert!(!telling_names(&Source::new("task/helpers.rs", "")).is_empty());
    tells_apart(
        tests_are_only_tests,
        "a.rs",
        "mod tests;",
        "#[cfg(test)]\nmod tests;",
    );
}

#[test]
fn an_arm_for_the_rest_is_found() {
    let good =
        "fn f() { match k { Kind::A | Kind::B { x: _ } => 1, Kind::C(s) => { 2 } Kind::D => 3 } }";
    for bad in [
        "fn f() { match k { Kind::A => 1, _ => 2 } }",
        "fn f() { match k { Kind::A => { 1 } other => 2 } }",
        "fn f() { match k { Kind::A | _ => 2 } }",
    ] {
        tells_apart(the_table_names_every_kind, "cri/status.rs", bad, good);
    }
}
