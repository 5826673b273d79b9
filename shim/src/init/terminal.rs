//! The container's stdio: pipes, or a terminal of the container's own devpts.
//!
//! Invariant: a terminal is opened through a descriptor that is proven to be of a devpts, and its
//! inner end is never opened by a path.

use super::InnerStdio;
use super::mounts::destination;
use super::paths::prove_null;
use crate::api::{Failure, FailureKind};
use crate::bundle::process::ConsoleSize;
use crate::failure::At;
use crate::filesystem;
use crate::plan::process::ProcessPlan;
use crate::root::{Root, Target};
use crate::sys::mount::Depth;
use crate::user::Account;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, fchown, fcntl_setfl, fstatfs};
use rustix::process::ioctl_tiocsctty;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::termios::{Winsize, tcsetwinsize};

/// The magic number of devpts, from `linux/magic.h`.
const DEVPTS_SUPER_MAGIC: rustix::fs::FsWord = 0x1cd1;

/// A terminal that was just opened.
#[derive(Debug)]
pub struct Terminal {
    /// The outer end.
    pub master: OwnedFd,
    /// The inner end.
    pub peer: OwnedFd,
}

/// Opens a terminal of the devpts inside a root.
///
/// # Errors
/// [`FailureKind::Invalid`] where there is no devpts; else what the kernel says.
pub fn open_pair(root: &Root) -> Result<Terminal, Failure> {
    let step = || "open a terminal".to_owned();
    let pts = root
        .open("/dev/pts", OFlags::PATH | OFlags::DIRECTORY)
        .at(FailureKind::System, step)?;
    if fstatfs(&pts).at(FailureKind::System, step)?.f_type != DEVPTS_SUPER_MAGIC {
        return Err(Failure::invalid(
            step(),
            "the container has no devpts at /dev/pts",
        ));
    }
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let master =
        rustix::fs::openat(&pts, c"ptmx", flags, Mode::empty()).at(FailureKind::System, step)?;
    unlockpt(&master).at(FailureKind::System, step)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let peer = ioctl_tiocgptpeer(&master, flags).at(FailureKind::System, step)?;
    Ok(Terminal { master, peer })
}

/// Opens the container's terminal and binds it at `/dev/console`.
///
/// # Errors
/// As above.
pub fn open(root: &Root) -> Result<Terminal, Failure> {
    let terminal = open_pair(root)?;
    let step = || "bind the terminal at /dev/console".to_owned();
    destination(root, "/dev/console", Target::File)?;
    // Again, and now without following a link: the image may have put one there.
    let place = root
        .find_plain("/dev/console")
        .at(FailureKind::Mount, step)?;
    let tree = filesystem::clone_of(&terminal.peer, Depth::Top).at(FailureKind::Mount, step)?;
    filesystem::attach(&tree, &place).at(FailureKind::Mount, step)?;
    Ok(terminal)
}

/// Makes the stdio of this process, and hands back the terminal's outer end.
///
/// The user becomes the owner of what it is given, so that it can open `/dev/stdout` again.
///
/// # Errors
/// What the kernel says.
pub fn install(
    stdio: InnerStdio,
    terminal: Option<Terminal>,
    plan: &ProcessPlan<'_>,
    account: &Account,
) -> Result<Option<OwnedFd>, Failure> {
    match (stdio, terminal) {
        (
            InnerStdio::Pipes {
                stdin,
                stdout,
                stderr,
            },
            _,
        ) => {
            for end in stdin.iter().chain([&stdout, &stderr]) {
                give(end, account);
            }
            let stdin = match stdin {
                Some(stdin) => stdin,
                None => null()?,
            };
            replace(&stdin, &stdout, &stderr)?;
            Ok(None)
        }
        (InnerStdio::Terminal, Some(terminal)) => {
            take_terminal(terminal, plan.console_size, account).map(Some)
        }
        (InnerStdio::Terminal, None) => Err(Failure::invalid(
            "open a terminal",
            "the plan has no terminal",
        )),
    }
}

fn take_terminal(
    terminal: Terminal,
    size: Option<ConsoleSize>,
    account: &Account,
) -> Result<OwnedFd, Failure> {
    let step = || "make the terminal the controlling one".to_owned();
    let Terminal { master, peer } = terminal;
    if let Some(ConsoleSize { height, width }) = size {
        let size = Winsize {
            ws_row: height,
            ws_col: width,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&master, size).at(FailureKind::System, step)?;
    }
    give(&peer, account);
    replace(&peer, &peer, &peer)?;
    ioctl_tiocsctty(&peer).at(FailureKind::System, step)?;
    Ok(master)
}

/// Best effort: a socket or a pipe of someone else's user namespace refuses.
fn give(fd: &OwnedFd, account: &Account) {
    let _ = fchown(fd, Some(rustix::fs::Uid::from_raw(account.user.uid)), None);
}

fn replace(stdin: &OwnedFd, stdout: &OwnedFd, stderr: &OwnedFd) -> Result<(), Failure> {
    let step = || "replace the stdio".to_owned();
    dup2_stdin(stdin).at(FailureKind::System, step)?;
    dup2_stdout(stdout).at(FailureKind::System, step)?;
    dup2_stderr(stderr).at(FailureKind::System, step)
}

/// Opened without waiting, because it may be a pipe until it is proven to be the null device.
fn null() -> Result<OwnedFd, Failure> {
    let step = || "open /dev/null for the stdin".to_owned();
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let null =
        rustix::fs::open(c"/dev/null", flags, Mode::empty()).at(FailureKind::System, step)?;
    prove_null(&null)?;
    fcntl_setfl(&null, OFlags::empty()).at(FailureKind::System, step)?;
    Ok(null)
}
