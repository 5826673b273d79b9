//! What tuning is asked, checked.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use serde::de::{Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::Settings;
use crate::bundled::call::Call;
use crate::bundled::fault::{Doing, Outcome};

const DATA_DIR: &str = "/run/cni/tuning";

#[derive(Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Wire {
    data_dir: String,
    #[serde(flatten)]
    own: Keys,
    runtime_config: Mac,
    args: Args,
}

impl Default for Wire {
    fn default() -> Self {
        Self {
            data_dir: DATA_DIR.to_owned(),
            own: Keys::default(),
            runtime_config: Mac::default(),
            args: Args::default(),
        }
    }
}

/// What both the configuration and `args` can say.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Keys {
    sysctl: BTreeMap<String, String>,
    mac: Option<String>,
    promisc: Option<bool>,
    mtu: Option<u32>,
    allmulti: Option<bool>,
    #[serde(rename = "txQLen")]
    queue: Option<u32>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Args {
    cni: Keys,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Mac {
    mac: String,
}

/// Checked.
pub(crate) struct Conf {
    pub(crate) data_dir: PathBuf,
    pub(crate) sysctls: BTreeMap<String, String>,
    pub(crate) settings: Settings,
}

impl Conf {
    /// Of the hardware address `args` go before the capability, and that before `CNI_ARGS`.
    pub(crate) fn read(call: &Call<'_>) -> Outcome<Self> {
        let Wire {
            data_dir,
            own,
            runtime_config,
            args: Args { cni: args },
        } = call.conf()?;
        let mut sysctls = own.sysctl;
        sysctls.extend(args.sysctl);
        let in_env = call.env.argument(&["MAC"], "MAC")?;
        let capability = Some(runtime_config.mac).filter(|text| !text.is_empty());
        let in_env = in_env.filter(|text| !text.is_empty());
        let mac = args.mac.or(capability).or(in_env).or(own.mac);
        // `false`, 0 and "" say nothing.
        let settings = Settings {
            mac: mac.filter(|text| !text.is_empty()),
            promisc: args.promisc.or(own.promisc).filter(|is_on| *is_on),
            mtu: args.mtu.or(own.mtu).filter(|mtu| *mtu != 0),
            allmulti: args.allmulti.or(own.allmulti),
            queue: args.queue.or(own.queue),
        };
        let data_dir = match data_dir.as_str() {
            "" => DATA_DIR.into(),
            path => path.into(),
        };
        Ok(Self {
            data_dir,
            sysctls,
            settings,
        })
    }
}

/// Of a sysctl that is there twice it cannot be told which one is meant.
pub(crate) fn refuse_doubled(stdin: &str) -> Outcome<()> {
    let read: Result<Doubled, _> = serde_json::from_str(stdin);
    read.map(drop).doing(|| "failed to load netconf".to_owned())
}

/// Reads only to see it.
struct Doubled;

impl<'de> Deserialize<'de> for Doubled {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Top)
    }
}

struct Top;

impl<'de> Visitor<'de> for Top {
    type Value = Doubled;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a configuration")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Doubled, A::Error> {
        let mut seen = BTreeSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if !key.eq_ignore_ascii_case("sysctl") {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            for key in map.next_value::<Option<Names>>()?.map_or(vec![], |it| it.0) {
                if !seen.insert(key) {
                    return Err(A::Error::custom("duplicated sysctl keys are not allowed"));
                }
            }
        }
        Ok(Doubled)
    }
}

/// The keys of an object, each as often as it is there.
struct Names(Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Names;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object of sysctls")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Names, A::Error> {
                let mut names = Vec::new();
                while let Some((key, IgnoredAny)) = map.next_entry::<String, IgnoredAny>()? {
                    names.push(key);
                }
                Ok(Names(names))
            }
        }
        deserializer.deserialize_map(All)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundled::call::Env;

    fn read(stdin: &str, args: &str) -> Outcome<Conf> {
        let env = Env {
            command: "ADD".to_owned(),
            args: args.to_owned(),
            ..Env::default()
        };
        Conf::read(&Call::new(&env, stdin)?)
    }

    fn conf(keys: &str) -> String {
        format!(r#"{{"cniVersion":"1.0.0","name":"pods","type":"tuning"{keys}}}"#)
    }

    fn mac(keys: &str, args: &str) -> Option<String> {
        read(&conf(keys), args).map_or(None, |conf| conf.settings.mac)
    }

    #[test]
    fn the_nearest_hardware_address_counts() {
        let own = r#","mac":"own""#;
        let capability = r#","mac":"own","runtimeConfig":{"mac":"capability"}"#;
        let args = r#","runtimeConfig":{"mac":"capability"},"args":{"cni":{"mac":"args"}}"#;
        assert_eq!(mac(own, "").as_deref(), Some("own"));
        assert_eq!(mac(own, "MAC=env").as_deref(), Some("env"));
        assert_eq!(mac(capability, "MAC=env").as_deref(), Some("capability"));
        assert_eq!(mac(args, "MAC=env").as_deref(), Some("args"));
    }

    #[test]
    fn a_sysctl_that_is_there_twice_is_refused() {
        let doubled = r#","sysctl":{"net.a":"1","net.b":"2","net.a":"1"}"#;
        let error = refuse_doubled(&conf(doubled)).err();
        assert!(error.is_some_and(|error| error.msg.contains("duplicated")));
        let once = conf(r#","sysctl":{"net.a":"1","net.b":"2"}"#);
        assert!(refuse_doubled(&once).is_ok());
    }

    #[test]
    fn what_says_nothing_is_nothing() {
        let keys = r#","mac":"","mtu":0,"promisc":false,"sysctl":null"#;
        assert!(read(&conf(keys), "").is_ok_and(|conf| conf.settings.is_empty()));
        let keys = r#","allmulti":false,"txQLen":0"#;
        assert!(read(&conf(keys), "").is_ok_and(|conf| !conf.settings.is_empty()));
    }
}
