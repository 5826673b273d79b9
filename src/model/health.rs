//! An image's HEALTHCHECK: what it asks for, and what each result makes of a container's health.
//! Source: the `Healthcheck` of Docker's image configuration, and how Docker's engine judges it.
//!
//! ```text
//!            ┌──────── success ───────▶ healthy ◀── success ───┐
//! starting ──┤                             │ `retries` failures in a row
//!            └─ `retries` failures in a row, ──▶ unhealthy ────┘
//!               after the start period
//! ```
//!
//! Invariant: whether a container is killed or gets traffic is not decided here: that is what the
//! kubelet's probes are for.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::VecDeque;
use std::time::Duration;

/// How many results are kept.
const KEPT: usize = 5;
/// How much of what a check says is kept, in bytes.
const LONGEST_OUTPUT: usize = 4096;
/// The code of a check that did not end by itself.
pub const NO_CODE: i32 = -1;

const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: u32 = 3;
/// Nothing is checked more often.
const SHORTEST: Duration = Duration::from_millis(1);

/// What is run, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Healthcheck {
    /// The command.
    pub command: Vec<String>,
    /// Between the end of a check and the next one.
    pub interval: Duration,
    /// How long a check may take.
    pub timeout: Duration,
    /// After the start failures do not count for so long, until the first success.
    pub start_period: Duration,
    /// The interval in that time.
    pub start_interval: Duration,
    /// So many failures in a row mean unhealthy.
    pub retries: u32,
}

impl Healthcheck {
    /// Reads what an image's configuration says; `None`: there is no check.
    ///
    /// # Errors
    /// Which part cannot be right.
    pub fn read(said: &Value) -> Result<Option<Self>, String> {
        let Some(command) = command(said)? else {
            return Ok(None);
        };
        let time = |name, default| duration(said, name, default);
        Ok(Some(Self {
            command,
            interval: time("Interval", INTERVAL)?,
            timeout: time("Timeout", TIMEOUT)?,
            start_period: time("StartPeriod", Duration::ZERO)?,
            start_interval: time("StartInterval", START_INTERVAL)?,
            retries: match number(said, "Retries")? {
                0 => RETRIES,
                count => u32::try_from(count).unwrap_or(u32::MAX),
            },
        }))
    }
}

fn command(said: &Value) -> Result<Option<Vec<String>>, String> {
    let test: Vec<String> = match said.get("Test") {
        None | Some(Value::Null) => Vec::new(),
        Some(test) => serde_json::from_value(test.clone())
            .map_err(|_| format!("Test {test} is no list of strings"))?,
    };
    let words: Vec<&str> = test.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] | ["NONE"] => Ok(None),
        ["CMD", command @ ..] if !command.is_empty() => Ok(Some(test[1..].to_vec())),
        ["CMD-SHELL", script] => Ok(Some(["/bin/sh", "-c", script].map(str::to_owned).into())),
        _ => Err(format!(
            "Test {words:?} is not NONE, CMD with a command or CMD-SHELL with a script"
        )),
    }
}

/// Nanoseconds; absent and 0 are the default.
fn duration(said: &Value, name: &str, default: Duration) -> Result<Duration, String> {
    match number(said, name)? {
        0 => Ok(default),
        time => Ok(Duration::from_nanos(time).max(SHORTEST)),
    }
}

fn number(said: &Value, name: &str) -> Result<u64, String> {
    match said.get(name) {
        None | Some(Value::Null) => Ok(0),
        Some(value) => value
            .as_u64()
            .ok_or_else(|| format!("{name} {value} is no number from 0")),
    }
}

/// What a container's health is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is not known yet.
    #[default]
    Starting,
    /// The last check was a success, or not enough have failed since.
    Healthy,
    /// Too many checks in a row have failed.
    Unhealthy,
}

impl Verdict {
    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// The result of one check. Times are nanoseconds since the epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Checked {
    /// When it began.
    pub start: i64,
    /// When it ended.
    pub end: i64,
    /// 0: healthy; [`NO_CODE`]: it was killed, or could not be run.
    pub exit_code: i32,
    /// The beginning of what it said.
    pub output: String,
}

impl Checked {
    /// With as much of the output as is kept.
    #[must_use]
    pub fn new((start, end): (i64, i64), exit_code: i32, output: &[u8]) -> Self {
        let kept = &output[..output.len().min(LONGEST_OUTPUT)];
        let output = String::from_utf8_lossy(kept).into_owned();
        Self {
            start,
            end,
            exit_code,
            output,
        }
    }
}

/// A container's health.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// What it is.
    pub status: Verdict,
    /// So many checks in a row have failed.
    pub failing_streak: u32,
    /// The last results, the latest last.
    pub log: VecDeque<Checked>,
}

