//! What a plugin is called with: the environment and stdin, checked as the reference plugins check
//! them, with their codes.
//!
//! Invariant: what a [`Call`] holds is shaped as the specification has it; what it means is the
//! plugin's to judge.

use std::cell::RefCell;
use std::env;
use std::io::Read;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use super::fault::Outcome;
use super::keys;
use crate::args::{ifname_fault, is_name};
use crate::error::PluginError;
use crate::result::AddResult;
use crate::version::Version;

/// The environment of a call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Env {
    pub(crate) command: String,
    pub(crate) container_id: String,
    pub(crate) netns: String,
    pub(crate) ifname: String,
    pub(crate) args: String,
    pub(crate) path: String,
    /// `CNI_NETNS_OVERRIDE`: the namespace may be the plugin's own.
    pub(crate) own_netns: bool,
}

/// One plugin's call.
pub(crate) struct Call<'a> {
    pub(crate) env: &'a Env,
    /// The whole configuration, for an IPAM plugin that is another program.
    pub(crate) stdin: &'a str,
    conf: Value,
    pub(crate) name: String,
    pub(crate) version: Version,
    /// Where the pod's namespace ends right after the call.
    pub(crate) ending: Option<&'a Ending>,
}

/// A namespace that is let go after a DEL: its links go with it, and nobody waits for the kernel to
/// take them away one by one.
#[derive(Default)]
pub(crate) struct Ending {
    left: RefCell<Vec<String>>,
}

impl Ending {
    /// This link of the host is down, and was left for the namespace's end.
    pub(crate) fn leave(&self, link: &str) {
        self.left.borrow_mut().push(link.to_owned());
    }

    pub(crate) fn into_left(self) -> Vec<String> {
        self.left.into_inner()
    }
}

/// The keys that every configuration has.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    #[serde(default)]
    name: String,
    #[serde(default)]
    cni_version: String,
}

impl Env {
    /// From the process's environment.
    pub(crate) fn read() -> Outcome<Self> {
        let text = |key| env::var(key).unwrap_or_default();
        let given = text("CNI_NETNS_OVERRIDE").to_ascii_lowercase();
        let read = Self {
            command: text("CNI_COMMAND"),
            container_id: text("CNI_CONTAINERID"),
            netns: text("CNI_NETNS"),
            ifname: text("CNI_IFNAME"),
            args: text("CNI_ARGS"),
            path: text("CNI_PATH"),
            own_netns: matches!(given.as_str(), "1" | "true"),
        };
        read.check().map(|()| read)
    }

    fn check(&self) -> Outcome<()> {
        let attachment = matches!(self.command.as_str(), "ADD" | "DEL" | "CHECK");
        let netns = matches!(self.command.as_str(), "ADD" | "CHECK");
        let wanted = [
            ("CNI_COMMAND", &self.command, true),
            ("CNI_CONTAINERID", &self.container_id, attachment),
            ("CNI_NETNS", &self.netns, netns),
            ("CNI_IFNAME", &self.ifname, attachment),
            ("CNI_PATH", &self.path, self.command != "VERSION"),
        ];
        let missing: Vec<_> = wanted
            .iter()
            .filter(|(_, value, needed)| *needed && value.is_empty())
            .map(|(name, ..)| *name)
            .collect();
        let refuse = |msg: String| Err(PluginError::new(PluginError::INVALID_ENVIRONMENT, msg));
        if attachment && !self.container_id.is_empty() && !is_name(&self.container_id) {
            return refuse(format!(
                "invalid characters in containerID {:?}",
                self.container_id
            ));
        }
        if let Some(fault) =
            ifname_fault(&self.ifname).filter(|_| attachment && !self.ifname.is_empty())
        {
            return refuse(fault);
        }
        match missing.is_empty() {
            true => Ok(()),
            false => refuse(format!(
                "required env variables [{}] missing",
                missing.join(",")
            )),
        }
    }

    /// The value of a key in `CNI_ARGS`; other keys need `IgnoreUnknown`.
    pub(crate) fn argument(&self, wanted: &[&str], key: &str) -> Outcome<Option<String>> {
        let pairs = self.args.split(';').filter(|pair| !pair.is_empty());
        let mut found = None;
        let mut unknown = Vec::new();
        let mut ignores = false;
        for pair in pairs {
            let Some((name, value)) = pair.split_once('=') else {
                return Err(PluginError::internal(format!(
                    "ARGS: invalid pair {pair:?}"
                )));
            };
            match name {
                "IgnoreUnknown" => {
                    ignores = matches!(value.to_ascii_lowercase().as_str(), "1" | "true");
                }
                name if name == key => found = Some(value.to_owned()),
                name if wanted.contains(&name) => {}
                _ => unknown.push(pair.to_owned()),
            }
        }
        match unknown.is_empty() || ignores {
            true => Ok(found),
            false => Err(PluginError::internal(format!(
                "ARGS: unknown args {unknown:?}"
            ))),
        }
    }
}

