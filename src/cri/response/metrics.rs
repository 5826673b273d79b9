//! Metrics of pods and containers, and what each of them is.

use crate::model::pod_metrics::{Behaviour, Family, PodMetrics, Sample, Samples};
use corten_proto::runtime::v1;

impl From<&Family> for v1::MetricDescriptor {
    fn from(family: &Family) -> Self {
        Self {
            name: family.name.to_owned(),
            help: family.help.to_owned(),
            label_keys: family.keys().map(str::to_owned).collect(),
        }
    }
}

impl From<&PodMetrics> for v1::PodSandboxMetrics {
    fn from(told: &PodMetrics) -> Self {
        let containers = told.containers.iter();
        Self {
            pod_sandbox_id: told.id.to_string(),
            metrics: metrics(&told.pod),
            container_metrics: containers
                .map(|(id, samples)| v1::ContainerMetrics {
                    container_id: id.to_string(),
                    metrics: metrics(samples),
                })
                .collect(),
        }
    }
}

fn metrics(of: &Samples) -> Vec<v1::Metric> {
    let base = of.labels.values();
    of.samples.iter().map(|told| metric(told, base)).collect()
}

fn metric(told: &Sample, base: [&str; 6]) -> v1::Metric {
    let own = told.own.iter().map(String::as_str);
    v1::Metric {
        name: told.family.name.to_owned(),
        timestamp: told.timestamp,
        metric_type: kind(told.family.behaviour).into(),
        label_values: base.into_iter().chain(own).map(str::to_owned).collect(),
        value: Some(v1::UInt64Value { value: told.value }),
    }
}

fn kind(behaviour: Behaviour) -> v1::MetricType {
    match behaviour {
        Behaviour::Counter => v1::MetricType::Counter,
        Behaviour::Gauge => v1::MetricType::Gauge,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::SandboxId;
    use crate::model::pod_metrics::{BaseLabels, families};

    #[test]
    fn a_value_has_a_label_for_each_key_in_the_keys_order() {
        let told = PodMetrics {
            id: SandboxId::random(),
            pod: Samples {
                labels: BaseLabels {
                    id: "/a/pod".into(),
                    namespace: "n".into(),
                    pod: "p".into(),
                    ..BaseLabels::default()
                },
                samples: vec![Sample {
                    family: &families::NETWORK_RECEIVE_BYTES,
                    own: vec!["eth0".into()],
                    value: 7,
                    timestamp: 0,
                }],
            },
            containers: Vec::new(),
        };
        let sent = v1::PodSandboxMetrics::from(&told);
        let metric = &sent.metrics[0];
        let descriptor = v1::MetricDescriptor::from(&families::NETWORK_RECEIVE_BYTES);
        let labels: Vec<_> = descriptor
            .label_keys
            .iter()
            .zip(&metric.label_values)
            .collect();
        assert_eq!(metric.label_values.len(), descriptor.label_keys.len());
        let has = |key: &str, value: &str| labels.iter().any(|(k, v)| *k == key && *v == value);
        for (key, value) in [
            ("id", "/a/pod"),
            ("namespace", "n"),
            ("pod", "p"),
            ("interface", "eth0"),
            ("container", ""),
        ] {
            assert!(has(key, value), "{key} is not {value:?}: {labels:?}");
        }
        assert_eq!(
            (metric.name.as_str(), metric.value.unwrap().value),
            (descriptor.name.as_str(), 7)
        );
        assert_eq!(metric.metric_type(), v1::MetricType::Counter);
    }
}
