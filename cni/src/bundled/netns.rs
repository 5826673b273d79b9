//! The network namespace that a plugin works in.
//!
//! Invariant: the process, which has one thread, is in its own namespace whenever nobody works in
//! another one.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::call::Env;
use super::fault::{Doing, Outcome};
use super::netlink::Socket;
use crate::error::PluginError;

const OWN: &str = "/proc/thread-self/ns/net";

/// A namespace that is kept open.
pub(crate) struct Netns {
    file: File,
}

impl Netns {
    pub(crate) fn open(path: &str) -> Outcome<Self> {
        Self::find(path)?.ok_or_else(|| {
            let why = format!("failed to Statfs {path:?}: no such file or directory");
            PluginError::internal(format!("failed to open netns {path:?}: {why}"))
        })
    }

    /// `None` where nothing is at the path.
    pub(crate) fn find(path: &str) -> Outcome<Option<Self>> {
        let what = || format!("failed to open netns {path:?}");
        match rustix::fs::statfs(path) {
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
            stat if !is_namespace(stat.doing(what)?.f_type as u64) => {
                let why = format!("unknown FS magic on {path:?}: is it a namespace's file?");
                return Err(PluginError::internal(format!("{}: {why}", what())));
            }
            _ => {}
        }
        File::open(path).doing(what).map(|file| Some(Self { file }))
    }

    /// The pod's, which must not be the plugin's own: what is done there would be done to the host.
    /// `None` where it is gone.
    pub(crate) fn of_pod(env: &Env) -> Outcome<Option<Self>> {
        if env.netns.is_empty() {
            return Ok(None);
        }
        match Self::find(&env.netns)? {
            Some(netns) if !env.own_netns && netns.is_own()? => Err(PluginError::new(
                PluginError::INVALID_NETNS,
                "plugin's netns and netns from CNI_NETNS should not be the same",
            )),
            found => Ok(found),
        }
    }

    /// The same, where there is nothing to do without it.
    pub(crate) fn demand(env: &Env) -> Outcome<Self> {
        match Self::of_pod(env)? {
            Some(netns) => Ok(netns),
            None => Self::open(&env.netns),
        }
    }

    /// The one that the process is in.
    pub(crate) fn own() -> Outcome<Self> {
        let file = File::open(OWN).doing(|| "open the host's network namespace".to_owned())?;
        Ok(Self { file })
    }

    /// Runs `work` inside.
    pub(crate) fn inside<T>(&self, work: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
        let own = Self::own()?;
        self.enter()?;
        let done = work();
        own.enter()?;
        done
    }

    /// An rtnetlink socket of the namespace, usable from outside.
    pub(crate) fn links(&self) -> Outcome<Socket> {
        self.inside(links)
    }

    pub(crate) fn is_own(&self) -> Outcome<bool> {
        let own = Self::own()?;
        let what = || "look at a network namespace".to_owned();
        let (own, this) = (
            own.file.metadata().doing(what)?,
            self.file.metadata().doing(what)?,
        );
        Ok((own.dev(), own.ino()) == (this.dev(), this.ino()))
    }

    fn enter(&self) -> Outcome<()> {
        move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))
            .doing(|| "enter the network namespace".to_owned())
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// An rtnetlink socket of the namespace that the process is in.
pub(crate) fn links() -> Outcome<Socket> {
    Socket::open(None).doing(|| "open an rtnetlink socket".to_owned())
}

fn is_namespace(magic: u64) -> bool {
    const NSFS: u64 = 0x6e73_6673;
    const PROC: u64 = 0x9fa0;
    matches!(magic, NSFS | PROC)
}
