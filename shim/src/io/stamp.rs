//! Time stamps of log lines: RFC 3339 with nine digits, in UTC.
//!
//! Nine digits always, so that lines of one file sort as text, which RFC3339Nano readers accept.

use rustix::time::{ClockId, Timespec, clock_gettime};

/// The length of a stamp: `2026-11-22T11:42:27.123456789Z`.
pub const LENGTH: usize = 30;

/// A time as text.
pub type Stamp = [u8; LENGTH];

/// The time now, as text.
#[must_use]
pub fn now() -> Stamp {
    at(clock_gettime(ClockId::Realtime))
}

/// The time now, in nanoseconds since the epoch.
#[must_use]
pub fn now_nanos() -> i64 {
    let now = clock_gettime(ClockId::Realtime);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

/// A time as text; times before the epoch are shown as the epoch.
#[must_use]
pub fn at(time: Timespec) -> Stamp {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let (year, month, day) = date(seconds / 86_400);
    let of_day = seconds % 86_400;
    let mut stamp = *b"0000-00-00T00:00:00.000000000Z";
    digits(&mut stamp[0..4], year);
    digits(&mut stamp[5..7], month);
    digits(&mut stamp[8..10], day);
    digits(&mut stamp[11..13], of_day / 3_600);
    digits(&mut stamp[14..16], of_day / 60 % 60);
    digits(&mut stamp[17..19], of_day % 60);
    digits(&mut stamp[20..29], u64::try_from(time.tv_nsec).unwrap_or(0));
    stamp
}

fn digits(place: &mut [u8], mut value: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Days since the epoch as a date of the Gregorian calendar. Years are counted from 1 March, so
/// that the leap day is a year's last; 400 of them always have 146,097 days.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // from 0000-03-01 to the epoch
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(seconds: i64, nanos: i64) -> String {
        let stamp = at(Timespec {
            tv_sec: seconds,
            tv_nsec: nanos,
        });
        String::from_utf8(stamp.to_vec()).unwrap()
    }

    #[test]
    fn known_moments_are_written_as_others_write_them() {
        assert_eq!(text(0, 0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(text(951_782_399, 1), "2000-02-28T23:59:59.000000001Z");
        assert_eq!(text(951_782_400, 0), "2000-02-29T00:00:00.000000000Z");
        assert_eq!(
            text(1_709_251_200, 999_999_999),
            "2024-03-01T00:00:00.999999999Z"
        );
        assert_eq!(text(1_735_689_599, 0), "2024-12-31T23:59:59.000000000Z");
        assert_eq!(text(4_107_542_400, 0), "2100-03-01T00:00:00.000000000Z");
    }

    #[test]
    fn a_clock_before_the_epoch_does_not_panic() {
        assert_eq!(text(-5, 0), "1970-01-01T00:00:00.000000000Z");
    }
}
