//! Which file is to be executed, and executing it.
//!
//! Invariant: the shim's own program is never executed inside a container, not through
//! `/proc/self/exe` and not as the interpreter of a script: a process that ran it there could hand
//! the host's file to others in the container.

use super::process::FileId;
use crate::api::{Failure, FailureKind};
use crate::sys::exec::{Pointers, execve};
use rustix::fd::AsFd;
use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags, accessat, fstat, open};
use rustix::io::Errno;
use std::ffi::{CStr, CString};

/// How many interpreters of interpreters the kernel follows.
const MOST_INTERPRETERS: usize = 5;
/// How much of a file the kernel looks at for `#!`.
const LINE: usize = 256;
/// Where to look when the environment has no PATH.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program to look for.
#[derive(Debug)]
pub struct Program<'a> {
    /// Its name or path, and its arguments; never empty.
    pub args: &'a [CString],
    /// Its environment.
    pub env: &'a [CString],
    /// The shim's own program.
    pub own: FileId,
}

/// A program that was looked for: what is left is to execute it.
#[derive(Debug)]
pub struct Ready {
    path: Result<CString, Failure>,
    args: Vec<CString>,
    env: Vec<CString>,
}

impl Ready {
    /// Looks for the program now, so that afterwards a filter need allow no more than the execve.
    /// What was not found is told when it is to be executed.
    #[must_use]
    pub fn new(program: &Program<'_>) -> Self {
        Self {
            path: program.find(),
            args: program.args.to_vec(),
            env: program.env.to_vec(),
        }
    }

    /// Executes the program; returns only why that failed.
    #[must_use]
    pub fn execute(&self) -> Failure {
        let path = match &self.path {
            Ok(path) => path,
            Err(failure) => return failure.clone(),
        };
        let errno = execve(path, &Pointers::new(&self.args), &Pointers::new(&self.env));
        let cause = match errno {
            Errno::NOENT => {
                Some("the interpreter or the dynamic loader that it names is not in the image")
            }
            Errno::NOEXEC => Some(
                "it is no program that this machine can execute (another architecture, or a script without #!)",
            ),
            _ => None,
        };
        let failure = failed(path, errno);
        match cause {
            Some(cause) => failure.because(cause),
            None => failure,
        }
    }
}

fn failed(path: &CStr, errno: Errno) -> Failure {
    Failure {
        kind: FailureKind::Start,
        step: format!("exec {}", path.to_string_lossy()),
        errno: errno.raw_os_error(),
        chain: vec![std::io::Error::from(errno).to_string()],
    }
}

impl Program<'_> {
    fn find(&self) -> Result<CString, Failure> {
        let name = self.args.first().map_or(c"", CString::as_c_str);
        if name.to_bytes().contains(&b'/') {
            return self
                .check(name, MOST_INTERPRETERS)
                .map(|()| name.to_owned())
                .map_err(|errno| explain(name, errno));
        }
        let mut refused = None;
        for directory in self
            .path()
            .split(|byte| *byte == b':')
            .filter(|directory| !directory.is_empty())
        {
            let Ok(candidate) = CString::new([directory, b"/", name.to_bytes()].concat()) else {
                continue;
            };
            match self.check(&candidate, MOST_INTERPRETERS) {
                Ok(()) => return Ok(candidate),
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(errno) => refused = Some(explain(&candidate, errno)),
            }
        }
        let path = String::from_utf8_lossy(self.path());
        Err(refused.unwrap_or_else(|| {
            failed(name, Errno::NOENT)
                .because(format!("no such program in the image's PATH ({path})"))
        }))
    }

    fn path(&self) -> &[u8] {
        let path = self
            .env
            .iter()
            .find_map(|variable| variable.as_bytes().strip_prefix(b"PATH="));
        path.unwrap_or(DEFAULT_PATH)
    }

    /// Refuses what execve would refuse, and the shim's own program.
    fn check(&self, path: &CStr, interpreters: usize) -> Result<(), Errno> {
        let file = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let stat = fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Errno::ACCESS);
        }
        if (stat.st_dev, stat.st_ino) == self.own {
            return Err(Errno::PERM);
        }
        accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)?;
        drop(file);
        match interpreter(path) {
            Some(next) if interpreters > 0 => match self.check(&next, interpreters - 1) {
                Err(Errno::PERM) => Err(Errno::PERM),
                // What else is wrong with an interpreter the kernel says better.
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

/// The interpreter that a script names; a file that cannot be read is executed without a look.
fn interpreter(path: &CStr) -> Option<CString> {
    let file = open(
        path,
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .ok()?;
    let mut line = [0; LINE];
    let length = rustix::io::read(file.as_fd(), &mut line).ok()?;
    let rest = line.get(..length)?.strip_prefix(b"#!")?;
    let rest = rest.split(|byte| *byte == b'\n').next()?.trim_ascii_start();
    let end = rest
        .iter()
        .position(|byte| matches!(byte, b' ' | b'\t' | 0))
        .unwrap_or(rest.len());
    CString::new(rest.get(..end)?)
        .ok()
        .filter(|name| !name.is_empty())
}

fn explain(path: &CStr, errno: Errno) -> Failure {
    let failure = failed(path, errno);
    match errno {
        Errno::NOENT | Errno::NOTDIR => failure.because("no such file in the image"),
        Errno::ACCESS => failure.because("it is no file that the container's user may execute"),
        Errno::PERM => {
            failure.because("the runtime's own program is not executed inside a container")
        }
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn c(text: &str) -> CString {
        CString::new(text).unwrap()
    }

    fn find(name: &str, path: &str, own: FileId) -> Result<CString, Failure> {
        let (args, env) = ([c(name)], [c(&format!("PATH={path}"))]);
        Program {
            args: &args,
            env: &env,
            own,
        }
        .find()
    }

    fn script(directory: &std::path::Path, name: &str, text: &str) -> String {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    #[test]
    fn a_name_is_looked_up_in_path() {
        let directory = tempfile::tempdir().unwrap();
        let made = script(directory.path(), "tool", "#!/bin/sh\n");
        let path = format!("/nowhere::{}", directory.path().display());
        assert_eq!(find("tool", &path, (0, 0)).unwrap(), c(&made));
        let failure = find("missing", &path, (0, 0)).unwrap_err();
        assert_eq!(failure.errno, libc::ENOENT);
        assert!(failure.chain[0].contains("PATH"), "{failure}");
    }

    #[test]
    fn what_cannot_be_executed_says_why() {
        let directory = tempfile::tempdir().unwrap();
        let plain = directory.path().join("plain");
        std::fs::write(&plain, "").unwrap();
        for (path, errno) in [
            (plain.to_str().unwrap(), libc::EACCES),
            ("/etc", libc::EACCES),
            ("/nowhere/x", libc::ENOENT),
        ] {
            let failure = find(path, "", (0, 0)).unwrap_err();
            assert_eq!(
                (failure.errno, failure.kind),
                (errno, FailureKind::Start),
                "{failure}"
            );
        }
    }

    #[test]
    fn the_own_program_is_refused_also_behind_a_script() {
        let stat = rustix::fs::stat("/proc/self/exe").unwrap();
        let own = (stat.st_dev, stat.st_ino);
        let directory = tempfile::tempdir().unwrap();
        let behind = script(directory.path(), "behind", "#! /proc/self/exe -x\n");
        let twice = script(directory.path(), "twice", &format!("#!{behind}\n"));
        for path in ["/proc/self/exe", &behind, &twice] {
            let failure = find(path, "", own).unwrap_err();
            assert_eq!(failure.errno, libc::EPERM, "{path}: {failure}");
        }
    }
}
