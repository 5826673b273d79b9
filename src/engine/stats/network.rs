//! A pod's network counters, without entering its namespace: the kernel shows every process's view
//! of its interfaces in `/proc/PID/net/dev`.

use crate::engine::now;
use crate::model::stats::NetworkUsage;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// What the process `pid` sees, where it is in the namespace that is pinned at `own`: its pid may
/// have become another process's.
pub fn read(pid: i32, own: &Path) -> Option<NetworkUsage> {
    let process = Path::new("/proc").join(pid.to_string());
    let text = fs::read_to_string(process.join("net/dev")).ok()?;
    is_same(&process.join("ns/net"), own).then(|| NetworkUsage::parse(&text, now()))?
}

fn is_same(one: &Path, other: &Path) -> bool {
    let name = |path| fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
    name(one).is_some_and(|found| name(other) == Some(found))
}
