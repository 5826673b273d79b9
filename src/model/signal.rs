//! Signals by name and number, as images and the CRI name them.

use crate::error::{Error, Result};

/// SIGTERM: what ends a container unless something else was said.
pub const TERM: i32 = 15;
/// The C library keeps the first two real-time signals for itself, so its `SIGRTMIN` is this.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// Names without `SIG`, by number from 1 (signal(7), the numbers of x86, ARM and most others).
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// The number of a signal named as an image does: `SIGQUIT`, `quit`, `3`, `SIGRTMIN+3`; of an
/// empty text SIGTERM.
///
/// # Errors
/// `InvalidArgument` for what is no signal.
pub fn parse(text: &str) -> Result<i32> {
    if text.is_empty() {
        return Ok(TERM);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let number = name
        .parse()
        .ok()
        .or_else(|| named(name))
        .or_else(|| real_time(name))
        .filter(|number| (1..=RTMAX).contains(number));
    number.ok_or_else(|| Error::invalid(format!("stop signal {text:?} is no signal of Linux")))
}

fn named(name: &str) -> Option<i32> {
    let alias = match name {
        "IOT" => "ABRT",
        "CLD" => "CHLD",
        "POLL" => "IO",
        other => other,
    };
    let index = NAMES.iter().position(|known| *known == alias)?;
    i32::try_from(index + 1).ok()
}

fn real_time(name: &str) -> Option<i32> {
    if let Some(rest) = name.strip_prefix("RTMIN") {
        let offset: i32 = if rest.is_empty() {
            0
        } else {
            rest.strip_prefix('+')?.parse().ok()?
        };
        return RTMIN.checked_add(offset).filter(|n| *n >= RTMIN);
    }
    let rest = name.strip_prefix("RTMAX")?;
    let offset: i32 = if rest.is_empty() {
        0
    } else {
        rest.strip_prefix('-')?.parse().ok()?
    };
    RTMAX
        .checked_sub(offset)
        .filter(|n| (RTMIN..=RTMAX).contains(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_known_by_every_name_of_theirs() {
        for (text, number) in [
            ("", 15),
            ("SIGQUIT", 3),
            ("quit", 3),
            ("9", 9),
            ("SIGRTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
            ("SIGPOLL", 29),
        ] {
            assert_eq!(parse(text).unwrap(), number, "{text}");
        }
        for text in ["SIGNONE", "0", "65", "-1", "SIGRTMIN-1", "SIGRTMIN+99"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
