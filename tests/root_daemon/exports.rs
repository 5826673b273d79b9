//! `corten image export` and `import` through pipes, as a person uses them.

use crate::fault_registry::FaultRegistry;
use crate::node::in_a_node;
use corten::id::Digest;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

const DROP_IN: &str = "/etc/corten/corten.toml.d/keep.toml";

fn corten(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corten"));
    command.arg("image").args(arguments);
    command
}

/// What it prints; it has to succeed.
fn done(command: &mut Command) -> String {
    let done = command.output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{command:?}: {said}");
    String::from_utf8(done.stdout).unwrap()
}

/// A layer of one file, uncompressed: its blob is its tar.
fn layer(name: &str, content: &[u8]) -> (Vec<u8>, Digest) {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, name, content).unwrap();
    let tar = tar.into_inner().unwrap();
    let digest = Digest::of(&tar);
    (tar, digest)
}

#[test]
#[ignore = "needs root"]
fn root_an_image_goes_through_pipes_and_is_the_same() {
    in_a_node(async |node| {
        let registry = FaultRegistry::start().await;
        registry.push_image("1", &[layer("a", b"a"), layer("b", &[7; 3 << 20])]);
        let name = registry.image("1");
        done(&mut corten(&["pull", &name]));
        let refused = corten(&["export", &name]).output().unwrap();
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(
            !refused.status.success() && said.contains("keep_blobs = true"),
            "{said}"
        );
        fs::create_dir_all(Path::new(DROP_IN).parent().unwrap()).unwrap();
        fs::write(DROP_IN, "[images]\nkeep_blobs = true\n").unwrap();
        node.kill_daemon();
        node.start_daemon().await;
        let id = done(&mut corten(&["pull", &name]));
        for form in ["oci-archive", "docker-archive"] {
            let mut out = corten(&["export", "--format", form, &name]);
            let mut out = out.stdout(Stdio::piped()).spawn().unwrap();
            let mut into = corten(&["import", "-", "--name", "localhost/again:1"]);
            let again = done(into.stdin(out.stdout.take().unwrap()));
            assert!(out.wait().unwrap().success());
            assert_eq!(again.split(' ').next(), id.split(' ').next());
        }
        let file = node.scratch.join("image.tar");
        let path = file.to_str().unwrap();
        done(&mut corten(&["export", "--to", path, &name]));
        let layout = node.scratch.join("layout");
        let folder = layout.to_str().unwrap();
        done(&mut corten(&[
            "export", "--format", "oci", "--to", folder, &name,
        ]));
        done(&mut corten(&["remove", &name]));
        for from in [path, folder] {
            let again = done(&mut corten(&["import", from]));
            assert_eq!(again.split(' ').next(), id.split(' ').next());
            done(&mut corten(&["remove", id.split(' ').next().unwrap()]));
        }
        let text = File::open(DROP_IN).unwrap();
        let refused = corten(&["import", "-"]).stdin(text).output().unwrap();
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(
            !refused.status.success() && said.contains("archive"),
            "{said}"
        );
    });
}
