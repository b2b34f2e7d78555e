//! Durations and sizes as people write them: `3s`, `250ms`, `128MiB`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A text that is no duration or size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {kind}: write {example}")]
pub struct BadUnit {
    kind: &'static str,
    text: String,
    example: &'static str,
}

/// A duration in settings: `500ms`, `3s`, `10m`, `6h`, `7d`. A number without its unit is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct HumanDuration(pub Duration);

/// A number of bytes in settings: `512`, `4KiB`, `128MiB`, `1.5GiB`, `1GB` (decimal).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct ByteSize(pub u64);

const DURATION_UNITS: &[(&str, u64)] = &[("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

const SIZE_UNITS: &[(&str, u64)] = &[
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

impl FromStr for HumanDuration {
    type Err = BadUnit;
    fn from_str(text: &str) -> Result<Self, BadUnit> {
        scaled(text, DURATION_UNITS).map(|ms| Self(Duration::from_millis(ms))).ok_or_else(|| BadUnit {
            kind: "duration",
            text: cut(text),
            example: "500ms, 3s, 10m, 6h or 7d",
        })
    }
}

impl FromStr for ByteSize {
    type Err = BadUnit;
    fn from_str(text: &str) -> Result<Self, BadUnit> {
        let plain = text.trim().parse::<u64>().ok();
        plain.or_else(|| scaled(text, SIZE_UNITS)).map(Self).ok_or_else(|| BadUnit {
            kind: "size",
            text: cut(text),
            example: "4KiB, 128MiB or 1GiB",
        })
    }
}

fn cut(text: &str) -> String {
    text.chars().take(64).collect()
}

/// `<digits>[.<digits>]<unit>` in whole units, `None` if malformed or too large.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(end);
    let unit = unit.trim();
    let factor = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?.1;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: u64 = whole.parse().ok()?;
    let mut total = whole.checked_mul(factor)?;
    if number.contains('.') {
        if fraction.is_empty() || fraction.len() > 6 {
            return None;
        }
        let parts: u64 = fraction.parse().ok()?;
        let scale = 10_u64.pow(u32::try_from(fraction.len()).ok()?);
        let part = u128::from(parts) * u128::from(factor) / u128::from(scale);
        total = total.checked_add(u64::try_from(part).ok()?)?;
    }
    Some(total)
}

fn exact(value: u64, units: &[(&'static str, u64)]) -> Option<(u64, &'static str)> {
    let fits = |(_, factor): &&(&'static str, u64)| value >= *factor && value.is_multiple_of(*factor);
    units.iter().filter(fits).max_by_key(|(_, factor)| *factor).map(|(name, factor)| (value / factor, *name))
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        let (count, unit) = exact(ms, DURATION_UNITS).unwrap_or((ms, "ms"));
        write!(f, "{count}{unit}")
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binary = SIZE_UNITS.get(1..5).unwrap_or_default();
        match exact(self.0, binary) {
            Some((count, unit)) => write!(f, "{count}{unit}"),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl Serialize for HumanDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl de::Visitor<'_> for Visit {
            type Value = ByteSize;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"128MiB\" or a number of bytes")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteSize, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<ByteSize, E> {
                Ok(ByteSize(bytes))
            }
            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<ByteSize, E> {
                u64::try_from(bytes).map(ByteSize).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_parse_and_print() {
        for (text, ms) in
            [("500ms", 500), ("3s", 3000), ("1.5s", 1500), ("10m", 600_000), ("6h", 21_600_000), ("0s", 0)]
        {
            assert_eq!(text.parse::<HumanDuration>().unwrap().0, Duration::from_millis(ms), "{text}");
        }
        for (text, bytes) in
            [("512", 512), ("4KiB", 4096), ("128 MiB", 128 << 20), ("1GB", 1_000_000_000), ("1.5KiB", 1536)]
        {
            assert_eq!(text.parse::<ByteSize>().unwrap().0, bytes, "{text}");
        }
        assert_eq!(HumanDuration(Duration::from_secs(90)).to_string(), "90s");
        assert_eq!(HumanDuration(Duration::from_secs(600)).to_string(), "10m");
        assert_eq!(ByteSize(128 << 20).to_string(), "128MiB");
        assert_eq!(ByteSize(1000).to_string(), "1000B");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "3", "s", "-3s", "3 parsecs", "1.s", "99999999999999999999s", "1e3s", "18446744073709551615d"]
        {
            assert!(text.parse::<HumanDuration>().is_err(), "{text:?}");
        }
        for text in ["", "MiB", "-1", "1.0000001GiB", "99999999999TiB", "1 apple"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text:?}");
        }
    }
}
