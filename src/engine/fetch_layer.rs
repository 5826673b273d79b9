//! One layer: `download ─feed─▶ unpack`, from one host after the other until one gives the right
//! bytes.
//!
//! What comes of a large layer goes into a file beside, for the pull after a restart
//! (`content/partial.rs`): 0.1 s for 218 MB, where unpacking them takes three.
//!
//! Invariant: a mirror's wrong bytes cost no more than the time they took: what was unpacked of
//! them is thrown away, and the next host is asked. Only the registry's own fail the pull.

use std::{
    error::Error as _,
    io::{self, Read},
    sync::Arc,
};

use futures::StreamExt;
use sha2::{Digest as _, Sha256};
use tokio::task::JoinHandle;

use super::{
    image_layers::{Brought, ProgressSink, WantedLayer},
    images::Images,
    keep_blobs::Named,
    pull_image::{Pull, is_in_vain},
};
use crate::{
    content::Partial,
    error::{Error, Result},
    id::Digest,
    model::image::{Descriptor, Progress, Stage},
    registry::{self, BlobStream, Givers},
    unpack::{self, FeedReader, Feeder},
};

/// Layers of fewer bytes are unpacked sooner than a second thread has started, and fetched again sooner
/// than a file of theirs is made.
const SMALL: u64 = 1 << 20;
/// Bytes that are hashed at once.
const PIECE: usize = 64 << 10;
/// Progress is told after so many bytes.
const TELL_AFTER: u64 = 1 << 20;

impl Pull {
    /// Fetches a layer and unpacks it, verified.
    ///
    /// # Errors
    /// As the registry, the layer and the disk say.
    pub(super) async fn fetch(&self, layer: &WantedLayer) -> Result<Brought> {
        let givers = Givers::default();
        loop {
            let partial = match layer.size < SMALL && !self.images.keeps_blobs() {
                true => None,
                false => self.partial(&layer.named()).await?,
            };
            match self.attempt(layer, &givers, partial.clone()).await {
                Err(error) => after(error, partial, &givers).await?,
                done => return done,
            }
        }
    }

    /// Fetches a blob to keep it, verified, and unpacks nothing.
    ///
    /// # Errors
    /// As the registry and the disk say.
    pub(super) async fn fetch_blob(&self, blob: &Named, mut partial: Arc<Partial>) -> Result<()> {
        let givers = Givers::default();
        loop {
            match self.copy(blob, &givers, Arc::clone(&partial)).await {
                Err(error) => after(error, Some(partial), &givers).await?,
                done => return done,
            }
            let again = self.partial(blob).await?;
            partial = again.ok_or_else(|| Error::internal("somebody else fetches it"))?;
        }
    }

    async fn copy(&self, blob: &Named, givers: &Givers, partial: Arc<Partial>) -> Result<()> {
        let (_download, bytes) = self.open(blob, givers, Some(Arc::clone(&partial))).await?;
        let (content, expected) = (Arc::clone(&self.images.content), blob.0.clone());
        super::blocking(move || {
            let actual = digest_of(bytes.all()).map_err(unpack_error)?;
            if actual != expected {
                return Err(unpack_error(unpack::Error::DigestMismatch {
                    what: "blob",
                    expected,
                    actual,
                }));
            }
            match content.keep(&partial)? {
                true => Ok(()),
                false => Err(Error::internal("the blob could not be written")),
            }
        })
        .await
    }

    /// What is on the disk of a blob; `None` where somebody else fetches it.
    pub(super) async fn partial(&self, blob: &Named) -> Result<Option<Arc<Partial>>> {
        let content = Arc::clone(&self.images.content);
        let (blob, size) = blob.clone();
        super::blocking(move || Ok(content.partial(&blob, size)?)).await
    }

    async fn attempt(
        &self,
        layer: &WantedLayer,
        givers: &Givers,
        partial: Option<Arc<Partial>>,
    ) -> Result<Brought> {
        let (download, bytes) = self.open(&layer.named(), givers, partial).await?;
        let unpacked = unpack_feed(Arc::clone(&self.images), layer.clone(), bytes).await;
        drop(download);
        crate::failpoint!("pull_image/unpacked");
        unpacked
    }

    /// Begins to download a blob, from where its partial ends.
    async fn open(
        &self,
        (digest, size): &Named,
        givers: &Givers,
        partial: Option<Arc<Partial>>,
    ) -> Result<(Aborting, Incoming)> {
        let blob = Descriptor {
            media_type: String::new(),
            digest: digest.clone(),
            size: *size,
            platform: None,
            annotations: std::collections::BTreeMap::new(),
        };
        let from = partial.as_ref().map_or(0, |partial| partial.begun());
        let stream = self
            .images
            .registry
            .blob_of(&self.image, &blob, &self.credentials, (from, givers))
            .await?;
        let (feeder, reader) = unpack::feed();
        let told = Told {
            blob: (digest.clone(), *size),
            progress: Arc::clone(&self.progress),
        };
        let download = tokio::spawn(download((from, stream), feeder, told));
        Ok((Aborting(download), Incoming { reader, partial }))
    }
}

