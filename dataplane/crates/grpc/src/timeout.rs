//! `grpc-timeout`: how long the caller waits (the gRPC protocol, "Requests").

use std::time::Duration;

/// Most digits of a timeout's number.
const DIGITS_MAX: usize = 8;

/// What one unit is worth, finest first.
const UNITS: [(u8, Duration); 6] = [
    (b'n', Duration::from_nanos(1)),
    (b'u', Duration::from_micros(1)),
    (b'm', Duration::from_millis(1)),
    (b'S', Duration::from_secs(1)),
    (b'M', Duration::from_secs(60)),
    (b'H', Duration::from_secs(3600)),
];

/// The value is not one to eight digits and a unit out of `H M S m u n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("grpc-timeout is not one to eight digits and one of H, M, S, m, u, n")]
pub struct InvalidTimeout;

/// The duration of a `grpc-timeout` value. Zero is taken, though the protocol says positive: libraries send it for a deadline
/// that has passed.
pub fn parse(value: &[u8]) -> Result<Duration, InvalidTimeout> {
    let (&unit, digits) = value.split_last().ok_or(InvalidTimeout)?;
    if digits.is_empty() || digits.len() > DIGITS_MAX || !digits.iter().all(u8::is_ascii_digit) {
        return Err(InvalidTimeout);
    }
    let number = digits
        .iter()
        .fold(0, |number: u32, digit| number * 10 + u32::from(digit - b'0'));
    let (_, worth) = UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or(InvalidTimeout)?;
    Ok(*worth * number)
}

/// The `grpc-timeout` value of a duration: the finest unit that has the digits for it, rounded up so that the server does not
/// give up before the caller.
pub fn format(timeout: Duration) -> String {
    const NUMBER_MAX: u128 = 99_999_999;
    let numbers = UNITS
        .iter()
        .map(|(unit, worth)| (unit, timeout.as_nanos().div_ceil(worth.as_nanos())));
    let (unit, number) = numbers
        .into_iter()
        .find(|(_, number)| *number <= NUMBER_MAX)
        .unwrap_or((&b'H', NUMBER_MAX));
    format!("{number}{}", char::from(*unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_known() {
        for (value, timeout) in [
            ("1n", Duration::from_nanos(1)),
            ("20u", Duration::from_micros(20)),
            ("300m", Duration::from_millis(300)),
            ("10S", Duration::from_secs(10)),
            ("05M", Duration::from_secs(300)),
            ("99999999H", Duration::from_secs(99_999_999 * 3600)),
            ("0S", Duration::ZERO),
        ] {
            assert_eq!(parse(value.as_bytes()), Ok(timeout), "{value}");
        }
    }

    #[test]
    fn nothing_else_is_taken() {
        for value in [
            "",
            "S",
            "1",
            "1s",
            "1h",
            "-1S",
            "+1S",
            "1.5S",
            " 1S",
            "1S ",
            "123456789n",
            "1 S",
            "\u{ff11}S",
        ] {
            assert_eq!(parse(value.as_bytes()), Err(InvalidTimeout), "{value:?}");
        }
    }

    #[test]
    fn the_finest_unit_that_fits_is_sent() {
        assert_eq!(format(Duration::from_millis(5)), "5000000n");
        assert_eq!(format(Duration::from_secs(5)), "5000000u");
        assert_eq!(format(Duration::from_secs(3600)), "3600000m");
        assert_eq!(format(Duration::MAX), "99999999H");
    }

    #[test]
    fn a_sent_timeout_is_never_shorter() {
        bolero::check!()
            .with_type::<(u64, u32)>()
            .for_each(|&(seconds, nanos)| {
                let timeout = Duration::new(seconds % (1 << 38), nanos % 1_000_000_000);
                let got = parse(format(timeout).as_bytes()).expect("own format");
                assert!(got >= timeout);
                assert!(
                    got - timeout <= timeout / 100_000,
                    "five digits or more are kept: {timeout:?} {got:?}"
                );
            });
    }
}
