//! fs-verity: a file is sealed, after which nobody writes it and the kernel holds every page that is read
//! against a tree of hashes. The daemon seals layers.

use rustix::fd::AsFd;
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Setter, Updater, ioctl, opcode};

/// The bytes of a SHA-256 digest.
pub const DIGEST: usize = SIZE as usize;
const SIZE: u16 = 32;
/// `FS_VERITY_HASH_ALG_SHA256`.
const SHA_256: u32 = 1;
const VERSION: u32 = 1;

/// `struct fsverity_enable_arg` of `linux/fsverity.h` (128 bytes), without salt and signature.
#[repr(C)]
#[derive(Clone, Copy)]
struct Wanted {
    version: u32,
    algorithm: u32,
    block_size: u32,
    rest: [u32; 29],
}

/// The first bytes of `struct fsverity_digest`, which the opcode tells of.
#[repr(C)]
struct Head {
    algorithm: u16,
    size: u16,
}

/// The same with room for a digest behind it.
#[repr(C)]
struct Measured {
    head: Head,
    digest: [u8; DIGEST],
}

/// `FS_IOC_ENABLE_VERITY`.
const ENABLE: Opcode = opcode::write::<Wanted>(b'f', 133);
/// `FS_IOC_MEASURE_VERITY`.
const MEASURE: Opcode = opcode::read_write::<Head>(b'f', 134);

/// Seals a file that is open for reading and that nobody has open for writing. Reads all of it.
///
/// # Errors
/// What the kernel says: `EXIST` where it is sealed, `OPNOTSUPP` or `NOTTY` where the file system or
/// the kernel cannot.
pub fn enable(file: impl AsFd, block_size: u32) -> Result<(), Errno> {
    let wanted = Wanted {
        version: VERSION,
        algorithm: SHA_256,
        block_size,
        rest: [0; 29],
    };
    // SAFETY: the opcode is that of a call which reads one `fsverity_enable_arg`, and that is what it is
    // given: it names no other memory.
    let setter = unsafe { Setter::<ENABLE, Wanted>::new(wanted) };
    // SAFETY: as above; the descriptor is borrowed for the call.
    unsafe { ioctl(file, setter) }
}

/// The digest of a sealed file, which is of its whole content.
///
/// # Errors
/// `NODATA` where it is not sealed; `OVERFLOW` where it was with another algorithm.
pub fn measure(file: impl AsFd) -> Result<[u8; DIGEST], Errno> {
    let mut measured = Measured {
        head: Head {
            algorithm: 0,
            size: SIZE,
        },
        digest: [0; DIGEST],
    };
    // SAFETY: the opcode is that of a call which reads a `fsverity_digest` and fills in as many bytes behind
    // it as that says there is room for: `Measured` has as many.
    let updater = unsafe { Updater::<MEASURE, Measured>::new(&mut measured) };
    // SAFETY: as above; the descriptor is borrowed for the call.
    unsafe { ioctl(file, updater) }?;
    match (u32::from(measured.head.algorithm), measured.head.size) {
        (SHA_256, SIZE) => Ok(measured.digest),
        _ => Err(Errno::OVERFLOW),
    }
}
