//! What a cgroup read from and wrote to block devices.

use super::CgroupError;
use super::files::{Directory, Place, if_there, text};
use crate::model::cgroup_detail::DeviceTraffic;
use std::collections::BTreeMap;
use std::path::Path;

/// Which figure a word of `io.stat` is.
const WORDS: [(&str, Figure, &str); 6] = [
    ("rbytes", Figure::Bytes, "Read"),
    ("wbytes", Figure::Bytes, "Write"),
    ("dbytes", Figure::Bytes, "Discard"),
    ("rios", Figure::Operations, "Read"),
    ("wios", Figure::Operations, "Write"),
    ("dios", Figure::Operations, "Discard"),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Figure {
    Bytes,
    Operations,
}

/// Reads what the kernel says, those below it counted; nothing where it does not account for devices.
pub fn read(place: &Place<'_>) -> Result<Vec<DeviceTraffic>, CgroupError> {
    match place.of("blkio")? {
        Directory::Legacy(at) => legacy(&at),
        Directory::Unified(at) => {
            let stat = if_there(text(&at.join("io.stat")))?;
            Ok(unified(&stat.unwrap_or_default()))
        }
    }
}

fn legacy(at: &Path) -> Result<Vec<DeviceTraffic>, CgroupError> {
    let mut found = Devices::default();
    for (file, figure) in [
        ("io_service_bytes_recursive", Figure::Bytes),
        ("io_serviced_recursive", Figure::Operations),
    ] {
        let path = at.join(format!("blkio.throttle.{file}"));
        let text = if_there(text(&path))?.unwrap_or_default();
        for line in text.lines() {
            found.add_legacy(line, figure);
        }
    }
    Ok(found.list())
}

/// `8:0 rbytes=90 wbytes=0 rios=2 wios=0 dbytes=0 dios=0`. Some kernels leave the line of a device
/// without figures unended: then the last one before the figures is theirs.
fn unified(stat: &str) -> Vec<DeviceTraffic> {
    let mut found = Devices::default();
    for line in stat.lines() {
        let words = line.split_whitespace();
        let named = words.clone().take_while(|word| !word.contains('='));
        let Some(device) = named.filter_map(numbers).last() else {
            continue;
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let known = WORDS.iter().find(|(word, ..)| *word == key);
            if let (Some((_, figure, operation)), Ok(value)) = (known, value.parse()) {
                found.add(device, *figure, operation, value);
            }
        }
    }
    found.list()
}

fn numbers(device: &str) -> Option<(u32, u32)> {
    let (major, minor) = device.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[derive(Default)]
struct Devices(BTreeMap<(u32, u32), DeviceTraffic>);

impl Devices {
    /// `8:0 Read 4096`, with one line for each operation; the file's last line is of all devices.
    fn add_legacy(&mut self, line: &str, figure: Figure) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [device, operation, value] = words[..]
            && let (Some(device), Ok(value)) = (numbers(device), value.parse())
        {
            self.add(device, figure, operation, value);
        }
    }

    fn add(&mut self, device: (u32, u32), figure: Figure, operation: &str, value: u64) {
        let traffic = self.0.entry(device).or_insert_with(|| DeviceTraffic {
            major: device.0,
            minor: device.1,
            ..DeviceTraffic::default()
        });
        let figures = match figure {
            Figure::Bytes => &mut traffic.bytes,
            Figure::Operations => &mut traffic.operations,
        };
        figures.push((operation.to_owned(), value));
    }

    fn list(self) -> Vec<DeviceTraffic> {
        self.0.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(of: &[(&str, u64)]) -> Vec<(String, u64)> {
        of.iter()
            .map(|(name, value)| ((*name).to_owned(), *value))
            .collect()
    }

    #[test]
    fn version_2_tells_bytes_and_operations_in_a_line() {
        let found = unified(
            "8:16 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=0 dios=0\n9:0 \nx rbytes=1\n",
        );
        assert_eq!(
            found.len(),
            1,
            "a device without figures is none: {found:?}"
        );
        let disk = &found[0];
        assert_eq!((disk.major, disk.minor), (8, 16));
        assert_eq!(
            disk.bytes,
            pairs(&[("Read", 1_459_200), ("Write", 314_773_504), ("Discard", 0)])
        );
        assert_eq!(
            disk.operations,
            pairs(&[("Read", 192), ("Write", 353), ("Discard", 0)])
        );
    }

    #[test]
    fn figures_are_of_the_device_before_them() {
        let found = unified("7:7 7:6 8:0 rbytes=90 wbytes=0\n7:5\n");
        let devices: Vec<_> = found.iter().map(|one| (one.major, one.minor)).collect();
        assert_eq!(devices, [(8, 0)]);
    }

    #[test]
    fn version_1_tells_them_in_two_files_with_a_sum_at_the_end() {
        let at = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = at.path().join(format!("blkio.throttle.{name}"));
            std::fs::write(path, text).unwrap();
        };
        assert_eq!(legacy(at.path()).unwrap(), [], "no controller, no figures");
        write(
            "io_service_bytes_recursive",
            "8:0 Read 4096\n8:0 Write 0\n8:0 Total 4096\n252:1 Read 7\nTotal 4103\n",
        );
        write(
            "io_serviced_recursive",
            "8:0 Read 1\n8:0 Write 0\n8:0 Total 1\nTotal 1\n",
        );
        let found = legacy(at.path()).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(
            found[0].bytes,
            pairs(&[("Read", 4096), ("Write", 0), ("Total", 4096)])
        );
        assert_eq!(
            found[0].operations,
            pairs(&[("Read", 1), ("Write", 0), ("Total", 1)])
        );
        assert_eq!((found[1].major, found[1].minor), (252, 1));
        assert_eq!(found[1].bytes, pairs(&[("Read", 7)]));
    }
}
