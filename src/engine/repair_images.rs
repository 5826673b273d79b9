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
    keep_blobs::{Named, kept_of},
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
        let broken: BTreeSet<ChainId> = broken_parts(&report).map(ChainId).collect();
        self.distrust(broken.clone()).await?;
        let affected = self.affected(&report, &broken);
        let lost = self.drop_broken_blobs(&affected, broken).await?;
        for record in affected {
            match self.mend(&record, &lost).await {
                Ok(()) => report.repaired += 1,
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

    /// Has the broken layers brought anew, by this repair or any later pull.
    async fn distrust(&self, broken: BTreeSet<ChainId>) -> Result<()> {
        let layers = Arc::clone(&self.layers);
        blocking(move || {
            broken.iter().for_each(|chain| layers.distrust(chain));
            Ok(())
        })
        .await
    }

    /// All images that have a broken layer, or miss something else.
    fn affected(&self, report: &CheckReport, broken: &BTreeSet<ChainId>) -> Vec<ImageRecord> {
        let found: BTreeSet<_> = report.findings.iter().flat_map(|it| &it.image).collect();
        let mut records = self.records();
        records.retain(|record| {
            found.contains(&record.id) || record.layers.iter().any(|chain| broken.contains(chain))
        });
        records
    }

    /// Takes those of the layers' blobs away that are not what their names say; gives them. A pull keeps
    /// what is there, whatever it is.
    async fn drop_broken_blobs(
        &self,
        affected: &[ImageRecord],
        broken: BTreeSet<ChainId>,
    ) -> Result<Vec<Named>> {
        let (content, records) = (Arc::clone(&self.content), affected.to_vec());
        blocking(move || {
            let kept = records.iter().flat_map(|it| kept_of(&content, it));
            let mut lost: Vec<Named> = kept.collect();
            lost.retain(|(blob, _)| broken.contains(&ChainId(blob.clone())));
            // A layer that is not compressed may have the name of its blob.
            lost.retain(|(blob, _)| content.verify_blob(blob, || false).is_err());
            for (blob, _) in &lost {
                content.remove(blob)?;
            }
            Ok(lost)
        })
        .await
    }

    async fn mend(self: &Arc<Self>, record: &ImageRecord, lost: &[Named]) -> Result<()> {
        if !self.is_whole(record, lost).await
            && let Err(error) = self.fetch_again(record).await
            && !self.is_whole(record, lost).await
        {
            return Err(error);
        }
        // Another image's pull may have mended what the two share.
        self.show_again(&record.id).await
    }

    async fn is_whole(self: &Arc<Self>, record: &ImageRecord, lost: &[Named]) -> bool {
        let layers = record.layers.iter();
        if !layers.clone().all(|chain| self.layers.is_there(chain)) {
            return false;
        }
        let (content, keeps) = (Arc::clone(&self.content), self.keeps_blobs());
        let (record, lost) = (record.clone(), lost.to_vec());
        let read = move || {
            let blobs = [&record.id.0, &record.manifest];
            let there = blobs.iter().all(|blob| content.get(blob).is_ok());
            let mut missed = kept_of(&content, &record);
            missed.retain(|it| lost.contains(it) && !content.has(&it.0, it.1));
            Ok(there && (missed.is_empty() || !keeps))
        };
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

/// Digests of what is not as it was: of layers their chain ids, of blobs their own.
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
