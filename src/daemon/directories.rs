//! Who may go where on the node's disk: layers hold setuid programs and device nodes, records hold
//! environments with secrets, and neither is anything to a user of the node (CVE-2021-41103).
//!
//! Invariant: before anything is taken up, all that lasts is root's alone, and of the state only
//! the way to the socket is open; the socket's own mode says who may use it.

use crate::config::Config;
use crate::error::{Context, Kind, Result};
use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

/// What is below the root.
const LASTING: [&str; 6] = [
    "containers",
    "images",
    "layers",
    "sandboxes",
    "seccomp",
    "trash",
];
/// What is below the state.
const PASSING: [&str; 3] = ["containers", "sandboxes", "shims"];
/// Root alone.
const CLOSED: u32 = 0o700;
/// Others may pass, but not look around.
const PASSABLE: u32 = 0o711;

/// Makes the directories of this daemon, and takes from those of an earlier one what others may.
///
/// # Errors
/// Which directory cannot be made or changed.
pub fn close(config: &Config) -> Result<()> {
    close_both(&config.root, &config.state)
}

fn close_both(root: &Path, state: &Path) -> Result<()> {
    directory(root, CLOSED)?;
    LASTING
        .iter()
        .try_for_each(|name| directory(&root.join(name), CLOSED))?;
    directory(state, PASSABLE)?;
    PASSING
        .iter()
        .try_for_each(|name| directory(&state.join(name), CLOSED))
}

fn directory(path: &Path, mode: u32) -> Result<()> {
    let failed = || format!("make {} with mode {mode:o}", path.display());
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).context(Kind::Internal, failed)?;
    }
    if !path.is_dir() {
        let made = DirBuilder::new().mode(mode).create(path);
        made.context(Kind::Internal, failed)?;
    }
    fs::set_permissions(path, Permissions::from_mode(mode)).context(Kind::Internal, failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use tempfile::TempDir;

    fn stranger(program: &str, path: &Path) -> bool {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", program]);
        command.arg(path).output().unwrap().status.success()
    }

    #[test]
    fn root_a_user_of_the_node_reaches_the_socket_and_no_layer() {
        // Where every user may come: a place for temporary files may be root's alone.
        let home = TempDir::new_in("/run").unwrap();
        fs::set_permissions(home.path(), Permissions::from_mode(0o755)).unwrap();
        let (root, state) = (home.path().join("lib/corten"), home.path().join("run"));
        let (layer, shim) = (root.join("layers/x/fs"), state.join("shims/x"));
        fs::create_dir_all(&layer).unwrap();
        fs::create_dir_all(&shim).unwrap();
        let (program, socket) = (layer.join("su"), state.join("corten.sock"));
        for file in [&program, &socket] {
            fs::write(file, "").unwrap();
        }
        assert!(stranger("cat", &program) && stranger("ls", &shim));
        close_both(&root, &state).unwrap();
        assert!(!stranger("cat", &program), "a layer is reached");
        assert!(!stranger("ls", &shim) && !stranger("ls", &state));
        assert!(stranger("cat", &socket), "the socket is not reached");
    }
}
