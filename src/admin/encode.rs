//! What the daemon knows, in the messages of the admin API.

use crate::config::raw::{KEYS, Key, RawConfig};
use crate::engine::{
    ArchiveForm, CheckReport, Condition, ExportStep, Fault, Finding, InspectedImage, Route,
};
use crate::id::ImageRef;
use crate::model::container::{Container, ContainerState};
use crate::model::host::{CgroupDriver, CgroupMode, HostFacts};
use crate::model::image::{Image, Progress, Stage};
use crate::model::sandbox::{Sandbox, SandboxState};
use corten_proto::admin::v1;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds since the epoch.
pub fn nanoseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Which readers an export is for.
pub fn archive_form(form: v1::ArchiveForm) -> ArchiveForm {
    match form {
        v1::ArchiveForm::Unspecified | v1::ArchiveForm::Oci => ArchiveForm::Oci,
        v1::ArchiveForm::Docker => ArchiveForm::Docker,
    }
}

impl From<ExportStep> for v1::ExportImagePart {
    fn from(step: ExportStep) -> Self {
        use v1::export_image_part::Part;
        let part = match step {
            ExportStep::Member { name, size } => Part::Member(v1::ExportMember { name, size }),
            ExportStep::Data(data) => Part::Data(data),
        };
        Self { part: Some(part) }
    }
}

/// A host that a pull would ask.
pub fn route(image: &ImageRef, route: &Route) -> v1::PullRoute {
    v1::PullRoute {
        image: image.to_string(),
        url: route.url.clone(),
        namespace: route.namespace.clone().unwrap_or_default(),
        asked_for: route.asked_for.iter().map(ToString::to_string).collect(),
        mirror: route.mirror,
        skip_verify: route.skip_verify,
        place: route
            .place
            .as_ref()
            .map_or_else(String::new, ToString::to_string),
    }
}

/// Who makes cgroups, and of what kind they are.
pub fn cgroup(driver: CgroupDriver, mode: CgroupMode) -> v1::Cgroup {
    let driver = match driver {
        CgroupDriver::Cgroupfs => "cgroupfs",
        CgroupDriver::Systemd => "systemd",
    };
    let version = match mode {
        CgroupMode::Unified => "v2",
        CgroupMode::Hybrid => "hybrid",
        CgroupMode::Legacy => "v1",
    };
    v1::Cgroup {
        driver: driver.to_owned(),
        version: version.to_owned(),
    }
}

/// What the node can.
pub fn host(facts: &HostFacts) -> Vec<v1::HostFact> {
    let yes = |fact: bool| if fact { "yes" } else { "no" }.to_owned();
    let fact = |name: &str, value: String, detail: &str| v1::HostFact {
        name: name.to_owned(),
        value,
        detail: detail.to_owned(),
    };
    vec![
        fact("kernel", facts.kernel.clone(), ""),
        fact("architecture", facts.architecture.clone(), ""),
        fact("controllers", facts.controllers.join(" "), ""),
        fact(
            "seccomp",
            yes(facts.seccomp),
            "system calls can be filtered",
        ),
        fact("apparmor", yes(facts.apparmor), ""),
        fact(
            "apparmor_profile",
            yes(facts.apparmor_profile),
            "containers get the profile corten-default",
        ),
        fact("selinux", yes(facts.selinux), ""),
        fact(
            "idmapped_mounts",
            yes(facts.idmapped_mounts),
            "volumes in user namespaces",
        ),
        fact(
            "recursive_read_only",
            yes(facts.recursive_read_only),
            "for mounts below mounts",
        ),
        fact(
            "user_namespaces",
            yes(facts.user_namespaces),
            match facts.user_namespaces {
                true => "pods with hostUsers: false",
                false => &facts.no_user_namespaces,
            },
        ),
        fact(
            "swap_accounting",
            yes(facts.swap_accounting),
            "limits on swap have effect",
        ),
        fact(
            "max_open_files",
            facts.max_open_files.to_string(),
            "no container gets more",
        ),
    ]
}

/// A condition, as the CRI's Status has it too.
pub fn condition(kind: &str, condition: &Condition) -> v1::Condition {
    v1::Condition {
        r#type: kind.to_owned(),
        ok: condition.ok,
        reason: condition.reason.clone(),
        message: condition.message.clone(),
    }
}

/// Sandboxes by state.
pub fn sandboxes(all: &[Arc<Sandbox>]) -> Vec<v1::StateCount> {
    counted(all.iter().map(|sandbox| match sandbox.state {
        SandboxState::Ready => "ready",
        SandboxState::Creating | SandboxState::NotReady => "notready",
    }))
}

/// Containers by state.
pub fn containers(all: &[Arc<Container>]) -> Vec<v1::StateCount> {
    counted(all.iter().map(|container| match container.state {
        ContainerState::Creating => "unknown",
        ContainerState::Created => "created",
        ContainerState::Running => "running",
        ContainerState::Exited(_) => "exited",
    }))
}

