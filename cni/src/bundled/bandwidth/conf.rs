//! What bandwidth is asked, checked, and what the kernel makes of it.

use std::fs;

use serde::Deserialize;

use crate::bundled::call::Call;
use crate::bundled::fault::Outcome;
use crate::bundled::netlink::traffic::Bucket;
use crate::error::PluginError;

/// How long a packet may wait, which makes how many may, in microseconds.
const LATENCY: f64 = 25_000.0;
const MICROSECONDS: f64 = 1_000_000.0;

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Wire {
    #[serde(flatten)]
    own: Entry,
    runtime_config: Runtime,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Runtime {
    bandwidth: Entry,
}

/// Bits in a second, and bits at once.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Entry {
    ingress_rate: Option<u64>,
    ingress_burst: Option<u64>,
    egress_rate: Option<u64>,
    egress_burst: Option<u64>,
}

impl Entry {
    fn says_something(&self) -> bool {
        let all = [
            self.ingress_rate,
            self.ingress_burst,
            self.egress_rate,
            self.egress_burst,
        ];
        all.iter().any(Option::is_some)
    }
}

/// Bytes in a second, and bytes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limit {
    rate: u64,
    burst: u32,
}

/// Checked; what is `None` has no limit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Conf {
    pub(super) to_pod: Option<Limit>,
    pub(super) from_pod: Option<Limit>,
}

impl Conf {
    /// The configuration's own go before the capability's, all of them or none.
    pub(super) fn read(call: &Call<'_>) -> Outcome<Self> {
        let wire: Wire = call.conf()?;
        let entry = match wire.own.says_something() {
            true => wire.own,
            false => wire.runtime_config.bandwidth,
        };
        Ok(Self {
            to_pod: Limit::read(entry.ingress_rate, entry.ingress_burst)?,
            from_pod: Limit::read(entry.egress_rate, entry.egress_burst)?,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.to_pod.is_none() && self.from_pod.is_none()
    }
}

impl Limit {
    fn read(rate: Option<u64>, burst: Option<u64>) -> Outcome<Option<Self>> {
        let (rate, burst) = (rate.unwrap_or(0), burst.unwrap_or(0));
        let refuse = |msg| Err(PluginError::internal(msg));
        match (rate, burst, u32::try_from(burst / 8)) {
            (0, 0, _) => Ok(None),
            (_, 0, _) => refuse("if rate is set, burst must also be set"),
            (0, ..) => refuse("if burst is set, rate must also be set"),
            (_, _, Err(_) | Ok(u32::MAX)) => refuse("burst cannot be more than 4GB"),
            (rate, _, Ok(burst)) => Ok(Some(Self {
                rate: rate / 8,
                burst,
            })),
        }
    }

    pub(super) fn bucket(self) -> Bucket {
        self.bucket_of(ticks_in_microsecond())
    }

    /// `buffer` is how long the burst takes at this rate; each figure is cut to whole ones where the
    /// reference plugin cuts it, since CHECK compares them.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "no figure is negative, and a cast stays below what the type holds"
    )]
    fn bucket_of(self, ticks: f64) -> Bucket {
        let (rate, burst) = (self.rate as f64, f64::from(self.burst));
        let taken = (burst * MICROSECONDS / rate) as u32;
        let waiting = (rate * LATENCY / MICROSECONDS) as u32;
        Bucket {
            rate: self.rate,
            limit: waiting.saturating_add(self.burst),
            buffer: (f64::from(taken) * ticks) as u32,
        }
    }
}

/// The kernel's unit of time for it, of which it tells four figures in hexadecimal: nanoseconds in a
/// tick's parts, parts, microseconds in a second, and the clock.
fn ticks_in_microsecond() -> f64 {
    const USUAL: f64 = 15.625;
    let told = fs::read_to_string("/proc/net/psched").unwrap_or_default();
    parse(&told).unwrap_or(USUAL)
}

fn parse(told: &str) -> Option<f64> {
    let mut words = told
        .split_whitespace()
        .map(|word| u32::from_str_radix(word, 16).ok().map(f64::from));
    let (first, second, third) = (words.next()??, words.next()??, words.next()??);
    // An old kernel counts the clock in nanoseconds.
    let first = if third == 1_000_000_000.0 {
        second
    } else {
        first
    };
    (second > 0.0).then(|| first / second * (third / MICROSECONDS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundled::call::Env;

    fn read(keys: &str) -> Outcome<Conf> {
        let stdin = format!(r#"{{"cniVersion":"1.0.0","name":"pods"{keys}}}"#);
        let env = Env {
            command: "DEL".to_owned(),
            ..Env::default()
        };
        Conf::read(&Call::new(&env, &stdin)?)
    }

    #[test]
    fn the_configurations_own_limits_go_before_the_runtimes() {
        let runtime = r#","runtimeConfig":{"bandwidth":{"egressRate":8000,"egressBurst":16000}}"#;
        let (rate, burst) = (1000, 2000);
        let from_pod = Some(Limit { rate, burst });
        let conf = read(runtime).unwrap_or_else(|error| panic!("{}", error.msg));
        assert_eq!((conf.to_pod, conf.from_pod), (None, from_pod));
        let both = format!(r#","ingressRate":8000,"ingressBurst":16000{runtime}"#);
        let conf = read(&both).unwrap_or_else(|error| panic!("{}", error.msg));
        assert_eq!((conf.to_pod, conf.from_pod), (from_pod, None));
        assert!(read("").is_ok_and(|conf| conf.is_empty()));
    }

    #[test]
    fn half_a_limit_is_refused() {
        for keys in [
            r#","ingressRate":8"#,
            r#","egressBurst":8"#,
            r#","egressRate":8,"egressBurst":34359738368"#,
        ] {
            assert!(read(keys).is_err(), "{keys}");
        }
    }

    #[test]
    fn a_bucket_is_what_the_kernel_shows_of_it() {
        let ticks = parse("000003e8 00000040 000f4240 3b9aca00").unwrap_or(0.0);
        let (rate, burst) = (1_000_000, 100_000);
        let bucket = Limit { rate, burst }.bucket_of(ticks);
        let (limit, buffer) = (125_000, 1_562_500);
        assert_eq!(
            bucket,
            Bucket {
                rate,
                limit,
                buffer
            }
        );
        assert_eq!(parse("1 2"), None);
        let none = Limit { rate: 0, burst: 8 };
        assert_eq!(none.bucket_of(ticks).buffer, u32::MAX);
    }
}