impl Health {
    /// Takes a result in; `started_at`: when the container began to run.
    pub fn take(&mut self, checked: Checked, check: &Healthcheck, started_at: i64) {
        if checked.exit_code == 0 {
            self.failing_streak = 0;
            self.status = Verdict::Healthy;
        } else if !self.is_excused(check, started_at, checked.start) {
            self.failing_streak = self.failing_streak.saturating_add(1);
            if self.failing_streak >= check.retries {
                self.status = Verdict::Unhealthy;
            }
        }
        self.log.push_back(checked);
        while self.log.len() > KEPT {
            self.log.pop_front();
        }
    }

    /// How long the next check is waited for.
    #[must_use]
    pub fn pause(&self, check: &Healthcheck, started_at: i64, now: i64) -> Duration {
        match self.is_excused(check, started_at, now) {
            true => check.start_interval,
            false => check.interval,
        }
    }

    fn is_excused(&self, check: &Healthcheck, started_at: i64, at: i64) -> bool {
        let since = u64::try_from(at.saturating_sub(started_at)).unwrap_or(0);
        self.status == Verdict::Starting && Duration::from_nanos(since) < check.start_period
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const SECOND: i64 = 1_000_000_000;

    fn check() -> Healthcheck {
        let said = json!({"Test": ["CMD-SHELL", "test -e /ok"], "Interval": SECOND, "StartPeriod": 10 * SECOND, "Retries": 2});
        Healthcheck::read(&said).unwrap().unwrap()
    }

    fn at(second: i64, code: i32) -> Checked {
        Checked::new((second * SECOND, second * SECOND + 1), code, b"said")
    }

    #[test]
    fn what_an_image_says_is_read_with_the_fields_defaults() {
        let check = check();
        assert_eq!(check.command, ["/bin/sh", "-c", "test -e /ok"]);
        assert_eq!(
            (check.interval, check.timeout),
            (Duration::from_secs(1), TIMEOUT)
        );
        assert_eq!((check.start_interval, check.retries), (START_INTERVAL, 2));
        let plain = json!({"Test": ["CMD", "/check", "-v"], "Interval": 0, "Retries": null});
        let plain = Healthcheck::read(&plain).unwrap().unwrap();
        assert_eq!(plain.command, ["/check", "-v"]);
        assert_eq!((plain.interval, plain.retries), (INTERVAL, RETRIES));
        assert_eq!(plain.start_period, Duration::ZERO);
        for none in [
            json!({}),
            json!({"Test": []}),
            json!({"Test": ["NONE"]}),
            json!({"Test": null}),
        ] {
            assert_eq!(Healthcheck::read(&none), Ok(None));
        }
        for (wrong, word) in [
            (json!({"Test": "true"}), "Test"),
            (json!({"Test": ["CMD"]}), "Test"),
            (json!({"Test": ["RUN", "a"]}), "RUN"),
            (json!({"Test": ["CMD", "a"], "Interval": -1}), "Interval"),
            (json!({"Test": ["CMD", "a"], "Retries": "3"}), "Retries"),
        ] {
            let told = Healthcheck::read(&wrong).unwrap_err();
            assert!(told.contains(word), "{told}");
        }
    }

    #[test]
    fn so_many_failures_in_a_row_are_unhealthy_and_one_success_is_healthy() {
        let (check, mut health) = (check(), Health::default());
        health.take(at(11, 1), &check, 0);
        assert_eq!(
            (health.status, health.failing_streak),
            (Verdict::Starting, 1)
        );
        health.take(at(12, NO_CODE), &check, 0);
        assert_eq!(
            (health.status, health.failing_streak),
            (Verdict::Unhealthy, 2)
        );
        health.take(at(13, 0), &check, 0);
        assert_eq!(
            (health.status, health.failing_streak),
            (Verdict::Healthy, 0)
        );
        health.take(at(14, 1), &check, 0);
        assert_eq!(health.status, Verdict::Healthy, "one is not enough");
    }

    #[test]
    fn a_start_excuses_failures_until_the_first_success() {
        let (check, mut health) = (check(), Health::default());
        for second in 1..9 {
            health.take(at(second, 1), &check, 0);
        }
        assert_eq!(
            (health.status, health.failing_streak),
            (Verdict::Starting, 0)
        );
        assert_eq!(health.log.len(), KEPT);
        assert_eq!(health.log[0].start, 4 * SECOND);
        assert_eq!(health.pause(&check, 0, 9 * SECOND), START_INTERVAL);
        assert_eq!(health.pause(&check, 0, 10 * SECOND), check.interval);
        health.take(at(9, 0), &check, 0);
        assert_eq!(health.pause(&check, 0, 9 * SECOND), check.interval);
        health.take(at(9, 1), &check, 0);
        assert_eq!(health.failing_streak, 1, "it has been healthy");
    }

    #[test]
    fn what_a_check_says_is_cut() {
        let long = Checked::new((0, 1), 1, &[b'x'; 5000]);
        assert_eq!(long.output.len(), LONGEST_OUTPUT);
    }
}
