//! A disk for one log that can be told to write no more: who writes to it then waits in the kernel, and
//! so does who closes what was written or opens it anew, until the mount is given up.

use super::unanswered::{self, Request, words};
use rustix::mount::{UnmountFlags, unmount};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// Of linux/fuse.h.
const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const SETATTR: u32 = 4;
const OPEN: u32 = 14;
const WRITE: u32 = 16;
const RELEASE: u32 = 18;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const CREATE: u32 = 35;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;
const ENOENT: i32 = 2;
const ENOSYS: i32 = 38;
const ROOT: u64 = 1;
const FILE: u64 = 2;
const REGULAR: u32 = 0o100_640;
/// `fuse_write_in`, before the data.
const WRITE_HEADER: usize = 40;

/// What it holds, and whether it goes on.
#[derive(Default)]
struct State {
    exists: AtomicBool,
    stalled: AtomicBool,
    waited_for: AtomicBool,
    written: Mutex<Vec<u8>>,
}

/// A mounted one; given up when dropped.
pub struct LogDisk {
    place: PathBuf,
    state: Arc<State>,
}

impl LogDisk {
    /// Mounts it at a directory that it makes. `None` where the kernel has no FUSE.
    pub fn at(place: &Path) -> Option<Self> {
        let device = unanswered::mounted("log_disk", place)?;
        let state = Arc::new(State::default());
        let served = Arc::clone(&state);
        std::thread::spawn(move || serve(device, &served));
        Some(Self {
            place: place.to_owned(),
            state,
        })
    }

    /// From now on it writes nothing.
    pub fn stall(&self) {
        self.state.stalled.store(true, Ordering::SeqCst);
    }

    /// Somebody waits for it.
    pub fn is_waited_for(&self) -> bool {
        self.state.waited_for.load(Ordering::SeqCst)
    }

    /// How many bytes were written.
    pub fn written(&self) -> usize {
        self.state.written.lock().unwrap().len()
    }
}

impl Drop for LogDisk {
    /// By force: all that wait get an error.
    fn drop(&mut self) {
        unmount(&self.place, UnmountFlags::FORCE | UnmountFlags::DETACH).unwrap();
    }
}

/// Until the mount is given up, which ends the reading.
fn serve(mut device: File, state: &State) {
    while let Some(request) = Request::read(&mut device) {
        if matches!(request.code, FORGET | BATCH_FORGET | INTERRUPT) {
            continue;
        }
        let is_work = matches!(request.code, WRITE | FLUSH | OPEN | CREATE | LOOKUP);
        if is_work && state.stalled.load(Ordering::SeqCst) {
            state.waited_for.store(true, Ordering::SeqCst);
            continue;
        }
        let (error, body) = state.answer(&request);
        request.answer(&mut device, error, &body);
    }
}

impl State {
    fn answer(&self, request: &Request) -> (i32, Vec<u8>) {
        match request.code {
            INIT => (0, unanswered::welcome()),
            LOOKUP if self.exists.load(Ordering::SeqCst) => (0, self.entry()),
            LOOKUP => (-ENOENT, Vec::new()),
            GETATTR | SETATTR if request.node == ROOT => (0, unanswered::attributes()),
            GETATTR | SETATTR => (0, [words(&[0; 4]), self.attributes()].concat()),
            CREATE => {
                self.exists.store(true, Ordering::SeqCst);
                (0, [self.entry(), opened()].concat())
            }
            OPEN => (0, opened()),
            WRITE => {
                let data = &request.body[WRITE_HEADER..];
                self.written.lock().unwrap().extend_from_slice(data);
                (0, words(&[u32::try_from(data.len()).unwrap(), 0]))
            }
            FLUSH | RELEASE => (0, Vec::new()),
            _ => (-ENOSYS, Vec::new()),
        }
    }

    /// `fuse_entry_out` of the file, valid for no time.
    fn entry(&self) -> Vec<u8> {
        let head = [FILE, 0, 0, 0, 0].map(u64::to_ne_bytes).concat();
        [head, self.attributes()].concat()
    }

    /// `fuse_attr` of the file.
    fn attributes(&self) -> Vec<u8> {
        let size = self.written.lock().unwrap().len() as u64;
        let head = [FILE, size, 0, 0, 0, 0].map(u64::to_ne_bytes).concat();
        [head, words(&[0, 0, 0, REGULAR, 1, 0, 0, 0, 4096, 0])].concat()
    }
}

/// `fuse_open_out`: every write is asked for.
fn opened() -> Vec<u8> {
    const DIRECT_IO: u32 = 1;
    words(&[0, 0, DIRECT_IO, 0])
}
