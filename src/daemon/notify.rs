//! What systemd is told: ready, stopping, reloading, and alive as long as a check of this daemon's
//! own socket says so. Without systemd nothing is told.

use crate::cri::health;
use sd_notify::NotifyState;
use std::path::PathBuf;
use tracing::{error, warn};

/// Tells the state; a manager that cannot be reached does not stop the daemon.
pub fn tell(state: &[NotifyState<'_>]) {
    if let Err(e) = sd_notify::notify(state) {
        warn!(error = %e, "systemd cannot be told");
    }
}

/// Tells systemd that a reload has begun; it waits for the next READY.
pub fn reloading() {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        tell(&[NotifyState::Reloading, now]);
    }
}

/// As long as systemd watches: asks the own socket for Status twice in each interval, and only a
/// good answer counts as a sign of life.
pub async fn watchdog(endpoint: PathBuf) {
    let Some(interval) = sd_notify::watchdog_enabled() else {
        return;
    };
    let mut ticks = tokio::time::interval(interval / 2);
    loop {
        ticks.tick().await;
        match health::check(&endpoint, interval / 2).await {
            Ok(()) => tell(&[NotifyState::Watchdog]),
            Err(e) => error!(error = %e.chain(), "the own socket does not answer"),
        }
    }
}
