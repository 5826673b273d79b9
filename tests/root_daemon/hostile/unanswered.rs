//! A file system that answers for its root and for nothing in it: who looks up a name there waits
//! in the kernel, beyond the reach of signals, until the mount is given up.

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Of linux/fuse.h.
const GETATTR: u32 = 3;
const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const INIT: u32 = 26;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;
const ENOSYS: i32 = 38;
const REQUEST_HEADER: usize = 40;
const LARGEST: usize = 1 << 20;
const DIRECTORY: u32 = 0o040_755;

/// A mounted file system; given up when dropped.
pub struct Unanswered {
    place: PathBuf,
    asked: Arc<AtomicBool>,
}

impl Unanswered {
    /// Mounts it at a directory that it makes. `None` where the kernel has no FUSE.
    pub fn at(place: &Path) -> Option<Self> {
        let device = mounted("unanswered", place)?;
        let asked = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&asked);
        std::thread::spawn(move || serve(device, &seen));
        Some(Self {
            place: place.to_owned(),
            asked,
        })
    }

    /// Somebody waits for an answer.
    pub fn was_asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for Unanswered {
    /// By force: all that wait get an error.
    fn drop(&mut self) {
        unmount(&self.place, UnmountFlags::FORCE | UnmountFlags::DETACH).unwrap();
    }
}

/// Mounts a file system of this name at a directory that it makes, and gives the device at which its
/// requests come. `None` where the kernel has no FUSE.
pub fn mounted(name: &str, place: &Path) -> Option<File> {
    let device = File::options()
        .read(true)
        .write(true)
        .open("/dev/fuse")
        .ok()?;
    std::fs::create_dir_all(place).unwrap();
    let options = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0,allow_other",
        device.as_raw_fd()
    );
    let options = CString::new(options).unwrap();
    mount(name, place, "fuse", MountFlags::empty(), options.as_c_str()).unwrap();
    Some(device)
}

/// One request of the kernel's.
pub struct Request {
    /// What is asked.
    pub code: u32,
    /// Of which inode.
    pub node: u64,
    /// What comes with it.
    pub body: Vec<u8>,
    unique: [u8; 8],
}

impl Request {
    /// The next one; `None` when the mount is given up.
    pub fn read(device: &mut File) -> Option<Self> {
        let mut request = vec![0; LARGEST];
        let length = device.read(&mut request).ok()?;
        let body = request.get(REQUEST_HEADER..length)?.to_vec();
        Some(Self {
            code: u32::from_ne_bytes(request[4..8].try_into().unwrap()),
            node: u64::from_ne_bytes(request[16..24].try_into().unwrap()),
            unique: request[8..16].try_into().unwrap(),
            body,
        })
    }

    /// Answers it.
    pub fn answer(&self, device: &mut File, error: i32, body: &[u8]) {
        let length = u32::try_from(16 + body.len()).unwrap();
        let answer = [
            &length.to_ne_bytes()[..],
            &error.to_ne_bytes(),
            &self.unique,
            body,
        ]
        .concat();
        // Who was asked for may have gone.
        drop(device.write(&answer));
    }
}

/// Until the mount is given up, which ends the reading.
fn serve(mut device: File, asked: &AtomicBool) {
    while let Some(request) = Request::read(&mut device) {
        let (error, body) = match request.code {
            LOOKUP => {
                asked.store(true, Ordering::SeqCst);
                continue;
            }
            FORGET | BATCH_FORGET | INTERRUPT => continue,
            INIT => (0, welcome()),
            GETATTR => (0, attributes()),
            _ => (-ENOSYS, Vec::new()),
        };
        request.answer(&mut device, error, &body);
    }
}

/// `fuse_init_out`: version 7.31, 4 KiB a write.
pub fn welcome() -> Vec<u8> {
    words(&[7, 31, 0, 0, 0, 4096, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
}

/// `fuse_attr_out` of a directory, valid for an hour: seconds in the first two words, the number
/// 1 of the inode after four, its mode after 60 bytes of `fuse_attr`.
pub fn attributes() -> Vec<u8> {
    let mut out = [0_u32; 26];
    (out[0], out[4]) = (3600, 1);
    (out[19], out[20]) = (DIRECTORY, 2);
    words(&out)
}

/// As they travel.
pub fn words(all: &[u32]) -> Vec<u8> {
    all.iter().flat_map(|word| word.to_ne_bytes()).collect()
}
