//! What happened to pods and containers.

use crate::engine::ContainerEvent;
use crate::model::event::EventKind;
use corten_proto::runtime::v1;

impl From<&ContainerEvent> for v1::ContainerEventResponse {
    fn from(event: &ContainerEvent) -> Self {
        let containers = event.containers.iter();
        Self {
            container_id: event.subject.clone(),
            container_event_type: kind(event.kind).into(),
            created_at: event.at,
            pod_sandbox_status: Some(event.sandbox.as_ref().into()),
            containers_statuses: containers.map(|one| one.as_ref().into()).collect(),
        }
    }
}

fn kind(kind: EventKind) -> v1::ContainerEventType {
    match kind {
        EventKind::Created => v1::ContainerEventType::ContainerCreatedEvent,
        EventKind::Started => v1::ContainerEventType::ContainerStartedEvent,
        EventKind::Stopped => v1::ContainerEventType::ContainerStoppedEvent,
        EventKind::Deleted => v1::ContainerEventType::ContainerDeletedEvent,
    }
}
