//! What a list is narrowed by.

use super::check::known;
use crate::error::{Error, Result};
use crate::model::container::{ContainerFilter, StateFilter};
use crate::model::sandbox::SandboxFilter;
use corten_proto::runtime::v1;

impl TryFrom<v1::PodSandboxFilter> for SandboxFilter {
    type Error = Error;

    fn try_from(asked: v1::PodSandboxFilter) -> Result<Self> {
        let ready = |state: v1::PodSandboxStateValue| {
            let state: v1::PodSandboxState = known(state.state, "filter.state")?;
            Ok::<_, Error>(state == v1::PodSandboxState::SandboxReady)
        };
        Ok(Self {
            id: asked.id,
            ready: asked.state.map(ready).transpose()?,
            labels: asked.label_selector.into_iter().collect(),
        })
    }
}

impl From<v1::PodSandboxStatsFilter> for SandboxFilter {
    fn from(asked: v1::PodSandboxStatsFilter) -> Self {
        Self {
            id: asked.id,
            ready: None,
            labels: asked.label_selector.into_iter().collect(),
        }
    }
}

impl TryFrom<v1::ContainerFilter> for ContainerFilter {
    type Error = Error;

    fn try_from(asked: v1::ContainerFilter) -> Result<Self> {
        Ok(Self {
            id: asked.id,
            sandbox_id: asked.pod_sandbox_id,
            state: asked.state.map(|s| state(s.state)).transpose()?,
            labels: asked.label_selector.into_iter().collect(),
        })
    }
}

impl From<v1::ContainerStatsFilter> for ContainerFilter {
    fn from(asked: v1::ContainerStatsFilter) -> Self {
        Self {
            id: asked.id,
            sandbox_id: asked.pod_sandbox_id,
            state: None,
            labels: asked.label_selector.into_iter().collect(),
        }
    }
}

fn state(number: i32) -> Result<StateFilter> {
    Ok(match known(number, "filter.state")? {
        v1::ContainerState::ContainerCreated => StateFilter::Created,
        v1::ContainerState::ContainerRunning => StateFilter::Running,
        v1::ContainerState::ContainerExited => StateFilter::Exited,
        v1::ContainerState::ContainerUnknown => StateFilter::Unknown,
    })
}
