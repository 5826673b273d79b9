//! A look at the daemon's own socket, as the kubelet would look.

use crate::error::{Context, Error, Kind, Result};
use corten_proto::runtime::v1::StatusRequest;
use corten_proto::runtime::v1::runtime_service_client::RuntimeServiceClient;
use std::path::Path;
use std::time::Duration;

/// Asks for Status over the socket; fine when it answers within `limit` that containers can be run.
///
/// # Errors
/// What is wrong.
pub async fn check(endpoint: &Path, limit: Duration) -> Result<()> {
    let asked = tokio::time::timeout(limit, ask(endpoint)).await;
    asked.context(Kind::DeadlineExceeded, || {
        format!("no answer on {} within {limit:?}", endpoint.display())
    })?
}

async fn ask(endpoint: &Path) -> Result<()> {
    let failed = || format!("ask {} for Status", endpoint.display());
    let url = format!("unix://{}", endpoint.display());
    let client = RuntimeServiceClient::connect(url).await;
    let mut client = client.context(Kind::Unavailable, failed)?;
    let answer = client.status(StatusRequest { verbose: false }).await;
    let status = answer
        .context(Kind::Unavailable, failed)?
        .into_inner()
        .status;
    let conditions = status.unwrap_or_default().conditions;
    match conditions.iter().find(|c| c.r#type == "RuntimeReady") {
        Some(condition) if condition.status => Ok(()),
        _ => Err(Error::new(Kind::Unavailable, "containers cannot be run")),
    }
}