/// The whole of stdin.
pub(crate) fn stdin() -> Outcome<String> {
    let mut text = String::new();
    let read = std::io::stdin().lock().read_to_string(&mut text);
    read.map(|_| text).map_err(|error| {
        PluginError::new(
            PluginError::IO_FAILURE,
            format!("error reading from stdin: {error}"),
        )
    })
}

impl<'a> Call<'a> {
    pub(crate) fn new(env: &'a Env, stdin: &'a str) -> Outcome<Self> {
        let mut conf: Value = decode(stdin)?;
        keys::normalise(&mut conf);
        let head = Head::deserialize(&conf).map_err(undecodable)?;
        let refuse = |msg: &str| Err(PluginError::new(PluginError::INVALID_CONFIG, msg));
        if head.name.is_empty() {
            return refuse("missing network name");
        }
        if !is_name(&head.name) {
            return refuse(&format!(
                "invalid characters found in network name {:?}",
                head.name
            ));
        }
        let version = version(&head.cni_version)?;
        check_command(&env.command, version)?;
        Ok(Self {
            env,
            stdin,
            conf,
            name: head.name,
            version,
            ending: None,
        })
    }

    /// Refuses a version that is none of the plugin's.
    pub(crate) fn demand_version(&self, spoken: &[Version]) -> Outcome<()> {
        match spoken.contains(&self.version) {
            true => Ok(()),
            false => Err(incompatible(self.version.as_str(), spoken)),
        }
    }

    pub(crate) fn conf<T: DeserializeOwned>(&self) -> Outcome<T> {
        T::deserialize(&self.conf)
            .map_err(|error| PluginError::internal(format!("failed to load netconf: {error}")))
    }

    /// What the plugin before answered, as text and as it is understood.
    pub(crate) fn prev_result(&self) -> Outcome<Option<(String, AddResult)>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Wire<'b> {
            #[serde(borrow, default)]
            prev_result: Option<&'b RawValue>,
        }
        let wire: Wire<'_> = decode(self.stdin)?;
        let Some(raw) = wire.prev_result.filter(|raw| raw.get() != "null") else {
            return Ok(None);
        };
        let result = AddResult::parse(raw.get().as_bytes(), self.version)
            .map_err(|why| PluginError::internal(format!("could not parse prevResult: {why}")))?;
        Ok(Some((result.json().to_owned(), result)))
    }

    /// Where the plugin cannot work without one.
    pub(crate) fn required_prev_result(&self, why: &str) -> Outcome<(String, AddResult)> {
        self.prev_result()?
            .ok_or_else(|| PluginError::internal(why))
    }
}

fn decode<'b, T: Deserialize<'b>>(text: &'b str) -> Outcome<T> {
    serde_json::from_str(text).map_err(undecodable)
}

#[expect(clippy::needless_pass_by_value, reason = "as map_err gives it")]
fn undecodable(error: serde_json::Error) -> PluginError {
    let msg = format!("error unmarshall network config: {error}");
    PluginError::new(PluginError::DECODING_FAILURE, msg)
}

fn version(text: &str) -> Outcome<Version> {
    text.parse().map_err(|_| incompatible(text, &Version::ALL))
}

fn incompatible(text: &str, spoken: &[Version]) -> PluginError {
    let spoken: Vec<_> = spoken.iter().map(|it| it.as_str()).collect();
    let spoken = spoken.join(" ");
    PluginError {
        code: PluginError::INCOMPATIBLE_VERSION,
        msg: "incompatible CNI versions".to_owned(),
        details: format!("config is {text:?}, plugin supports [{spoken}]"),
    }
}

fn check_command(command: &str, version: Version) -> Outcome<()> {
    let spoken = match command {
        "CHECK" => version.has_check(),
        "GC" | "STATUS" => version.has_status_and_gc(),
        _ => true,
    };
    let refusal = format!("config version does not allow {command}");
    match spoken {
        true => Ok(()),
        false => Err(PluginError::new(PluginError::INCOMPATIBLE_VERSION, refusal)),
    }
}

/// The attachments that GC keeps: container ids and interfaces. Without the list nothing could be
/// told from what is to go.
pub(crate) fn valid_attachments(call: &Call<'_>) -> Outcome<Vec<(String, String)>> {
    const KEY: &str = "cni.dev/valid-attachments";
    #[derive(Deserialize)]
    struct Attachment {
        #[serde(rename = "containerID")]
        container_id: String,
        ifname: String,
    }
    let refuse = |why: String| PluginError::new(PluginError::INVALID_CONFIG, why);
    let list = call.conf.get(KEY).or(call.conf.get("cni.dev/attachments"));
    let list = list.ok_or_else(|| refuse(format!("{KEY} is missing")))?;
    let list = Option::<Vec<Attachment>>::deserialize(list)
        .map_err(|error| refuse(format!("{KEY}: {error}")))?;
    let pair = |it: Attachment| (it.container_id, it.ifname);
    Ok(list.unwrap_or_default().into_iter().map(pair).collect())
}
