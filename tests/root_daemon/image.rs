//! The cases' images, as OCI image layouts: the machine's static busybox, and data to be seen by
//! others.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

/// What the image is called.
pub const NAME: &str = "localhost/busybox:test";
const BUSYBOX: &str = "/bin/busybox";

/// What the image with data is called.
pub const DATA: &str = "localhost/data:test";

/// Writes the layout of busybox to a directory.
pub fn write_layout(layout: &Path) {
    write(layout, &[layer().unwrap()]);
}

/// Writes the layout of the image with data: `data/a` is in both layers, and links lead away.
pub fn write_data_layout(layout: &Path) {
    write(layout, &data_layers().unwrap());
}

/// What the image of many layers is called.
pub const DEEP: &str = "localhost/deep:test";

/// Writes the layout of busybox with so many layers to a directory; each but the first has a file of
/// its own in `/many` and takes away the one below the file before.
pub fn write_deep_layout(layout: &Path, layers: usize) {
    let one = |number: usize| -> io::Result<Vec<u8>> {
        let mut tar = tar::Builder::new(Vec::new());
        file(&mut tar, &format!("many/{number}"), 0o644, b"x")?;
        if number.is_multiple_of(2) {
            file(&mut tar, &format!("many/.wh.{}", number - 1), 0o644, b"")?;
        }
        tar.into_inner()
    };
    let all = (1..layers).map(|number| one(number).unwrap());
    let all: Vec<_> = std::iter::once(layer().unwrap()).chain(all).collect();
    write(layout, &all);
}

/// What kind of artifact there is.
pub const ARTIFACT_TYPE: &str = "application/vnd.example.model";

/// Writes the layout of an artifact with these files to a directory.
pub fn write_artifact_layout(layout: &Path, files: &[(&str, &[u8])]) {
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let titled = |(title, content): &(&str, &[u8])| {
        let mut blob = write_blob(&blobs, "application/octet-stream", content);
        blob["annotations"] = json!({"org.opencontainers.image.title": title});
        blob
    };
    let layers: Vec<_> = files.iter().map(titled).collect();
    let config = write_blob(&blobs, "application/vnd.oci.empty.v1+json", b"{}");
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({
        "schemaVersion": 2, "mediaType": manifest_type, "artifactType": ARTIFACT_TYPE,
        "config": config, "layers": layers,
    });
    let manifest = write_json(&blobs, manifest_type, &manifest);
    write_index(layout, &manifest);
}

/// What the image with a health check is called.
pub const CHECKED: &str = "localhost/checked:test";

/// Writes the layout of busybox whose containers are healthy as long as they have a file `/ok`.
pub fn write_checked_layout(layout: &Path) {
    let check = json!({
        "Test": ["CMD-SHELL", "cat /ok"], "Interval": 20_000_000, "Retries": 2,
    });
    write_with(layout, &[layer().unwrap()], &json!({"Healthcheck": check}));
}

fn write(layout: &Path, layers: &[Vec<u8>]) {
    write_with(layout, layers, &json!({}));
}

/// `more`: what the image says beside its command.
fn write_with(layout: &Path, layers: &[Vec<u8>], more: &Value) {
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let layer = |tar: &Vec<u8>| write_blob(&blobs, "application/vnd.oci.image.layer.v1.tar", tar);
    let layers: Vec<_> = layers.iter().map(layer).collect();
    let diff_ids: Vec<_> = layers.iter().map(|layer| layer["digest"].clone()).collect();
    let mut run = json!({"Env": ["PATH=/bin"], "Cmd": ["sh"]});
    let more = more.as_object().unwrap().clone();
    run.as_object_mut().unwrap().extend(more);
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": run,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = write_json(&blobs, "application/vnd.oci.image.config.v1+json", &config);
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({
        "schemaVersion": 2, "mediaType": manifest_type, "config": config, "layers": layers,
    });
    let manifest = write_json(&blobs, manifest_type, &manifest);
    write_index(layout, &manifest);
}

fn write_index(layout: &Path, manifest: &Value) {
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
    fs::write(
        layout.join("oci-layout"),
        r#"{"imageLayoutVersion": "1.0.0"}"#,
    )
    .unwrap();
}

/// As Go names them.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn write_json(blobs: &Path, media_type: &str, content: &Value) -> Value {
    write_blob(blobs, media_type, content.to_string().as_bytes())
}

/// Writes a blob and gives its descriptor.
fn write_blob(blobs: &Path, media_type: &str, content: &[u8]) -> Value {
    let digest: String = Sha256::digest(content)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    fs::write(blobs.join(&digest), content).unwrap();
    json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": content.len()})
}

fn layer() -> io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for (folder, mode) in [
        ("bin", 0o755),
        ("etc", 0o755),
        ("root", 0o700),
        ("tmp", 0o1777),
    ] {
        let mut header = header(tar::EntryType::Directory, mode);
        tar.append_data(&mut header, folder, io::empty())?;
    }
    file(&mut tar, "bin/busybox", 0o755, &fs::read(BUSYBOX)?)?;
    file(
        &mut tar,
        "etc/passwd",
        0o644,
        b"root:x:0:0:root:/root:/bin/sh\n",
    )?;
    file(&mut tar, "etc/group", 0o644, b"root:x:0:\n")?;
    for applet in applets()? {
        let mut header = header(tar::EntryType::Symlink, 0o777);
        tar.append_link(&mut header, format!("bin/{applet}"), "busybox")?;
    }
    tar.into_inner()
}

fn data_layers() -> io::Result<[Vec<u8>; 2]> {
    let mut lower = tar::Builder::new(Vec::new());
    file(&mut lower, "data/a", 0o644, b"old")?;
    file(&mut lower, "data/b", 0o644, b"below")?;
    let mut upper = tar::Builder::new(Vec::new());
    file(&mut upper, "data/a", 0o644, b"new")?;
    file(&mut upper, "data/run", 0o755, b"#!/bin/sh\necho ran\n")?;
    file(&mut upper, "etc/hostname", 0o644, b"of the image")?;
    for (link, target) in [("inside", "/data"), ("out", "../../../../../etc")] {
        let mut header = header(tar::EntryType::Symlink, 0o777);
        upper.append_link(&mut header, link, target)?;
    }
    let mut pipe = header(tar::EntryType::Fifo, 0o644);
    upper.append_data(&mut pipe, "pipe", io::empty())?;
    Ok([lower.into_inner()?, upper.into_inner()?])
}

fn applets() -> io::Result<Vec<String>> {
    let listed = Command::new(BUSYBOX).arg("--list").output()?.stdout;
    let names = String::from_utf8_lossy(&listed).into_owned();
    let names = names.split_whitespace().filter(|name| *name != "busybox");
    Ok(names.map(str::to_owned).collect())
}

fn file(tar: &mut tar::Builder<Vec<u8>>, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
    let mut header = header(tar::EntryType::Regular, mode);
    header.set_size(content.len() as u64);
    tar.append_data(&mut header, path, content)
}

fn header(kind: tar::EntryType, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(0);
    header
}
