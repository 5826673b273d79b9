//! After a start: every object as it is, and nothing that is half made.
//!
//! ```text
//! record                      found                         becomes
//! sandbox, Creating           –                             undone
//! sandbox, torn               –                             undone (recover_torn)
//! sandbox, removed            something is still held       undone
//! sandbox, stopped            something is still held       given back in the background
//! sandbox, Ready              this boot                     Ready
//! sandbox, Ready              an earlier boot               NotReady
//! sandbox, Ready              its holder has gone           NotReady
//! sandbox, Ready              its network has gone          NotReady, stopped
//! container, Creating         –                             undone
//! container, torn             –                             undone (recover_torn)
//! container, of its sandbox   the sandbox is unknown        undone
//! container, Exited           its shim answers              Exited; the shim goes with it
//! container, this boot        its shim answers              as the shim says
//! container, this boot        its shim does not answer      as the record says; asked again
//! container, this boot        no shim, an exit record       Exited, as the record says
//! container, this boot        no shim, no record            ended; Exited 255, Unknown
//! container, earlier boot     an exit record                Exited, as the record says
//! container, earlier boot     none                          Exited 255, Unknown
//! ```

use super::objects::{ContainerCell, SandboxCell};
use super::stop_pod_sandbox::NETWORK_TAKES;
use super::{Engine, blocking};
use crate::error::Result;
use crate::model::container::{Container, ContainerState};
use crate::model::sandbox::{Namespaces, Release, Sandbox, SandboxState};
use crate::task::Launched;
use futures::{StreamExt, stream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// No start waits longer for a plugin: what is not undone by then goes on while requests are served.
pub(super) const UNDO_TAKES: Duration = Duration::from_secs(3);
/// The pause before a shim that did not answer is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// The same for one whose connection has just ended: while a process is killed its sockets are closed
/// one after the other.
const SOON: Duration = Duration::from_millis(100);
const EARLIER_BOOT: &str = "the node was started anew while the container ran";
/// How many objects are looked after at once.
pub(super) const AT_ONCE: usize = 16;

impl Engine {
    /// Takes up what the store holds.
    pub(super) async fn recover(self: &Arc<Self>) -> Result<()> {
        let store = Arc::clone(&self.ports.store);
        let loaded = blocking(move || Ok(store.load()?)).await?;
        for error in &loaded.unreadable {
            tracing::error!(error = crate::error::chain(error), "a record is left alone");
        }
        self.ports.tasks.end_strays().await;
        stream::iter(loaded.sandboxes)
            .for_each_concurrent(AT_ONCE, |sandbox| self.recover_sandbox(sandbox))
            .await;
        let (left, containers) = loaded
            .containers
            .into_iter()
            .partition::<Vec<_>, _>(|one| loaded.unread_sandboxes.contains(&one.sandbox_id));
        self.leave_alone(&left);
        stream::iter(containers)
            .for_each_concurrent(AT_ONCE, |container| self.recover_container(container))
            .await;
        self.undo_torn(loaded.torn_sandboxes, loaded.torn_containers)
            .await;
        self.go_on_with_teardowns();
        self.go_on_with_healthchecks().await;
        if let Err(error) = self.ports.images.reclaim().await {
            tracing::warn!(
                error = error.chain(),
                "space is not reclaimed; the next removal of an image tries again"
            );
        }
        self.ports.images.reclaim_later();
        self.ports.images.settle();
        Ok(())
    }

    /// Stops again what was being stopped, and what a boot has stopped.
    fn go_on_with_teardowns(self: &Arc<Self>) {
        let cells = self.objects.sandboxes().into_iter();
        for cell in cells.filter(|cell| cell.record().release == Release::Wanted) {
            let engine = Arc::clone(self);
            tokio::spawn(async move {
                if let Err(error) = engine.stop_sandbox(&cell).await {
                    tracing::warn!(sandbox.id = %cell.record().id, error = error.chain(), "a pod that was being stopped is not stopped yet; it can be stopped again");
                }
            });
        }
    }

    async fn recover_sandbox(self: &Arc<Self>, mut sandbox: Sandbox) {
        if sandbox.state == SandboxState::Creating {
            tracing::warn!(sandbox.id = %sandbox.id, "a half made sandbox is undone");
            self.ports.networks.end_strays(&sandbox).await;
            return self.undo_sandbox(&sandbox, UNDO_TAKES).await;
        }
        if sandbox.release == Release::Removed {
            let engine = Arc::clone(self);
            tokio::spawn(async move { engine.undo_sandbox(&sandbox, NETWORK_TAKES).await });
            return;
        }
        let recorded = sandbox.state;
        if sandbox.boot_id != self.node.boot_id {
            // A boot ends namespaces; addresses live on in the plugins' files.
            sandbox.state = SandboxState::NotReady;
            sandbox.namespaces = Namespaces::default();
            sandbox.release = sandbox.release.max(Release::Wanted);
        }
        if sandbox.state == SandboxState::Ready && !self.ports.tasks.is_pinned(&sandbox.namespaces)
        {
            tracing::warn!(sandbox.id = %sandbox.id, "the pod's network namespace has gone");
            sandbox.state = SandboxState::NotReady;
            sandbox.release = Release::Wanted;
        }
        if let (Some(holder), SandboxState::Ready) = (sandbox.namespaces.holder, sandbox.state)
            && !self.ports.tasks.watch_holder(&sandbox.id, holder)
        {
            tracing::warn!(sandbox.id = %sandbox.id, "the process that held the pod has gone");
            sandbox.state = SandboxState::NotReady;
        }
        let cell = SandboxCell::new(sandbox);
        cell.acknowledged.store(true, Ordering::Relaxed);
        self.objects.announce_sandbox(Arc::new(cell), recorded);
    }

    /// Containers of sandboxes that cannot be read now: they run on, and keep their images.
    fn leave_alone(&self, containers: &[Container]) {
        for container in containers {
            tracing::error!(container.id = %container.id, sandbox.id = %container.sandbox_id, "a container is left alone with its sandbox, whose record cannot be read");
            for image in container.images() {
                // Where it has gone there is nothing to keep.
                let _ = self.ports.images.hold(&container.id, image);
            }
        }
    }

    async fn recover_container(self: &Arc<Self>, container: Container) {
        let orphan = !matches!(
            self.objects.sandbox(container.sandbox_id.as_str()),
            Ok(Some(_))
        );
        if orphan || container.state == ContainerState::Creating {
            tracing::warn!(container.id = %container.id, "a half made container is undone");
            return self.undo_container(&container).await;
        }
        let id = container.id.clone();
        for image in container.images() {
            if let Err(error) = self.ports.images.hold(&id, image) {
                tracing::warn!(container.id = %id, error = error.chain(), "a container's image is gone; it cannot be started anew from it");
            }
        }
        let cell = Arc::new(ContainerCell::new(container));
        cell.acknowledged.store(true, Ordering::Relaxed);
        // Entered first: the shim's news may come with its answer.
        self.objects.add_container(Arc::clone(&cell));
        if let Err(error) = self.find_again(&cell).await {
            tracing::error!(container.id = %id, error = error.chain(), "a container's shim does not answer; it is asked again");
            let engine = Arc::clone(self);
            tokio::spawn(async move { engine.seek_shim(&cell, ASK_AGAIN).await });
        }
    }

    /// After a pause, until its shim answers, or is found to have gone, or the container was ended by
    /// a request. Looked at once more when nobody is kept from seeking any longer: a shim may be lost
    /// as soon as it was found.
    pub(super) async fn seek_shim(self: &Arc<Self>, cell: &Arc<ContainerCell>, pause: Duration) {
        let mut pause = pause;
        while cell.lacks_shim() {
            let Ok(_alone) = cell.seeking.try_lock() else {
                return;
            };
            tokio::time::sleep(pause).await;
            if let Err(error) = self.find_again(cell).await {
                tracing::warn!(container.id = %cell.record().id, error = error.chain(), "a container's shim does not answer; it is asked again");
            }
            pause = if pause.is_zero() { SOON } else { ASK_AGAIN };
        }
    }

    async fn find_again(self: &Arc<Self>, cell: &Arc<ContainerCell>) -> Result<()> {
        let container = cell.record();
        if container.has_exited() {
            // An end that came while its start was written down: its shim may still be there.
            if let Some(launched) = self.ports.tasks.reconnect(&container.id).await? {
                cell.set_task(Some(launched.task));
            }
            return Ok(());
        }
        if container.boot_id != self.node.boot_id {
            let exit = self.exit_unseen(&container, EARLIER_BOOT).await;
            self.objects.change_container(cell, |container| {
                container.state = ContainerState::Exited(exit);
            });
            return Ok(());
        }
        match self.ports.tasks.reconnect(&container.id).await? {
            Some(launched) => {
                tracing::info!(container.id = %container.id, "a container's shim is found again");
                self.take_up(cell, launched);
                // That it ran had not been written down.
                if container.state == ContainerState::Created && cell.record().started_at > 0 {
                    self.save_container(cell.record()).await?;
                }
            }
            None => self.end_lost(cell).await,
        }
        Ok(())
    }

    /// The shim knows better than the record how far the container is.
    fn take_up(&self, cell: &ContainerCell, launched: Launched) {
        self.objects.change_container(cell, |container| {
            container.pid = launched.pid;
            container.start_time = launched.start_time;
            container.started_at = launched.started_at;
            container.state = match launched.exit {
                Some(exit) => ContainerState::Exited(exit),
                None if launched.started_at > 0 => ContainerState::Running,
                None => ContainerState::Created,
            };
        });
        cell.set_task(Some(launched.task));
    }
}
