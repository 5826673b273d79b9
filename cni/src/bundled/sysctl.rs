//! The kernel's settings of the network namespace that the process is in.

use std::fs;
use std::io;

/// `name` has slashes, since links' names may have dots.
pub(crate) fn read(name: &str) -> io::Result<String> {
    fs::read_to_string(format!("/proc/sys/{name}")).map(|text| text.trim().to_owned())
}

pub(crate) fn write(name: &str, value: &str) -> io::Result<()> {
    fs::write(format!("/proc/sys/{name}"), value)
}

/// Where the kernel may have no such setting (IPv6 is off), and nothing depends on it.
pub(crate) fn try_write(name: &str, value: &str) {
    let _ = write(name, value);
}

/// Written only where it is another, so that nobody is told of a change that is none.
pub(crate) fn ensure(name: &str, value: &str) -> io::Result<()> {
    match read(name) {
        Ok(current) if current == value => Ok(()),
        _ => write(name, value),
    }
}
