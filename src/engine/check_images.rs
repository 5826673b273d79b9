//! Checks the store against its records: blobs by their digest, those of layers where they are kept, and
//! every file of every layer against what it was when it was unpacked. It runs on a thread that gives way to all others.
//!
//! Invariants: it ends with who asked for it; nothing is changed here. Layers that are being checked are pinned, so that none goes
//! meanwhile; one that several images share is read once.

use std::{collections::HashSet, sync::Arc, thread};

use tokio::sync::oneshot;

use super::{images::Images, keep_blobs::kept_of};
use crate::{
    content::Content,
    error::{Context, Error, Kind, Result},
    id::{ChainId, Digest, ImageId},
    model::image::Image,
    snapshot::{Deviation, Difference, Layers, Stop, Verified},
};

/// How nice a check is: it gets a tenth of what others get who want the same processor.
const GIVING_WAY: i32 = 10;
/// Files of one layer that are told one by one; of more, only how many there are.
const TOLD: usize = 20;

/// In which way something stored is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A record names it, and it is not there.
    Missing,
    /// It is there with other content.
    Changed,
    /// It is there and no record names it.
    Orphan,
    /// It cannot be read.
    Unreadable,
}

/// One thing in the store that is not as it was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// In which way.
    pub fault: Fault,
    /// The image that it belongs to; `None` for an orphan.
    pub image: Option<ImageId>,
    /// The blob, or the chain id of the layer; `None` where the image as a whole is meant.
    pub digest: Option<Digest>,
    /// The file in the layer; empty where it is not about one.
    pub path: String,
    /// For a person.
    pub detail: String,
}

/// What a check looked at and found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// Images looked at.
    pub images: u64,
    /// Layers looked at; one that several images share counts once.
    pub layers: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Images that were mended.
    pub repaired: u64,
    /// Images that could not be mended.
    pub unrepaired: u64,
}

/// Whom to tell of what is found, as it is found; called from any thread.
pub type FindingSink = Arc<dyn Fn(&Finding) + Send + Sync>;

impl Images {
    /// Checks the images of these names, or the whole store with its orphans.
    ///
    /// # Errors
    /// `NotFound` where a name names no image.
    pub async fn check(self: &Arc<Self>, names: &[String]) -> Result<CheckReport> {
        self.check_telling(names, Arc::new(|_| {})).await
    }

    /// The same, and tells each finding when it is found.
    ///
    /// # Errors
    /// As [`Images::check`].
    pub async fn check_telling(
        self: &Arc<Self>,
        names: &[String],
        found: FindingSink,
    ) -> Result<CheckReport> {
        let chosen = self.chosen(names)?;
        let chains: Vec<ChainId> = chosen
            .iter()
            .flat_map(|image| image.record.layers.iter().cloned())
            .collect();
        let pins = self.pin(&chains);
        let asker = Asker::default();
        let mut check = Check {
            content: Arc::clone(&self.content),
            layers: Arc::clone(&self.layers),
            seen: HashSet::new(),
            seen_blobs: HashSet::new(),
            report: CheckReport::default(),
            found,
            stop: asker.0.clone(),
        };
        let mut check = giving_way(move || {
            // Also where nobody waits any more: what is being read stays until it is let go.
            let _pins = pins;
            chosen.iter().for_each(|image| check.image(image));
            check
        })
        .await?;
        if names.is_empty() {
            self.check_store(&mut check);
        }
        Ok(check.report)
    }

    fn chosen(&self, names: &[String]) -> Result<Vec<Arc<Image>>> {
        let named = |name: &String| {
            self.status(name)?
                .ok_or_else(|| Error::not_found(format!("no image {name}")))
        };
        match names {
            [] => Ok(self.all()),
            _ => names.iter().map(named).collect(),
        }
    }

    /// What belongs to no image, and images that are not shown.
    fn check_store(&self, check: &mut Check) {
        for (id, detail) in self.incomplete() {
            check.find(Fault::Missing, Some(&id), None, detail);
        }
        let mut used = self.used_layers();
        used.extend(self.content.unfinished().unwrap_or_default().layers);
        let mut orphans = self.layers.all();
        orphans.retain(|layer| !used.contains(&layer.chain));
        for layer in orphans {
            let detail = "a layer of no image; the next removal reclaims it".to_owned();
            check.find(Fault::Orphan, None, Some(&layer.chain.0), detail);
        }
    }
}

/// Who asked for a check: gone, it ends.
#[derive(Default)]
struct Asker(Stop);

impl Drop for Asker {
    fn drop(&mut self) {
        self.0.ask();
    }
}

