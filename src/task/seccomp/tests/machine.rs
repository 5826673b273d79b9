//! An interpreter of the few instructions that filters are made of.

/// What the kernel would answer (the seccomp part of classic BPF: words, jumps, AND, return).
pub fn run(program: &[u8], arch: u32, number: u32, args: [u64; 6]) -> u32 {
    let data = seccomp_data(arch, number, args);
    let (mut at, mut a) = (0usize, 0u32);
    loop {
        let one = &program[at * 8..at * 8 + 8];
        let code = u16::from_ne_bytes(one[..2].try_into().unwrap());
        let (yes, no, k) = (usize::from(one[2]), usize::from(one[3]), word(&one[4..]));
        at += 1;
        let holds = match code {
            0x20 => {
                a = word(&data[k as usize..k as usize + 4]);
                continue;
            }
            0x54 => {
                a &= k;
                continue;
            }
            0x05 => {
                at += k as usize;
                continue;
            }
            0x06 => return k,
            0x15 => a == k,
            0x25 => a > k,
            0x35 => a >= k,
            0x45 => a & k != 0,
            other => panic!("no such instruction: {other:#x}"),
        };
        at += if holds { yes } else { no };
    }
}

fn word(bytes: &[u8]) -> u32 {
    u32::from_ne_bytes(bytes.try_into().unwrap())
}

fn seccomp_data(arch: u32, number: u32, args: [u64; 6]) -> [u8; 64] {
    let mut data = [0u8; 64];
    data[..4].copy_from_slice(&number.to_ne_bytes());
    data[4..8].copy_from_slice(&arch.to_ne_bytes());
    for (at, arg) in args.iter().enumerate() {
        data[16 + at * 8..24 + at * 8].copy_from_slice(&arg.to_ne_bytes());
    }
    data
}

/// Whether the kernel would take it: jumps stay inside, loads are of words that there are, and it
/// ends with a return.
pub fn is_sound(program: &[u8]) -> bool {
    let length = program.len() / 8;
    let sound = |(at, one): (usize, &[u8])| {
        let code = u16::from_ne_bytes(one[..2].try_into().unwrap());
        let (yes, no, k) = (usize::from(one[2]), usize::from(one[3]), word(&one[4..]));
        match code {
            0x20 => k < 64 && k.is_multiple_of(4),
            0x54 | 0x06 => true,
            0x05 => at + 1 + (k as usize) < length,
            0x15 | 0x25 | 0x35 => at + 1 + yes.max(no) < length,
            _ => false,
        }
    };
    let ends = program.len() >= 8 && program[program.len() - 8..][..2] == 0x06u16.to_ne_bytes();
    ends && program.len().is_multiple_of(8) && program.chunks_exact(8).enumerate().all(sound)
}
