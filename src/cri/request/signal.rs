//! Signals: the CRI counts them in its own way, the kernel in one for each architecture.

use super::check::known;
use crate::error::Result;
use corten_proto::runtime::v1;
use rustix::process::Signal;

/// The standard signals in the order of their numbers in the CRI, from 1.
const STANDARD: [Signal; 34] = [
    Signal::ABORT,
    Signal::ALARM,
    Signal::BUS,
    Signal::CHILD,
    Signal::CHILD, // SIGCLD, its old name
    Signal::CONT,
    Signal::FPE,
    Signal::HUP,
    Signal::ILL,
    Signal::INT,
    Signal::IO,
    Signal::ABORT, // SIGIOT
    Signal::KILL,
    Signal::PIPE,
    Signal::IO, // SIGPOLL
    Signal::PROF,
    Signal::POWER,
    Signal::QUIT,
    Signal::SEGV,
    Signal::STKFLT,
    Signal::STOP,
    Signal::SYS,
    Signal::TERM,
    Signal::TRAP,
    Signal::TSTP,
    Signal::TTIN,
    Signal::TTOU,
    Signal::URG,
    Signal::USR1,
    Signal::USR2,
    Signal::VTALARM,
    Signal::WINCH,
    Signal::XCPU,
    Signal::XFSZ,
];

/// The real-time signals are consecutive on both sides: the CRI's number is one more.
const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;

/// The kernel's number of the CRI's signal; `None`: none was asked for.
///
/// # Errors
/// `InvalidArgument` where there is no such signal.
pub fn number(wire: i32, field: &str) -> Result<Option<i32>> {
    let signal: v1::Signal = known(wire, field)?;
    let place = match usize::try_from(signal as i32) {
        Ok(place) if place > 0 => place - 1,
        _ => return Ok(None),
    };
    Ok(Some(match STANDARD.get(place) {
        Some(standard) => standard.as_raw(),
        None => signal as i32 - 1,
    }))
}

/// The CRI's signal for the kernel's number.
#[must_use]
pub fn named(number: i32) -> v1::Signal {
    if REAL_TIME.contains(&number) {
        return v1::Signal::try_from(number + 1).unwrap_or_default();
    }
    let place = STANDARD.iter().position(|s| s.as_raw() == number);
    place
        .and_then(|place| i32::try_from(place + 1).ok())
        .and_then(|wire| v1::Signal::try_from(wire).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_agree() {
        let of = |signal: v1::Signal| number(signal as i32, "f").unwrap();
        assert_eq!(of(v1::Signal::RuntimeDefault), None);
        assert_eq!(of(v1::Signal::Sigabrt), Some(6));
        assert_eq!(of(v1::Signal::Sigterm), Some(15));
        assert_eq!(of(v1::Signal::Sigxfsz), Some(25));
        assert_eq!(of(v1::Signal::Sigusr1), Some(10));
        assert_eq!(of(v1::Signal::Sigrtmin), Some(34));
        assert_eq!(of(v1::Signal::Sigrtminplus15), Some(49));
        assert_eq!(of(v1::Signal::Sigrtmaxminus14), Some(50));
        assert_eq!(of(v1::Signal::Sigrtmax), Some(64));
        assert!(number(66, "stop_signal").is_err());
    }

    #[test]
    fn every_number_has_its_name() {
        for number_wanted in (1..=31).chain(34..=64) {
            let wire = named(number_wanted);
            assert_eq!(number(wire as i32, "f").unwrap(), Some(number_wanted));
        }
        assert_eq!(named(0), v1::Signal::RuntimeDefault);
        assert_eq!(named(99), v1::Signal::RuntimeDefault);
    }
}
