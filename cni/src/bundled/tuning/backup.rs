//! How a link was before its ADD: one file for each link, as the reference plugin keeps it.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Settings;
use super::conf::Conf;
use crate::bundled::call::Call;
use crate::bundled::fault::{Doing, Outcome};
use crate::cache::write_private;

#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
struct File {
    #[serde(skip_serializing_if = "String::is_empty")]
    mac: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    promisc: Option<bool>,
    #[serde(skip_serializing_if = "is_zero")]
    mtu: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    allmulti: Option<bool>,
    #[serde(rename = "txQLen", skip_serializing_if = "Option::is_none")]
    queue: Option<u32>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn path(conf: &Conf, call: &Call<'_>) -> PathBuf {
    let (id, ifname) = (&call.env.container_id, &call.env.ifname);
    conf.data_dir.join(format!("{id}_{ifname}.json"))
}

pub(crate) fn write(conf: &Conf, call: &Call<'_>, was: &Settings) -> Outcome<()> {
    let was = was.clone();
    let file = File {
        mac: was.mac.unwrap_or_default(),
        promisc: was.promisc,
        mtu: was.mtu.unwrap_or(0),
        allmulti: was.allmulti,
        queue: was.queue,
    };
    let path = path(conf, call);
    let what = || format!("failed to save {}", path.display());
    let mut directory = fs::DirBuilder::new();
    directory
        .recursive(true)
        .mode(0o700)
        .create(&conf.data_dir)
        .doing(what)?;
    let text = serde_json::to_vec_pretty(&file).doing(what)?;
    write_private(&path, &text).doing(what)
}

/// `None` where there is none, or where it says nothing that can be understood.
pub(crate) fn read(conf: &Conf, call: &Call<'_>) -> Outcome<Option<Settings>> {
    let path = path(conf, call);
    let text = match fs::read(&path) {
        Err(error) if is_absent(&error) => return Ok(None),
        read => read.doing(|| format!("failed to open file {}", path.display()))?,
    };
    let Ok(file) = serde_json::from_slice::<File>(&text) else {
        return Ok(Some(Settings::default()));
    };
    Ok(Some(Settings {
        mac: Some(file.mac).filter(|text| !text.is_empty()),
        promisc: file.promisc,
        mtu: Some(file.mtu).filter(|mtu| *mtu != 0),
        allmulti: file.allmulti,
        queue: file.queue,
    }))
}

pub(crate) fn remove(conf: &Conf, call: &Call<'_>) -> Outcome<()> {
    let path = path(conf, call);
    match fs::remove_file(&path) {
        Err(error) if is_absent(&error) => Ok(()),
        removed => removed.doing(|| format!("failed to remove file {}", path.display())),
    }
}

fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}
