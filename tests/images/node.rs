//! The image side of a node on a directory of its own, and layers to pull.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use corten::{
    content::Content,
    engine::Images,
    error::{Error, Kind},
    id::Digest,
    model::credentials::{Credentials, Secret},
    registry::{HttpRegistry, Settings},
    snapshot::Layers,
};
use tempfile::TempDir;

/// A node without images.
pub struct Node {
    pub root: TempDir,
    pub images: Arc<Images>,
}

impl Node {
    /// One that waits for nobody for long.
    pub fn new() -> Self {
        Self::with(Settings {
            progress_timeout: Duration::from_secs(20),
            first_pause: Duration::from_millis(1),
            ..Settings::default()
        })
    }

    /// One whose store is on this disk.
    pub fn on(disk: &Path) -> Self {
        Self::build(TempDir::new_in(disk).unwrap(), Settings::default())
    }

    /// One with these settings; hosts.toml files are below `certs.d`.
    pub fn with(settings: Settings) -> Self {
        Self::build(TempDir::new().unwrap(), settings)
    }

    /// One that downloads so many layers at once, of all images together.
    pub fn with_downloads(downloads: usize) -> Self {
        Self::build_with(TempDir::new().unwrap(), Settings::default(), downloads)
    }

    /// The same node after a restart: what was held in memory is gone.
    pub async fn restarted(self) -> Self {
        let before = Arc::downgrade(&self.images);
        drop(self.images);
        // Threads that unpacked come to their end by themselves.
        while before.strong_count() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let node = Self::build(self.root, Settings::default());
        node.images.reclaim().await.unwrap();
        node
    }

    fn build(root: TempDir, settings: Settings) -> Self {
        Self::build_with(root, settings, 8)
    }

    fn build_with(root: TempDir, mut settings: Settings, downloads: usize) -> Self {
        settings.config_paths = vec![root.path().join("certs.d")];
        let content = Arc::new(Content::open(&root.path().join("images")).unwrap());
        let layers = Arc::new(Layers::open(&root.path().join("layers"), "boot").unwrap());
        let registry = Arc::new(HttpRegistry::new(settings));
        let images = Images::open(registry, content, layers, vec![], downloads).unwrap();
        Self { root, images }
    }

    /// Writes the hosts.toml of a registry.
    pub fn hosts(&self, registry: &str, text: &str) -> PathBuf {
        let folder = self.root.path().join("certs.d").join(registry);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("hosts.toml"), text).unwrap();
        folder
    }

    /// Pulls as nobody.
    pub async fn pull(&self, name: &str) -> Result<String, Error> {
        self.pull_as(name, Secret::Anonymous).await
    }

    /// Pulls with a secret.
    pub async fn pull_as(&self, name: &str, secret: Secret) -> Result<String, Error> {
        let credentials = Credentials::new(secret, "");
        let name = name.parse().unwrap();
        let pulled = self.images.pull(&name, credentials, Arc::new(|_| {})).await;
        pulled.map(|id| id.to_string())
    }

    /// The kind and the text of the error that a pull ends with; nothing of it is left.
    pub async fn refusal(&self, name: &str) -> (Kind, String) {
        let error = self.pull(name).await.unwrap_err();
        self.holds_nothing().await;
        (error.kind(), error.chain())
    }

    /// No image, no layer, no blob, no half of one.
    pub async fn holds_nothing(&self) {
        assert!(self.images.list(None).unwrap().is_empty());
        // A layer that was whole when another failed may still be on its way in, and what was thrown
        // away is taken away in the background.
        for _ in 0..500 {
            self.images.reclaim().await.unwrap();
            if self.files().is_empty() && self.images.fs_info().used_bytes == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("left behind: {:?}", self.files());
    }

    /// Every file below layers and blobs, but for the store's own.
    fn files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for room in ["layers", "images"] {
            gather(&self.root.path().join(room), 0, &mut found);
        }
        found
    }

    /// The content of a file of an image's only layer.
    pub fn file(&self, name: &str) -> Vec<u8> {
        let layers = fs::read_dir(self.root.path().join("layers")).unwrap();
        let mut trees = layers.map(|entry| entry.unwrap().path().join("fs").join(name));
        fs::read(trees.find(|path| path.exists()).unwrap()).unwrap()
    }
}

/// The store's own folders are at its top, so what is deeper is somebody's.
fn gather(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.ends_with("layers/.points") {
            continue;
        }
        if depth > 0
            || (path.is_dir()
                && !path.file_name().unwrap().to_str().unwrap().starts_with('.')
                && folder.ends_with("layers"))
        {
            found.push(path.clone());
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            gather(&path, depth + 1, found);
        }
    }
}

/// A tar of one file, owned by whoever runs the tests.
pub fn tar_of(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = header(tar::EntryType::Regular);
    header.set_size(content.len() as u64);
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_data(&mut header, name, content).unwrap();
    builder.into_inner().unwrap()
}

/// A header of this kind without a name.
pub fn header(kind: tar::EntryType) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o755);
    header.set_size(0);
    header.set_uid(rustix::process::geteuid().as_raw().into());
    header.set_gid(rustix::process::getegid().as_raw().into());
    header
}

/// With gzip, as layers travel.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut gzip, bytes).unwrap();
    gzip.finish().unwrap()
}

/// A layer of one file: its blob, and the digest of its tar.
pub fn layer_of(name: &str, content: &[u8]) -> (Vec<u8>, Digest) {
    let tar = tar_of(name, content);
    (gzip(&tar), Digest::of(&tar))
}

/// Bytes that cannot be compressed, the same ones each time.
pub fn noise(length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7);
    (0..length).map(|_| random.u8(..)).collect()
}
