//! A pod's namespaces, by the one-shot `corten-shim sandbox`.

use super::TaskError;
use super::error::within;
use super::process::{self, Spawned};
use super::program::Program;
use super::spare::{Starter, Verb};
use crate::model::sandbox::{IdMapping, Namespaces, Sandbox, UserNamespace};
use corten_shim::api::{
    IdMap, IdMaps, PinRequest, Pins, ProcessName, SandboxReply, SandboxRequest,
};
use corten_shim::packet::Received;
use rustix::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What such a helper is called.
pub const VERB: &str = "sandbox";
/// It unmounts lazily and waits for nothing but the holder's end.
const LIMIT: Duration = Duration::from_secs(30);
/// The size of a pod's `/dev/shm`, in bytes: what the field gives.
const SHM_SIZE: u64 = 64 * 1024 * 1024;

/// Makes and pins what the record names; tells the holder.
pub async fn pin(starter: &Arc<Starter>, pod: &Sandbox) -> Result<Option<(i32, u64)>, TaskError> {
    let verb = "pin the pod's namespaces";
    let request = SandboxRequest::Pin(PinRequest {
        pins: pins(&pod.namespaces),
        hostname: pod.config.hostname.clone(),
        sysctls: pod.sysctls().into_iter().collect(),
        shm_size: SHM_SIZE,
        cgroup: Some(match &pod.scope {
            Some(scope) => PathBuf::from(&scope.cradle),
            None => starter.cgroup().to_owned(),
        }),
        scoped: pod.scope.is_some(),
        ids: pod.config.security.namespaces.user.as_ref().map(ids),
    });
    match ask(starter, verb, &request).await? {
        SandboxReply::Pinned { holder } => Ok(holder.map(|h| (h.pid, h.start_time))),
        SandboxReply::Failed(failure) => Err(TaskError::Refused { verb, failure }),
        _ => Err(TaskError::Protocol { verb }),
    }
}

/// Tries out whether pods can have user namespaces, with layers below this directory.
pub async fn probe(program: &Path, layers: &Path) -> Result<(), TaskError> {
    let verb = "try a user namespace";
    let request = SandboxRequest::Probe(layers.to_owned());
    match answer(alone(program)?, verb, &request).await?.message {
        SandboxReply::Probed(Ok(())) => Ok(()),
        SandboxReply::Probed(Err(failure)) | SandboxReply::Failed(failure) => {
            Err(TaskError::Refused { verb, failure })
        }
        _ => Err(TaskError::Protocol { verb }),
    }
}

/// The program by a descriptor through which nobody can write it.
pub async fn seal(program: &Path) -> Result<OwnedFd, TaskError> {
    let verb = "seal corten-shim";
    let request = SandboxRequest::Seal(program.to_owned());
    let mut received = answer(alone(program)?, verb, &request).await?;
    match (received.message, received.fds.pop()) {
        (SandboxReply::Sealed, Some(sealed)) => Ok(sealed),
        (SandboxReply::Failed(failure), _) => Err(TaskError::Refused { verb, failure }),
        _ => Err(TaskError::Protocol { verb }),
    }
}

/// A mount namespace with almost nothing in it.
pub async fn bare(program: &Path) -> Result<OwnedFd, TaskError> {
    let verb = "make a bare mount namespace";
    let mut received = answer(alone(program)?, verb, &SandboxRequest::Bare).await?;
    match (received.message, received.fds.pop()) {
        (SandboxReply::Bare, Some(bare)) => Ok(bare),
        (SandboxReply::Failed(failure), _) => Err(TaskError::Refused { verb, failure }),
        _ => Err(TaskError::Protocol { verb }),
    }
}

/// One that is started by its path, before there is any other way.
fn alone(program: &Path) -> Result<Spawned, TaskError> {
    let program = Program::plain(program);
    process::spawn(&program, VERB, std::iter::empty::<&str>())
}

/// Takes away what was pinned.
pub async fn unpin(starter: &Arc<Starter>, namespaces: &Namespaces) -> Result<(), TaskError> {
    let verb = "release the pod's namespaces";
    match ask(starter, verb, &SandboxRequest::Unpin(pins(namespaces))).await? {
        SandboxReply::Unpinned => Ok(()),
        SandboxReply::Failed(failure) => Err(TaskError::Refused { verb, failure }),
        _ => Err(TaskError::Protocol { verb }),
    }
}

/// What travels with the reply is closed: an rtnetlink socket would keep the namespace alive.
async fn ask(
    starter: &Arc<Starter>,
    verb: &'static str,
    request: &SandboxRequest,
) -> Result<SandboxReply, TaskError> {
    let answered = answer(starter.take(Verb::Sandbox)?, verb, request).await;
    starter.fill(Verb::Sandbox);
    answered.map(|received| received.message)
}

async fn answer(
    spawned: Spawned,
    verb: &'static str,
    request: &SandboxRequest,
) -> Result<Received<SandboxReply>, TaskError> {
    let failed = |source| TaskError::Socket { verb, source };
    let answer = async {
        let socket = &spawned.socket;
        socket.send(request, &[]).await.map_err(failed)?;
        let received = socket.receive::<SandboxReply>().await.map_err(failed)?;
        received.ok_or(TaskError::Gone { verb })
    };
    let answered = within(LIMIT, verb, answer).await;
    if matches!(answered, Err(TaskError::Slow { .. })) {
        spawned.kill.kill();
    }
    answered
}

fn pins(namespaces: &Namespaces) -> Pins {
    let Namespaces {
        user,
        network,
        ipc,
        uts,
        pid,
        shm,
        holder,
    } = namespaces.clone();
    let holder = holder.map(|(pid, start_time)| ProcessName { pid, start_time });
    Pins {
        user,
        network,
        ipc,
        uts,
        pid,
        shm,
        holder,
    }
}

fn ids(namespace: &UserNamespace) -> IdMaps {
    let all = |mappings: &[IdMapping]| mappings.iter().map(id_map).collect();
    IdMaps {
        uids: all(&namespace.uids),
        gids: all(&namespace.gids),
    }
}

fn id_map(mapping: &IdMapping) -> IdMap {
    IdMap {
        inside: mapping.container_id,
        outside: mapping.host_id,
        length: mapping.length,
    }
}
