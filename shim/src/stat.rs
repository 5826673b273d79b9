//! What `/proc/PID/stat` tells: with its start time, a pid names one process for ever.

use std::io;

/// The start time of a process in clock ticks since boot.
///
/// # Errors
/// When there is no such process.
pub fn start_time(pid: i32) -> io::Result<u64> {
    read(&format!("/proc/{pid}/stat"), 22)
}

/// Where the arguments of this process lie in its memory.
///
/// # Errors
/// What reading says.
pub fn arguments() -> io::Result<u64> {
    read("/proc/self/stat", 48)
}

fn read(path: &str, number: usize) -> io::Result<u64> {
    field(&std::fs::read(path)?, number).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// A field by its number in proc(5). The second one is a name in parentheses, which may hold spaces
/// and parentheses itself.
fn field(stat: &[u8], number: usize) -> Option<u64> {
    let after_name = stat.iter().rposition(|&byte| byte == b')')? + 1;
    let fields = std::str::from_utf8(&stat[after_name..]).ok()?;
    let mut fields = fields.split_ascii_whitespace();
    fields.nth(number.checked_sub(3)?)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_mislead() {
        let stat = b"7 (a) 1 (b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20 21\n";
        assert_eq!(field(stat, 22), Some(4242));
        assert_eq!(field(b"7 (a", 22), None);
    }

    #[test]
    fn a_process_that_lives_has_one_and_a_missing_has_none() {
        assert!(start_time(std::process::id().cast_signed()).unwrap() > 0);
        start_time(i32::MAX).unwrap_err();
    }
}
