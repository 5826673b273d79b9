//! A CPU weight of v2 from shares of v1, as Kubernetes converts them.
//!
//! The mathematics library would do it in two lines and add 17 kB to every shim.

/// The weight (1 to 10000, 100 is the default) of shares (2 to 262144, 1024 is the default): ten to the
/// power of the quadratic in log2(shares) that goes through those three pairs, rounded up.
#[must_use]
pub fn of(shares: u64) -> u64 {
    let shares = u32::try_from(shares.clamp(2, 262_144)).unwrap_or(u32::MAX);
    let log = log2(f64::from(shares));
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    // Less than what the series lack would turn an exact weight into the next one.
    rounded_up(exp(exponent * std::f64::consts::LN_10) - 1e-9).clamp(1, 10_000)
}

/// Of 1 or more: halved until it is below 2, then by the series of the inverse hyperbolic tangent.
fn log2(value: f64) -> f64 {
    let (mut rest, mut whole) = (value, 0.0);
    while rest >= 2.0 {
        rest /= 2.0;
        whole += 1.0;
    }
    let ratio = (rest - 1.0) / (rest + 1.0);
    let (mut power, mut sum, mut odd) = (ratio, 0.0, 1.0);
    while odd < 40.0 {
        sum += power / odd;
        power *= ratio * ratio;
        odd += 2.0;
    }
    whole + 2.0 * sum / std::f64::consts::LN_2
}

/// Of 0 to 10: by its series, at a sixteenth, squared four times.
fn exp(value: f64) -> f64 {
    let (mut term, mut sum, mut count) = (1.0, 1.0, 1.0);
    while count < 24.0 {
        term *= value / 16.0 / count;
        sum += term;
        count += 1.0;
    }
    let fourth = (sum * sum) * (sum * sum);
    (fourth * fourth) * (fourth * fourth)
}

fn rounded_up(value: f64) -> u64 {
    let mut whole = 0_u32;
    let mut bit = 1 << 14;
    while bit > 0 {
        if f64::from(whole + bit) < value {
            whole += bit;
        }
        bit /= 2;
    }
    u64::from(whole) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_meet_at_the_ends_and_the_default() {
        for (shares, expected) in [
            (0, 1),
            (2, 1),
            (1024, 100),
            (262_144, 10_000),
            (u64::MAX, 10_000),
        ] {
            assert_eq!(of(shares), expected, "{shares} shares");
        }
    }

    #[test]
    fn all_are_as_the_mathematics_library_has_them() {
        for shares in 2..=262_144_u32 {
            let log = f64::from(shares).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            let weight = 10f64.powf(exponent).ceil();
            assert_eq!(of(shares.into()) as f64, weight, "{shares} shares");
        }
    }
}
