//! Makes what pulls have stored durable, in the background, and seals it where the node's owner wants that.
//!
//! A sync takes the disk from whoever uses it: a pull beside one took three times as long. So it
//! waits until no pull is under way, and no longer than [`LATEST`], since until then a power cut has
//! the layers fetched again.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};
use tracing::warn;

use super::{blocking, check_images::giving_way, images::Images};

/// Who pulls one image often pulls another at once.
pub(super) const CALM: Duration = Duration::from_secs(2);
/// The longest that a sync waits for pulls.
pub(super) const LATEST: Duration = Duration::from_secs(20);

impl Images {
    /// Makes all layers durable soon; one sync serves all that wait for it.
    pub fn settle(self: &Arc<Self>) {
        let images = Arc::clone(self);
        tokio::spawn(async move {
            images.await_calm().await;
            images.make_durable().await;
            images.seal().await;
        });
    }

    async fn make_durable(&self) {
        let _one = self.syncing.lock().await;
        let layers = Arc::clone(&self.layers);
        if let Err(error) = blocking(move || Ok(layers.make_durable()?)).await {
            warn!(
                error = error.chain(),
                "layers are not durable yet; a power cut would have them fetched again"
            );
        }
    }

    async fn seal(&self) {
        let layers = Arc::clone(&self.layers);
        let sealed = giving_way(move || layers.seal()).await;
        if let Err(error) = sealed.and_then(|sealed| Ok(sealed?)) {
            warn!(
                error = error.chain(),
                "layers are not sealed by fs-verity yet"
            );
        }
    }

    async fn await_calm(&self) {
        let latest = Instant::now() + LATEST;
        sleep(CALM).await;
        while self.is_pulling() && Instant::now() < latest {
            sleep(CALM).await;
        }
    }
}
