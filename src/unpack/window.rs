//! The memory that zstd frames may ask for. A frame names the window that its decoder has to keep;
//! layers are decoded side by side, and each could name the largest.
//!
//! Invariant: windows above what every decoder must offer share one budget for the whole process;
//! who finds it used up waits.

use std::{
    io,
    sync::{Condvar, Mutex, PoisonError},
};

/// What every decoder offers without asking: 8 MiB, as RFC 8878 recommends.
const FREE_LOG: u32 = 23;
/// The largest window that is given: 128 MiB, what the format's own tools allow.
const LARGEST_LOG: u32 = 27;
/// Bytes that all windows above the free size may take together.
const BUDGET: u64 = 2 << LARGEST_LOG;
/// Bytes of the longest beginning of a frame that names its window (RFC 8878, 3.1.1.1).
pub(super) const LONGEST_HEADER: usize = 18;

static LARGE: Budget = Budget::new(BUDGET);

/// Bytes that are shared.
struct Budget {
    left: Mutex<u64>,
    given_back: Condvar,
}

/// A window that may be used until this is dropped.
pub(super) struct Window {
    log: u32,
    from: &'static Budget,
}

impl Budget {
    const fn new(bytes: u64) -> Self {
        Self {
            left: Mutex::new(bytes),
            given_back: Condvar::new(),
        }
    }

    /// Waits until there is enough.
    fn take(&'static self, log: u32) -> Window {
        let window = Window { log, from: self };
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let scarce = |left: &mut u64| *left < window.cost();
        let left = self.given_back.wait_while(left, scarce);
        *left.unwrap_or_else(PoisonError::into_inner) -= window.cost();
        window
    }
}

impl Window {
    /// The window for a stream that begins like this. Waits for its turn where it is a large one.
    ///
    /// # Errors
    /// Where it is larger than any that is given.
    pub fn of(beginning: &[u8]) -> io::Result<Self> {
        let bytes = asked(beginning).unwrap_or(1 << LARGEST_LOG);
        if bytes > 1 << LARGEST_LOG {
            return Err(io::Error::other(format!(
                "the zstd frame needs a window of {bytes} bytes; at most {} are given: \
                 compress the layer without --ultra or --long",
                1_u64 << LARGEST_LOG
            )));
        }
        let log = bytes.next_power_of_two().ilog2();
        Ok(LARGE.take(log.max(FREE_LOG)))
    }

    /// The power of two that it is.
    pub fn log(&self) -> u32 {
        self.log
    }

    fn cost(&self) -> u64 {
        match self.log {
            ..=FREE_LOG => 0,
            log => 1 << log,
        }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        let mut left = self
            .from
            .left
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *left += self.cost();
        self.from.given_back.notify_all();
    }
}

/// The window that a frame names (RFC 8878, 3.1.1.1); `None` for what is no frame with content,
/// or not all of a header.
fn asked(beginning: &[u8]) -> Option<u64> {
    let header = beginning.strip_prefix(&[0x28, 0xb5, 0x2f, 0xfd])?;
    let (descriptor, rest) = header.split_first()?;
    if descriptor & 0x20 == 0 {
        let window = u64::from(*rest.first()?);
        let base = 1_u64 << (10 + (window >> 3));
        return Some(base + base / 8 * (window & 7));
    }
    // A single segment: the window is the content.
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let (size, more) = [(1, 0), (2, 256), (4, 0), (8, 0)][usize::from(descriptor >> 6)];
    let mut content = [0; 8];
    content[..size].copy_from_slice(rest.get(dictionary..dictionary + size)?);
    Some(u64::from_le_bytes(content).saturating_add(more))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn beginning(window_log: u32) -> Vec<u8> {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(window_log).unwrap();
        encoder.write_all(b"content").unwrap();
        encoder.flush().unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn frames_tell_their_window() {
        for log in [20, 23, 25, 27] {
            assert_eq!(asked(&beginning(log)), Some(1 << log));
        }
        let mut whole = zstd::bulk::compress(&[1; 700], 1).unwrap();
        assert_eq!(asked(&whole), Some(700));
        whole.truncate(5);
        assert_eq!(asked(&whole), None);
        assert_eq!(asked(&[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]), None);
    }

    #[test]
    fn a_window_larger_than_any_that_is_given_is_refused_in_words() {
        let header = [0x28, 0xb5, 0x2f, 0xfd, 0, 18 << 3];
        let error = Window::of(&header).err().unwrap().to_string();
        assert!(error.contains("window of 268435456 bytes"), "{error}");
        let header = [&[0x28, 0xb5, 0x2f, 0xfd, 0xe0][..], &[0xff; 8]].concat();
        assert!(Window::of(&header).is_err());
        assert_eq!(Window::of(&beginning(20)).unwrap().log(), FREE_LOG);
        assert_eq!(Window::of(&beginning(24)).unwrap().log(), 24);
    }

    #[test]
    fn large_windows_wait_for_each_other_and_small_ones_for_nobody() {
        static ONE: Budget = Budget::new(1 << LARGEST_LOG);
        let first = ONE.take(LARGEST_LOG);
        drop(ONE.take(FREE_LOG));
        assert_eq!(*ONE.left.lock().unwrap(), 0);
        let second = std::thread::spawn(|| ONE.take(LARGEST_LOG - 1).log());
        drop(first);
        assert_eq!(second.join().unwrap(), LARGEST_LOG - 1);
        assert_eq!(*ONE.left.lock().unwrap(), 1 << LARGEST_LOG);
    }
}
