//! How long the parts of making and starting containers take.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use std::time::Duration;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Parts {
    part: &'static str,
}

/// The figures of making and starting containers. All copies count together.
#[derive(Debug, Clone)]
pub struct ContainerMetrics {
    parts: Family<Parts, Histogram, fn() -> Histogram>,
}

impl Default for ContainerMetrics {
    fn default() -> Self {
        Self {
            parts: Family::new_with_constructor(histogram),
        }
    }
}

/// From 50 microseconds to 1.6 seconds.
fn histogram() -> Histogram {
    Histogram::new(exponential_buckets(50e-6, 2.0, 16))
}

impl ContainerMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "container_start_part",
            "What its shim needs for each part of making and starting a container",
            Unit::Seconds,
            self.parts.clone(),
        );
    }

    /// A part of making or starting one container has taken so long.
    pub fn took(&self, part: &'static str, time: Duration) {
        let histogram = self.parts.get_or_create(&Parts { part });
        histogram.observe(time.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::super::Metrics;
    use super::*;

    #[test]
    fn each_part_has_its_sum_and_count() {
        let metrics = Metrics::default();
        let containers = metrics.containers();
        containers.took("mounts", Duration::from_millis(1));
        containers.took("mounts", Duration::from_millis(2));
        containers.took("exec", Duration::from_micros(40));
        let text = metrics.text();
        for line in [
            "corten_container_start_part_seconds_sum{part=\"mounts\"} 0.003",
            "corten_container_start_part_seconds_count{part=\"mounts\"} 2",
            "corten_container_start_part_seconds_bucket{le=\"0.0016\",part=\"mounts\"} 1",
            "corten_container_start_part_seconds_bucket{le=\"0.00005\",part=\"exec\"} 1",
        ] {
            assert!(
                text.contains(&format!("{line}\n")),
                "{line} is not in\n{text}"
            );
        }
    }
}