/// After a failure: says whether another try is worth it, and drops what is of no use to it.
///
/// # Errors
/// The failure, where it is not.
async fn after(error: Error, partial: Option<Arc<Partial>>, givers: &Givers) -> Result<()> {
    let resumed = partial.as_ref().is_some_and(|it| it.begun() > 0);
    if let Some(partial) = partial.filter(|_| is_in_vain(&error)) {
        super::blocking(move || {
            partial.discard();
            Ok(())
        })
        .await?;
    }
    match for_its_bytes(&error) && another_try(&error, resumed, givers) {
        true => Ok(()),
        false => Err(error),
    }
}

/// The digest of all that comes.
fn digest_of(mut bytes: impl Read) -> std::result::Result<Digest, unpack::Error> {
    let mut hash = Sha256::new();
    let mut piece = vec![0; PIECE];
    let mut offset = 0;
    loop {
        match bytes.read(&mut piece) {
            Ok(0) => return Ok(Digest::finish(hash)),
            Ok(read) => {
                hash.update(&piece[..read]);
                offset += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(unpack::Error::Read { offset, source }),
        }
    }
}

/// Who hears how far a blob is.
struct Told {
    blob: Named,
    progress: ProgressSink,
}

impl Told {
    fn tell(&self, stage: Stage, done: u64) {
        (self.progress)(Progress {
            stage,
            layer: Some(self.blob.0.clone()),
            done,
            total: self.blob.1,
        });
    }
}

/// The bytes of a blob: those that come, and those that came before.
struct Incoming {
    reader: FeedReader,
    partial: Option<Arc<Partial>>,
}

impl Incoming {
    /// All of them in order. What comes is kept as it passes.
    fn all(self) -> Box<dyn Read + Send> {
        let Some(partial) = self.partial else {
            return Box::new(self.reader);
        };
        let prefix = partial.prefix();
        let reader = self.reader.seen_by(move |chunk| partial.append(chunk));
        Box::new(prefix.chain(reader))
    }
}

/// Whether it is worth another try, after the bytes that came were wrong.
fn another_try(error: &Error, resumed: bool, givers: &Givers) -> bool {
    if resumed {
        let error = error.chain();
        tracing::warn!(
            error,
            "what was fetched before a restart is wrong, or what came after it; the layer is fetched from the front"
        );
    }
    resumed || another_host(error, givers)
}

/// Whether there is another host to ask, after the bytes that came were wrong. Says whose they were.
pub(super) fn another_host(error: &Error, givers: &Givers) -> bool {
    let hosts = givers.blame();
    if !hosts.is_empty() {
        let error = error.chain();
        tracing::warn!(
            ?hosts,
            error,
            "mirror gave wrong bytes; the next host is asked"
        );
    }
    !hosts.is_empty()
}

/// Whether it is the bytes that are wrong, and neither the disk nor the way here.
fn for_its_bytes(error: &Error) -> bool {
    let mut cause = error.source();
    while let Some(at) = cause {
        if let Some(error) = at.downcast_ref::<unpack::Error>() {
            return match asked(error) {
                Some(error) => matches!(error, registry::Error::TooLarge { .. }),
                None => error.is_of_the_layer(),
            };
        }
        cause = at.source();
    }
    false
}

/// What the registry said, where the download failed.
fn asked(error: &unpack::Error) -> Option<&registry::Error> {
    let cause = error.read_cause().and_then(io::Error::get_ref);
    cause.and_then(|cause| cause.downcast_ref())
}

/// A task that ends with its owner.
struct Aborting(JoinHandle<()>);

impl Drop for Aborting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Moves bytes from the network to the unpacking thread, on a task of its own so that TLS of
/// several layers uses several cores.
async fn download((from, mut stream): (u64, BlobStream), feeder: Feeder, told: Told) {
    let (mut done, mut said) = (from, from);
    told.tell(Stage::Fetching, from);
    while let Some(chunk) = stream.next().await {
        let chunk = match chunk {
            Ok(chunk) => chunk,
            Err(error) => return feeder.fail(io::Error::other(error)),
        };
        done += chunk.len() as u64;
        if !feeder.send(chunk).await {
            return;
        }
        if done - said >= TELL_AFTER {
            said = done;
            told.tell(Stage::Fetching, done);
        }
    }
    told.tell(Stage::Unpacking, done);
    feeder.end();
}

async fn unpack_feed(images: Arc<Images>, layer: WantedLayer, bytes: Incoming) -> Result<Brought> {
    super::blocking(move || {
        let staged = images.layers.begin()?;
        let policy = images.policy().unpacking;
        let (tree, expected) = (staged.tree(), layer.expected(&policy));
        let blob = bytes.partial.clone();
        let unpacked = match (&layer.file, layer.size) {
            (Some(name), _) => unpack::unpack_file(bytes.all(), &tree, &expected, name),
            (None, ..SMALL) => unpack::unpack(bytes.all(), &tree, &expected),
            (None, _) => unpack::unpack_on_two(bytes.all(), &tree, &expected),
        };
        let unpacked = unpacked.map_err(unpack_error)?;
        Ok(Brought {
            staged,
            unpacked,
            blob,
        })
    })
    .await
}

/// An error of unpacking; where the download failed, it is the registry that says of what kind.
pub(super) fn unpack_error(error: unpack::Error) -> Error {
    let kind = asked(&error).map(registry::Error::kind);
    Error::new(kind.unwrap_or_else(|| error.kind()), "unpack").caused_by(error)
}
