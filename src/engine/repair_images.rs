//! `corten image check --repair`: what a check found broken is fetched again, that alone, while
//! containers run on.
//!
//! A broken layer is distrusted: the next pull of an image that has it brings it anew, and the commit
//! puts it in the place of the broken one (`snapshot/replace.rs`). So a repair is a pull by digest; one
//! that fails leaves the layer distrusted, and the kubelet's next pull with its own credentials mends it.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    blocking,
    check_images::{CheckReport, Fault, Finding, FindingSink},
    images::Images,
};
use crate::{
    error::{Error, Result},
    id::{ChainId, ImageId},
    model::{credentials::Credentials, image::ImageRecord},
};

impl Images {
    /// Checks as [`Images::check`] does, and mends what is broken from the images' registries, with the
    /// node's own credentials. What cannot be mended is told as a further finding.
    ///
    /// # Errors
    /// As [`Images::check`].
    pub async fn repair(
        self: &Arc<Self>,
        names: &[String],
        found: FindingSink,
    ) -> Result<CheckReport> {
        let mut report = self.check_telling(names, Arc::clone(&found)).await?;
        for record in self.affected(&report) {
            if self.is_whole(&record).await {
                // Another image's pull has mended what the two share.
                report.repaired += 1;
                continue;
            }
            let fetched = self.fetch_again(&record).await;
            match fetched {
                Ok(()) => report.repaired += 1,
                Err(_) if self.is_whole(&record).await => report.repaired += 1,
                Err(error) => {
                    let finding = unmended(record.id, &error);
                    found(&finding);
                    report.findings.push(finding);
                    report.unrepaired += 1;
                }
            }
        }
        self.reclaim_soon();
        Ok(report)
    }

    /// Distrusts the broken layers; gives all images that have one, or miss something else.
    fn affected(&self, report: &CheckReport) -> Vec<ImageRecord> {
        let broken: BTreeSet<ChainId> = broken_parts(report).map(ChainId).collect();
        for chain in &broken {
            if self.layers.get(chain).is_some() {
                self.layers.distrust(chain.clone());
            }
        }
        let found: BTreeSet<_> = report.findings.iter().flat_map(|it| &it.image).collect();
        let mut records = self.records();
        records.retain(|record| {
            found.contains(&record.id) || record.layers.iter().any(|chain| broken.contains(chain))
        });
        records
    }

    async fn is_whole(self: &Arc<Self>, record: &ImageRecord) -> bool {
        let layers = record.layers.iter();
        if !layers.clone().all(|chain| self.layers.is_there(chain)) {
            return false;
        }
        let content = Arc::clone(&self.content);
        let blobs = [record.id.0.clone(), record.manifest.clone()];
        let read = move || Ok(blobs.iter().all(|blob| content.get(blob).is_ok()));
        blocking(read).await.unwrap_or(false)
    }

    /// Pulls it by a name that can mean nothing else: a tag may have moved on.
    async fn fetch_again(self: &Arc<Self>, record: &ImageRecord) -> Result<()> {
        let nameless = "no registry is known to have it: import it again, and it is mended";
        let mut failed = Error::not_found(nameless);
        for name in &record.digests {
            let pulled = self.pull(name, Credentials::default(), Arc::new(|_| {}));
            match pulled.await {
                Ok(_) => return Ok(()),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }
}

/// Digests of what is not as it was: of layers their chain ids.
fn broken_parts(report: &CheckReport) -> impl Iterator<Item = crate::id::Digest> + '_ {
    let of_images = report.findings.iter().filter(|it| it.image.is_some());
    of_images.filter_map(|it| it.digest.clone())
}

fn unmended(image: ImageId, error: &Error) -> Finding {
    Finding {
        fault: Fault::Unreadable,
        image: Some(image),
        digest: None,
        path: String::new(),
        detail: format!("not repaired: {}", error.chain()),
    }
}
