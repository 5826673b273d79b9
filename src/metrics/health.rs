//! The figures of images' health checks.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Results {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Statuses {
    health: &'static str,
}

/// The figures of images' health checks. All copies count together.
#[derive(Debug, Clone, Default)]
pub struct HealthMetrics {
    checks: Family<Results, Counter>,
    containers: Family<Statuses, Gauge>,
}

impl HealthMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "healthchecks",
            "Checks of containers' health that ended, by result",
            self.checks.clone(),
        );
        registry.register(
            "containers_by_health",
            "Running containers that are checked, by what was found",
            self.containers.clone(),
        );
    }

    /// A check has ended.
    pub fn count(&self, is_success: bool) {
        let result = if is_success { "success" } else { "failure" };
        self.checks.get_or_create(&Results { result }).inc();
    }

    /// A container is checked from now on.
    #[must_use]
    pub fn live(&self, health: &'static str) -> LiveHealth {
        self.containers.get_or_create(&Statuses { health }).inc();
        LiveHealth {
            metrics: self.clone(),
            health,
        }
    }
}

/// A container that is checked; dropped it is not any more.
#[derive(Debug)]
pub struct LiveHealth {
    metrics: HealthMetrics,
    health: &'static str,
}

impl LiveHealth {
    /// Its health is this now.
    pub fn change(&mut self, health: &'static str) {
        *self = self.metrics.live(health);
    }
}

impl Drop for LiveHealth {
    fn drop(&mut self) {
        let health = self.health;
        let count = &self.metrics.containers;
        count.get_or_create(&Statuses { health }).dec();
    }
}
