//! The pod network by CNI plugins.

use super::outlook::{self, Outlook};
use super::{Kept, Networks, request};
use crate::error::{Context, Error, Kind, Result};
use crate::id::SandboxId;
use crate::model::sandbox::{NetworkIntent, Sandbox};
use async_trait::async_trait;
use corten_cni::{AddResult, Attachment, CachedAttachment, Client, ConfWatch, NetworkList};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The pod's interface: the kubelet's and every plugin's convention.
const IFNAME: &str = "eth0";
/// For a whole chain of plugins: network add-ons may have to wait for their own agents.
const LIMIT: Duration = Duration::from_secs(120);

/// The plugins of the node.
pub struct CniNetworks {
    client: Arc<Client>,
    conf: ConfWatch,
    outlook: Outlook,
}

impl CniNetworks {
    /// Watches `conf_dir`, and has plugins run by `client`. Must be called inside a tokio runtime.
    #[must_use]
    pub fn start(conf_dir: PathBuf, client: Client) -> Self {
        let client = Arc::new(client);
        let conf = ConfWatch::start(conf_dir);
        Self {
            outlook: Outlook::start(Arc::clone(&client), &conf, outlook::AGAIN),
            client,
            conf,
        }
    }
}

#[async_trait]
impl Networks for CniNetworks {
    fn ready(&self) -> std::result::Result<(), String> {
        match &*self.conf.state().borrow() {
            Ok(_) => self.outlook.verdict(),
            Err(none) => Err(none.to_string()),
        }
    }

    fn intent(&self, sandbox: &Sandbox) -> Result<NetworkIntent> {
        let state = self.conf.state();
        let state = state.borrow();
        let list = state
            .as_ref()
            .map_err(|none| Error::new(Kind::Unavailable, none.to_string()))?;
        let conflist = String::from_utf8(list.bytes().to_vec()).context(Kind::Internal, || {
            "the network configuration is no text".to_owned()
        })?;
        let capabilities = request::capabilities(sandbox)?;
        Ok(NetworkIntent {
            conflist,
            args: request::arguments(sandbox),
            capabilities,
        })
    }

    async fn add(&self, sandbox: &Sandbox, intent: &NetworkIntent) -> Result<Vec<IpAddr>> {
        let (list, attachment) = (list(intent)?, attachment(sandbox, intent));
        let added = self.client.add(&list, &attachment, LIMIT).await;
        let result = added.context(Kind::Internal, || {
            format!("connect the pod to the network {:?}", list.name())
        })?;
        match addresses(&result) {
            ips if ips.is_empty() => {
                self.remove(sandbox, intent).await?;
                Err(Error::internal(format!(
                    "the network {:?} gave the pod no address",
                    list.name()
                )))
            }
            ips => Ok(ips),
        }
    }

    async fn remove(&self, sandbox: &Sandbox, intent: &NetworkIntent) -> Result<()> {
        let (list, attachment) = (list(intent)?, attachment(sandbox, intent));
        let removed = self.client.del_at_end(&list, &attachment, LIMIT).await;
        removed.map_err(|error| disconnecting(&list).caused_by(error))
    }

    async fn remembered(&self, id: &SandboxId) -> Option<NetworkIntent> {
        let cached = self.client.cached_attachments().await;
        let cached = cached.inspect_err(
            |error| tracing::warn!(%error, "what CNI plugins have answered cannot be read"),
        );
        let of_pod = |it: &CachedAttachment| {
            it.attachment.container_id == id.as_str() && it.attachment.ifname == IFNAME
        };
        let found = cached.ok()?.into_iter().find(of_pod)?;
        Some(NetworkIntent {
            conflist: String::from_utf8(found.config).ok()?,
            args: found.attachment.args,
            capabilities: found.attachment.capabilities,
        })
    }

    async fn remove_apart(
        &self,
        sandbox: &Sandbox,
        intent: &NetworkIntent,
    ) -> std::result::Result<(), Kept> {
        let (list, attachment) = (
            list(intent).map_err(Kept::Failed)?,
            attachment(sandbox, intent),
        );
        let removed = self.client.del_apart(&list, &attachment, LIMIT).await;
        removed.map_err(|error| {
            let kept = match error.is_refusal() {
                true => Kept::Refused,
                false => Kept::Failed,
            };
            kept(disconnecting(&list).caused_by(error))
        })
    }

    async fn forget(&self, sandbox: &Sandbox, intent: &NetworkIntent) -> Result<()> {
        let (list, attachment) = (list(intent)?, attachment(sandbox, intent));
        let forgotten = self.client.forget(&list, &attachment).await;
        forgotten.context(Kind::Internal, || "forget the pod's network".to_owned())
    }

    async fn end_strays(&self, sandbox: &Sandbox) {
        let ended = corten_cni::end_strays(sandbox.id.as_str()).await;
        if ended > 0 {
            tracing::warn!(sandbox.id = %sandbox.id, ended, "plugins of an earlier life were killed");
        }
    }
}

fn disconnecting(list: &NetworkList) -> Error {
    Error::internal(format!(
        "disconnect the pod from the network {:?}",
        list.name()
    ))
}

fn list(intent: &NetworkIntent) -> Result<NetworkList> {
    NetworkList::from_bytes(intent.conflist.as_bytes()).context(Kind::Internal, || {
        "read the pod's network configuration".to_owned()
    })
}

fn attachment(sandbox: &Sandbox, intent: &NetworkIntent) -> Attachment {
    Attachment {
        container_id: sandbox.id.as_str().to_owned(),
        netns: sandbox.namespaces.network.clone(),
        ifname: IFNAME.to_owned(),
        args: intent.args.clone(),
        capabilities: intent.capabilities.clone(),
    }
}

/// The addresses of the pod's own interface, in the plugins' order; those of the host's end of a
/// pair do not count.
fn addresses(result: &AddResult) -> Vec<IpAddr> {
    let is_pods = |index: Option<usize>| {
        index
            .and_then(|index| result.interfaces.get(index))
            .is_none_or(|interface| !interface.sandbox.is_empty())
    };
    let pods = result.ips.iter().filter(|ip| is_pods(ip.interface));
    pods.map(|ip| ip.address.addr).collect()
}
