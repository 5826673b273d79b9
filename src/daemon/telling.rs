//! Figures and health as a part of the daemon: counted always, told where an address is configured.
//!
//! Invariant: told from before the daemon takes up its objects until its end, so that whoever asks
//! meanwhile hears that it is not ready.

use crate::metrics::{self, Metrics};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::task::JoinHandle;
use tracing::{error, info};

/// The figures, and what tells them.
pub struct Telling {
    metrics: Arc<Metrics>,
    served: Option<JoinHandle<()>>,
}

impl Drop for Telling {
    fn drop(&mut self) {
        if let Some(served) = &self.served {
            served.abort();
        }
    }
}

impl Telling {
    /// Begins to tell, if there is an address that can be used; the log says if not.
    pub async fn begin(address: Option<SocketAddr>) -> Self {
        let metrics = Arc::new(Metrics::default());
        let served = match address {
            Some(address) => serve(address, Arc::clone(&metrics)).await,
            None => None,
        };
        Self { metrics, served }
    }

    /// The figures.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

async fn serve(address: SocketAddr, metrics: Arc<Metrics>) -> Option<JoinHandle<()>> {
    let listener = match metrics::listen(address).await {
        Ok(listener) => listener,
        Err(error) => {
            error!(error = %error.chain(), "figures and health are not told");
            return None;
        }
    };
    info!(%address, "figures and health");
    Some(tokio::spawn(async move {
        metrics::serve(listener, metrics).await;
    }))
}
