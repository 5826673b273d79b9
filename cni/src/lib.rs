//! The client side of the Container Network Interface, specification 0.3.1 to 1.1.0: it knows
//! networks, plugins and attachments, no pods. Beside it, in [`bundled`], plugins of our own, which
//! the client runs like any others.
//!
//! ```text
//! directory ──dir──▶ NetworkList ──┐              ┌─ exec: one plugin, its deadline and its end
//!     ▲                            ├─▶ Client ────┤
//!   watch            Attachment ───┘  add del     ├─ whole: all plugins of a list that are bundled
//!                    (args)           check gc    ├─ result: what a plugin answered
//!                                                 └─ cache: what the last ADD answered
//! ```
//!
//! Invariant: what an ADD did can be undone from what is on disk. The answer of a chain is in the
//! cache before the caller sees it, a chain that fails half way is undone before the caller sees
//! the error, and a caller that kept [`NetworkList::bytes`] can DEL with the very configuration
//! that it used, whatever the configuration directory says by then.
//!
//! Deliberately absent: namespaces (the caller makes them), `lo` (the caller brings it up) and
//! every word of Kubernetes (the `K8S_POD_*` arguments are pairs like any others).

mod args;
mod bundle;
pub mod bundled;
mod cache;
mod chain;
mod client;
mod conf;
mod dir;
mod error;
mod exec;
mod kill;
mod request;
mod result;
mod strays;
mod version;
mod watch;
mod whole;

pub use args::{Attachment, Capabilities};
pub use bundle::Bundle;
pub use cache::CachedAttachment;
pub use client::{Client, ValidAttachment};
pub use conf::NetworkList;
pub use dir::load;
pub use error::{Command, Error, NoNetwork, PluginError, Unusable};
pub use result::{AddResult, Cidr, Dns, Interface, IpConfig, Route};
pub use strays::end_strays;
pub use version::Version;
pub use watch::{ConfWatch, NetworkState};