/// A check under way.
struct Check {
    content: Arc<Content>,
    layers: Arc<Layers>,
    /// Layers that were looked at.
    seen: HashSet<ChainId>,
    /// Layers' blobs that were looked at.
    seen_blobs: HashSet<Digest>,
    report: CheckReport,
    found: FindingSink,
    stop: Stop,
}

impl Check {
    fn image(&mut self, image: &Image) {
        if self.stop.is_asked() {
            return;
        }
        self.report.images += 1;
        let id = &image.record.id;
        for digest in [&id.0, &image.record.manifest] {
            self.blob(id, digest);
        }
        for (digest, _) in kept_of(&self.content, &image.record) {
            if self.seen_blobs.insert(digest.clone()) {
                self.kept_blob(id, &digest);
            }
        }
        for chain in &image.record.layers {
            if self.seen.insert(chain.clone()) {
                self.layer(id, chain);
            }
        }
    }

    fn blob(&mut self, image: &ImageId, digest: &Digest) {
        match self.content.get(digest) {
            Ok(bytes) => self.report.bytes += bytes.len() as u64,
            Err(error) => {
                let fault = match error.kind() {
                    Kind::NotFound => Fault::Missing,
                    _ => Fault::Changed,
                };
                let detail = Error::from(error).chain();
                self.find(fault, Some(image), Some(digest), detail);
            }
        }
    }

    /// One that is not there was not kept: then only an export misses it.
    fn kept_blob(&mut self, image: &ImageId, digest: &Digest) {
        let stop = self.stop.clone();
        match self.content.verify_blob(digest, || stop.is_asked()) {
            Ok(read) => self.report.bytes += read.unwrap_or(0),
            Err(error) => {
                let detail = Error::from(error).chain();
                self.find(Fault::Changed, Some(image), Some(digest), detail);
            }
        }
    }

    fn layer(&mut self, image: &ImageId, chain: &ChainId) {
        self.report.layers += 1;
        match self.layers.verify(chain, &self.stop) {
            // Of one that was not read to its end nothing is said.
            _ if self.stop.is_asked() => {}
            Ok(verified) => self.compared(image, chain, &verified),
            Err(error) => {
                let fault = match error.kind() {
                    Kind::NotFound => Fault::Missing,
                    _ => Fault::Unreadable,
                };
                let detail = Error::from(error).chain();
                self.find(fault, Some(image), Some(&chain.0), detail);
            }
        }
    }

    fn compared(&mut self, image: &ImageId, chain: &ChainId, verified: &Verified) {
        self.report.bytes += verified.bytes;
        let (told, more) = verified
            .deviations
            .split_at(verified.deviations.len().min(TOLD));
        for deviation in told {
            self.tell(Finding {
                fault: fault(deviation),
                image: Some(image.clone()),
                digest: Some(chain.0.clone()),
                path: deviation.path.display().to_string(),
                detail: deviation.detail.clone(),
            });
        }
        if let (Some(last), count) = (told.last(), more.len())
            && count > 0
        {
            let detail = format!("and {count} more in this layer");
            self.find(fault(last), Some(image), Some(&chain.0), detail);
        }
    }

    fn find(
        &mut self,
        fault: Fault,
        image: Option<&ImageId>,
        digest: Option<&Digest>,
        detail: String,
    ) {
        self.tell(Finding {
            fault,
            image: image.cloned(),
            digest: digest.cloned(),
            path: String::new(),
            detail,
        });
    }

    fn tell(&mut self, finding: Finding) {
        (self.found)(&finding);
        self.report.findings.push(finding);
    }
}

fn fault(deviation: &Deviation) -> Fault {
    match deviation.difference {
        Difference::Missing => Fault::Missing,
        Difference::Changed => Fault::Changed,
        Difference::Extra => Fault::Orphan,
        Difference::Unreadable => Fault::Unreadable,
    }
}

/// Runs what reads a whole disk on a thread of its own that gives way.
pub(super) async fn giving_way<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    let (done, result) = oneshot::channel();
    let work = move || {
        // Of this thread alone, as Linux has it. Where it is refused the check is only less polite.
        let _ = rustix::process::setpriority_process(None, GIVING_WAY);
        // Who asked may have gone away.
        let _ = done.send(work());
    };
    let started = thread::Builder::new()
        .name("corten-files".into())
        .spawn(work);
    started.context(Kind::Internal, || {
        "start a thread that reads files".to_owned()
    })?;
    result.await.context(Kind::Internal, || {
        "the thread that reads files ended early".to_owned()
    })
}