/// Images, all of which are whole.
pub fn images(count: usize) -> Vec<v1::StateCount> {
    counted(std::iter::repeat_n("ready", count))
}

fn counted<'a>(states: impl Iterator<Item = &'a str>) -> Vec<v1::StateCount> {
    let mut counts = BTreeMap::<&str, u64>::new();
    states.for_each(|state| *counts.entry(state).or_default() += 1);
    let count = |(state, count): (&str, u64)| v1::StateCount {
        state: state.to_owned(),
        count,
    };
    counts.into_iter().map(count).collect()
}

impl From<&Image> for v1::Image {
    fn from(image: &Image) -> Self {
        let record = &image.record;
        Self {
            id: record.id.to_string(),
            tags: record.tags.iter().map(ToString::to_string).collect(),
            digests: record.digests.iter().map(ToString::to_string).collect(),
            size: image.size,
            pinned: image.pinned,
            created_at: 0,
            artifact_type: image.artifact.clone().unwrap_or_default(),
        }
    }
}

/// An image that is in the store now, as the end of a pull.
pub fn pulled(image: &Image) -> v1::PullImageProgress {
    v1::PullImageProgress {
        event: Some(v1::pull_image_progress::Event::Image(stored(image))),
    }
}

/// The same, as a step of an import.
pub fn imported(image: &Image) -> v1::ImportImageProgress {
    v1::ImportImageProgress {
        event: Some(v1::import_image_progress::Event::Image(stored(image))),
    }
}

fn stored(image: &Image) -> v1::StoredImage {
    let record = &image.record;
    let names = record.tags.iter().chain(&record.digests);
    v1::StoredImage {
        image_id: record.id.to_string(),
        references: names.map(ToString::to_string).collect(),
    }
}

fn layer(progress: &Progress) -> v1::LayerProgress {
    let stage = match progress.stage {
        Stage::Resolving => v1::Stage::Resolving,
        Stage::Waiting => v1::Stage::Waiting,
        Stage::Fetching => v1::Stage::Fetching,
        Stage::Unpacking => v1::Stage::Unpacking,
        Stage::Done => v1::Stage::Done,
        Stage::Exists => v1::Stage::Exists,
    };
    v1::LayerProgress {
        stage: stage.into(),
        digest: progress
            .layer
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        bytes_done: progress.done,
        bytes_total: progress.total,
    }
}

impl From<&InspectedImage> for v1::InspectImageResponse {
    fn from(inspected: &InspectedImage) -> Self {
        let layers = inspected.layers.iter().map(|layer| v1::Layer {
            chain_id: layer.chain.to_string(),
            diff_id: layer.diff_id.to_string(),
            size: layer.usage.bytes,
            inodes: layer.usage.inodes,
            durable: layer.durable,
        });
        Self {
            image: Some(inspected.image.as_ref().into()),
            manifest: inspected.image.record.manifest.to_string(),
            layers: layers.collect(),
            config: inspected.config.clone(),
        }
    }
}

impl From<&Progress> for v1::PullImageProgress {
    fn from(progress: &Progress) -> Self {
        Self {
            event: Some(v1::pull_image_progress::Event::Layer(layer(progress))),
        }
    }
}

impl From<&Progress> for v1::ImportImageProgress {
    fn from(progress: &Progress) -> Self {
        Self {
            event: Some(v1::import_image_progress::Event::Layer(layer(progress))),
        }
    }
}

impl From<&Finding> for v1::CheckImagesResponse {
    fn from(finding: &Finding) -> Self {
        let fault = match finding.fault {
            Fault::Missing => v1::Fault::Missing,
            Fault::Changed => v1::Fault::Changed,
            Fault::Orphan => v1::Fault::Orphan,
            Fault::Unreadable => v1::Fault::Unreadable,
        };
        let finding = v1::Finding {
            fault: fault.into(),
            image_id: finding
                .image
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            digest: finding
                .digest
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            path: finding.path.clone(),
            detail: finding.detail.clone(),
        };
        Self {
            event: Some(v1::check_images_response::Event::Finding(finding)),
        }
    }
}

impl From<&CheckReport> for v1::CheckImagesResponse {
    fn from(report: &CheckReport) -> Self {
        let summary = v1::CheckSummary {
            images: report.images,
            layers: report.layers,
            bytes: report.bytes,
            findings: report.findings.len() as u64,
            repaired: report.repaired,
            unrepaired: report.unrepaired,
        };
        Self {
            event: Some(v1::check_images_response::Event::Summary(summary)),
        }
    }
}

/// Where each key's value came from.
pub fn origins(settings: &RawConfig) -> Vec<v1::ConfigOrigin> {
    let origin = |key: &Key| {
        let origin = settings.origin(key);
        v1::ConfigOrigin {
            key: key.name.to_owned(),
            file: origin
                .map(|o| o.file.display().to_string())
                .unwrap_or_default(),
            line: origin.and_then(|o| u32::try_from(o.line).ok()).unwrap_or(0),
        }
    };
    KEYS.iter().map(origin).collect()
}
