//! Device nodes: the ones that every container has, and those of the spec.

use crate::api::Failure;
use crate::bundle::Device;
use rustix::fs::{Dev, FileType, makedev};

/// A device node of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceNode<'a> {
    /// Where, inside the container.
    pub path: &'a str,
    /// Character, block or pipe.
    pub kind: FileType,
    /// Its number; of no meaning for a pipe.
    pub number: Dev,
    /// Permission bits.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// What every container has: path, major and minor number.
const DEFAULT: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// The links of `/dev`: where each is, and what it says.
pub const LINKS: [(&str, &str); 5] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
];

/// The default nodes, then those of the spec; one of the spec replaces a default of its path.
///
/// # Errors
/// [`crate::api::FailureKind::Invalid`]: a kind or a number that does not exist.
pub fn plan<'a>(wanted: &'a [Device<'a>]) -> Result<Vec<DeviceNode<'a>>, Failure> {
    let asked: Vec<_> = wanted.iter().map(node).collect::<Result<_, _>>()?;
    let mut nodes: Vec<_> = DEFAULT
        .iter()
        .map(|(path, major, minor)| default_node(path, *major, *minor))
        .collect();
    nodes.retain(|node| asked.iter().all(|asked| asked.path != node.path));
    nodes.extend(asked);
    Ok(nodes)
}

fn default_node(path: &str, major: u32, minor: u32) -> DeviceNode<'_> {
    DeviceNode {
        path,
        kind: FileType::CharacterDevice,
        number: makedev(major, minor),
        mode: 0o666,
        uid: 0,
        gid: 0,
    }
}

fn node<'a>(device: &'a Device<'a>) -> Result<DeviceNode<'a>, Failure> {
    let kind = match &*device.kind {
        "c" | "u" => FileType::CharacterDevice,
        "b" => FileType::BlockDevice,
        "p" => FileType::Fifo,
        other => return Err(invalid(device, &format!("a device of kind {other}"))),
    };
    let number = |number: i64| {
        u32::try_from(number).map_err(|_| invalid(device, &format!("a device number {number}")))
    };
    Ok(DeviceNode {
        path: &device.path,
        kind,
        number: makedev(number(device.major)?, number(device.minor)?),
        mode: device.file_mode.unwrap_or(0o666) & 0o7777,
        uid: device.uid.unwrap_or(0),
        gid: device.gid.unwrap_or(0),
    })
}

fn invalid(device: &Device<'_>, cause: &str) -> Failure {
    Failure::invalid(
        "plan the devices",
        format!("{}: {cause} does not exist", &*device.path),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(kind: &'static str, path: &'static str, major: i64) -> Device<'static> {
        Device {
            kind: kind.into(),
            path: path.into(),
            major,
            minor: 1,
            file_mode: Some(0o640),
            uid: Some(7),
            gid: None,
        }
    }

    #[test]
    fn one_of_the_spec_replaces_a_default_of_its_path() {
        let wanted = [device("c", "/dev/null", 9), device("b", "/dev/sda", 8)];
        let nodes = plan(&wanted).unwrap();
        assert_eq!(nodes.len(), DEFAULT.len() + 1);
        let null = nodes.iter().find(|node| node.path == "/dev/null").unwrap();
        assert_eq!(
            (null.number, null.mode, null.uid, null.gid),
            (makedev(9, 1), 0o640, 7, 0)
        );
        assert_eq!(nodes.last().unwrap().kind, FileType::BlockDevice);
    }

    #[test]
    fn odd_kinds_and_numbers_are_refused() {
        assert!(plan(&[device("x", "/dev/x", 1)]).is_err());
        assert!(plan(&[device("c", "/dev/x", -1)]).is_err());
    }
}
