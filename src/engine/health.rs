//! The HEALTHCHECK of a container's image, where the node or the pod asks for it: a command that is
//! run in the container from time to time. What comes of it is shown and counted; the kubelet's probes
//! stay the kubelet's.
//!
//! Invariant: a container is looked after from its start to its end, whatever daemons come and go, and
//! nothing waits for a check.

use super::objects::ContainerCell;
use super::{Engine, blocking, now, write_whole};
use crate::metrics::LiveHealth;
use crate::model::container::{Container, ContainerState};
use crate::model::health::{Checked, Health, Healthcheck, NO_CODE};
use crate::model::image::Image;
use crate::model::sandbox::Sandbox;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

/// The annotation of a pod that says whether its images' checks are run: `true` or `false`.
const ANNOTATION: &str = "corten.dev/healthcheck";
/// The name, in a container's directory, of what its health was last.
const RECORD: &str = "health.json";

impl Engine {
    /// The check of a container that is to be made; `None`: nobody asks for it, or there is none.
    pub(super) fn healthcheck(&self, sandbox: &Sandbox, image: &Image) -> Option<Healthcheck> {
        let said = sandbox.config.annotations.get(ANNOTATION);
        let is_asked = match said.map(String::as_str) {
            Some("true") => true,
            Some("false") => false,
            _ => self.node.image_healthchecks,
        };
        let check = image.config.healthcheck.as_ref().filter(|_| is_asked)?;
        Healthcheck::read(check).unwrap_or_else(|error| {
            tracing::warn!(image.id = %image.record.id, error, "the image's Healthcheck cannot be used; containers of it are not checked");
            None
        })
    }

    /// Looks after a running container's health until its end, where that is asked for.
    pub(super) fn watch_health(self: &Arc<Self>, cell: &Arc<ContainerCell>) {
        let container = cell.record();
        if container.state != ContainerState::Running {
            return;
        }
        if let Some(check) = container.healthcheck.clone() {
            let (engine, cell) = (Arc::clone(self), Arc::clone(cell));
            tokio::spawn(async move {
                let ended = Arc::clone(&cell);
                tokio::select! {
                    () = ended.ended() => {}
                    () = engine.check_on(&cell, &check) => {}
                }
            });
        }
    }

    /// Goes on with the checks of an earlier daemon.
    pub(super) async fn go_on_with_healthchecks(self: &Arc<Self>) {
        for cell in self.objects.containers() {
            let container = cell.record();
            if container.healthcheck.is_some() && container.state == ContainerState::Running {
                let path = self.health_record(&container);
                // One that is torn says as little as one that is absent.
                let read = move || Ok(std::fs::read(path).ok());
                let text = blocking(read).await.ok().flatten().unwrap_or_default();
                set(&cell, serde_json::from_slice(&text).unwrap_or_default());
                self.watch_health(&cell);
            }
        }
    }

    fn health_record(&self, container: &Container) -> PathBuf {
        self.ports.store.container_dir(&container.id).join(RECORD)
    }

    async fn check_on(&self, cell: &ContainerCell, check: &Healthcheck) {
        let mut live = self.ports.health.live(health(cell).status.word());
        let started_at = cell.record().started_at;
        loop {
            let pause = health(cell).pause(check, started_at, now());
            tokio::time::sleep(pause).await;
            let checked = self.check_once(cell, check).await;
            self.ports.health.count(checked.exit_code == 0);
            self.judge(cell, (checked, check), &mut live).await;
        }
    }

    async fn check_once(&self, cell: &ContainerCell, check: &Healthcheck) -> Checked {
        let (start, id) = (now(), cell.record().id.clone());
        let limit = Some(check.timeout);
        let done = self.exec_sync(id.as_str(), check.command.clone(), limit);
        match done.await {
            Ok(mut output) => {
                output.stdout.append(&mut output.stderr);
                Checked::new((start, now()), output.code, &output.stdout)
            }
            Err(error) => Checked::new((start, now()), NO_CODE, error.chain().as_bytes()),
        }
    }

    async fn judge(
        &self,
        cell: &ContainerCell,
        (checked, check): (Checked, &Healthcheck),
        live: &mut LiveHealth,
    ) {
        let container = cell.record();
        let mut health = health(cell);
        let before = health.status;
        health.take(checked, check, container.started_at);
        if health.status != before {
            let said = health.log.back().map_or("", |last| last.output.as_str());
            tracing::info!(container.id = %container.id, health = health.status.word(), said, "container's health has changed");
            live.change(health.status.word());
        }
        set(cell, health.clone());
        let path = self.health_record(&container);
        if let Err(error) = blocking(move || write_whole(&path, &health)).await {
            tracing::warn!(container.id = %container.id, error = error.chain(), "a container's health could not be written; a restart begins anew");
        }
    }
}

/// What a container's health is now.
pub(super) fn health(cell: &ContainerCell) -> Health {
    let health = cell.health.lock();
    health.unwrap_or_else(PoisonError::into_inner).clone()
}

fn set(cell: &ContainerCell, health: Health) {
    let place = cell.health.lock();
    *place.unwrap_or_else(PoisonError::into_inner) = health;
}
